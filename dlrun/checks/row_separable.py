"""What the loss asks of a row's outputs hangs on that row alone, unless rows are meant to be compared.

The catalogue compares the loss of a batch with the mean over single rows, which fails for masked and weighted means. Here the slope at each
even row is taken twice, with other outputs in the odd rows: for any mean over rows, weighted or masked, it stays the same to the bit or
nearly so. Whether targets of other rows matter is asked the same way, up to the size of the slope, which a weighted mean may change.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._forms import Form, form
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._own_row import elsewhere
from dlrun.checks._probe import Probe, probe

NEAR = 1e-3
RULE = f"slopes of even rows change by < {NEAR:g} of themselves where outputs or targets of odd rows change"
COMPARES = ("contrastive", "gan")


@check(stage="loss", recipe="Hacker's Guide: one datapoint, then a few", follows=("output_form", "shape_contract", "ce_gradient_signature"))
def row_separable(subject: Subject) -> Finding:
    """Slopes at even rows before and after the outputs and targets of odd rows changed."""
    asked = probe(subject)
    if asked is None or asked.out.dim() == 0 or len(asked.out) != len(asked.batch) or len(asked.batch) < 4:
        return skipped("outputs do not have a row for each row of the batch")
    declared = bool(subject.expects.get("batch_coupled_loss"))
    shape = form(subject, asked)
    if not asked.steady:
        return skipped("the loss draws at random, or remembers what it saw")
    by_outputs, by_targets = _coupling(asked, shape)
    numbers: dict[str, Any] = {"by_outputs": by_outputs, "by_targets": by_targets}
    coupled = by_outputs > NEAR or by_targets > NEAR
    misplaced = elsewhere(asked, shape) if coupled and subject.kind not in COMPARES else None
    if misplaced is not None:
        return misplaced
    if declared and not coupled and subject.kind not in COMPARES:
        text = "declared by expects.batch_coupled_loss; each row's slope hangs on that row alone, up to a factor that the batch may set"
        return Finding("info", text, numbers=numbers, threshold=f"> {NEAR:g}")
    if declared or asked.run.task.couples_rows or subject.kind in COMPARES:
        said = "compares rows, as it is meant to" if coupled else "is a mean over rows"
        return Finding("ok", f"the loss {said}", numbers=numbers, threshold=RULE)
    if not coupled:
        return Finding("ok", "each row's slope hangs on that row alone", numbers=numbers, threshold=RULE)
    if _alike(asked, shape) and asked.targets.mode != "none":
        text = "every row is pulled the same way, whatever its own target: the loss knows the mean of the batch only"
        cause = "outputs or targets are averaged before they are compared"
        return Finding("error", text, cause, "compare row by row, then take the mean", numbers, RULE)
    if _shares_of_the_batch(asked, shape):
        text = f"each column of outputs {tuple(asked.out.shape)} is made to sum to 1 over the {len(asked.out)} rows of the batch"
        cause = "a softmax over dim=0: a row's share hangs on which rows happen to be drawn beside it"
        return Finding("error", text, cause, "take the softmax over the last axis (dim=-1)", numbers, RULE)
    text = f"the slope of a row hangs on other rows of the batch (changed by {max(by_outputs, by_targets):.0%})"
    cause = "a loss that compares rows (ranking, correlation, in-batch negatives), or a softmax, mean or broadcast over the batch"
    return Finding("info", text, cause, "declare expects.batch_coupled_loss=true where it is meant", numbers, RULE)


def _coupling(asked: Probe, shape: Form) -> tuple[float, float]:
    """Relative change of the slopes of even rows with other outputs, and with other targets, in odd rows."""
    u, other = 0.3 * asked.noise("one"), 0.3 * asked.noise("two")
    if shape.name == "free":
        spread = float(asked.out.std()) if asked.out.numel() > 1 else 1.0
        u, other = (asked.out + max(spread, 0.1) * part for part in (u, other))
    odd = torch.arange(len(u), device=u.device) % 2 == 1
    mixed = torch.where(odd.reshape(-1, *[1] * (u.dim() - 1)), other, u)
    here = asked.slope(u, through=shape.of)[~odd]
    outputs = _gap(here, asked.slope(mixed, through=shape.of)[~odd])
    y = asked.targets.value
    if y is None or asked.targets.name != "y" or len(y) != len(odd) or not bool(torch.isfinite(y.float()).all()):
        return outputs, 0.0
    swapped = y.clone()
    swapped[odd] = y[odd].roll(1, 0)
    there = asked.slope(u, swapped, through=shape.of)[~odd]
    scale = (here * there).sum() / there.square().sum().clamp(min=1e-30)
    return outputs, _gap(here, there * scale)


def _shares_of_the_batch(asked: Probe, shape: Form) -> bool:
    """Whether the loss is a cross-entropy over axis 0: it does not notice a number added to a whole column, and equal outputs cost
    the ln of the rows. A table of every row against every other is compared so by design, one score a row too.
    """
    out, rows = asked.out, len(asked.out)
    y = asked.targets.value
    if shape.name != "free" or out.dim() < 2 or out.shape[1] == rows or out.shape[1] < 2 or y is None or asked.targets.name != "y":
        return False
    u, column = asked.noise("one"), 2 * asked.noise("along").select(0, 0).unsqueeze(0)
    row = 2 * asked.noise("along").select(1, 0).unsqueeze(1)
    here, by_column, by_row = (asked.at(z) for z in (u, u + column, u + row))
    flat = asked.at(torch.zeros_like(out)) / math.log(rows)
    blind = abs(by_column - here) <= 1e-5 * abs(here) < abs(by_row - here)
    return blind and any(abs(flat - count) <= 0.02 * count for count in (1, out.shape[1]))


def _gap(one: Tensor, other: Tensor) -> float:
    top = float(one.abs().max())
    return float((one - other).abs().max()) / top if top > 0 else 0.0


def _alike(asked: Probe, shape: Form) -> bool:
    """Whether all rows have one slope, at outputs and targets that differ."""
    y = asked.targets.value
    slope = asked.slope(0.5 * asked.noise("three"), through=shape.of)
    if y is None or bool((y[:1] == y).all()) or float(slope.abs().max()) == 0:
        return False
    return float((slope - slope[:1]).abs().max()) <= 1e-5 * float(slope.abs().max())
