"""`Batch`: named tensors with their rows on axis 0, and the few ways to take tensors out of nested containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Leaf = Any
"""A tensor, or a tuple or dict of leaves: whatever has its rows on axis 0."""


def map_leaves(function: Callable[[Tensor], Tensor], leaf: Leaf) -> Leaf:
    """`leaf` with `function` applied to every tensor in it."""
    if isinstance(leaf, Tensor):
        return function(leaf)
    if isinstance(leaf, Mapping):
        return {key: map_leaves(function, value) for key, value in leaf.items()}
    if isinstance(leaf, (tuple, list)):
        return tuple(map_leaves(function, value) for value in leaf)
    raise TypeError(f"a batch holds tensors, or tuples and dicts of them; found {type(leaf).__name__}")


def leaves(leaf: Leaf) -> Iterator[Tensor]:
    """Every tensor in `leaf`, in order."""
    if isinstance(leaf, Tensor):
        yield leaf
    elif isinstance(leaf, Mapping):
        for value in leaf.values():
            yield from leaves(value)
    elif isinstance(leaf, (tuple, list)):
        for value in leaf:
            yield from leaves(value)
    else:
        raise TypeError(f"a batch holds tensors, or tuples and dicts of them; found {type(leaf).__name__}")


def _zip_leaves(function: Callable[..., Tensor], parts: Sequence[Leaf]) -> Leaf:
    first = parts[0]
    if isinstance(first, Tensor):
        return function(parts)
    if isinstance(first, Mapping):
        return {key: _zip_leaves(function, [part[key] for part in parts]) for key in first}
    return tuple(_zip_leaves(function, [part[i] for part in parts]) for i in range(len(first)))


class Batch(Mapping[str, Any]):
    """A frozen mapping from names to tensors (or tuples and dicts of tensors), all of whose leaves have their rows on axis 0.

    `batch["x"]` reads a leaf, `batch[2:5]` cuts rows, `len(batch)` counts rows.
    """

    __slots__ = ("_leaves", "_rows")

    def __init__(self, named: Mapping[str, Leaf]) -> None:
        self._leaves = dict(named)
        self._rows = -1

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self.map(lambda tensor: tensor[key])
        return self._leaves[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __contains__(self, key: object) -> bool:
        return key in self._leaves

    def get(self, key: str, default: Any = None) -> Any:
        """The leaf called `key`, or `default`; Mapping's own way raises and catches an error where there is none, at every step."""
        return self._leaves.get(key, default)

    def __len__(self) -> int:
        if self._rows < 0:
            sizes = {tensor.shape[0] if tensor.dim() else -1 for tensor in leaves(self._leaves)}
            if len(sizes) != 1 or -1 in sizes:
                shapes = {name: [tuple(t.shape) for t in leaves(value)] for name, value in self._leaves.items()}
                raise ValueError(f"a batch's tensors have their rows on axis 0, equally many each; found shapes {shapes}")
            self._rows = sizes.pop()
        return self._rows

    def __repr__(self) -> str:
        shapes = {name: [tuple(t.shape) for t in leaves(value)] for name, value in self._leaves.items()}
        return f"Batch({shapes})"

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """A batch with `function` applied to every tensor."""
        return Batch({name: map_leaves(function, leaf) for name, leaf in self._leaves.items()})

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def replace(self, **named: Leaf) -> Batch:
        """The batch with some names set anew."""
        return Batch({**self._leaves, **named})

    @staticmethod
    def cat(batches: Sequence[Batch]) -> Batch:
        """The rows of `batches` one after another; all have the same names."""
        return Batch({name: _zip_leaves(torch.cat, [batch[name] for batch in batches]) for name in batches[0]})
