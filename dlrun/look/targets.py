"""What is to be predicted, split by split: rows of each class, or where the numbers lie. Splits of one source look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrun.batch import Batch
from dlrun.data import Data
from dlrun.look.rows import batches_of, looked_at, tensor_named
from dlrun.sinks.paint import COLOURS, literal, place, save
from dlrun.sinks.terminal import clip

BINS = 40
MOST_CLASSES = 40
"""Classes that the figure has a bar for; the JSON has them all."""


def targets_of(data: Data) -> dict[str, Tensor]:
    """All y of each split looked at, where y is one tensor: those in memory, else read. What a mask leaves out is NaN or -100."""
    found = {}
    for split in data.rows:
        held = None if "mask" in data.head(split, 1) else data.targets(split)
        read = [] if held is not None else [_counted(batch) for batch in batches_of(data, split)]
        every = [y for y in read if y is not None]
        if held is not None or (every and len(every) == len(read)):
            found[split] = held if held is not None else torch.cat(every).cpu()
    return found


def _counted(batch: Batch) -> Tensor | None:
    y, mask = tensor_named(batch, "y"), tensor_named(batch, "mask")
    if y is None or mask is None or mask.dtype != torch.bool or y.shape[: mask.dim()] != mask.shape:
        return y
    return y.masked_fill(~mask.reshape(*mask.shape, *(1,) * (y.dim() - mask.dim())), float("nan") if y.is_floating_point() else -100)


def measure(data: Data) -> dict[str, Any]:
    """Split -> `counts` of classes (tokens; `uncounted`, `bits` of entropy), or `mean std min max` and a `histogram` over common bins."""
    targets = targets_of(data)
    whole = [y for y in targets.values() if y.numel()]
    if not whole:
        return {}
    classes = data.spec.classes or data.spec.vocab
    if classes and not any(y.is_floating_point() for y in whole):
        return {split: _counts(y, classes) for split, y in targets.items()}
    return numbers_of({split: y.double() for split, y in targets.items()})


def _counts(y: Tensor, classes: int) -> dict[str, Any]:
    counts = torch.bincount(y[y >= 0].flatten(), minlength=classes)
    shares = counts[counts > 0].double() / counts.sum()
    bits = float(-(shares * shares.log2()).sum())
    return {"rows": len(y), "counts": counts.tolist(), "uncounted": int((y < 0).sum()), "bits": abs(bits)}


def card(data: Data, facts: Mapping[str, Any]) -> str:
    """How much a row holds: numbers in, and the entropy of a target, which is all that one label can teach; "" where it is unknown."""
    if "bits" not in facts.get("train", {}):
        return ""
    size, fact = torch.Size(data.spec.in_shape).numel() if data.spec.in_shape else 0, facts["train"]
    places = (sum(fact["counts"]) + fact["uncounted"]) // max(fact["rows"], 1)
    one = "a target" if places <= 1 else f"each of {places} targets"
    given = f"{size} {'token' if data.spec.vocab else 'number'}{'s' * (size != 1)} in, " if size else ""
    return f"a row of train: {given}{one} of {fact['bits']:.3g} bits (entropy of the {'tokens' if data.spec.vocab else 'classes'})"


def numbers_of(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Statistics of finite numbers, split by split, and histograms over the same bins for all."""
    flat = {split: value.flatten()[value.flatten().isfinite()] for split, value in values.items()}
    edges = edges_for([(float(value.min()), float(value.max())) for value in flat.values() if len(value)])
    return {split: {"rows": len(values[split])} | _statistics(value, edges) for split, value in flat.items()}


def edges_for(ranges: Sequence[tuple[float, float]]) -> list[float]:
    """Edges of `BINS` bins over all ranges; one of width 1 around a single value."""
    low, high = (min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)) if ranges else (0.0, 1.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    return [float(edge) for edge in np.linspace(low, high, BINS + 1)]


def _statistics(value: Tensor, edges: list[float]) -> dict[str, Any]:
    if not len(value):
        return {"mean": None, "std": None, "min": None, "max": None, "edges": edges, "histogram": [0] * BINS}
    counts, _ = np.histogram(value.numpy(), bins=np.asarray(edges))
    facts = {"mean": float(value.mean()), "std": float(value.std(correction=0)), "min": float(value.min()), "max": float(value.max())}
    return {**facts, "edges": edges, "histogram": counts.tolist()}


def rows(data: Data, facts: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells for the console where targets are numbers; classes stand beside the rows of each split already."""
    if not facts or "counts" in next(iter(facts.values())):
        return [], []
    named = ("min", "max", "mean", "std")
    return ["split", "rows looked at", *named], [
        [split, looked_at(data, split), *("" if fact[key] is None else fact[key] for key in named)] for split, fact in facts.items()
    ]


def draw(facts: Mapping[str, Any], names: Sequence[str], path: Path, title: str) -> Path | None:
    """Shares of each class, or histograms, of all splits side by side; None where there are no targets."""
    return save(path, partial(_draw, facts=facts, names=names), title) if facts else None


def _draw(figure: Figure, facts: Mapping[str, Any], names: Sequence[str]) -> None:
    figure.set_size_inches(6.4, 3.4)
    axes = place(figure, 0.7, 0.75 if max(map(len, names), default=0) > 4 else 0.5, 0.12, 0.8)
    if "counts" in next(iter(facts.values())):
        bars(axes, {split: fact["counts"] for split, fact in facts.items()}, names)
        axes.set_title("targets: share of each class in each split")
        axes.set_ylabel("share of the counted targets")
    else:
        steps(axes, facts)
        axes.set_title("targets: where they lie in each split")
        axes.set(xlabel="target", ylabel="share of the values in a bin")
    legend(axes)


def legend(axes: Any) -> None:
    """What colour is which split, in a line between title and axes, where it hides nothing."""
    axes.set_title(axes.get_title(loc="left"), pad=18)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncol=4, borderpad=0, columnspacing=1.2)


def bars(axes: Any, counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
    """Shares side by side, a colour a split; the most frequent classes where there are too many for a bar each."""
    total = np.sum([np.asarray(count) for count in counts.values()], axis=0)
    shown = np.sort(np.argsort(-total, kind="stable")[:MOST_CLASSES]) if len(total) > MOST_CLASSES else np.arange(len(total))
    for i, (split, count) in enumerate(counts.items()):
        share = np.asarray(count) / max(sum(count), 1)
        wide = 0.8 / len(counts)
        label = f"{split} ({sum(count)})"
        axes.bar(np.arange(len(shown)) + (i - (len(counts) - 1) / 2) * wide, share[shown], wide, color=COLOURS[i], label=label)
    labels = [literal(clip(str(names[k]), 12)) if k < len(names) else str(k) for k in shown]
    turn = any(len(text) > 4 for text in labels) or len(labels) > 20
    axes.set_xticks(np.arange(len(shown)), labels, rotation=40 if turn else 0, ha="right" if turn else "center", fontsize=7)
    if len(total) > MOST_CLASSES:
        axes.set_xlabel(f"the {MOST_CLASSES} most frequent of {len(total)}")


def steps(axes: Any, facts: Mapping[str, Any]) -> None:
    """Histograms as outlines, a colour a split, each by its own number of values."""
    for i, (split, fact) in enumerate(facts.items()):
        share = np.asarray(fact["histogram"]) / max(sum(fact["histogram"]), 1)
        axes.stairs(share, fact["edges"], color=COLOURS[i], label=f"{split} ({sum(fact['histogram'])})")
