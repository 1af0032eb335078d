"""Learning curves from metrics.jsonl: a panel a quantity; training faint with its moving mean, evaluations marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlrun.sinks.paint import COLOURS, GREY, Array, literal, place
from dlrun.sinks.tail import parsed

ASIDE = {"lr", "grad_norm", "clipped"}
MOST_PANELS = 6
MOST_ROWS = 20_000
"""Rows parsed; of a longer file every k-th, and every row with an evaluation."""
DECADES = 2.0
"""A quantity that spans more than this many powers of ten gets a logarithmic axis."""
SPLITS = {"train": (COLOURS[0], "-"), "val": (COLOURS[1], "-"), "test": (COLOURS[2], "-")}
SPLITS |= {f"{split}_ema": (colour, "--") for split, (colour, _) in list(SPLITS.items())}

Curves = dict[str, dict[str, tuple[Array, Array]]]
"""quantity -> split -> (steps, values)"""


def read_curves(path: Path) -> Curves:
    """The curves in metrics.jsonl; empty where there is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    every = -(-len(lines) // MOST_ROWS)
    found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for i, line in enumerate(lines):
        if i % every and b'"val' not in line and b'"test' not in line:
            continue
        row = parsed(line) or {}
        for name, value in row.items():
            split, _, quantity = name.partition("/")
            if quantity and isinstance(value, (int, float)):
                steps, values = found.setdefault(quantity, {}).setdefault(split, ([], []))
                steps.append(row["step"])
                values.append(float(value))
    return {quantity: {split: (np.array(s), np.array(v)) for split, (s, v) in curves.items()} for quantity, curves in found.items()}


def panels_of(curves: Curves) -> list[str]:
    """Quantities in the order they are drawn: losses, what is evaluated, the rest; what only describes the optimizer is left out."""
    wanted = [name for name in curves if name not in ASIDE and not name.startswith("lr_")]
    return sorted(wanted, key=lambda name: (name != "loss", set(curves[name]) == {"train"}))[:MOST_PANELS]


def moving_mean(values: Array) -> Array:
    """Mean over a centred window of a fortieth of the curve, narrower at its ends; without NaN and infinities."""
    half = max(1, len(values) // 80)
    finite = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    i = np.arange(len(values))
    reach = np.minimum(half, np.minimum(i, len(values) - 1 - i))
    low, high = i - reach, i + reach + 1
    number = count[high] - count[low]
    return np.where(number > 0, (total[high] - total[low]) / np.maximum(number, 1), np.nan)


def draw_curves(figure: Figure, run_dir: Path) -> None:
    """One panel a quantity, at most `MOST_PANELS`; nothing where nothing was logged."""
    curves = read_curves(run_dir / "metrics.jsonl")
    names = panels_of(curves)
    if not names:
        return
    across = min(len(names), 2 if len(names) in (2, 4) else 3)
    down = -(-len(names) // across)
    wide, high = (4.8, 3.2) if len(names) == 1 else (3.4, 2.7)
    figure.set_size_inches(wide * across, high * down + 0.75)
    summary = _summary(run_dir)
    handles: dict[str, Any] = {}
    for i, name in enumerate(names):
        column, row = i % across, down - 1 - i // across
        axes = place(figure, wide * column + 0.65, high * row + 0.8, wide * (across - 1 - column) + 0.12, high * (down - 1 - row) + 0.4)
        _panel(axes, name, curves[name], handles)
        _references(axes, name, summary, handles)
        axes.set(xlabel="step", ylabel=literal(name.replace("_", " ")))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    order = sorted(handles, key=lambda label: [*SPLITS, label].index(label.replace(" ", "_")) if label.replace(" ", "_") in SPLITS else 99)
    figure.legend([handles[label] for label in order], order, loc="lower center", ncols=min(len(order), 6), handlelength=1.6)


def _panel(axes: Any, name: str, curves: dict[str, tuple[Array, Array]], handles: dict[str, Any]) -> None:
    seen = []
    for i, (split, (steps, values)) in enumerate(curves.items()):
        colour, style = SPLITS.get(split, (COLOURS[(3 + i) % len(COLOURS)], "-"))
        label = literal(split.replace("_", " "))
        finite = np.isfinite(values)
        smooth = moving_mean(values) if split == "train" and len(values) > 20 else values
        if smooth is not values:
            axes.plot(steps[finite], values[finite], color=colour, alpha=0.22, lw=0.7)
        marker = {"marker": "o" if split.startswith("val") else "s", "ms": 3.2} if split != "train" and len(steps) <= 40 else {}
        lone = {"marker": "s" if split.startswith("test") else "o", "ms": 4, "ls": ""} if finite.sum() == 1 else {}
        (handles[label],) = axes.plot(steps[finite], smooth[finite], color=colour, **{"ls": style, **marker, **lone})
        if not finite.all():
            cross = axes.plot(steps[~finite], np.full((~finite).sum(), 0.98), "x", color="red", ms=5, transform=axes.get_xaxis_transform())
            handles["not finite"] = cross[0]
        seen.append(smooth[finite])
    scale_values(axes, np.concatenate(seen) if seen else np.zeros(0), name)
    axes.grid(axis="y", color="0.9", lw=0.6)
    axes.set_axisbelow(True)


def scale_values(axes: Any, values: Array, name: str) -> None:
    """A logarithmic axis for what spans decades; 0..1 in full for what is a share and fills much of it."""
    positive = values[values > 0]
    if len(positive) and (values >= 0).all() and np.log10(positive.max() / positive.min()) > DECADES:
        axes.set_yscale("log", nonpositive="mask")
    elif ("accuracy" in name or "recall" in name) and len(values) and values.max() - values.min() > 0.3:
        axes.set_ylim(min(0.0, float(values.min())), 1.02)


def _references(axes: Any, name: str, summary: dict[str, Any], handles: dict[str, Any]) -> None:
    """The accuracy of always naming the commonest class, and the step whose weights were kept as best."""
    baselines = summary.get("baselines") or {}
    majority = baselines.get("test/majority_accuracy", baselines.get("val/majority_accuracy"))
    if name == "accuracy" and isinstance(majority, (int, float)):
        handles["majority class"] = axes.axhline(majority, color=GREY, ls=":", lw=1)
    best = summary.get("best") or {}
    if best.get("metric", "").endswith(f"/{name}") and isinstance(best.get("value"), (int, float)):
        (handles["best on val"],) = axes.plot(best["step"], best["value"], "*", color="black", ms=8, zorder=5, ls="")


def _summary(run_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run_dir / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
