"""Numbers that lost something before they reached the network: bytes that wrapped around, fractions that were cut off.

The catalogue's test (both ends of the histogram heavy, large jumps) fires on drawings and print. A wrapped byte leaves a clearer trace:
jumps between neighbours of nearly the whole range are as frequent as jumps of half of it, while in pictures that did not wrap they are the
rarest; and going round the circle most are small. Asked of whole numbers alone, on a grid of 256 steps at most, off both its ends.

Colour pictures that hold two values, 0 mostly, are what an integer division by the largest value leaves. So may drawings be, boards and
one-hot codes: these are of solid areas, or of one channel a pixel. Specks without any order are left of the clipped pixels of a photo.

Cutting off fractions rounds towards 0, so that 0 gets twice its share. Whole numbers by themselves are only told: counts are. Of a narrow
spread, where a peak at 0 is natural too (differences of rare counts, votes), what is left is known of standardised targets alone: 68 % are
0, 27 % are 1 or -1, 4 % are 2 or -2. And targets that are whole in train alone, or in val alone, were cast there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import parts, sample
from dlrun.checks._pictures import alike
from dlrun.checks._products import multiplied
from dlrun.checks._wraps import wrapped_series, wrapped_tokens

LEAST, PAIRS, PICTURES = 64, 2000, 256
JUMPS, RATIO, ROUND, MIDDLE = 0.005, 0.7, 0.8, 0.1
TWICE, SPREAD, MOST = 1.75, 1.2, 0.8
NEAR, CERTAIN, SOME = 0.03, 200, 0.5
COLOURS, FEW, ORDER = 3, 0.2, 0.2
RULE = (
    f"warning: over {JUMPS:.1%} of neighbours jump over 3/4 of the range, {RATIO:g} x as many as over 1/2; or 0 is over {TWICE:g} x as "
    f"frequent as 1 and -1 in {MOST:.0%} of columns of whole numbers of an sd over {SPREAD:g}; or under {FEW:.0%} of the values of colour "
    f"pictures of two values are not 0, and neighbours are alike by less than {ORDER:g}; or y is within {NEAR:g} of standard normals "
    "cut off, or whole in one split only; or series jump by a range of 256 to 65,536 steps, or are products modulo it; or numbers of words "
    "end there"
)


@check(stage="data", recipe="Hacker's Guide: be friends with every pixel", follows=("item_stability", "constant_input"))
def integer_traps(subject: Subject) -> Finding:
    """Up to 256 pictures and 1,024 rows of x and y of train."""
    rows = sample(subject, "train")
    if len(rows) < LEAST:
        return skipped(f"it takes {LEAST} rows")
    named = {name: leaf.detach().cpu() for name, leaf in parts(rows.x).items()}
    numbers: dict[str, Any] = {}
    for name, leaf in named.items():
        if leaf.dim() == 4 and (found := _wrapped(name, leaf[:PICTURES], numbers) or _divided(name, leaf[:PICTURES], numbers)):
            return found
        if found := _round(name, leaf, numbers) or _times(name, leaf, numbers):
            return found
    if found := _tokens(subject, numbers):
        return found
    tables = {**{name: leaf for name, leaf in named.items() if leaf.dim() == 2 and leaf.is_floating_point()}, **_targets(subject, rows.y)}
    told = []
    for name, leaf in tables.items():
        whole = bool((leaf == leaf.round()).all()) and float(leaf.min()) < 0 < float(leaf.max())
        if whole and (found := _cut_off(name, leaf, numbers)):
            return found
        told += [f"{name} holds whole numbers only, from {leaf.min():g} to {leaf.max():g}"] if whole else []
    text = "; ".join(told) or "no trace of lost fractions or wrapped bytes"
    return _one_split(subject, rows.y) or Finding("info" if told else "ok", text, numbers=numbers, threshold=RULE)


def _wrapped(name: str, x: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where bytes of pictures wrapped around."""
    numbers[name] = facts = jumps(x) if min(x.shape[-2:]) >= 4 else {}
    if not facts or facts["far"] <= max(JUMPS, RATIO * facts["half"]) or facts["round"] >= ROUND or facts["middle"] <= MIDDLE:
        return None
    text = f"pictures {name}: {facts['far']:.1%} of neighbours jump over 3/4 of the range, {facts['half']:.1%} over 1/2 to 3/4"
    cause = "bytes wrapped around: uint8 arithmetic beyond 0 or 255"
    return Finding("warning", text, cause, "convert to float before you scale, shift or add", numbers, RULE)


def _round(name: str, x: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a series of readings went round in a byte, or in two."""
    facts = wrapped_series(x) if x.is_floating_point() else {}
    if not facts:
        return None
    numbers[name] = facts
    text = (
        f"series {name}: {facts['far']:.1%} of neighbours jump over 3/4 of a range of {facts['range']:.0f} steps, {facts['between']:.1%} "
    )
    text += "over about 1/2, and round the circle they lie near each other"
    cause = f"readings wrapped around in an integer type of {facts['range']:.0f} values"
    return Finding("warning", text, cause, "keep them in a type that holds the largest, or convert to float first", numbers, RULE)


def _times(name: str, x: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a series was multiplied in an integer type that could not hold it."""
    facts = multiplied(x) if x.is_floating_point() else {}
    if not facts:
        return None
    numbers[name] = facts
    how = f"are products by {facts['gain']:.0f}" if facts["gain"] > 1 else "are differences"
    text = (
        f"series {name}: {facts['rows']:.0%} of rows {how} that went round in {facts['range']:.0f} values: undone, {facts['wrapped']:.0%} "
    )
    text += "of their steps lie outside of the range"
    cause = "arithmetic in a small integer type: what is too large comes back at the other end"
    return Finding("warning", text, cause, "convert to float first: wave.astype(np.float32) * gain", numbers, RULE)


def _tokens(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The finding where numbers of words or classes end where an integer type does."""
    found = wrapped_tokens(subject)
    if not found:
        return None
    name, top, many = found
    numbers |= {"largest": top, "possible": many}
    text = f"{name} holds every number up to {top} and none of the {many - top - 1} beyond, in any split"
    cause = f"numbers went round in a type of {top + 1} values: those from {top + 1} on begin at 0 again"
    return Finding("warning", text, cause, "keep them as int64: .long() before anything else", numbers, RULE)


def _divided(name: str, x: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where bytes of pictures were divided as integers."""
    share = _specks(x)
    if not share:
        return None
    numbers[name] = {"share": share}
    text = f"pictures {name} in {x.shape[1]} colours hold two values only: {share:.1%} are not 0, in no order"
    cause = "bytes were divided as integers (x // 255): all but the brightest are 0"
    return Finding("warning", text, cause, "convert to float first: x.float() / 255", numbers, RULE)


def _cut_off(name: str, leaf: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where whole numbers of both signs lost their fractions by a cast."""
    numbers[name] = cut = _cut(leaf.double().reshape(len(leaf), -1))
    step = "keep them floating: .float(), no .long() or .int()"
    if cut and cut["columns"] > 0 and cut["doubled"] > MOST * cut["columns"] and cut["sd"] > SPREAD:
        text = f"{name} holds whole numbers only, and 0 is {cut['zero']:.2g} x as frequent as 1 and -1"
        return Finding("warning", text, "fractions were cut off by a cast to integers", step, numbers, RULE)
    apart = _from_standard(leaf) if name == "y" else 1.0
    if apart >= NEAR:
        return None
    numbers[name] = {**cut, "from_standard_normal_cut_off": apart}
    zero = float((leaf == 0).float().mean())
    text = f"{name} holds whole numbers only, {zero:.0%} of them 0: what standardised targets leave when they are cut off"
    return Finding("warning", text, "standardised targets were cast to integers", step, numbers, RULE)


def _one_split(subject: Subject, y: Any) -> Finding | None:
    """The finding where targets of one split are whole numbers and those of the other are not."""
    if "val" not in subject.run.data.rows:
        return None
    found = {split: _targets(subject, sample(subject, split).y).get("y") for split in ("train", "val")}
    if any(leaf is None or len(leaf) < LEAST for leaf in found.values()):
        return None
    whole = {split: float((leaf == leaf.round()).float().mean()) for split, leaf in found.items() if leaf is not None}
    cast = next((split for split, other in (("train", "val"), ("val", "train")) if whole[split] == 1 and whole[other] < SOME), "")
    if not cast:
        return None
    other = "val" if cast == "train" else "train"
    text = f"every target of {cast} is a whole number, {1 - whole[other]:.0%} of those of {other} are not"
    return Finding("warning", text, f"targets of {cast} were cast to integers", "keep them floating: no .long() or .int()", whole, RULE)


def _from_standard(y: Tensor) -> float:
    """Total variation between whole numbers and standard normal ones whose fractions were cut off; 1 of fewer than 200."""
    if len(y) < CERTAIN:
        return 1.0
    flat, ends = y.flatten().double(), torch.arange(1, 6).double()
    share = (torch.erf(ends / 2**0.5) - torch.erf((ends - 1) / 2**0.5)) / 2
    expected = torch.cat((share[1:].flip(0), 2 * share[:1], share[1:]))
    seen = torch.stack([(flat == value).double().mean() for value in range(-4, 5)])
    return float(((seen - expected).abs().sum() + 1 - seen.sum()) / 2)


def _targets(subject: Subject, y: Any) -> dict[str, Tensor]:
    regression = subject.kind == "regression" and isinstance(y, Tensor) and y.numel() == len(y)
    return {"y": y.detach().cpu()} if regression else {}


def jumps(x: Tensor) -> dict[str, float]:
    """Of neighbours off the ends of the range: shares of jumps over half and over three quarters of it, the mean jump round the circle in
    units of the mean jump, and the share of values in the middle half. {} where values lie on no grid of at most 256 steps.
    """
    levels = x.unique()
    if not 32 <= len(levels) <= 256:
        return {}
    low, high = float(levels[0]), float(levels[-1])
    step = float((levels[1:] - levels[:-1]).min())
    count = round((high - low) / step)
    places = (levels - low) / step
    if count > 255 or count < 64 or float((places - places.round()).abs().max()) > 0.05:
        return {}
    grid = ((x - low) / step).round() * 255 / count
    found = []
    for axis in (-1, -2):
        size = grid.shape[axis]
        one, two = grid.narrow(axis, 1, size - 1), grid.narrow(axis, 0, size - 1)
        inner = (one > 0) & (one < 255) & (two > 0) & (two < 255)
        found.append((one - two).abs()[inner])
    jump = torch.cat(found)
    if len(jump) < PAIRS:
        return {}
    off = grid[(grid > 0) & (grid < 255)]
    return {
        "half": float(((jump > 128) & (jump <= 192)).float().mean()),
        "far": float((jump > 192).float().mean()),
        "round": float(torch.minimum(jump, 256 - jump).sum() / jump.sum().clamp(min=1e-9)),
        "middle": float(((off > 64) & (off < 192)).float().mean()),
    }


def _specks(x: Tensor) -> float:
    """The share of values that are not 0 in colour pictures of two values, few of them not 0 and these in no order; else 0."""
    levels = x.unique()
    if x.shape[1] != COLOURS or min(x.shape[-2:]) < 8 or len(levels) != 2 or float(levels[0]) != 0:
        return 0.0
    on = (x != 0).float()
    share, mixed = float(on.mean()), float((on.sum(1) > 1).float().mean())
    order = max(abs(alike(on, axis)[0]) for axis in (-1, -2))
    return share if share < FEW and order < ORDER and mixed > share**2 else 0.0


def _cut(flat: Tensor) -> dict[str, float]:
    """Of columns with both signs: how many, in how many 0 is twice as frequent as its neighbours, the median ratio and spread."""
    shares = [(flat == value).double().mean(0) for value in (0.0, 1.0, -1.0)]
    beside = (shares[1] + shares[2]) / 2
    both = (shares[1] > 0.02) & (shares[2] > 0.02)
    if not bool(both.any()):
        return {}
    ratio, sd = (shares[0] / beside.clamp(min=1e-9))[both], flat.std(0, correction=0)[both]
    facts = {"columns": int(both.sum()), "doubled": int((ratio > TWICE).sum()), "zero": float(ratio.median()), "sd": float(sd.median())}
    return {name: float(value) for name, value in facts.items()}
