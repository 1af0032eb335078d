"""All views of one data set in order: their numbers as one document, their lines, their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from dlrun.data import Data
from dlrun.look import batch, duplicates, inputs, neighbours, outliers, targets
from dlrun.look.augmented import draw_augments
from dlrun.look.rows import said
from dlrun.sinks.console import Console

MEASURED: dict[str, Callable[[Data], dict[str, Any]]] = {
    "targets": targets.measure,
    "inputs": inputs.measure,
    "duplicates": duplicates.measure,
    "neighbours": neighbours.measure,
    "outliers": outliers.measure,
}


def measure(data: Data) -> dict[str, Any]:
    """The numbers of every view that has some."""
    return {name: view(data) for name, view in MEASURED.items()}


def show(console: Console, data: Data, facts: Mapping[str, Any]) -> None:
    """Tables and lines of every view on the console."""
    if partly := said(data):
        console.line(partly)
    for title, (columns, rows) in {
        "inputs, as the network gets them": inputs.rows(facts["inputs"]),
        "targets": targets.rows(data, facts["targets"]),
    }.items():
        if rows:
            console.table(title, columns, rows)
    if known := targets.card(data, facts["targets"]):
        console.line(known)
    said_of = (duplicates.lines(facts["duplicates"]), neighbours.lines(facts["neighbours"]), outliers.lines(data, facts["outliers"]))
    for text, style in chain(*said_of):
        console.line(text, style)


def draw(
    data: Data, taken: Any, facts: Mapping[str, Any], slots: Mapping[str, str], folder: Path, title: str
) -> Iterator[tuple[str, Path]]:
    """Every figure there is to draw, into `folder`: its name and path. A batch whose x is no single tensor has no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    names = data.spec.names
    if isinstance(taken.get("x"), Tensor):
        yield "batch", batch.draw_batch(data, taken, folder / "batch.png", title)
    if slots:
        yield from draw_augments(data, slots, folder, title).items()
    others = {
        "targets": targets.draw(facts["targets"], names or data.spec.tokens, folder / "targets.png", title),
        "inputs": inputs.draw(facts["inputs"], data.spec.tokens, folder / "inputs.png", title),
        "duplicates": duplicates.draw(data, facts["duplicates"], folder / "duplicates.png", title),
        "neighbours": neighbours.draw(data, facts["neighbours"], folder / "neighbours.png", title),
        "outliers": outliers.draw(data, facts["outliers"], folder / "outliers.png", title),
    }
    yield from ((name, path) for name, path in others.items() if path is not None)
