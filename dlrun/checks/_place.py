"""Outputs that have a place (a mask, a picture, a series), and the place of the input that moves them: it should be theirs.

Where memory is read in another order on the way out (a reshape in the place of a pixel shuffle, of a permute, of patches put together), a
corner of the output shows the middle of the input. Some pixels of the output are led back to the input by gradients. A network that
looks at everything alike, or at the end of a series for all of it, moves all pixels from the same places: nothing is said of it. Where most
pixels hang on places of their own, far from where they are, axes were mixed.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d

from dlrun.checks._dependence import awaken, sample
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._trial import once
from dlrun.noise import seed_generators
from dlrun.task import LossTask

ROWS, PIXELS, LEAST, SECONDS = 2, 48, 8, 1.0
NEAR, FAINT, LOCAL, OFTEN, COMMON = 0.08, 0.1, 3.0, 0.4, 0.4
RULE = f"warning: over {OFTEN:.0%} of places of the output hang on the input ten times as much elsewhere as where they are"


@once
def elsewhere(subject: Subject) -> Finding | None:
    """The finding where most of the output shows other places of the input; None where it does not, or outputs have no place."""
    if subject.loss_task is None or subject.kind in ("gan", "graph", "language_model", "contrastive"):
        return None
    run = awaken(subject.copy())
    assert isinstance(run.task, LossTask)
    batch = sample(subject, run, ROWS)
    x, y = batch.get("x"), batch.get("y")
    if not isinstance(x, Tensor) or not x.is_floating_point() or not isinstance(y, Tensor):
        return None
    for module in run.modules.values():
        module.eval()
    with torch.enable_grad(), run.precision.autocast():
        seed_generators(run.seed, "place")
        leaf = x.detach().clone().requires_grad_()
        given: Any = batch.replace(x=leaf)
        out = next((t for t in tensors(run.task.outputs(run.nets, given)) if t.is_floating_point() and len(t) == len(x)), None)
        axes = _axes(x, out, y) if out is not None and out.requires_grad else None
        moved = _moved(leaf, out, *axes) if axes and out is not None else None
    return _told(moved) if moved is not None else None


def _axes(x: Tensor, out: Tensor, y: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Which axes of x, and of the output, are places; None where the output, or its target, has none."""
    if x.dim() == 4 and out.dim() in (3, 4) and y.shape[-2:] == out.shape[-2:] and min(*x.shape[-2:], *out.shape[-2:]) >= LEAST:
        even = x.shape[-2] * out.shape[-1] == x.shape[-1] * out.shape[-2]
        return ((2, 3), (out.dim() - 2, out.dim() - 1)) if even else None
    if x.dim() == 3 and out.dim() in (2, 3) and y.shape[0] == len(x):
        ones = [axis for axis in range(1, x.dim()) if x.shape[axis] >= 2 * LEAST and x.shape[axis] in y.shape[1:]]
        twos = [axis for axis in range(1, out.dim()) if ones and out.shape[axis] == x.shape[ones[0]]]
        return ((ones[0],), (twos[0],)) if len(ones) == len(twos) == 1 else None
    return None


def _moved(x: Tensor, out: Tensor, of_x: tuple[int, ...], of_out: tuple[int, ...]) -> Tensor | None:
    """[pixels, 3]: of some of the output, how much it hangs on the input where it is, where it does so most, and at most places; then
    which place moves it most. None where that takes too long."""
    draw = torch.Generator().manual_seed(0)
    begun, found = time.perf_counter(), []
    for _ in range(PIXELS):
        at = [int(torch.randint(out.shape[axis], (), generator=draw)) for axis in of_out]
        place: list[Any] = [slice(None)] * out.dim()
        for axis, where in zip(of_out, at, strict=True):
            place[axis] = where
        picked = out[tuple(place)]
        signs = torch.randint(0, 2, picked.shape, generator=draw).to(picked) * 2 - 1
        (slope,) = torch.autograd.grad((picked * signs).sum(), x, retain_graph=True, allow_unused=True)
        if slope is None or time.perf_counter() - begun > SECONDS:
            return None
        others = [axis for axis in range(x.dim()) if axis not in of_x]
        shares = [(where + 0.5) / out.shape[axis] for axis, where in zip(of_out, at, strict=True)]
        found.append(_around(slope.detach().double().square().mean(others), shares))
    return torch.tensor(found)


def _around(energy: Tensor, shares: list[float]) -> list[float]:
    """Of the gradient's square over places [H, W] or [T]: mean near the place at `shares` of each side, the most of any place, the median,
    and the number of that place."""
    sides = energy.shape
    reach = [max(1, round(NEAR * side)) for side in sides]
    grid = energy[None, None]
    pool = avg_pool2d if len(sides) == 2 else avg_pool1d
    near = pool(grid, [2 * one + 1 for one in reach], 1, reach)[0, 0]
    own = near[tuple(min(int(share * side), side - 1) for share, side in zip(shares, sides, strict=True))]
    top = near.flatten().argmax()
    return [float(own), float(near.max()), float(near.median()), float(top)]


def _told(moved: Tensor) -> Finding | None:
    """The verdict on how much pixels of the output hang on the input where they are, at most, and at most places, [N, 4]."""
    own, best, usual, where = moved.unbind(1)
    away = (own < FAINT * best) & (best > LOCAL * usual)
    share = float(away.double().mean())
    common = int(where[away].unique(return_counts=True)[1].max()) / int(away.sum()) if share > OFTEN else 1.0
    if common > COMMON:
        return None
    text = f"{share:.0%} of the output's places show other places of the input than their own (ten times as much, and each another one)"
    cause = "axes of the output are mixed by a reshape: a pixel shuffle, a permute or patches put together were meant"
    step = "look at the last view or reshape in forward: F.pixel_shuffle(x, 2), x.permute(...)"
    return Finding("warning", text, cause, step, {"elsewhere": share, "most_common": common}, RULE)
