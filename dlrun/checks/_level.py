"""A loss that a constant brings to its very least: a bias that grows is all there is to learn.

Where data are told from noise (Gutmann and Hyvarinen 2010), one's scores are pushed up and the other's down, and a constant helps one as
much as it hurts the other. With a sign turned, or a term pasted, all scores go the same way, and the loss goes to its floor whatever the
inputs are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlrun.checks._bottom import moved
from dlrun.checks._forms import called
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._probe import Probe, put
from dlrun.checks._runaway import reads_targets

FAR = (30.0, 100.0)
LAYERS = 3
GONE = 1e-3
RULE = "no constant added to the outputs of all inputs brings the loss to its least"


def levelled(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where a bias brings a loss to its floor, whatever inputs and targets are."""
    if len(asked.batch) < 4 or not asked.steady or asked.targets.mode in ("classes", "shares") or _with_one_target(asked):
        return None
    run = asked.run
    own = {id(part): f"{name}.{path}" for name in run.nets for path, part in run.modules[name].named_modules()}
    for part in reversed(called(subject, run, asked.batch)[-LAYERS:]):
        bias = getattr(part, "bias", None)
        if not isinstance(bias, nn.Parameter) or bias.dim() != 1 or not bias.requires_grad:
            continue
        for sign in (1.0, -1.0):
            losses = [_at(subject, asked, bias, sign * by) for by in (0.0, 1.0, *FAR)]
            if _floored(losses) and all(other >= losses[-1] for other in _others(asked)):
                text = f"a constant is as good as anything: {'a larger' if sign > 0 else 'a smaller'} {own[id(part)]}.bias takes the loss"
                text += f" from {losses[0]:.3g} to {losses[-1]:.2g}, its least, whatever the inputs are"
                cause = "all terms push scores the same way: one has the sign of the other (data and noise, positives and negatives)"
                step = "one term must rise where the other falls as a constant is added to all scores"
                return Finding("error", text, cause, step, {"losses": losses, "at": [0.0, 1.0, *FAR]}, RULE)
    return None


def _with_one_target(asked: Probe) -> bool:
    """Whether the loss reads targets that are nearly all the same, or of an unknown form: a constant may be right then."""
    y, known = asked.targets.value, asked.batch.get("y")
    if isinstance(known, Tensor) and known.numel() and bool((known == known.flatten()[0]).all()):
        return True  # of a rare class none came: whether the loss reads it cannot be seen
    if not reads_targets(asked):
        return False
    if asked.targets.mode in ("numbers", "labels") and y is not None:
        return _most(y) > 0.9
    return not (isinstance(known, Tensor) and known.is_floating_point() and known.dim() == 1) or _most(known) > 0.5


def _most(y: Tensor) -> float:
    """The share of the most frequent number."""
    return float((y == y.flatten().mode().values).float().mean())


def _floored(losses: list[float]) -> bool:
    """Whether losses fall all the way to next to nothing of what they were."""
    start, near, far, end = losses
    fall = all(map(math.isfinite, losses)) and start > near > far >= end >= 0
    return fall and far < GONE * start


def _at(subject: Subject, asked: Probe, bias: nn.Parameter, by: float) -> float:
    try:
        return moved(subject, asked, bias, torch.full_like(bias, by))[0]
    except Exception:  # numbers of that size may be refused
        return math.nan


def _others(asked: Probe) -> list[float]:
    """Losses of random outputs, small and large."""
    found = []
    free = [t for t in tensors(asked.outputs) if t.is_floating_point() and t.numel()]
    for number, scale in enumerate((1.0, 10.0, 100.0)):
        outputs = asked.outputs
        for i, t in enumerate(free):
            drawn = torch.randn(t.shape, generator=torch.Generator().manual_seed(31 * number + i)).to(t)
            outputs = put(outputs, t, scale * drawn)
        with torch.no_grad():
            found.append(float(asked.of(outputs)))
    return [loss for loss in found if math.isfinite(loss)]
