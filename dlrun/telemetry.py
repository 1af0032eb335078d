"""Rows of metrics.jsonl, off the training's critical path: values stay tensors in a list, and a flush pays for its time.

A flush (read the tensors, write the rows, refresh the bar) that took c seconds is followed by a pause of 100 c, so that telemetry never
costs more than 1 %. A checkpoint always flushes first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlrun.rundir import RunDir
from dlrun.types import Mean, Whole

PAUSE = 100.0
FIRST_PAUSE_SECONDS = 0.2


class Telemetry:
    """Collects rows and flushes them to the run directory and to `show`, which gets the rows just written; `first` is called before."""

    def __init__(self, directory: RunDir, show: Callable[[list[dict[str, Any]]], None], first: Callable[[], None] | None = None) -> None:
        self.directory, self._show, self._first = directory, show, first
        self._rows: list[dict[str, Any]] = []
        self._next = time.perf_counter() + FIRST_PAUSE_SECONDS
        self.newest: dict[str, float] = {}

    def record(self, step: int, seconds: float, split: str, values: Mapping[str, Any]) -> None:
        """Add values to the row of `step`; rows come in increasing order of steps."""
        if not self._rows or self._rows[-1]["step"] != step:
            self._rows.append({"step": step, "time": seconds})
        self._rows[-1].update({f"{split}/{name}": value for name, value in values.items()})

    def breathe(self) -> None:
        """Flush if the pause is over."""
        if time.perf_counter() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write all rows but none twice."""
        begun = time.perf_counter()
        if self._first is not None:
            self._first()
        if self._rows:
            rows, self._rows = plain(self._rows), []
            self.directory.rows(rows)
            for row in rows:
                self.newest.update({name: value for name, value in row.items() if "/" in name})
            self._show(rows)
        ended = time.perf_counter()
        self._next = ended + PAUSE * (ended - begun)


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with every tensor read: those of one device and type in one transfer, not one by one. A mean is read as its two tensors."""
    tensors: list[Tensor] = []
    for row in rows:
        for value in row.values():
            if isinstance(value, Tensor):
                tensors.append(value)
            elif isinstance(value, Mean) and value.simple:
                tensors += [part for part in (value.sum, value.count) if isinstance(part, Tensor)]
    numbers = iter(read(tensors))
    return [{name: value if type(value) is float else _number(value, numbers) for name, value in row.items()} for row in rows]


def read(tensors: list[Tensor]) -> list[float]:
    """The numbers in tensors of one number each."""
    alike: dict[Any, tuple[list[int], list[Tensor]]] = {}
    for place, tensor in enumerate(tensors):
        places, found = alike.setdefault((tensor.dtype, tensor.device), ([], []))
        places.append(place)
        found.append(tensor if tensor.dim() == 0 else tensor.reshape(()))
    numbers = [0.0] * len(tensors)
    with torch.no_grad():
        for places, found in alike.values():
            for place, number in zip(places, torch.stack(found).tolist(), strict=True):
                numbers[place] = float(number)
    return numbers


def _number(value: Any, numbers: Iterator[float]) -> Any:
    if isinstance(value, Tensor):
        return next(numbers)
    if isinstance(value, Mean) and value.simple:
        total, count = (next(numbers) if isinstance(part, Tensor) else float(part) for part in (value.sum, value.count))
        return total / count if count else math.nan
    return value.value() if isinstance(value, (Mean, Whole)) else value
