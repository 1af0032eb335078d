"""A loss that falls without end as one output is raised (or lowered) by itself in every row: there is nothing that training could reach.

A sound likelihood may be below 0 and fall as far as its fit gets better, but not by a constant added to one output: a log variance pays
for what it forgives, log weights of a mixture that sum to 1 cannot all grow. Made-up outputs alone prove little, for a network may hold
its outputs together (log-probabilities, the volume of a flow). So a fall counts only where a bias of the network brings it about.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dlrun.batch import leaves
from dlrun.checks._forms import called
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._probe import Probe, put
from dlrun.noise import seed_generators
from dlrun.task import LossTask

STEPS = (100.0, 1000.0)
LOOKS = (100.0, 30.0)
"""Where the slope is asked for: an exponential of the first is infinite in 32 bits, and its slope undefined."""
COLUMNS, LAYERS = 16, 6
LEAST = 1e-3
"""Slope far out, in units of the loss per unit of the output, below which a loss counts as level."""
RULE = "no constant added to an output of every row lowers the loss in proportion, however large"


def bottomless(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where the loss falls for ever along one output, and a bias of the network takes it there."""
    found = next(_falling(asked), None)
    if found is None or len(asked.batch) < 4:
        return None
    name, losses = found
    confirmed = _by_network(subject, asked)
    if confirmed is None:
        return None
    numbers = {"losses": losses, "at": [0.0, *STEPS], "bias": confirmed}
    text = f"the loss has no lower bound: a larger {confirmed} takes it from {losses[0]:.3g} to {losses[1]:.3g} and {losses[2]:.3g}"
    text += f", whatever the targets are (it falls for ever with {name})"
    cause = "a term has the wrong sign (a log variance, an entropy), or weights of a likelihood are not made to sum to 1"
    return Finding("error", text, cause, "write the loss down term by term: what should keep this output from growing?", numbers, RULE)


def _falling(asked: Probe) -> Iterator[tuple[str, list[float]]]:
    """(which output, losses at 0 and at two steps) for each output, or column of one, along which the loss falls without end."""
    rows = len(asked.batch)
    known = [leaf for key in ("x", "y") for leaf in leaves(asked.batch.get(key, ()))]
    for number, t in enumerate(tensors(asked.outputs)):
        if not t.is_floating_point() or not t.dim() or len(t) != rows or any(t.shape == k.shape and torch.equal(t, k) for k in known):
            continue
        for (name, way), sign in itertools.product(_ways(t), (1.0, -1.0)):
            losses = _losses(lambda by, t=t, way=way: _at(asked, t, t + by * way), sign)  # type: ignore[misc]
            if losses and _endless(losses) and _everywhere(asked, t, sign * way):
                yield f"{name} of output {number + 1}" if name else f"output {number + 1}", losses


def _ways(t: Tensor) -> list[tuple[str, Tensor]]:
    """Directions: all of a tensor, each of its few columns."""
    whole = [("", torch.ones_like(t))]
    if t.dim() != 2 or not 2 <= t.shape[1] <= COLUMNS:
        return whole
    columns = torch.eye(t.shape[1]).to(t)
    return whole + [(f"column {j}", columns[j].expand_as(t)) for j in range(t.shape[1])]


def _at(asked: Probe, old: Tensor, new: Tensor) -> float:
    with torch.no_grad():
        return float(asked.of(put(asked.outputs, old, new)))


def _losses(at: Callable[[float], float], sign: float) -> list[float]:
    """Losses at 0 and at the two steps; [] where the loss is not taken there, or not finite."""
    try:
        losses = [at(sign * by) for by in (0.0, *STEPS)]
    except Exception:
        return []
    return losses if all(map(math.isfinite, losses)) else []


def _endless(losses: list[float]) -> bool:
    """Whether the loss falls as fast between the two steps as before the first, or faster."""
    near, far = (losses[0] - losses[1]) / STEPS[0], (losses[1] - losses[2]) / (STEPS[1] - STEPS[0])
    return far > LEAST and far > 0.3 * near and losses[2] < -1.0


def _everywhere(asked: Probe, t: Tensor, way: Tensor) -> bool:
    """Whether no row alone pulls the other way far out: rewards and penalties of single rows do."""
    slope = None
    for by in LOOKS:
        with torch.enable_grad():
            leaf = (t + by * way).detach().requires_grad_()
            loss = asked.of(put(asked.outputs, t, leaf))
            slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None or bool(slope.isfinite().all()):
            break
    if slope is None:
        return False
    by_row = (slope * way).reshape(len(t), -1).sum(1)
    return bool((by_row <= -1e-3 * by_row.mean()).all()) and float(by_row.mean()) < 0


def _by_network(subject: Subject, asked: Probe) -> str | None:
    """The bias, or the part of one, that takes the whole network's loss down for ever; None without one."""
    run = asked.run
    own = {id(part): f"{name}.{path}" for name in run.nets for path, part in run.modules[name].named_modules()}
    for part in reversed(called(subject, run, asked.batch)[-LAYERS:]):
        bias = getattr(part, "bias", None)
        if not isinstance(bias, nn.Parameter) or bias.dim() != 1 or not bias.requires_grad:
            continue
        ways = [("", torch.ones_like(bias))]
        if 2 <= len(bias) <= COLUMNS:
            ways += [(f"[{j}]", way) for j, way in enumerate(torch.eye(len(bias)).to(bias))]
        for (name, way), sign in itertools.product(ways, (1.0, -1.0)):
            losses = _losses(lambda by, way=way, bias=bias: moved(subject, asked, bias, by * way)[0], sign)  # type: ignore[misc]
            if losses and _endless(losses) and any(moved(subject, asked, bias, sign * by * way)[1] for by in LOOKS):
                return f"{own[id(part)]}.bias{name}" if sign > 0 else f"minus {own[id(part)]}.bias{name}"
    return None


def moved(subject: Subject, asked: Probe, bias: nn.Parameter, by: Tensor) -> tuple[float, bool]:
    """The loss of the whole network with `by` added to a bias, and whether its gradient leads further that way."""
    run, before = asked.run, bias.detach().clone()
    assert isinstance(run.task, LossTask)
    try:
        with torch.no_grad():
            bias.add_(by)
        with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "check")
            loss = subject.live_loss(run, run.task.outputs(run.nets, asked.batch.map(torch.clone)), asked.batch)
            slope = torch.autograd.grad(loss.sum(), bias, allow_unused=True)[0] if loss.requires_grad else None
    finally:
        with torch.no_grad():
            bias.copy_(before)
    # A critic's weights held still in the other player's half move the loss, and get no gradient from there.
    return float(loss.detach()), slope is not None and float((slope * by).sum()) < -LEAST * float(by.abs().max())
