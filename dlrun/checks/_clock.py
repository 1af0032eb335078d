"""What a denoiser that draws times and noise by itself is told of the time: whether that is the same for all rows and draws.

Looked at is what layers get that does not come from other layers (it has no gradient): the noised rows, and what stands beside them. A
network that gets noised rows alone may be meant so (Sun et al. 2025, "Is noise conditioning necessary for denoising generative models?").
One that gets more, all of it constant from row to row and from draw to draw, has a clock that stands still.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import is_layer, sample
from dlrun.checks._frame import Subject, tensors
from dlrun.noise import seed_generators

ROWS, DRAWS, LEAST = 64, 3, 8


def stopped(subject: Subject) -> str:
    """What stands still beside the noised rows; "" where something varies there, where nothing stands there, or where it is not seen."""
    run = subject.copy()
    batch = sample(subject, run, ROWS)
    x = batch["x"]
    if len(x) < LEAST:
        return ""
    given: dict[str, list[Tensor]] = {}
    handles = [
        part.register_forward_hook(_note(given, f"{name}.{path}".rstrip("."), len(x)))
        for name in run.nets
        for path, part in run.modules[name].named_modules()
        if is_layer(part)
    ]
    try:
        for module in run.modules.values():
            module.train()
        with torch.enable_grad(), run.precision.autocast():
            for draw in range(DRAWS):
                seed_generators(run.seed, draw, "clock")
                run.task.outputs(run.nets, batch.map(torch.clone))  # type: ignore[attr-defined]
    finally:
        for handle in handles:
            handle.remove()
    return _told({name: torch.cat(calls) for name, calls in given.items() if len({t.shape for t in calls}) == 1}, x)


def _told(given: dict[str, Tensor], x: Tensor) -> str:
    """The verdict on what each layer was given over all rows and draws; numbers along axis 1 are its columns."""
    noised, still = False, ""
    for name, t in given.items():
        columns = t.movedim(1, 0).flatten(1) if t.dim() > 1 else t[None]
        varied = (columns != columns[:, :1]).any(1)
        rows = t.dim() == x.dim() and t.shape[2:] == x.shape[2:] and int(varied.sum()) == x.shape[1]
        noised |= rows
        if rows and len(varied) > x.shape[1]:
            still = f"{len(varied) - x.shape[1]} numbers that {name} gets beside the noised rows are the same for every row and every draw"
        elif not rows and bool(varied.any()):
            return ""
        elif not rows:
            still = f"what {name} gets is the same for every row and every draw"
    return still if noised else ""


def _note(given: dict[str, list[Tensor]], name: str, rows: int) -> Any:
    """A hook that keeps what a layer gets where that comes from no other layer."""

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        for t in tensors(inputs)[:1]:
            if not t.requires_grad and t.dim() and len(t) == rows:
                given.setdefault(name, []).append(t.detach())

    return hook
