"""What the outputs of a network depend on: a copy whose zeros are filled, its outputs on rows of train, and changed inputs beside them.

Two questions are asked of a part of the input. Does another value there move the outputs (by more than equal forwards differ)? And does a
gradient come to it, in float64? A signal that fades over forty layers or two hundred steps moves nothing that a float32 could show, yet
its path exists: the gradient of a plain network that forgets is 1e-60, not 0. Only what neither reaches is cut off for certain.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves, map_leaves
from dlrun.checks._frame import Subject, gap, largest, tensors
from dlrun.noise import seed_generators
from dlrun.run import Run

Place = tuple[slice, ...]
RELATIVE = 1e-6
FEW_COLUMNS, MANY_VALUES = 8, 4
STEADY = 1e-3
"""Share of the largest output by which two equal forwards may differ where changed inputs are to be compared."""


def sample(subject: Subject, run: Run, rows: int) -> Batch:
    """Up to `rows` rows as the copy `run` gets them: of the first batch, of train at random where that batch is smaller."""
    raw = subject.raw if len(subject.raw) >= rows else subject.rows("train", rows).batch
    return subject.prepared(run, raw[:rows])


def awaken(run: Run) -> Run:
    """Fill trainable tensors that are zero throughout (heads, gates, low-rank parts that start at nothing) with small random values.

    Asked of such a network at its start, every layer below would seem cut off; it is connected as soon as they move. Where there is no
    optimizer the task itself computes weights, frozen ones too.
    """
    computed = not run.optimizers
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in (p for module in run.modules.values() for p in module.parameters()):
            if (p.requires_grad or computed) and p.is_floating_point() and p.numel() and not bool(p.any()):
                scale = 0.1 if p.dim() < 2 else 1 / math.sqrt(max(p[0].numel(), 1))
                p.copy_(scale * torch.randn(p.shape, generator=generator))
    return run


class Dependence:
    """An awake copy of the networks, in eval mode, with its outputs on a sample of rows."""

    def __init__(self, subject: Subject, rows: int) -> None:
        self.subject, self.run = subject, awaken(subject.copy())
        self.batch = sample(subject, self.run, rows)
        self.x = self.batch.get("x")
        self.base = self.out(self.batch)
        again = self.out(self.batch)
        self.bound = 10 * gap(self.base, again) + RELATIVE * largest(self.base)
        self.steady = gap(self.base, again) <= STEADY * largest(self.base)

    def out(self, batch: Batch) -> list[Tensor]:
        """The floating-point tensors that the task gets, without those that are a part of the input handed through."""
        known = list(leaves(batch.get("x", ())))
        found = tensors(self.subject.outputs(self.run, batch, training=False))
        return [t for t in found if t.is_floating_point() and not any(t.shape == leaf.shape and torch.equal(t, leaf) for leaf in known)]

    def apart(self, x: Any) -> float:
        """How far the outputs on `x` lie from those on the sample; inf where their shapes differ."""
        return gap(self.base, self.out(self.batch.replace(x=x)))

    def moves(self, x: Any) -> bool:
        """Whether outputs on `x` differ from those on the sample."""
        return self.apart(x) > self.bound

    @functools.cached_property
    def slopes(self) -> dict[int, Tensor | None]:
        """By id of each leaf of x: how outputs change with it, per number of the leaf, or per token of it where it is embedded; in float64.

        None where no gradient comes to it: nothing is made of it that can be differentiated.
        """
        run, batch = self.subject.copy(), self.batch.map(lambda t: t.double() if t.is_floating_point() else t)
        for name, module in awaken(run).modules.items():
            run.modules[name] = module.double().eval()
        given = {id(old): new for old, new in zip(leaves(self.x), leaves(batch["x"]), strict=True)}
        floats = [leaf.requires_grad_() for leaf in given.values() if leaf.is_floating_point()]
        embedded: list[tuple[Tensor, Tensor]] = []
        handles = [
            part.register_forward_hook(_note(embedded))
            for m in run.modules.values()
            for part in m.modules()
            if isinstance(part, nn.Embedding)
        ]
        try:
            with torch.enable_grad(), _as_default(torch.float64):  # a forward that makes tensors (a first state) makes them alike
                seed_generators(run.seed, "check")
                found = [t for t in tensors(run.task.outputs(run.nets, batch)) if t.is_floating_point() and t.requires_grad]  # type: ignore[attr-defined]
        finally:
            for handle in handles:
                handle.remove()
        known = {key: [t for tokens, t in embedded if _same(tokens, new)] or [new] for key, new in given.items()}
        wanted = [t for group in known.values() for t in group if t.requires_grad]
        total = sum((t * torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=t.dtype)).sum() for t in found)
        came = torch.autograd.grad(total, wanted, allow_unused=True) if isinstance(total, Tensor) and wanted else ()
        slope = {id(t): g for t, g in zip(wanted, came, strict=True)}
        return {key: _added([slope.get(id(t)) for t in group]) for key, group in known.items()} if floats or embedded else {}

    def reached(self, leaf: Tensor, place: Place) -> bool | None:
        """Whether outputs depend on `place` of a leaf of x, however weakly; None where it cannot be told (tokens that are not embedded)."""
        try:
            slopes = self.slopes
        except Exception:  # a network that takes no float64
            return None
        if id(leaf) not in slopes:
            return None
        slope = slopes[id(leaf)]
        if slope is None:
            return False if leaf.is_floating_point() else self._told_by_bits(leaf, place)
        return bool(slope[place].any())

    def _told_by_bits(self, leaf: Tensor, place: Place) -> bool | None:
        """False where whole numbers of many values in one of a few columns (a user, an item) change no bit of the outputs; else None."""
        part = leaf[place]
        if leaf.dim() != 2 or leaf.shape[1] > FEW_COLUMNS or leaf.dtype == torch.bool or part.unique().numel() < MANY_VALUES:
            return None
        turns = [patched(self.x, leaf, place, leaf.roll(by, 0)) for by in (1, 3, 5) if by < len(leaf)]
        return None if any(self.apart(turn) > 0 for turn in turns) else False


@contextmanager
def _as_default(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of `dtype` where nothing else is said."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _note(embedded: list[tuple[Tensor, Tensor]]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that keeps the tokens given to an embedding and what it made of them."""
    return lambda module, inputs, out: embedded.append((inputs[0], out)) if inputs and isinstance(inputs[0], Tensor) else None


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one.long(), two.long()) and not two.is_floating_point()


def _added(slopes: list[Tensor | None]) -> Tensor | None:
    """The sizes of several gradients of one shape together; None where none came."""
    known = [slope.abs() for slope in slopes if slope is not None]
    return torch.stack(known).sum(0) if known else None


def exchanged(x: Any, shift: int = 1) -> Any:
    """x with every row given the inputs of another."""
    return map_leaves(lambda leaf: leaf.roll(shift, 0), x)


def patched(x: Any, leaf: Tensor, place: Place, donor: Tensor) -> Any:
    """x with `place` of one of its leaves taken from `donor`, a tensor of the same shape."""

    def put(t: Tensor) -> Tensor:
        if t is not leaf:
            return t
        copy = t.clone()
        copy[place] = donor[place]
        return copy

    return map_leaves(put, x)


def differing(one: Any, other: Any) -> bool:
    """Whether two inputs differ anywhere."""
    return any(not torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


def calls(subject: Subject, run: Run, batch: Batch, note: Callable[[str, nn.Module, Any, Any], None], *, training: bool = False) -> Any:
    """One forward during which `note(name, module, inputs, output)` hears of every layer that holds no other, in order; its outputs."""
    handles = []
    for name, module in run.modules.items():
        for path, part in module.named_modules():
            if is_layer(part):
                handles.append(part.register_forward_hook(_hook(note, f"{name}.{path}".rstrip("."))))
    try:
        return subject.outputs(run, batch, training=training)
    finally:
        for handle in handles:
            handle.remove()


def is_layer(part: nn.Module) -> bool:
    """Whether a module is one that holds no other, or one of torch's that works as a whole."""
    return isinstance(part, nn.MultiheadAttention) or not any(True for _ in part.children())


def _hook(note: Callable[[str, nn.Module, Any, Any], None], name: str) -> Callable[[nn.Module, Any, Any], None]:
    return lambda module, inputs, out: note(name, module, inputs, out)
