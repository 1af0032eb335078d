"""Outputs that can go one way only, from 0 or from what the network was given, and targets that lie the other way.

An `abs`, a square or an exponential gives nothing below 0; a picture less a rectified noise is nowhere above the picture, and the next step
of a series that is the last one and a ReLU never falls. What the last layer gives is made larger, with either sign: free outputs then lie
on both sides. Whether that costs anything is asked of the loss, by a descent on either side and by one that is free. Where it costs a part
only, that may be noise of the targets, which nobody can tell: in pictures, a linear model of the pixels around a place is asked which way
the loss wants outputs to go there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._downhill import descended
from dlrun.checks._forms import STRETCH, enlarged
from dlrun.checks._frame import Finding, Subject
from dlrun.checks._probe import Probe

MILD, STEPS, GRID, LEAST = 30.0, 80, 21, 8
ONE_SIDED, LOST, BEYOND = 1e-3, 0.25, 0.1
SOME, AROUND, PLACES, CERTAIN, CUT, MOVED = 0.05, 2, 8192, 5.0, 0.05, 0.9
MOST_NUMBERS = 2**17
RULE = f"outputs that lean to one side can gain > {1 - LOST:.0%} of what the loss has to give"


@dataclass(frozen=True)
class Side:
    """Outputs lie at or above `edge` (`way` 1), or at or below it (-1); `what` says from where."""

    edge: Tensor
    way: float
    what: str

    def kept(self, z: Tensor) -> Tensor:
        """The nearest outputs that the network can give."""
        return torch.maximum(z, self.edge) if self.way > 0 else torch.minimum(z, self.edge)


def leaning(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where outputs can go one way only, and the loss wants the other; None where they are free, or it costs little."""
    if asked.kind in ("contrastive", "gan", "vae") or asked.out.numel() < LEAST or not asked.steady:
        return None
    if asked.targets.mode not in ("numbers", "none") or asked.out.numel() > MOST_NUMBERS or len(asked.out) != len(asked.batch):
        return None
    return next((finding for side in _sides(subject, asked) if (finding := _cost(asked, side))), None)


def _sides(subject: Subject, asked: Probe) -> list[Side]:
    for by in (STRETCH, MILD):
        far = [enlarged(subject, asked, sign * by) for sign in (1.0, -1.0)]
        known = [t for t in far if t is not None and bool(t.isfinite().all())]
        if len(known) == 2:
            return [side for what, start in _starts(asked) if (side := _of(what, start, asked.out, known))]
    return []


def _starts(asked: Probe) -> Iterator[tuple[str, Tensor]]:
    """Where outputs may be counted from: 0, inputs of their shape, the last step of a series."""
    out = asked.out
    yield "0", torch.zeros_like(out)
    for leaf in leaves(asked.batch.get("x", ())):
        if not leaf.is_floating_point() or len(leaf) != len(out):
            continue
        if leaf.numel() == out.numel():
            yield "the input", leaf.detach().reshape(out.shape).to(out.dtype)
        elif leaf.dim() in (2, 3):
            last = leaf[:, -1] if leaf.dim() == 2 else leaf[:, -1, 0]
            if out.numel() == len(out):
                yield "the last step of the input", last.detach().reshape(out.shape).to(out.dtype)


def _of(what: str, start: Tensor, own: Tensor, far: list[Tensor]) -> Side | None:
    """The side on which outputs lie, however much the last layer gives and with which sign; None where they lie on both."""
    parts = [t - start for t in (own, *far)]
    size = max(float(t.abs().max()) for t in parts[1:])
    moved = torch.stack([(t - own).abs() for t in far]).amax(0) > 1e-3 * own.abs() + 1e-9
    if float(moved.float().mean()) < MOVED:  # of several heads another one was the last layer
        return None
    for way in (1.0, -1.0):
        low = min(float((way * t).min()) for t in parts)
        if size > 0 and low >= -ONE_SIDED * size:
            return Side(start + way * low, way, what)
    return None


def _cost(asked: Probe, side: Side) -> Finding | None:
    """The verdict by what the best outputs of this side cost, beside the best of all and equal ones."""
    size = max(float((asked.out - side.edge).std()), 0.1)
    begin, sizes = side.edge + 0.1 * side.way * size, (0.05 * size, 5 * size)
    mine = descended(asked, begin, sizes, STEPS, kept=side.kept)
    free = descended(asked, begin, sizes, STEPS)
    if mine is None or free is None:
        return None
    best, least, further = asked.at(mine), asked.at(free), asked.at(begin + 10 * (free - begin))
    idle = min(_idle(asked, side, size), default=math.inf)
    if not all(map(math.isfinite, (best, least, idle))) or idle - least < 1e-3 * abs(idle) or further < least - 0.1 * abs(idle - least):
        return None
    lost = (best - least) / (idle - least)
    told = free[free != begin], side.edge.expand_as(free)[free != begin]  # a loss may count some places only
    beyond = float((side.way * (told[0] - told[1]) < -0.05 * size).float().mean())
    numbers: dict[str, Any] = {"best": best, "best_of_all": least, "indifferent": idle, "beyond": beyond}
    if lost < SOME or beyond < BEYOND or (lost < LOST and not _told_nearby(asked, side, free)):
        return None
    where = f"never {'below' if side.way > 0 else 'above'} {side.what}"
    text = f"outputs are {where}, whatever the last layer gives, and for {beyond:.0%} of them the loss wants others: it cannot fall below "
    text += f"{best:.3g}, free outputs reach {least:.3g} (equal ones {idle:.3g})"
    cause = "a ReLU, abs, square or exponential behind the last layer, where what it gives can have either sign"
    return Finding("error", text, cause, "leave it out: let the last linear layer or convolution give the answer", numbers, RULE)


def _told_nearby(asked: Probe, side: Side, free: Tensor) -> bool:
    """Whether pixels around a place tell where the loss wants outputs beyond their side: a guess is worse where it is kept within."""
    x = next((leaf for leaf in leaves(asked.batch.get("x", ())) if leaf.dim() == 4 and leaf.shape[2:] == free.shape[2:]), None)
    if x is None or free.dim() != 4 or len(x) != len(free) or not x.is_floating_point():
        return False
    around = torch.nn.functional.unfold(x.double(), 2 * AROUND + 1, padding=AROUND).transpose(1, 2)
    known = torch.cat([around, torch.ones_like(around[..., :1])], 2)
    wanted = (free - side.edge).double().mean(1).flatten(1) * side.way
    half, step = len(x) // 2, max(1, wanted.numel() // PLACES)
    one, y = known[:half].flatten(0, 1)[::step], wanted[:half].flatten()[::step]
    two, z = known[half:].flatten(0, 1)[::step], wanted[half:].flatten()[::step]
    ridge = 1e-6 * one.square().sum() * torch.eye(one.shape[1], dtype=one.dtype)
    guess = two @ torch.linalg.solve(one.T @ one + ridge, one.T @ y)
    worse = (z - guess.clamp(min=0)).square() - (z - guess).square()
    clear = float(worse.sum()) > CERTAIN * float(worse.square().sum().sqrt())
    return clear and float(worse.mean()) > CUT * float((z - guess).square().mean())


def _idle(asked: Probe, side: Side, size: float) -> Iterator[float]:
    """Losses of outputs that are equal, or equally far from where they are counted from."""
    middle = float(side.edge.mean())
    for by in torch.linspace(0, 5 * size, GRID).tolist():
        for edge in (side.edge, torch.full_like(side.edge, middle)):
            cost = asked.at(side.kept(edge + side.way * by))
            if math.isfinite(cost):
                yield cost
