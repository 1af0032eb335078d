"""A training batch as it enters the network: pictures with their labels, points in the plane, text, or the values of a few rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrun.batch import Batch
from dlrun.data import Data
from dlrun.functional.tokens import spell
from dlrun.look.augmented import plain_batch
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.look.series import are_series, draw_series
from dlrun.sinks.figures import draw_scatter, draw_text
from dlrun.sinks.paint import grid, literal, save, table
from dlrun.sinks.terminal import clip, number
from dlrun.types import DataSpec, Look

MOST_IMAGES, MOST_TEXTS, MOST_ROWS, MOST_VALUES = 64, 12, 24, 8
AS_IT_ENTERS = "a training batch as it enters the network"


def draw_batch(data: Data, batch: Batch, path: Path, title: str) -> Path:
    """`batch` (its x is one tensor) as the PNG `path`."""
    save(path, partial(_draw, data=data, batch=batch), title)
    return path


def _draw(figure: Figure, data: Data, batch: Batch) -> None:
    x, names = batch["x"], data.spec.names
    if are_images(x):
        pixels, few = Pixels(data, plain_batch(data)["x"] if data.augments else x), batch[:MOST_IMAGES]
        texts = _labels(few, data.spec)
        axes = grid(figure, pixels.show(few["x"]), texts if any(texts) else [])
        axes.set_title(literal(f"{AS_IT_ENTERS} ({pixels.words})"))
    elif x.dim() == 2 and x.shape[1] == 2 and x.is_floating_point():
        draw_scatter(figure, Look("scatter", _groups(x, batch.get("y"), names), AS_IT_ENTERS))
    elif data.spec.kind == "language_model":
        draw_text(figure, Look("text", text_lines(batch, data.spec), AS_IT_ENTERS))
    elif are_series(x, data.spec):
        draw_series(figure, x, _labels(batch, data.spec), AS_IT_ENTERS)
    else:
        _values(figure, batch, data.spec)


def _labels(batch: Batch, spec: DataSpec) -> list[str]:
    y = batch.get("y")
    return [label(row, spec.names) for row in y] if isinstance(y, Tensor) else [""] * len(batch)


def _groups(x: Tensor, y: object, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Points by class where targets are a few classes."""
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dim() != 1 or len(y.unique()) > 7:
        return {"": x}
    return {label(torch.tensor(number_), names): x[y == number_] for number_ in y.unique().tolist()}


def text_lines(batch: Batch, spec: DataSpec, rows: int = MOST_TEXTS) -> list[str]:
    """The first rows of tokens as text (numbers where the data names no tokens), and what is to be predicted after each, `|` between."""
    if not spec.tokens:
        return [" ".join(str(token) for token in row.tolist()[:24]) for row in batch["x"][:rows]]
    lines = []
    for row in range(min(rows, len(batch))):
        text, y = _text(batch["x"][row], spec), batch.get("y")
        after = _text(y[row][-1:], spec) if isinstance(y, Tensor) and y.dim() == 2 else ""
        lines.append(f"{text}|{after}" if after else text)
    return lines


def _text(tokens: Tensor, spec: DataSpec) -> str:
    """Tokens as text on one line; those that stand for nothing (a filler, -100) are left out."""
    known = [token for token in tokens.tolist() if 0 <= token < len(spec.tokens)]
    return spell(spec.tokens, known).replace("\n", "↵").replace("\t", "⇥")


def _values(figure: Figure, batch: Batch, spec: DataSpec) -> None:
    """The first values of the first rows as a table."""
    flat, labels = batch["x"][:MOST_ROWS].flatten(1), _labels(batch, spec)
    width = min(flat.shape[1], MOST_VALUES)
    rest = [f"… {flat.shape[1] - width} more"] if flat.shape[1] > width else []
    names = [*(clip(str(name), 14) for name in spec.features), *(f"x[{i}]" for i in range(width))][:width] if spec.features else []
    columns = ["row", *(names or [f"x[{i}]" for i in range(width)]), *rest, "target"]
    rows = [
        [str(i), *(number(float(value), 3) for value in row[:width]), *("" for _ in rest), labels[i].replace("\n", " + ")]
        for i, row in enumerate(flat.tolist())
    ]
    table(figure, columns, rows, AS_IT_ENTERS)
