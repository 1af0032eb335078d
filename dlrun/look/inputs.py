"""Where the inputs lie as the network gets them, split by split: range, spread, features that never change, values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrun.data import Data
from dlrun.look.rows import batches_of, tensor_named
from dlrun.look.targets import bars, edges_for, legend, steps
from dlrun.sinks.paint import place, save

MOST_VALUES = 5_000_000


def measure(data: Data) -> dict[str, Any]:
    """Split -> statistics and histogram of all values of x (unaugmented), or `counts` of tokens; {} where x is no single tensor.

    Statistics are of all rows looked at, a histogram of at most `MOST_VALUES` values (and the rest of their batch), the first ones.
    `constant` counts features that never change in the split, `not_finite` values that are NaN or infinite.
    """
    if tensor_named(next(iter(batches_of(data, "train"))), "x") is None:
        return {}
    if data.spec.vocab is not None:
        return {split: _tokens(data, split, data.spec.vocab) for split in data.rows}
    facts = {split: _sums(data, split) for split in data.rows}
    edges = edges_for([(fact["min"], fact["max"]) for fact in facts.values() if fact["min"] is not None])
    for split, fact in facts.items():
        counts, left = np.zeros(len(edges) - 1, dtype=np.int64), MOST_VALUES
        for batch in batches_of(data, split):
            values = _finite(batch["x"]).cpu().numpy()
            counts += np.histogram(values, bins=len(edges) - 1, range=(edges[0], edges[-1]))[0]
            left -= values.size
            if left <= 0:
                break
        fact |= {"edges": edges, "histogram": counts.tolist()}
    return facts


def _tokens(data: Data, split: str, vocab: int) -> dict[str, Any]:
    counts, seen = torch.zeros(vocab, dtype=torch.int64), 0
    for batch in batches_of(data, split):
        tokens = batch["x"][batch["x"] >= 0].flatten().cpu()
        counts += torch.bincount(tokens, minlength=vocab)
        seen += len(batch)
    return {"rows": seen, "counts": counts.tolist()}


def _finite(x: Tensor) -> Tensor:
    x = x.flatten()
    return x[x.isfinite()] if x.is_floating_point() and not bool(x.sum().isfinite()) else x


def _sums(data: Data, split: str) -> dict[str, Any]:
    rows, count, lost = 0, 0, 0
    total, square = 0.0, 0.0
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for batch in batches_of(data, split):
        x = batch["x"] if batch["x"].is_floating_point() else batch["x"].double()
        found = _finite(x)
        rows, count, lost = rows + len(x), count + found.numel(), lost + x.numel() - found.numel()
        total, square = (
            total + float(found.sum(dtype=torch.float64)),
            square + float(torch.linalg.vector_norm(found, dtype=torch.float64)) ** 2,
        )
        least, most = (x, x) if found.numel() == x.numel() else (torch.where(x.isfinite(), x, end) for end in (torch.inf, -torch.inf))
        low, high = torch.minimum(low, least.amin(0).cpu().float()), torch.maximum(high, most.amax(0).cpu().float())
    if not count:
        return {"rows": rows, "mean": None, "std": None, "min": None, "max": None, "features": 0, "constant": 0, "not_finite": lost}
    mean = total / count
    held = low.isfinite() & high.isfinite()
    facts = {"mean": mean, "std": max(square / count - mean**2, 0.0) ** 0.5, "min": float(low[held].min()), "max": float(high[held].max())}
    return {"rows": rows, **facts, "features": low.numel(), "constant": int((low == high).sum()), "not_finite": lost}


def rows(facts: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells for the console."""
    if not facts or "counts" in next(iter(facts.values())):
        return [], []
    named = ("min", "max", "mean", "std", "features", "constant", "not_finite")
    shown = ["split", *(key.replace("_", " ") for key in named)]
    return shown, [[split, *("" if fact[key] is None else fact[key] for key in named)] for split, fact in facts.items()]


def draw(facts: Mapping[str, Any], names: tuple[str, ...], path: Path, title: str) -> Path | None:
    """Histograms (or token frequencies) of all splits over each other; None where there is nothing to draw."""
    return save(path, partial(_draw, facts=facts, names=names), title) if facts else None


def _draw(figure: Figure, facts: Mapping[str, Any], names: tuple[str, ...]) -> None:
    figure.set_size_inches(6.4, 3.4)
    axes = place(figure, 0.85, 0.5, 0.12, 0.8)
    if "counts" in next(iter(facts.values())):
        bars(axes, {split: fact["counts"] for split, fact in facts.items()}, [repr(name)[1:-1] for name in names])
        axes.set_title("inputs: share of each token in each split")
        axes.set_ylabel("share of the tokens")
    else:
        steps(axes, facts)
        if any(any(fact["histogram"]) for fact in facts.values()):
            axes.set_yscale("log")  # a peak of background pixels would hide everything else
        axes.set_title("inputs: all values of x as the network gets it")
        axes.set(xlabel="x", ylabel="share of the values in a bin")
    legend(axes)
