"""Training rows that lie farthest out: broken files, wrong units, blank or inverted pictures gather there.

Source: standard practice; the score is a root mean square of standardised features, 1 on average over train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrun.data import Data
from dlrun.look.duplicates import row_of
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.look.rows import batches_of, tensor_named
from dlrun.sinks.paint import grid, literal, save
from dlrun.sinks.terminal import number

MOST_ROWS = 16
FAR = 5.0
"""Times the median score above which a row is called far out."""


def measure(data: Data) -> dict[str, Any]:
    """Of train: `median` score, `far` (rows above 5 times that) and the `rows` that lie farthest out: [row, score, farthest feature].

    Values that are not finite are left out of a row's score: the table of inputs counts them. {} where x is no single tensor of numbers.
    """
    x = tensor_named(next(iter(batches_of(data, "train"))), "x")
    if x is None or not x.is_floating_point() or data.spec.vocab is not None:
        return {}
    mean, std = _moments(data)
    scores, features = [], []
    for batch in batches_of(data, "train"):
        far = ((_flat(batch["x"]) - mean) / std).abs().nan_to_num(0, 0, 0)
        scores.append(far.square().mean(1).sqrt())
        features.append(far.argmax(1))
    score, feature = torch.cat(scores), torch.cat(features)
    top = score.argsort(descending=True, stable=True)[:MOST_ROWS].tolist()
    median = float(score.median())
    return {
        "median": median,
        "far": int((score > FAR * median).sum()),
        "rows": [[row, float(score[row]), int(feature[row])] for row in top],
    }


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1).float()


def _moments(data: Data) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over train's finite values; features that never change count as 1 wide."""
    count, total, square = torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0)
    for batch in batches_of(data, "train"):
        x = _flat(batch["x"])
        known = x.isfinite()
        x = torch.where(known, x, 0.0)
        count, total = known.sum(0).double() + count, x.sum(0).double() + total
        square = x.square().sum(0).double() + square
    mean = total / count.clamp(min=1)
    spread = (square / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    spread = torch.where(spread > 1e-3 * mean.abs(), spread, torch.ones_like(spread))  # below that float32 squares are rounding
    return mean.float(), spread.float()


def lines(data: Data, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(text, style) of each line for the console."""
    if not facts:
        return
    few = ", ".join(f"row {row} ({number(score, 3)}, {_feature(data, at)})" for row, score, at in facts["rows"][:3])
    yield (
        f"outliers: {facts['far']} training rows lie {FAR:g} times as far out as usual ({number(facts['median'], 3)}); farthest: {few}",
        "",
    )


def _feature(data: Data, at: int) -> str:
    return str(data.spec.features[at]) if at < len(data.spec.features) else f"x[{at}]"


def draw(data: Data, facts: Mapping[str, Any], path: Path, title: str) -> Path | None:
    """The images that lie farthest out; None for other rows, which the JSON names."""
    if not facts or not are_images(next(data.evaluation("train", 1)).get("x")):
        return None
    return save(path, partial(_draw, data=data, facts=facts), title)


def _draw(figure: Figure, data: Data, facts: Mapping[str, Any]) -> None:
    pixels = Pixels(data, next(data.evaluation("train"))["x"])
    images, texts = [], []
    for row, score, _ in facts["rows"]:
        batch = row_of(data, "train", row)
        images += pixels.show(batch["x"])
        y = batch.get("y")
        texts.append(f"row {row}  {number(score, 3)}\n{label(y[0], data.spec.names) if isinstance(y, Tensor) else ''}")
    axes = grid(figure, images, texts)
    axes.set_title(literal(f"training rows that lie farthest out (usual: {number(facts['median'], 3)})"))
