"""Series that were multiplied in an integer type and went round: a gain applied to 16-bit sound.

Multiplied by an odd number modulo 2^k, a series is scrambled, but not lost: the inverse of the gain makes it small again. That some number
makes n different steps all smaller than half of the range has a chance of 2^-n for each that is tried, so that of a few dozens of steps it
is proof. Where the product fitted, undoing it and multiplying again gives every step as it was; where it went round, not. A gain of 1 is
what sums and differences leave that went round: there a series must also go on, round the circle, the way it went before, which a square
wave does not. Source: D. E. Knuth, The Art of Computer Programming, volume 2, section 4.3.2 (modular arithmetic).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, STEPS, LEAST = 64, 64, 32
SMALLEST, LARGEST, FULL, EXACT = 256, 65536, 0.9, 0.1
GAINS, TIMES = 1024, 16.0
"""Gains that are tried; how many times the range a product may have been. Rounded numbers have inverses by chance, of enormous gains."""
SMALL, ROUND, SOME, FEWEST, ONWARD = 0.5, 0.01, 0.05, 3, 0.7


def multiplied(leaf: Tensor) -> dict[str, float]:
    """Of up to 64 rows of series [N, T], [N, C, T] or [N, T, C] the share that went round in a product; {} where hardly any did.

    Of these the median gain, range, size of the undone steps (in halves of the range) and share of steps that were too large.
    """
    if leaf.dim() not in (2, 3):
        return {}
    axis = max(range(1, leaf.dim()), key=lambda axis: leaf.shape[axis])
    if leaf.shape[axis] <= LEAST:
        return {}
    rows = leaf[:ROWS].detach().cpu().double().movedim(axis, -1).reshape(min(len(leaf), ROWS), -1, leaf.shape[axis])[:, 0]
    found = [one for row in rows.unbind(0) if (one := _undone(row)) is not None]
    if len(found) < max(FEWEST, SOME * len(rows)):
        return {}
    middle = torch.tensor(found).median(0).values.tolist()
    return {"rows": len(found) / len(rows), **dict(zip(("gain", "range", "size", "wrapped"), middle, strict=True))}


def _undone(row: Tensor) -> tuple[float, float, float, float] | None:
    """(gain, range, size, share of steps that were too large) of a series that went round in a product; None of any other."""
    span, step = _steps(row)
    if step is None:
        return None
    some = step[torch.randperm(len(step), generator=torch.Generator().manual_seed(0))[:STEPS]]
    if len(some.abs().unique()) < LEAST:
        return None
    gains = range(1, min(GAINS, span // 2), 2)
    inverses = torch.tensor([pow(gain, -1, span) for gain in gains])
    most = int(_round(some[:, None] * inverses, span).abs().amax(0).argmin())
    gain, small = gains[most], _round(step * inverses[most], span)
    size = float(small.abs().max()) / (span / 2)
    out = small * gain != step
    wrapped = float(out.double().mean())
    if size >= SMALL or size * gain > TIMES or wrapped < ROUND or (gain == 1 and not _goes_on(small, out)):
        return None
    return float(gain), float(span), size, wrapped


def _goes_on(step: Tensor, out: Tensor) -> bool:
    """Whether most steps that left the range go the way of the step before."""
    asked = out[1:] & (step[1:] != 0) & (step[:-1] != 0)
    same = step[1:].sign() == step[:-1].sign()
    return bool(asked.any()) and float(same[asked].double().mean()) > ONWARD


def _steps(row: Tensor) -> tuple[int, Tensor | None]:
    """(the power of two that a row's range fills, the way from each value to the next in whole steps); None where it stands on no grid."""
    levels = row.unique()
    if len(levels) < LEAST or not bool(levels.isfinite().all()):
        return 0, None
    span = float(levels[-1] - levels[0])
    unit = _unit((levels[1:] - levels[:-1]).sort().values.tolist(), span / LARGEST)
    count = round(span / unit) if unit else 0
    whole = 2 ** count.bit_length()
    if count < FULL * max(whole, SMALLEST):
        return 0, None
    places = ((row - levels[0]) * count / span).round().long()
    return whole, places[1:] - places[:-1]


def _unit(gaps: list[float], least: float) -> float:
    """The largest number of which all gaps, least first, are multiples, by Euclid's algorithm; 0 where it is smaller than `least`.

    Numbers are rounded: each gap that fits makes the unit more exact, so that longer ones can be asked.
    """
    unit = gaps[0]
    while unit >= 0.9 * least:
        total, count = 0.0, 0
        for gap in gaps:
            times = round(gap / unit)
            left = abs(gap - times * unit)
            if left > EXACT * unit:
                unit = left
                break
            total, count = total + gap, count + times
            unit = total / count
        else:
            return unit
    return 0.0


def _round(numbers: Tensor, span: int) -> Tensor:
    """Whole numbers modulo a power of two, the nearest to 0."""
    low = numbers & (span - 1)
    return torch.where(low >= span // 2, low - span, low)
