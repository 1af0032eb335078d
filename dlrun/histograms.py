"""Distributions of gradients and weights, where `log.watch` asks for them: histograms.jsonl, which the copies for W&B and TensorBoard read.

Taken in the step, before clipping and before the update; nothing is changed and no random number drawn. On a GPU no step waits for them:
they stay tensors until the next flush.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

BINS = 64
FACTS = ("low", "high", "nonfinite", "sum", "sum_squares")
NAME = "histograms.jsonl"
LONGEST_LINE = 1 << 26


class Histograms:
    """The histograms of one run. `what`: gradients, parameters or all; `every`: steps between them."""

    def __init__(self, directory: Path, what: str, every: int) -> None:
        self._path, self._every = directory / NAME, every
        self._kinds = ("gradients", "parameters") if what == "all" else (what,)
        self._rows: list[tuple[int, dict[str, Tensor]]] = []

    def take(self, step: int, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Those of step `step` (from 1), if it is one that has some; parameters without a gradient have none."""
        if step % self._every:
            return
        if not self._rows or self._rows[-1][0] != step:
            self._rows.append((step, {}))
        tensors = {f"{kind}/{name}": p.grad if kind == "gradients" else p for name, p in named for kind in self._kinds}
        with torch.no_grad():
            self._rows[-1][1].update({key: histogram(t.detach()) for key, t in tensors.items() if t is not None and t.numel()})

    def flush(self) -> None:
        """Write what was taken; one transfer a row."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        lines = [json.dumps({"step": step, **_plain(row)}) + "\n" for step, row in rows]
        with open(self._path, "a", encoding="utf-8") as file:
            file.writelines(lines)


def histogram(values: Tensor) -> Tensor:
    """`values` of any shape -> float64 [5 + BINS]: FACTS, then the counts of BINS equal bins from the least to the largest finite value."""
    values = torch.view_as_real(values) if values.is_complex() else values
    flat = values.reshape(-1).to(torch.float32 if values.device.type == "mps" else torch.float64)
    finite = torch.isfinite(flat)
    zero = torch.zeros_like(flat)
    low, high = torch.where(finite, flat, torch.inf).amin(), torch.where(finite, flat, -torch.inf).amax()
    any_finite = low <= high
    low, high = torch.where(any_finite, low, 0.0), torch.where(any_finite, high, 0.0)
    flat_range = low == high
    low, high = torch.where(flat_range, low - 0.5, low), torch.where(flat_range, high + 0.5, high)  # as numpy does
    kept = torch.where(finite, flat, zero)
    facts = torch.stack([low, high, (~finite).sum().to(flat.dtype), kept.sum(), (kept * kept).sum()])
    return torch.cat([facts, _counts(flat, finite, low, high)])


def _counts(flat: Tensor, finite: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Counts of the finite values."""
    if flat.device.type == "cpu":
        return torch.histc(flat if bool(finite.all()) else flat[finite], BINS, low.item(), high.item())
    return _sorted_counts(flat, finite, low, high)


def _sorted_counts(flat: Tensor, finite: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The same without waiting for an accelerator, and without its atomic additions, whose order is not fixed."""
    edges = low + (high - low) * torch.linspace(0, 1, BINS + 1, device=flat.device, dtype=flat.dtype)[1:-1]
    ordered = torch.where(finite, flat, torch.inf).sort().values
    below = torch.searchsorted(ordered, edges)
    total = finite.sum().reshape(1)
    return torch.diff(torch.cat([below, total]), prepend=torch.zeros_like(total)).to(flat.dtype)


def _plain(row: dict[str, Tensor]) -> dict[str, Any]:
    table = torch.stack(list(row.values())).double().tolist() if row else []
    return {
        name: {**dict(zip(FACTS, numbers, strict=False)), "counts": [int(n) for n in numbers[len(FACTS) :]]}
        for name, numbers in zip(row, table, strict=True)
    }


def cut_back(path: Path, step: int) -> None:
    """Shorten a file of histograms to the rows up to `step`; a half-written last line goes as well."""
    try:
        with open(path, "rb") as file:
            kept = sum(len(line) for line in itertools.takewhile(lambda line: _is_up_to(line, step), _lines(file)))
    except FileNotFoundError:
        return
    os.truncate(path, kept)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        yield line


def _is_up_to(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
