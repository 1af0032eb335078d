"""What a denoiser that draws times and noise by itself is told of the time: whether that is the same for all rows and draws.

Looked at is what layers get that does not come from other layers (it has no gradient): the noised rows, and what stands beside them. A
network that gets noised rows alone may be meant so (Sun et al. 2025, "Is noise conditioning necessary for denoising generative models?").
One that gets more, all of it constant from row to row and from draw to draw, has a clock that stands still. One that is told times which
have nothing to do with how its rows were mixed has a clock of its own: see `_noised.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import is_layer, sample
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._noised import SPREAD, WIDE, Fault, exact_levels, never_noisy, one_draw, untold
from dlrun.checks._trial import once
from dlrun.noise import seed_generators

ROWS, DRAWS, LEAST, LIKE = 64, 3, 8, 0.15


@dataclass
class Draw:
    """One forward in training: what layers got, by call (all of it, and what came from no other layer), and what the network gave."""

    inputs: list[tuple[str, Tensor]] = field(default_factory=list)
    free: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)


@once
def draws(subject: Subject) -> tuple[Tensor, list[Draw]]:
    """The clean rows, and three forwards of them under other noise."""
    run = subject.copy()
    batch = sample(subject, run, ROWS)
    found = []
    for module in run.modules.values():
        module.train()
    layers = [(f"{name}.{path}".rstrip("."), part) for name in run.nets for path, part in run.modules[name].named_modules()]
    for draw in range(DRAWS):
        seen = Draw()
        handles = [part.register_forward_hook(_note(seen, name, len(batch["x"]), is_layer(part))) for name, part in layers]
        try:
            with torch.enable_grad(), run.precision.autocast():
                seed_generators(run.seed, draw, "clock")
                seen.outputs = tensors(run.task.outputs(run.nets, batch.map(torch.clone)))  # type: ignore[attr-defined]
        finally:
            for handle in handles:
                handle.remove()
        found.append(seen)
    return batch["x"], found


def stopped(subject: Subject) -> str:
    """What stands still beside the noised rows; "" where something varies there, where nothing stands there, or where it is not seen."""
    x, found = draws(subject)
    if len(x) < LEAST:
        return ""
    given: dict[str, list[Tensor]] = {}
    for seen in found:
        for name, calls in seen.free.items():
            given.setdefault(name, []).extend(calls)
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


def disagreed(subject: Subject) -> Fault | None:
    """What is wrong with the noise in the rows that a network makes, beside its times; None where nothing is to be seen."""
    x, found = draws(subject)
    clean = x.flatten(1).double()
    rows = _noised(clean, found)
    targets = [t.detach().flatten(1).double() for seen in found for t in seen.outputs[:2] if not t.requires_grad and t.numel() == x.numel()]
    targets = targets if len(targets) == len(found) else []
    if len(x) < LEAST or clean.shape[1] < 2 or not rows:
        return None
    if fault := one_draw(rows, clean, targets):
        return fault
    told = _times(found, rows)
    if told is None:
        return None
    many, all_rows = clean.repeat(len(rows), 1), torch.cat(rows)
    cosine = ((many * all_rows).sum(1) / (many.norm(dim=1) * all_rows.norm(dim=1)).clamp(min=1e-12)).square()
    if fault := never_noisy(1 - cosine, told):
        return fault
    levels = exact_levels(all_rows, many, torch.cat(targets)) if targets else None
    varied = levels is not None and bool((levels.std(0) > SPREAD * levels.mean(0).abs()).any())
    return untold(levels, told) if levels is not None and varied else None


def _noised(clean: Tensor, found: list[Draw]) -> list[Tensor]:
    """By draw: the noised rows among what layers got: what goes most with the clean rows, column by column; [] of none."""
    best, most = list[Tensor](), LIKE
    for calls in zip(*(seen.inputs for seen in found), strict=False):
        if any(not t.is_floating_point() or t[0].numel() < clean.shape[1] for _, t in calls):
            continue
        rows = [t.reshape(len(t), -1)[:, : clean.shape[1]].double() for _, t in calls]
        like = sum(_alike(one, clean) for one in rows) / len(rows)
        if like > most + 1e-9 and not torch.allclose(rows[0], clean):
            best, most = rows, like
    return best


def _alike(one: Tensor, two: Tensor) -> float:
    """The mean correlation of columns over rows."""
    one, two = one - one.mean(0), two - two.mean(0)
    return float(((one * two).sum(0) / (one.norm(dim=0) * two.norm(dim=0)).clamp(min=1e-12)).mean())


def _times(found: list[Draw], noised: list[Tensor]) -> Tensor | None:
    """[draws x rows, K]: what layers got from no other layer, beside rows, that changes from draw to draw; None where there is none."""
    columns = []
    for name in (name for name in found[0].free if all(name in seen.free for seen in found)):
        calls = [_beside(seen.free[name][0], rows) for seen, rows in zip(found, noised, strict=True)]
        if len({t.shape for t in calls}) == 1:
            flat = torch.stack(calls)
            columns.append(flat[..., (flat != flat[:1]).any(0).any(0)].flatten(0, 1))
    told = torch.cat(columns, 1) if columns else None
    return told if told is not None and told.shape[1] else None


def _beside(t: Tensor, noised: Tensor) -> Tensor:
    """The part of what a layer gets that is not the noised rows at its beginning, [rows, K]."""
    flat, width = t.reshape(len(t), -1).double(), noised.shape[1]
    if flat.shape[1] >= width and torch.allclose(flat[:, :width], noised):
        flat = flat[:, width:]
    return flat[:, :WIDE]


def _note(seen: Draw, name: str, rows: int, layer: bool) -> Any:
    """A hook that keeps what a layer gets, and apart from that what comes from no other layer."""

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        for t in tensors(inputs):
            if t.dim() and len(t) == rows:
                seen.inputs.append((name, t.detach()))
        for t in tensors(inputs)[:1]:
            if layer and not t.requires_grad and t.dim() and len(t) == rows:
                seen.free.setdefault(name, []).append(t.detach())

    return hook
