"""What the outputs of a network depend on: a copy whose zeros are filled, its outputs on rows of train, and changed inputs beside them.

Two questions are asked of a part of the input. Does another value there move the outputs (by more than equal forwards differ)? And does a
NaN put there reach them? Arithmetic carries a NaN along every path, however weak: a signal that fades over forty layers or two hundred
steps moves nothing that a float could show, yet its path exists. Only what neither reaches is cut off for certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves, map_leaves
from dlrun.checks._frame import Subject, gap, largest, tensors
from dlrun.run import Run

Place = tuple[slice, ...]
RELATIVE = 1e-6


def sample(subject: Subject, run: Run, rows: int) -> Batch:
    """Up to `rows` rows as the copy `run` gets them: of the first batch, of train at random where that batch is smaller."""
    raw = subject.raw if len(subject.raw) >= rows else subject.rows("train", rows).batch
    return subject.prepared(run, raw[:rows])


def awaken(run: Run) -> Run:
    """Fill trainable tensors that are zero throughout (heads, gates, low-rank parts that start at nothing) with small random values.

    Asked of such a network at its start, every layer below would seem cut off; it is connected as soon as they move.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in (p for module in run.modules.values() for p in module.parameters()):
            if p.requires_grad and p.is_floating_point() and p.numel() and not bool(p.any()):
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

    def reached(self, leaf: Tensor, place: Place) -> bool | None:
        """Whether a NaN at `place` of a leaf of x reaches an output; None where none can be put there (tokens that are not embedded)."""
        try:
            if leaf.is_floating_point():
                marked = map_leaves(lambda t: _marked(t, place) if t is leaf else t, self.x)
                return _any_nan(self.out(self.batch.replace(x=marked)))
            with _nan_embedded(self.run, leaf, place) as used:
                out = self.out(self.batch)
            return _any_nan(out) if used else None
        except Exception:  # a network that refuses such values has looked at them
            return True


def _marked(leaf: Tensor, place: Place) -> Tensor:
    """`leaf` with NaN at `place`."""
    copy = leaf.clone()
    copy[place] = float("nan")
    return copy


def _any_nan(found: list[Tensor]) -> bool:
    return any(bool(t.isnan().any()) for t in found)


@contextmanager
def _nan_embedded(run: Run, tokens: Tensor, place: Place) -> Iterator[list[bool]]:
    """Embeddings of these very tokens give NaN at `place`; the list holds an entry for each that was asked."""
    used: list[bool] = []

    def mark(module: nn.Module, inputs: Any, out: Any) -> Any:
        if not isinstance(inputs[0], Tensor) or inputs[0].shape != tokens.shape or not torch.equal(inputs[0].long(), tokens.long()):
            return None
        used.append(True)
        return _marked(out, place)

    found = [part for module in run.modules.values() for part in module.modules() if isinstance(part, nn.Embedding)]
    handles = [part.register_forward_hook(mark) for part in found]
    try:
        yield used
    finally:
        for handle in handles:
            handle.remove()


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
