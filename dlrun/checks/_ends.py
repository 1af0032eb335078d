"""Outputs cut off at the ends of a range, and outputs that cannot grow: what a network gives, but cannot be taught from there.

`clamp(0, 1)` gives numbers that a loss of probabilities takes; beyond the ends it has no slope, and a row on the wrong side stays there.
A sigmoid has a slope everywhere. Logits scaled to length 1 (or cosines) keep cross-entropy far above 0, whatever the weights: a factor is
missing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._forms import STRETCH, Form, last_called, stretched
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._probe import Probe
from dlrun.checks._pull import hot, is_likelihood
from dlrun.noise import seed_generators

STUCK, FAR, SHARP = 0.05, 0.1, 0.25
SAME = 1e-3
RULE = f"< {STUCK:.0%} of the outputs lie at an end that is not their target's, without a slope"


def cut_off(subject: Subject, asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """The finding where outputs at an end of their range are wrong there and no parameter has a slope of them."""
    if shape.name != "bounded" or asked.targets.mode not in ("labels", "numbers") or asked.out.numel() < 8:
        return None
    y, size = asked.targets.like(asked.out), shape.high - shape.low
    at_end = ((asked.out - shape.low).abs() < 1e-6 * size) | ((asked.out - shape.high).abs() < 1e-6 * size)
    wrong = at_end & torch.isfinite(y) & ((y.clamp(shape.low, shape.high) - asked.out).abs() > FAR * size)
    share = numbers["stuck"] = float(wrong.float().mean())
    if share < STUCK or not _no_slope(subject, asked, wrong):
        return None
    text = f"{share:.0%} of the outputs are exactly {shape.low:g} or {shape.high:g}, not what their targets are, and have no slope there"
    cause = f"outputs are cut off (clamp, hardtanh) at {shape.low:g} and {shape.high:g}: rows beyond the wrong end never come back"
    step = "a sigmoid in place of the cut, or plain logits with binary_cross_entropy_with_logits"
    return Finding("error", text, cause, step, numbers, RULE)


def _no_slope(subject: Subject, asked: Probe, where: Tensor) -> bool:
    """Whether no parameter of the networks has a slope of these outputs."""
    run = subject.copy()
    place = next((i for i, t in enumerate(tensors(asked.outputs)) if t is asked.out), None)
    with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
        seed_generators(run.seed, "check")
        found = tensors(run.task.outputs(run.nets, asked.batch.map(torch.clone)))  # type: ignore[attr-defined]
        if place is None or place >= len(found) or found[place].shape != where.shape or not found[place].requires_grad:
            return False
        weights = list(subject.parameters(run).values())
        slopes = torch.autograd.grad(found[place][where].sum(), weights, allow_unused=True) if weights else ()
    return bool(slopes) and all(slope is None or not bool(slope.any()) for slope in slopes)


def short(subject: Subject, asked: Probe, numbers: dict[str, Any]) -> Finding | None:
    """The finding where logits have one length, or are cosines, whatever the last layer gives, and cross-entropy needs larger ones."""
    layout, out = asked.targets.layouts[0], asked.out
    whole = _one_length(out, layout.axis)
    if not (whole or float(out.abs().max()) <= 1 + SAME) or not is_likelihood(asked, layout):
        return None
    up = hot(asked.targets, layout)
    length = float(out.norm(dim=layout.axis).mean())
    if whole and _keeps_length(subject, asked, layout.axis, length):
        best = up - up.mean(layout.axis, keepdim=True)
        best, said = length * best / best.norm(dim=layout.axis, keepdim=True).clamp(min=1e-12), f"have the length {length:.3g}"
    elif _cosines(subject, asked):
        best, said = 2 * up - 1, "are cosines, between -1 and 1"
    else:
        return None
    least, idle = asked.at(best.to(out.dtype)), asked.at(torch.zeros_like(out))
    numbers |= {"best": least, "indifferent": idle}
    if not math.isfinite(least) or least < SHARP * idle:
        return None
    text = f"logits {said} whatever the weights are: the best of them cost {least:.3f}, knowing nothing {idle:.3f}"
    cause = "normalised outputs (or cosines) go into cross-entropy without a factor: they cannot get sure of anything"
    return Finding("warning", text, cause, "multiply them by 10 or more (a learned scale), or leave the normalisation out", numbers, RULE)


def _place(asked: Probe) -> int:
    return next(i for i, t in enumerate(tensors(asked.outputs)) if t is asked.out)


def _keeps_length(subject: Subject, asked: Probe, axis: int, length: float) -> bool:
    """Whether outputs have the same length, and other values, where the last layer gives ten thousand times as much of either sign."""
    last = last_called(subject, asked.run, asked.batch)
    if last is None:
        return False
    for by in (STRETCH, -STRETCH):
        found = tensors(stretched(subject, asked, last, by))
        far = found[_place(asked)] if len(found) > _place(asked) else asked.out
        if far.shape != asked.out.shape or not _one_length(far, axis) or abs(float(far.norm(dim=axis).mean()) - length) > SAME * length:
            return False
        moved = float((far - asked.out).abs().max())
    return moved > 0.1 * length


def _one_length(out: Tensor, axis: int) -> bool:
    norms = out.norm(dim=axis)
    return float(norms.mean()) > 0 and float((norms - norms.mean()).abs().max()) < SAME * float(norms.mean())


def _cosines(subject: Subject, asked: Probe) -> bool:
    """Whether twice the weights of the layer that ended last give the same outputs, and others give others."""
    apart = []
    for by in (2.0, -1.0):
        run = subject.copy()
        last = last_called(subject, run, asked.batch)
        if last is None:
            return False
        with torch.no_grad():
            for p in last.parameters(recurse=False):
                p.mul_(by)
        found = tensors(subject.outputs(run, asked.batch, training=True))
        if len(found) <= _place(asked) or found[_place(asked)].shape != asked.out.shape:
            return False
        apart.append(float((found[_place(asked)] - asked.out).abs().max()) / max(float(asked.out.abs().max()), 1e-12))
    return apart[0] < SAME < 0.1 < apart[1]
