"""Losses that run away whichever way the network's outputs grow, that do not read their targets, or that cannot tell classes apart.

A likelihood, a distance or a margin has a floor. With its sign turned it has a ceiling instead, and falls in proportion as the last layer's
weights grow, of either sign. (A critic's score that is bounded by other means falls one way and rises the other.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import leaves, map_leaves
from dlrun.checks._forms import Form, last_called, stretched
from dlrun.checks._frame import Finding, Subject
from dlrun.checks._probe import Probe, put

SUPERVISED = ("classification", "binary", "regression", "language_model", "sequence", "graph")
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SCALES = (10.0, 100.0, 1000.0)
MOST_CLASSES, ROWS = 32, 16
RULE = "the loss does not fall without end as the last layer's weights grow, of either sign"


def runaway(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where the loss falls in proportion to the last layer's weights, of either sign."""
    last = last_called(subject, asked.run, asked.batch)
    if not isinstance(last, LAYERS) or (asked.kind not in SUPERVISED and reads_targets(asked) and asked.kind != "contrastive"):
        return None
    falls = [_at(subject, asked, last, sign) for sign in (1.0, -1.0)]
    if not all(len(losses) == 3 and losses[2] < 5 * losses[1] < 0 and losses[1] < losses[0] for losses in falls):
        return None
    numbers: dict[str, Any] = {"losses": falls, "times": SCALES}
    near, far = falls[0][1:]
    text = f"the loss has no lower bound: outputs of {SCALES[1]:g} and {SCALES[2]:g} times the size cost {near:.3g} and {far:.3g}"
    cause = "the sign of the loss is wrong, or a margin (a clamp at 0) is missing"
    return Finding("error", text, cause, "a loss of this kind is 0 at best: print it for outputs that are right", numbers, RULE)


def _at(subject: Subject, asked: Probe, last: nn.Module, sign: float) -> list[float]:
    losses = []
    for by in SCALES:
        outputs = stretched(subject, asked, last, sign * by)
        if outputs is None:
            return []
        try:
            with torch.no_grad():
                losses.append(float(asked.of(outputs)))
        except Exception:  # numbers of that size may be refused
            return []
    return losses if all(map(math.isfinite, losses)) else []


def reads_targets(asked: Probe) -> bool:
    """Whether targets of other rows change the loss of the network's outputs, or of random ones."""
    y = asked.batch.get("y")
    if y is None or not list(leaves(y)):
        return False
    noise = asked.out + asked.noise("reads")
    for by in (1, 2, 3):
        other = asked.batch.replace(y=map_leaves(lambda t, by=by: t.roll(by, 0) if t.dim() else t, y))  # type: ignore[misc]
        for z in (asked.out, noise):
            if not torch.equal(_slope(asked, z, other), asked.slope(z)) or _loss(asked, z, other) != _loss(asked, z, asked.batch):
                return True
    return False


def _loss(asked: Probe, z: Tensor, batch: Any) -> float:
    with torch.no_grad():
        return float(asked.of(put(asked.outputs, asked.out, z), batch))


def _slope(asked: Probe, z: Tensor, batch: Any) -> Tensor:
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        loss = asked.of(put(asked.outputs, asked.out, leaf * 1.0), batch)
        slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return torch.zeros_like(z) if slope is None else slope.detach()


def unread(asked: Probe) -> Finding | None:
    """The finding where a loss of rows with labels of their own is the same whatever the labels are."""
    y = asked.batch.get("y")
    known = [leaf for leaf in leaves(y) if leaf.dim() and bool((leaf != leaf[:1]).any())] if y is not None else []
    if asked.kind not in SUPERVISED[:5] or not known or not asked.steady or len(asked.batch) < 4 or reads_targets(asked):
        return None
    text = "the loss is the same whatever the targets are"
    return Finding("error", text, "the loss does not read its targets", "compare the outputs with y", {}, "other targets, another loss")


def alike(asked: Probe, shape: Form) -> Finding | None:
    """The finding where two classes of whole-number targets give one and the same slope at any outputs: the loss cannot tell them apart."""
    y = asked.batch.get("y")
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dtype == torch.bool or y.dim() != 1 or not asked.steady:
        return None
    if asked.out.dim() > 2 or len(asked.out) != len(y) or asked.kind in ("regression", "contrastive", "gan", "vae"):
        return None
    classes = y[y >= 0].unique().tolist()
    if not 3 <= len(classes) <= MOST_CLASSES or len(y) < ROWS:
        return None
    slopes = []
    for value in classes:
        batch = asked.batch.replace(y=torch.full_like(y, value))
        try:
            slopes.append(torch.stack([_slope(asked, shape.of(asked.noise(name)), batch) for name in ("one", "two")]))
        except Exception:  # a number that it does not take
            return None
    top = max(float(slope.abs().max()) for slope in slopes)
    for i, one in enumerate(slopes):
        for j in range(i):
            same = top > 0 and float(one.abs().max()) > 0 and float((one - slopes[j]).abs().max()) <= 1e-6 * top
            if same and _alike_between(asked, y, classes[i], classes[j]):
                text = (
                    f"the loss cannot tell class {classes[j]} from class {classes[i]}: both give the same slope, wherever the outputs are"
                )
                cause = "targets are cut, compared or encoded so that two classes become one (clamp, >= for >, a table one row short)"
                return Finding("warning", text, cause, "print what the loss makes of each class", {"classes": classes}, "no two are alike")
    return None


def _alike_between(asked: Probe, y: Tensor, one: int, two: int) -> bool:
    """Whether they are alike at outputs between the two numbers as well: an absolute error tells them apart there alone."""
    z = torch.full_like(asked.out, (one + two) / 2)
    first, second = (_slope(asked, z, asked.batch.replace(y=torch.full_like(y, value))) for value in (one, two))
    return float((first - second).abs().max()) <= 1e-6 * float(first.abs().max())
