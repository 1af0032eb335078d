"""An optimizer put through made-up gradients, on copies of the parameters it holds: no network runs, no loss is asked.

Gradients are noise of the size that the first trial step had. Whatever an optimizer is (momentum, signs, trust ratios, orthogonal steps),
some things it does alike: under a gradient that stays the same it goes down, again and again; a larger one makes no step that is far
smaller, nor one that grows with its square; the opposite gradient makes the opposite step; half the rate, half the step; equal parameters
of a group are treated alike, and no parameter by the gradients of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._copying import whole_copy
from dlrun.checks._frame import Subject
from dlrun.checks._pulse import base_rate
from dlrun.checks._trial import Trial, once, trial
from dlrun.run import Run

MOST, EACH = 200_000, 6
"""Numbers, and parameters of a group, that are given gradients."""
SLOW = 1e-3
"""The least rate that is asked about: steps of a smaller one drown in the rounding of floats."""


@dataclass
class Held:
    """A parameter that is given gradients: where it stands in its optimizer, and the size of its gradients."""

    name: str
    group: int
    place: int
    shape: torch.Size
    size: float


@dataclass
class Drill:
    """One optimizer and the parameters that are asked about."""

    slot: str
    run: Run
    rates: list[float]
    held: list[Held] = field(default_factory=list)
    lost: str = ""
    """Why it cannot be asked."""

    def fresh(self) -> Any:
        """A copy of the optimizer at its base rate, or at `SLOW` where that is less; its parameters are copies too, of no network."""
        mine = self.run.optimizers[self.slot]
        made = whole_copy(mine, [mine])
        for group, rate in zip(made.param_groups, self.rates, strict=True):
            if isinstance(group.get("weight_decay"), (int, float)):
                group["weight_decay"] = 0.0
            if rate:
                group["lr"] = rate
        return made

    def noise(self, seed: int = 0) -> list[Tensor]:
        """Gradients for the parameters that are asked about."""
        drawn = torch.Generator().manual_seed(seed)
        return [torch.randn(held.shape, generator=drawn) * held.size for held in self.held]

    def walk(
        self, slopes: Callable[[int], Sequence[Tensor]], steps: int, change: Callable[[Any], None] | None = None, seed: int = 0
    ) -> list[list[Tensor]]:
        """How far each parameter is from its start after each step on `slopes(step)`, by a fresh copy that `change` has changed."""
        made = self.fresh()
        if change:
            change(made)
        mine = [made.param_groups[held.group]["params"][held.place] for held in self.held]
        start, found = [p.detach().clone() for p in mine], []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for step in range(steps):
                for p, slope in zip(mine, slopes(step), strict=True):
                    p.grad = torch.empty_like(p).copy_(slope)  # in the weight's memory format, as autograd gives it and fused steps want it
                made.step()
                found.append([(p.detach() - old).double().cpu() for p, old in zip(mine, start, strict=True)])
        return found


@once
def drills(subject: Subject) -> list[Drill]:
    """Every optimizer of the run; `lost` says why one cannot be asked. Raises NoCopy where nothing can be tried."""
    found, run = trial(subject), subject.copy()
    return [_prepared(run, slot, found) for slot in run.optimizers]


def _prepared(run: Run, slot: str, found: Trial) -> Drill:
    groups = run.optimizers[slot].param_groups
    for group, base in zip(groups, getattr(run.schedulers[slot], "_base", []), strict=False):
        group["lr"] = base
    known = [base_rate(group) if isinstance(group.get("lr"), (int, float)) else 0.0 for group in groups]
    least = min((rate for rate in known if rate > 0), default=1.0)
    drill = Drill(slot, run, [rate * max(1.0, SLOW / least) for rate in known])
    if run.passes != 1:
        drill.lost = "its step runs the network again"
        return drill
    names = {id(p): f"{name}.{key}" for name, module in run.modules.items() for key, p in module.named_parameters()}
    slopes = dict(zip(found.names, found.gradients, strict=True))
    sizes = [float(s.float().square().mean().sqrt()) for s in slopes.values() if isinstance(s, Tensor) and not s.is_sparse]
    usual = sorted(sizes)[len(sizes) // 2] if sizes else 0.0
    if not sizes or not 0 < usual < math.inf:
        drill.lost = "the gradients of the first trial step are zero, or sparse"
        return drill
    for number, group in enumerate(groups):
        drill.held += _chosen(number, group["params"], names, slopes, usual, MOST // len(groups))
    try:
        moved = drill.walk(lambda step: drill.noise(), 2)[1]
    except Exception as error:  # an optimizer that wants a closure, or gradients of all parameters
        drill.lost = f"step() with gradients of some parameters raises {type(error).__name__}"
        return drill
    if not drill.held or not all(bool(move.isfinite().all()) for move in moved) or not any(bool(move.any()) for move in moved):
        drill.lost = "it holds none of the networks' parameters, or moves none"
    return drill


def _chosen(
    group: int, params: Sequence[Tensor], names: dict[int, str], slopes: dict[str, Tensor | None], usual: float, room: int
) -> list[Held]:
    """Some parameters of a group, by how many share their shape, then the small ones first; matrices before vectors."""
    free = []
    for place, p in enumerate(params):
        slope = slopes.get(names.get(id(p), ""))
        if id(p) in names and not (isinstance(slope, Tensor) and slope.is_sparse) and 0 < p.numel() <= room and p.is_floating_point():
            size = float(slope.float().square().mean().sqrt()) if isinstance(slope, Tensor) else 0.0
            free.append(Held(names[id(p)], group, place, p.shape, size if 0 < size < math.inf else usual))
    shapes = [held.shape for held in free]
    twins = [held for held in free if shapes.count(held.shape) > 1][:EACH]
    others = sorted((held for held in free if held not in twins), key=lambda held: (len(held.shape) < 2, held.shape.numel()))
    kept, left = [], room
    for held in [*others[: EACH // 2], *twins, *others[EACH // 2 : EACH]]:
        if held.shape.numel() <= left:
            kept.append(held)
            left -= held.shape.numel()
    return kept


def cosine(move: Tensor, slope: Tensor) -> float:
    """Cosine of a move with a gradient; 0 where there is no move."""
    move, slope = move.double(), slope.double()
    return float((move * slope).sum() / (move.norm() * slope.norm()).clamp(min=1e-300))


def total(moves: Sequence[Tensor]) -> float:
    """Norm of all of them together."""
    return math.sqrt(sum(float(move.double().square().sum()) for move in moves))


def rough(drill: Drill) -> bool:
    """Whether steps have noise of their own, or move weights without a gradient: what is no descent alone cannot be asked further."""
    zeros = [torch.zeros(held.shape) for held in drill.held]
    still = total(drill.walk(lambda step: zeros, 1)[0])
    one, other = (drill.walk(lambda step: drill.noise(), 2, seed=seed)[-1] for seed in (0, 1))
    size = total(one)
    return still > 0.01 * size or total([a - b for a, b in zip(one, other, strict=True)]) > 1e-4 * size
