"""Two parts of the input that one layer reads alike, of which one is the same in every row: drawn once and not for each row.

A constant column alone is usual (one country, one sensor), and so is a start symbol before a sentence, or one grid of times beside many
series. But where a layer (a table of embeddings, an encoder) reads it as it reads its neighbour, it stands for a thing of the same sort.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._dependence import calls
from dlrun.checks._frame import FEW, Rows, Subject
from dlrun.checks._inputs import is_integer, parts

COLUMNS, MANY = 4, 8


def one_for_all(subject: Subject, rows: Rows) -> tuple[str, str] | None:
    """(name of the part that never changes, name of one that does and goes through the same layer); None where there is no such pair."""
    still, varied = [], []
    for name, place, leaf in _pieces(rows.x):
        count = len(leaf.reshape(len(leaf), -1).unique(dim=0))
        if count == 1 and not _grid(leaf[0]):
            still.append((name, place))
        elif count >= MANY:
            varied.append((name, place))
    if not still or not varied or subject.loss_task is None:
        return None
    given = _given(subject, rows)
    for name, (layers, shape) in ((_called(*part), given.get(part, (set(), ()))) for part in still):
        for other in varied:
            those, size = given.get(other, (set(), ()))
            if layers & those and shape == size:
                return name, _called(*other)
    return None


def _pieces(x: Any) -> list[tuple[str, int | None, Tensor]]:
    """(name, column, values) of whatever may stand for one thing: a whole tensor, a column of a few whole numbers."""
    found: list[tuple[str, int | None, Tensor]] = []
    for name, leaf in parts(x).items():
        leaf = leaf.detach().cpu()
        if leaf.dtype == torch.bool or not leaf.numel():
            continue
        if is_integer(leaf) and leaf.dim() == 2 and 2 <= leaf.shape[1] <= COLUMNS:
            found += [(name, place, leaf[:, place]) for place in range(leaf.shape[1])]
        else:
            found.append((name, None, leaf))
    return found


def _grid(row: Tensor) -> bool:
    """Whether values rise all along: times, places, positions, which many rows share."""
    flat = row.flatten()
    return flat.numel() > COLUMNS and bool((flat[1:] >= flat[:-1]).all())


def _called(name: str, place: int | None) -> str:
    return name if place is None else f"{name}[{place}]"


def _given(subject: Subject, rows: Rows) -> dict[tuple[str, int | None], tuple[set[str], tuple[int, ...]]]:
    """Which layers get each piece as it is, and its shape."""
    run = subject.copy()
    batch = subject.prepared(run, rows.first(FEW).batch)
    pieces = _pieces(batch.get("x"))
    found: dict[tuple[str, int | None], tuple[set[str], tuple[int, ...]]] = {}

    def note(name: str, _: Any, inputs: Any, __: Any) -> None:
        t = inputs[0].detach().cpu() if inputs and isinstance(inputs[0], Tensor) else None
        if t is None or not t.dim() or len(t) != len(batch):
            return
        columns = t.unbind(1) if t.dim() == 2 and is_integer(t) and t.shape[1] <= COLUMNS else (t,)
        for key, place, leaf in pieces:
            if any(leaf.numel() == part.numel() and torch.equal(leaf.flatten(), part.flatten()) for part in columns):
                found.setdefault((key, place), (set(), tuple(leaf.shape)))[0].add(name)

    calls(subject, run, batch, note)
    return found
