"""Rows that are equal byte for byte: within a split (copied rows, an index bug) and across splits (a test that trains).

Source: the count that found 10 test images of Fashion-MNIST's first release in train, byte for byte (zalandoresearch/fashion-mnist, issue
44, 2017). They were replaced on 31 August 2017 (pull request 45): the release in use since has none, which a test holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from dlrun.batch import leaves
from dlrun.data import Data
from dlrun.functional.nearest import first_of, row_sums
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.look.rows import looked_at
from dlrun.sinks.paint import grid, literal, save
from dlrun.sinks.terminal import clip

CHUNK = 4096
MOST_PAIRS = 20
"""Pairs that are named and drawn; all are counted."""
Hashes = list[bytes]


def measure(data: Data) -> dict[str, Any]:
    """`within` a split: rows that repeat an earlier one, and how many of these have another target; `across` splits: rows of the second
    that are in the first, with `pairs` [row in first, row in second] of up to 20 of them. Inputs are compared as the dataset gives them.
    """
    hashes = {split: _hashes(data, split) for split in data.rows}
    labels = {split: _labels(data, split) for split in data.rows}
    within = {split: _within(found, labels[split]) for split, found in hashes.items()}
    across = {f"{a}/{b}": _across(hashes[a], hashes[b], labels[a], labels[b]) for a, b in combinations(hashes, 2)}
    return {"within": within, "across": across}


def _chunks(data: Data, split: str) -> Iterator[dict[str, Any]]:
    source, seen = data.raw(split), looked_at(data, split)
    for low in range(0, seen, CHUNK):
        yield source.take(torch.arange(low, min(low + CHUNK, seen), device=source.device))


def _hashes(data: Data, split: str) -> Hashes:
    """A sum of 128 bits of the inputs of each row (every leaf but y)."""
    found: Hashes = []
    for chunk in _chunks(data, split):
        found += row_sums([tensor for name, leaf in chunk.items() if name != "y" for tensor in leaves(leaf)])
    return found


def _labels(data: Data, split: str) -> Any:
    y = data.targets(split)
    return y[: looked_at(data, split)].reshape(min(len(y), looked_at(data, split)), -1).numpy() if y is not None else None


def _within(hashes: Hashes, y: Any) -> dict[str, Any]:
    first = first_of(hashes)
    pairs = [[first[key], row] for row, key in enumerate(hashes) if first[key] != row]
    return {"rows": len(hashes), "repeats": len(pairs), **_facts(pairs, y, y)}


def _across(one: Hashes, two: Hashes, y_one: Any, y_two: Any) -> dict[str, Any]:
    first = first_of(one)
    pairs = [[first[key], row] for row, key in enumerate(two) if key in first]
    return {"rows": len(two), "repeats": len(pairs), **_facts(pairs, y_one, y_two)}


def _facts(pairs: list[list[int]], y_one: Any, y_two: Any) -> dict[str, Any]:
    if y_one is None or y_two is None:
        return {"other_target": None, "pairs": pairs[:MOST_PAIRS]}
    other = sum(bool((y_one[a] != y_two[b]).any()) for a, b in pairs)
    return {"other_target": other, "pairs": pairs[:MOST_PAIRS]}


def lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(text, style) of each line for the console; one where there is nothing to find."""
    if not any(fact["repeats"] for kind in facts.values() for fact in kind.values()):
        yield f"duplicates: none, within {', '.join(facts['within'])} or across them (inputs, byte for byte)", ""
        return
    for split, fact in facts["within"].items():
        text = f"duplicates within {split}: {fact['repeats']} of {fact['rows']} rows repeat an earlier one{_other(fact)}"
        yield text, "warning" if fact["repeats"] > 0.05 * fact["rows"] else ""
    for pair, fact in facts["across"].items():
        one, two = pair.split("/")
        yield f"overlap: {fact['repeats']} rows of {two} are in {one}, byte for byte{_other(fact)}", "warning" if fact["repeats"] else ""


def _other(fact: Mapping[str, Any]) -> str:
    return f", {fact['other_target']} with another target" if fact["other_target"] else ""


def draw(data: Data, facts: Mapping[str, Any], path: Path, title: str) -> Path | None:
    """Pairs of equal images across splits (of train where there are none across); None where there are none, or rows are no images."""
    found = [(*pair.split("/"), *rows) for pair, fact in facts["across"].items() for rows in fact["pairs"]]
    found = found or [("train", "train", *rows) for rows in facts["within"]["train"]["pairs"]]
    if not found or not are_images(next(data.evaluation("train", 1)).get("x")):
        return None
    return save(path, partial(_draw, data=data, found=found[:MOST_PAIRS]), title)


def _draw(figure: Figure, data: Data, found: list[tuple[Any, ...]]) -> None:
    pixels = Pixels(data, next(data.evaluation("train"))["x"])
    images, texts = [], []
    for one, two, row_one, row_two in found:
        for split, row in ((one, row_one), (two, row_two)):
            batch = row_of(data, split, row)
            images += pixels.show(batch["x"])
            y = batch.get("y")
            texts.append(f"{split} {row}\n{clip(label(y[0], data.spec.names), 14) if y is not None else ''}")
    axes = grid(figure, images, texts, across=min(len(images), 8))
    axes.set_title(literal("rows that are equal byte for byte, in pairs"))


def row_of(data: Data, split: str, row: int) -> Any:
    """One row as a batch, normalised."""
    source = data.raw(split)
    return data._batch(source.take(torch.tensor([row], device=source.device)))
