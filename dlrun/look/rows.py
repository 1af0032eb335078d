"""The rows of a split as the network gets them in evaluation: normalised, not augmented, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from dlrun.batch import Batch
from dlrun.data import Data

MOST_ITEMS = 2048
"""Rows of a user's Dataset, which are read one by one, that are looked at in each split; what is in memory is looked at whole."""


def looked_at(data: Data, split: str) -> int:
    """How many rows of `split` the views look at."""
    return data.rows[split] if data.raw(split).in_memory else min(data.rows[split], MOST_ITEMS)


def batches_of(data: Data, split: str) -> Iterator[Batch]:
    """The rows looked at, as batches."""
    left = looked_at(data, split)
    for batch in data.evaluation(split):
        yield batch[:left] if left < len(batch) else batch
        left -= len(batch)
        if left <= 0:
            return


def tensor_named(batch: Batch, name: str) -> Tensor | None:
    """The leaf `name` where it is one tensor."""
    found: Any = batch.get(name)
    return found if isinstance(found, Tensor) else None


def said(data: Data) -> str:
    """What is looked at where that is not everything; "" else."""
    parts = [f"{looked_at(data, split)} of {rows} rows of {split}" for split, rows in data.rows.items() if looked_at(data, split) < rows]
    return f"looked at: the first {', '.join(parts)}, for they are read one by one; what is below is of these alone" if parts else ""
