"""The loss falls where outputs come nearer to their targets, and it has a lower end.

The catalogue's rule, a step from the outputs towards the targets, fails for sound losses whose outputs are no targets (Poisson with a log
link, quantiles). What all have in common: for equal outputs the slope falls with the target. A larger target pulls its own output up more.
So the slope is held against the targets, element by element. Classes are asked by `ce_gradient_signature`.
Players have no such targets: `_opposed.py` asks whether they pull against each other, `_joint.py` the same of one loss for both.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._bottom import bottomless
from dlrun.checks._contrast import contrast
from dlrun.checks._downhill import hardened, strays
from dlrun.checks._forms import Form, form
from dlrun.checks._frame import LOUD, Finding, Subject, check, skipped, tensors
from dlrun.checks._joint import joined
from dlrun.checks._level import levelled
from dlrun.checks._opposed import opposed
from dlrun.checks._probe import Probe, probe
from dlrun.checks._runaway import runaway, unread

LEAST = 8
AGAINST, WITH = 0.5, -0.2
"""Rank correlation of slopes with targets above which the sign is wrong, and below which it is right."""
RULE = f"rank correlation of the loss's slope with the targets < {WITH:g}; error above {AGAINST:g}"
ROOTS = ("output_form", "shape_contract", "ce_gradient_signature", "loss_coverage", "label_histogram")


@check(stage="loss", moment="fast", recipe="Hacker's Guide: lower is better, is it?", follows=ROOTS)
def loss_direction(subject: Subject) -> Finding:
    """Slopes of the loss at equal outputs, beside the targets; targets that a loss of shares cannot take."""
    asked = probe(subject)
    if asked is None:
        return opposed(subject) if subject.loss_task is None else skipped("there is no single loss of tensors")
    if subject.kind == "gan" and (wrong := joined(subject)):
        return wrong
    if subject.kind == "contrastive":
        found = contrast(subject, asked)
        return found if found.level in LOUD else runaway(subject, asked) or found
    found = unread(asked) or _direction(subject, asked)
    if found.level in LOUD or subject.kind in ("gan", "vae"):  # of players one falls as the other rises; a VAE's terms: loss_terms
        return found
    shape = form(subject, asked)
    lost = bottomless(subject, asked) or runaway(subject, asked) or levelled(subject, asked)
    return lost or strays(asked, shape) or hardened(asked, shape) or _over_rows(asked, shape) or found


def _orders(asked: Probe) -> bool:
    """Whether a constant added to all outputs changes nothing and their scale does: a partial likelihood, a loss over pairs."""
    if not asked.steady:
        return False
    u = asked.noise("one")
    here, moved, larger = asked.at(u), asked.at(u + 3), asked.at(2 * u)
    tight = 1e-5 * max(abs(here), 1e-6)
    return abs(moved - here) <= tight < abs(larger - here)


def _direction(subject: Subject, asked: Probe) -> Finding:
    """The verdict on slopes beside targets."""
    if asked.targets.mode not in ("labels", "numbers", "shares"):
        reason = (
            "classes: see ce_gradient_signature" if asked.targets.mode == "classes" else "there are no targets in the form of the outputs"
        )
        return skipped(reason)
    shape = form(subject, asked)
    found = _association(asked, shape)
    numbers: dict[str, Any] = {"correlation": None if found is None else round(found, 3), "elements": asked.out.numel()}
    coupled = subject.expects.get("batch_coupled_loss") or asked.run.task.couples_rows
    if coupled and (found is None or found > WITH):  # a loss that orders rows need not bring outputs nearer to their own targets
        return skipped("the loss compares rows")
    if found is None:
        return _unrelated(asked, shape, numbers)
    if found > AGAINST and _told_by_another(asked, shape):
        return Finding("info", "the loss reads several outputs, and targets pull another one up", numbers=numbers, threshold=RULE)
    if found > AGAINST and _orders(asked):
        return Finding(
            "info", "the loss orders rows, and larger targets further down, as risks are by times", numbers=numbers, threshold=RULE
        )
    if found > AGAINST:
        text = f"the loss falls where outputs move away from their targets (rank correlation of slope and target {found:+.2f})"
        return Finding("error", text, "the sign of the loss is wrong", "minimise the loss: drop the minus", numbers, RULE)
    outside = _outside(asked)
    if outside is not None:
        low, high = outside
        text = f"the loss takes targets from 0 to 1, they go from {low:.3g} to {high:.3g}: it has no lower bound"
        cause = "binary cross-entropy of values that are no probabilities (standardised inputs, classes above 1)"
        return Finding(
            "error", text, cause, "scale the targets to 0 .. 1, or use a squared error", numbers | {"targets": [low, high]}, RULE
        )
    if found < WITH:
        return Finding("ok", "outputs that come nearer to their targets lower the loss", numbers=numbers, threshold=RULE)
    return _unrelated(asked, shape, numbers)


def _over_rows(asked: Probe, shape: Form) -> Finding | None:
    """The finding where shares of classes are compared with shares of rows: a constant of a class changes nothing, one of a row does."""
    if asked.targets.mode != "shares" or shape.name != "free" or asked.out.dim() != 2 or not asked.steady or len(asked.out) < LEAST:
        return None
    u = asked.noise("one")
    here, of_rows, of_classes = (asked.at(u + by) for by in (0.0, asked.noise("two")[:, :1], asked.noise("two")[:1]))
    tight = 1e-5 * max(abs(here), 1e-6)
    if not abs(of_classes - here) <= tight < 0.01 * abs(of_rows - here):
        return None
    text = (
        f"targets are shares of {asked.out.shape[1]} classes, and the loss compares along axis 0, the batch: rows compete with each other"
    )
    cause = "a softmax over the wrong axis (dim=0)"
    return Finding("error", text, cause, "take the softmax over dim=1", {"axis": 0}, "a constant added to a row changes nothing")


def _unrelated(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    """The verdict where slopes do not hang on their own row's targets."""
    rolls = {by: _association(asked, shape, by) for by in (1, -1)}
    by, best = min(((by, value) for by, value in rolls.items() if value is not None), key=lambda pair: pair[1], default=(0, 0.0))
    if best < -0.9:
        numbers["rolled"] = {by: best}
        text = f"the loss compares row i with the target of row i{-by:+d}"
        return Finding("error", text, "outputs or targets were shifted along the batch", "drop the shift", numbers, RULE)
    if asked.kind in ("binary", "regression") and _falls_without_end(asked):
        text = "the loss has the same slope whatever outputs and targets are: it falls without end"
        cause = "the error itself is averaged, with its sign: errors up and down cancel out"
        return Finding("error", text, cause, "square it, or take its absolute value", numbers, RULE)
    if asked.kind in ("binary", "regression", "classification") and _ignores_targets(asked, shape):
        text = "the loss is the same whatever the targets are"
        return Finding("error", text, "the loss does not read its targets", "compare the outputs with y", numbers, RULE)
    return Finding("info", "the loss does not tell which way targets pull", numbers=numbers, threshold=RULE)


def _even(asked: Probe, u: Tensor, shape: Form) -> Tensor:
    """The mean slope at `u` with a little noise added and taken away: what hangs on the noise alone cancels."""
    noise = 0.01 * max(float(u.abs().max()), 1.0) * asked.noise("one")
    if shape.name in ("free", "logs"):
        return (asked.slope(u + noise) + asked.slope(u - noise)) / 2
    return asked.slope(u)


def _points(asked: Probe, shape: Form) -> list[Tensor]:
    """Outputs to ask at: all alike, near the network's own and at the targets' median."""
    y = asked.targets.like(asked.out)
    finite = y[torch.isfinite(y)]
    middle = float(finite.median()) if finite.numel() else 0.0
    own = torch.full_like(asked.out, float(asked.out.mean()))
    if shape.name in ("free", "logs"):
        return [own, torch.full_like(own, middle)]
    return [shape.of(torch.zeros_like(own)), own]


def _association(asked: Probe, shape: Form, rolled: int = 0) -> float | None:
    """Rank correlation of slopes with targets (of the row `rolled` before), the clearest of several points; None where nothing varies."""
    y = asked.targets.like(asked.out).roll(rolled, 0)
    mask = asked.targets.mask
    counted = torch.isfinite(y) if mask is None else torch.isfinite(y) & mask.reshape(y.shape)
    found = []
    for z in _points(asked, shape):
        try:
            slope = _even(asked, z, shape)
        except Exception:
            continue
        use = counted & torch.isfinite(slope) & (slope != 0)
        value = _ranked(slope[use], y[use])
        if value is not None:
            found.append(value)
    return max(found, key=abs) if found else None


def _told_by_another(asked: Probe, shape: Form) -> bool:
    """Whether another output of the same size is pulled up by its targets: this one may be a share, a variance, a logit of its own."""
    others = [t for t in tensors(asked.outputs) if t is not asked.out and t.is_floating_point() and t.numel() == asked.out.numel()]
    found = [_association(replace(asked, out=t), shape) for t in others]
    return any(value is not None and value < WITH for value in found)


def _ranked(slope: Tensor, y: Tensor) -> float | None:
    """Spearman's correlation; None of few or constant values."""
    if slope.numel() < LEAST:
        return None
    slope, y = slope.double().flatten()[:20000], y.double().flatten()[:20000]
    if float(y.std()) == 0 or float(slope.std()) <= 1e-5 * float(slope.abs().max()):
        return None
    one, two = (_ranks(values) for values in (slope, y))
    one, two = one - one.mean(), two - two.mean()
    size = float(one.norm() * two.norm())
    return float(one @ two) / size if size else None


def _ranks(values: Tensor) -> Tensor:
    """Ranks with ties at their mean."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks: Tensor = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _falls_without_end(asked: Probe) -> bool:
    """Whether slopes are the same at outputs far above and far below the targets, and not 0."""
    y = asked.targets.like(asked.out)
    if not bool(torch.isfinite(y).all()) or bool((y == y.flatten()[0]).all()):
        return False
    far = 10 * (1 + float(y.abs().max()))
    first, *others = (asked.slope(y + by + asked.noise("one")) for by in (-far, 0.0, far))
    top = float(first.abs().max())
    return top > 0 and all(float((other - first).abs().max()) <= 1e-5 * top for other in others)


def _ignores_targets(asked: Probe, shape: Form) -> bool:
    """Whether targets of other rows, and other values, change neither loss nor slope."""
    y = asked.targets.value
    assert y is not None
    if len(y) < 3 or bool((y[:1] == y).all()) or not asked.steady:
        return False
    for z in (asked.out, *_points(asked, shape)):
        here = asked.at(z), asked.slope(z)
        for other in (y.roll(1, 0), 1 - y if asked.targets.mode == "labels" else 2 * y + 1):
            there = asked.at(z, other), asked.slope(z, other)
            if abs(here[0] - there[0]) > 1e-6 * max(abs(here[0]), 1e-6) or not torch.allclose(here[1], there[1], rtol=1e-5):
                return False
    return True


def _outside(asked: Probe) -> tuple[float, float] | None:
    """(least, largest) target where the loss is that of labels from 0 to 1 (at outputs of 0 its slope is 1/2 - y, and it is ln 2) and they
    go beyond; else None."""
    y = asked.targets.like(asked.out)
    low, high = float(y.min()), float(y.max())
    if not math.isfinite(low + high) or (low >= -1e-3 and high <= 1 + 1e-3):
        return None
    flat = torch.zeros_like(asked.out)
    slope = asked.slope(flat)
    right = 0.5 - y
    scale = float((slope * right).sum() / right.square().sum().clamp(min=1e-12))
    near = float((slope - scale * right).abs().max()) <= 1e-3 * float(slope.abs().max()) and scale > 0
    # A squared error has its slope 0 at y, this loss at no output: far out it still falls.
    bottomless = near and asked.at(1e3 * torch.sign(right).neg()) < -1.0
    return (low, high) if bottomless else None
