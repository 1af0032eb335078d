"""Rows of a split for checks that look at data: a random sample, the same in every process, read within a time limit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch, leaves
from dlrun.data import Data

PERMUTED = 2**21
"""Splits up to this size are permuted whole; of larger ones row numbers are drawn."""
FIRST = 16
"""Items of a map-style Dataset that are read to learn how long one takes."""
MOST_BYTES = 2**27
"""Rows that fill more than 128 MiB are not all read: a thousand photographs would not fit beside the training."""


@dataclass(frozen=True)
class Rows:
    """Rows of a split as the networks get them (`batch`: normalised, not augmented), their numbers, and whether these are all there are.

    Rows stand in random order: a sorted or periodic split gives a fair sample. `rows.x` and `rows.y` are what the batch holds there.
    """

    batch: Batch
    indices: Tensor
    whole: bool

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def x(self) -> Any:
        """The inputs: a tensor, or a tuple or dict of tensors; None where there are none of that name."""
        return self.batch.get("x")

    @property
    def y(self) -> Any:
        """The targets, or None."""
        return self.batch.get("y")

    def first(self, count: int) -> Rows:
        """The first `count` of them: a smaller sample."""
        return self if count >= len(self) else Rows(self.batch[:count], self.indices[:count], False)


def scan(data: Data, split: str, count: int, seconds: float) -> Rows:
    """Up to `count` rows of `split`; of a user's Dataset, items of which are read one by one, as many as `seconds` allow (16 at least)."""
    source, size = data.raw(split), len(data.raw(split))
    order = _order(size, count)
    if not source.in_memory and len(order) > FIRST:
        source.take(order[:1])  # the first item may open files
        begun = time.perf_counter()
        source.take(order[:FIRST])
        each = (time.perf_counter() - begun) / FIRST
        order = order[: max(FIRST, int(seconds / max(each, 1e-9)))]
    if len(order) > FIRST:
        one = data._batch(source.take(order[:1].to(source.device)))
        row = sum(leaf.numel() * leaf.element_size() for leaf in leaves(dict(one)))
        order = order[: max(FIRST, MOST_BYTES // max(row, 1))]
    batch = data._batch(source.take(order.to(source.device)))
    return Rows(batch, order, len(order) == size)


def _order(size: int, count: int) -> Tensor:
    """The first `count` row numbers of a fixed random order; a larger `count` begins with the same ones."""
    generator = torch.Generator().manual_seed(size)
    if size <= PERMUTED:
        return torch.randperm(size, generator=generator)[:count]
    drawn = torch.randint(size, (2 * count,), generator=generator)
    return torch.tensor(list(dict.fromkeys(drawn.tolist()))[:count])
