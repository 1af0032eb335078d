"""A class of pixels that the loss leaves out although it is one to be told: the ground, taken for "nothing of interest".

A class may be left out because nobody said what these pixels are (borders, strokes of a brush): then neither the picture nor the metric
knows them. One that the picture tells, and that the metric asks for, is never predicted: everything becomes one of the other classes.
Without a metric it has to be a large part of the pictures, and clearly told.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dlrun.checks._finding import Finding
from dlrun.checks._forms import Form
from dlrun.checks._probe import Probe
from dlrun.checks._pull import hot
from dlrun.task import LossTask
from dlrun.types import Metric

SURE, CLEAR, CLEARER, PLACES, WIDTHS, LEAST, MUCH = 20.0, 0.4, 0.6, 8192, (1, 3, 5), 0.02, 0.3
RULE = f"no class that the metric asks for and the picture tells (correlation > {CLEAR:g}) is left out by the loss"


def left_out(asked: Probe, shape: Form, classes: list[int], numbers: dict[str, Any]) -> Finding | None:
    """The finding where one of `classes`, which the loss leaves out, is told by the picture and asked for by a metric."""
    y, layout = asked.targets.value, asked.targets.layouts[0]
    if y is None or y.dim() != 3 or layout.name != "second":
        return None
    for number in classes:
        here = y == number
        share = float(here.float().mean())
        if share < LEAST or not 0 <= number < layout.classes:
            continue
        wanted = _counts(asked, shape, here, number) if asked.run.task.metrics else share > MUCH
        clear = numbers["told_by_the_picture"] = _told(asked, here) if wanted else 0.0
        if clear < (CLEAR if asked.run.task.metrics else CLEARER):
            continue
        text = (
            f"pixels of class {number}, {share:.0%} of all, do not count: the loss has no slope there, so that the class is never predicted"
        )
        cause = "ignore_index, a mask or a weight of 0 hits a real class (the ground)"
        step = "let it count, with a smaller weight if it is too frequent; ignore a number that is no class (-100)"
        return Finding("warning", text, cause, step, numbers, RULE)
    return None


def _counts(asked: Probe, shape: Form, here: Tensor, number: int) -> bool:
    """Whether a metric is worse where all pixels of the class are given another one and all else is right."""
    up, layout = hot(asked.targets, asked.targets.layouts[0]), asked.targets.layouts[0]
    index = torch.where(here, (number + 1) % layout.classes, asked.targets.value).flatten().long()  # type: ignore[arg-type]
    other = hot(asked.targets, layout, index)
    for metric in asked.run.task.metrics.values():
        best, wrong = (_value(asked, metric, shape.of(SURE * (2 * z - 1))) for z in (up, other))
        if best is None or wrong is None or metric.best not in ("max", "min"):
            continue
        if (best - wrong) * (1 if metric.best == "max" else -1) > 1e-3:
            return True
    return False


def _value(asked: Probe, metric: Metric, z: Tensor) -> float | None:
    """The metric of outputs `z`; None where it does not take them."""
    task = asked.run.task
    if not isinstance(task, LossTask) or not isinstance(asked.outputs, Tensor):
        return None
    try:
        with torch.no_grad():
            return float(metric(*task.compared(z.to(asked.out.dtype), asked.batch)).value())
    except Exception:
        return None


def _told(asked: Probe, here: Tensor) -> float:
    """How far means and squares of a few widths around a pixel tell whether it is of the class: a correlation, on pictures not fitted."""
    x = asked.batch.get("x")
    if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[2:] != here.shape[1:] or len(x) < 4 or not x.is_floating_point():
        return 0.0
    x = x.double()
    if float(x.movedim(1, 0)[:, here].std()) < 0.01 * float(x.std()):  # filled up, not recorded
        return 0.0
    means = [avg_pool2d(x, width, 1, width // 2) for width in WIDTHS]
    known = torch.cat([*means, *(mean.square() for mean in means), torch.ones_like(x[:, :1])], 1).movedim(1, -1)
    half, step = len(x) // 2, max(1, here.numel() // PLACES)
    one, two = (part.flatten(0, 2)[::step] for part in (known[:half], known[half:]))
    y, z = (part.double().flatten()[::step] for part in (here[:half], here[half:]))
    ridge = 1e-6 * one.square().sum() * torch.eye(one.shape[1], dtype=one.dtype)
    guess = two @ torch.linalg.solve(one.T @ one + ridge, one.T @ y)
    both = torch.corrcoef(torch.stack([guess, z]))
    return float(both[0, 1].nan_to_num())
