"""Is a state cut off from the steps before it? Outputs that hang on early steps of a sequence, while no gradient comes to these.

Each of some steps is changed a little (zeros, that is padding, stay zeros; tokens by their embedding, so that masks stay what they are):
does the last output, or that in the middle, move? And does its gradient come there? A network that forgets has neither, one that learns to
remember has both. Forward alone, at all steps but the last few, is a state that was detached, or kept as numbers, from step to step.
Truncated backpropagation through longer stretches of a sequence is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves, map_leaves
from dlrun.checks._dependence import awaken, sample
from dlrun.checks._frame import Subject, tensors
from dlrun.noise import seed_generators
from dlrun.run import Run

ROWS, LEAST, PLACES, NEAR = 8, 6, 8, 3
CHANGE = 0.05


@dataclass
class Cut:
    """Steps of a sequence of `length` that an output hangs on (of those that were changed), and how many steps its gradient comes to."""

    length: int
    moves: list[int]
    cut: list[int]
    """Those among `moves` to which no gradient comes."""
    reached: int

    @property
    def found(self) -> bool:
        """Whether a gradient comes to the last few steps only, and the output hangs on more."""
        return 1 <= self.reached <= min(NEAR, self.length // 4) and len(self.cut) >= max(NEAR, len(self.moves) // 2)


def cut(subject: Subject) -> Cut | None:
    """What was found at the first sequence among the inputs where a state is cut; None where there is none."""
    run = awaken(subject.copy())
    batch = sample(subject, run, ROWS)
    for leaf in leaves(batch.get("x", ())):
        long = leaf.dim() in (2, 3) and leaf.shape[1] >= LEAST and len(leaf) == len(batch)
        if not long or (leaf.dim() == 3 and not leaf.is_floating_point()) or leaf.is_complex() or leaf.dtype == torch.bool:
            continue
        for at in (leaf.shape[1] - 1, leaf.shape[1] // 2):
            found = _at(subject, run, batch, leaf, at)
            if found is not None and found.found:
                return found
    return None


def _at(subject: Subject, run: Run, batch: Batch, leaf: Tensor, at: int) -> Cut | None:
    """How the output at step `at` (all of it, where there is one for the whole sequence) hangs on the steps of a leaf of x."""
    length = leaf.shape[1]
    try:
        base, slope = _read(subject, run, batch, leaf, at, None)
        again, _ = _read(subject, run, batch, leaf, at, None)
    except (RuntimeError, TypeError):  # it takes no gradient, or gives nothing that could have one
        return None
    if slope is None or base.shape != again.shape:
        return None
    reached = slope.reshape(len(slope), length, -1).ne(0).any(2).any(0)
    if not 1 <= int(reached.sum()) <= min(NEAR, length // 4):
        return Cut(length, [], [], int(reached.sum()))
    bound = 10 * float((base - again).abs().max()) + 1e-6 * float(base.abs().max())
    places = sorted({int(place) for place in torch.linspace(0, at, PLACES).round()})
    moves = [p for p in places if float((_read(subject, run, batch, leaf, at, p)[0] - base).abs().max()) > bound]
    return Cut(length, moves, [p for p in moves if not reached[p]], int(reached.sum()))


def _read(subject: Subject, run: Run, batch: Batch, leaf: Tensor, at: int, place: int | None) -> tuple[Tensor, Tensor | None]:
    """(the output at step `at`, its gradient at each step of the leaf or its embedding); with `place` that step changed, no gradient."""
    held: list[Tensor] = []

    def change(t: Tensor) -> Tensor:
        t = t.detach().clone()
        if place is not None:
            generator = torch.Generator().manual_seed(place)
            t[:, place] *= 1 + CHANGE * torch.randn(t[:, place].shape, generator=generator).to(t.device, t.dtype)
        held.append(t.requires_grad_(place is None))
        return held[-1] * 1

    changed = batch.map(torch.clone)
    if leaf.is_floating_point():
        changed = changed.replace(x=map_leaves(lambda t: change(t) if t is leaf else t.clone(), batch["x"]))
    for module in run.modules.values():
        module.eval()
    with _embedded(run, leaf, change), torch.set_grad_enabled(place is None), run.precision.autocast():
        seed_generators(run.seed, "cut")
        outputs = run.task.outputs(run.nets, changed)  # type: ignore[attr-defined]
        made = next(t for t in tensors(outputs) if t.is_floating_point() and t.dim())
        out = _step(made, len(batch), leaf.shape[1], at)
    if place is not None or not held or not out.requires_grad:
        return out.detach(), None
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.device, out.dtype)
    slopes = [s for s in torch.autograd.grad((out * weights).sum(), held, allow_unused=True) if s is not None]
    return out.detach(), torch.stack([s.abs() for s in slopes]).sum(0) if slopes else None


@contextmanager
def _embedded(run: Run, leaf: Tensor, change: Any) -> Iterator[None]:
    """Embeddings of the tokens `leaf` pass through `change`."""

    def hook(module: nn.Module, inputs: Any, out: Any) -> Any:
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        mine = given is not None and given.shape == leaf.shape and torch.equal(given.long(), leaf.long())
        return change(out) if mine and not leaf.is_floating_point() else None

    parts = [part for module in run.modules.values() for part in module.modules() if isinstance(part, nn.Embedding)]
    handles = [part.register_forward_hook(hook) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _step(out: Tensor, rows: int, length: int, at: int) -> Tensor:
    """The output of one step where there is one for each step, [B, T, ...] or [B * T, ...]; else all of it."""
    if len(out) == rows * length and length > 1:
        return out.reshape(rows, length, -1)[:, at]
    return out[:, at] if out.dim() > 1 and out.shape[1] == length and len(out) == rows else out
