"""Gradients that a network gives for its parameters, held against what its outputs really do when these are moved.

What flows back into a network is kept fixed (the loss's slope at its outputs), each parameter is moved along its gradient by a little, and
the outputs' change along that slope is measured at two sizes of the move. A backward written by hand may be the opposite of the forward, or
have nothing to do with it. Functions that move in steps (rounding with a straight-through gradient, quantised weights, spikes) answer
the two sizes differently, or not at all, and are left alone; so is a network of several outputs, where one part may be led against
another by design (gradient reversal, Ganin, Lempitsky 2015).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._dependence import awaken
from dlrun.checks._finding import Finding
from dlrun.checks._flow import quiet
from dlrun.checks._frame import Subject
from dlrun.noise import seed_generators
from dlrun.run import Run

MOST, SECONDS = 10, 0.3
SHARE, STEP, LEAST, FARTHEST = 0.003, 1 / 3, 1e-4, 0.03
AGAINST, NOTHING, FELT, AGREE = -0.3, 0.1, 0.003, 0.3
RULE = f"moved along its gradient, a parameter moves the outputs by what that gradient says (1; error below {AGAINST:g})"


@dataclass
class _Asked:
    """A copy of the network, its outputs' slope, and how far apart two equal forwards are."""

    subject: Subject
    run: Run
    slope: Tensor
    size: float

    def along(self) -> float:
        """The outputs, weighed by the slope that was at them before anything moved."""
        with torch.no_grad():
            return float((_out(self.subject, self.run).double() * self.slope).sum())

    def answered(self, p: Tensor, unit: Tensor, step: float) -> float:
        """What a move of `p` by `step` along `unit` and one back do, for a move by 1."""
        old = p.detach().clone()
        values = []
        for sign in (1.0, -1.0):
            p.data.copy_(old + sign * step * unit)
            values.append(self.along())
        p.data.copy_(old)
        return (values[0] - values[1]) / (2 * step)


def untrue(subject: Subject) -> Finding | None:
    """The finding where gradients point the other way than outputs move, or have nothing to do with them; None where they are right."""
    if subject.loss_task is None or subject.kind in ("gan", "contrastive"):
        return None
    run = awaken(subject.copy())
    quiet(run)
    named = subject.parameters(run)
    with torch.enable_grad():
        out = _out(subject, run)
        if out is None or not out.requires_grad or not out.is_floating_point():
            return None
        leaf = out.detach().clone().requires_grad_()
        loss = subject.live_loss(run, leaf * 1.0, subject.prepared(run, subject.few))
        slope = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None or not bool(slope.isfinite().all()) or not bool(slope.any()):
            return None
        slopes = torch.autograd.grad(out, list(named.values()), slope.to(out.dtype), allow_unused=True)
    asked = _Asked(subject, run, slope.double(), float((out.detach().double() * slope.double()).abs().sum()))
    if abs(asked.along() - asked.along()) > 1e-6 * asked.size:
        return None
    known = {name: g for (name, _), g in zip(named.items(), slopes, strict=True) if g is not None and not g.is_sparse}
    return _told(_answers(asked, named, known))


def _out(subject: Subject, run: Run) -> Tensor:
    """The one tensor that the network gives of a few rows, in train mode, always under the same noise; None where there are several."""
    for module in run.modules.values():
        module.train()
    seed_generators(run.seed, "slope")
    with run.precision.autocast():
        found = run.task.outputs(run.nets, subject.prepared(run, subject.few))  # type: ignore[attr-defined]
    return found if isinstance(found, Tensor) else None  # type: ignore[return-value]


def _answers(asked: _Asked, named: dict[str, torch.nn.Parameter], slopes: dict[str, Tensor]) -> dict[str, float]:
    """By parameter: what really happens over what its gradient says, where both sizes of the move agree about it."""
    begun, found = time.thread_time(), {}
    norms = {name: float(g.norm()) for name, g in slopes.items()}
    most = max(norms.values(), default=0.0)
    chosen = [name for name, norm in norms.items() if norm > SHARE * most > 0]
    for name in sorted(chosen, key=lambda name: (named[name].dim() < 2, -norms[name]))[:MOST]:
        p, norm = named[name], norms[name]
        step = min(0.01 * asked.size / norm, FARTHEST * float(p.detach().norm()) or 1e-3)
        if step * norm < LEAST * asked.size or time.thread_time() - begun > SECONDS:
            continue
        unit = slopes[name] / norm
        one = asked.answered(p, unit, step) / norm
        if one > NOTHING:
            found[name] = one
            continue
        other = asked.answered(p, unit, STEP * step) / norm
        if abs(one - other) <= AGREE * max(abs(one), abs(other)) and abs(one) > FELT:
            found[name] = one
    return found


def _told(found: dict[str, float]) -> Finding | None:
    against = [name for name, share in found.items() if share < AGAINST]
    apart = [name for name, share in found.items() if abs(share) < NOTHING]
    wrong = against or (apart if len(apart) > 1 else [])
    if not wrong:
        return None
    numbers = {"share": {name: round(share, 4) for name, share in found.items()}}
    text = f"the gradients of {len(wrong)} of {len(found)} parameters "
    if against:
        text += f"point the wrong way: moved along it, {wrong[0]} moves the outputs by {found[wrong[0]]:.2g} times what its gradient says"
    else:
        text += f"have nothing to do with what they do: {', '.join(wrong[:3])} move the outputs by less than {NOTHING:g} of what is said"
    cause = (
        "a backward written by hand that is not the derivative of its forward: a wrong sign, mask or factor, or gradients that are turned"
    )
    return Finding("error", text, cause, "compare it with torch.autograd.gradcheck, in float64", numbers, RULE)
