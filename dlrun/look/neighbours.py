"""Rows of val and test that lie unusually close to a row of train: near copies (noise, recompression) and, of images, mirrored ones.

Source: C. Geier, Training on test data: Removing near-duplicates in Fashion-MNIST, 2019; B. Barz, J. Denzler, Do we train on test data?,
2020. Search by random projections: `functional/nearest.py`.

Every row's nearest is sought among projections to 32 numbers; the distance of what is found is then computed on x itself. It is compared
with the usual distance, the median over rows, so that the unit of x does not matter.
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
from dlrun.functional.nearest import nearest, projection
from dlrun.look.duplicates import row_of
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.look.rows import batches_of, tensor_named
from dlrun.sinks.paint import grid, literal, save
from dlrun.sinks.terminal import clip, number

LEAST_VALUES = 8
NEAR = 0.25
"""Share of the usual distance below which a neighbour is called near."""
SAMPLED, MOST_PAIRS = 256, 20


def measure(data: Data) -> dict[str, Any]:
    """`train/<split>` -> `usual` (median distance of a row to its nearest in train), `near` (rows nearer than a quarter of that, equal ones
    included), `pairs` of the nearest 20: [row in train, row in split, distance, mirrored]; or `skipped` with the reason.
    """
    first = next(iter(batches_of(data, "train")))
    x = tensor_named(first, "x")
    if x is None or not x.is_floating_point() or x[0].numel() < LEAST_VALUES:
        return {"skipped": f"near neighbours mean something for rows of at least {LEAST_VALUES} numbers"}
    if not all(bool(batch["x"].isfinite().all()) for split in data.rows for batch in batches_of(data, split)):
        return {"skipped": "near neighbours are not sought among values that are not finite"}
    matrix = projection(x[0].numel(), x.device)
    train = _projected(data, "train", matrix, mirrored=False)
    return {f"train/{split}": _of_split(data, split, train, matrix, are_images(x)) for split in data.rows if split != "train"}


def _projected(data: Data, split: str, matrix: Tensor | None, mirrored: bool) -> Tensor:
    flat = [(batch["x"].flip(-1) if mirrored else batch["x"]).flatten(1).float() for batch in batches_of(data, split)]
    return torch.cat([rows if matrix is None else rows @ matrix for rows in flat])


def _of_split(data: Data, split: str, train: Tensor, matrix: Tensor | None, images: bool) -> dict[str, Any]:
    straight = nearest(_projected(data, split, matrix, mirrored=False), train)
    spaced = torch.linspace(0, len(straight[0]) - 1, min(SAMPLED, len(straight[0]))).long().tolist()
    usual = float(torch.tensor([_distance(data, split, int(straight[1][row]), row, False) for row in spaced]).median())
    ways = [(False, straight), *([(True, nearest(_projected(data, split, matrix, mirrored=True), train))] if images else [])]
    # A projection shrinks or stretches a distance by half at most, nearly always: what may be near is measured on x itself.
    maybe = [
        (row, int(at[row]), turned) for turned, (near, at) in ways for row in (near.sqrt() < 2 * NEAR * usual).nonzero()[:, 0].tolist()
    ]
    best: dict[int, list[Any]] = {}
    for row, at, turned in maybe:
        distance = _distance(data, split, at, row, turned)
        if distance < NEAR * usual and distance < best.get(row, [0, 0, float("inf")])[2]:
            best[row] = [at, row, distance, turned]
    pairs = sorted(best.values(), key=lambda pair: pair[2])
    return {"usual": usual, "near": len(pairs), "mirrored": sum(pair[3] for pair in pairs), "pairs": pairs[:MOST_PAIRS]}


def _distance(data: Data, split: str, at: int, row: int, mirrored: bool) -> float:
    here, there = row_of(data, split, row)["x"], row_of(data, "train", at)["x"]
    return float((here.flip(-1) if mirrored else here).sub(there).double().norm())


def lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(text, style) of each line for the console."""
    if "skipped" in facts:
        yield facts["skipped"], "dim"
        return
    for pair, fact in facts.items():
        mirrored = f", {fact['mirrored']} of them mirrored" if fact["mirrored"] else ""
        text = f"neighbours: {fact['near']} rows of {pair.split('/')[1]} lie within {NEAR:g} of the usual distance to train"
        yield f"{text} ({number(fact['usual'], 3)}){mirrored}", ""


def draw(data: Data, facts: Mapping[str, Any], path: Path, title: str) -> Path | None:
    """The nearest pairs of images; None where none is near or rows are no images."""
    found = [(pair.split("/")[1], *values) for pair, fact in facts.items() if pair != "skipped" for values in fact["pairs"]]
    if not found or not are_images(next(data.evaluation("train", 1)).get("x")):
        return None
    return save(path, partial(_draw, data=data, found=sorted(found, key=lambda pair: pair[3])[:MOST_PAIRS]), title)


def _draw(figure: Figure, data: Data, found: list[tuple[Any, ...]]) -> None:
    pixels = Pixels(data, next(data.evaluation("train"))["x"])
    images, texts = [], []
    for split, at, row, distance, mirrored in found:
        for name, which, more in (("train", at, f"{distance:.3g}"), (split, row, "mirrored" if mirrored else "")):
            batch = row_of(data, name, which)
            images += pixels.show(batch["x"])
            y = batch.get("y")
            texts.append(f"{name} {which}  {more}\n{clip(label(y[0], data.spec.names), 16) if isinstance(y, Tensor) else ''}")
    axes = grid(figure, images, texts, across=min(len(images), 8))
    axes.set_title(literal("rows of val and test that lie nearest to a row of train, in pairs, with their distance"))
