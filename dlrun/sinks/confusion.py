"""The confusion matrix: rows are true classes, columns what was predicted, colour the share of the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dlrun.sinks.paint import Array, literal, place
from dlrun.sinks.terminal import clip, number

MOST_COUNTED = 25
"""Up to so many classes each cell shows its count."""
MOST_NAMED = 100
"""Up to so many classes each has its name; of more, every fifth or tenth."""
GAMMA = 0.45
"""Exponent of the colour scale: below 1, so that single mistakes of a good classifier are still seen."""


def draw_confusion(figure: Figure, counts: Array, names: Sequence[str]) -> None:
    """Counts [C true, C predicted]; nothing is drawn without classes."""
    classes = len(counts)
    if not classes:
        return
    labels = [literal(clip(str(names[i]) if i < len(names) else str(i), 16)) for i in range(classes)]
    size = 8.0 if classes <= MOST_COUNTED else 6.0 if classes <= 60 else 5.5
    side = float(np.clip((0.36 if classes <= MOST_COUNTED else 0.17) * classes, 2.6, 11))
    label = 0.0088 * size * max(len(label) for label in labels)
    left = 0.5 + label + (0.4 if classes <= MOST_COUNTED else 0)
    bottom = 0.5 + (label if max(len(label) for label in labels) > 2 else 0.1)
    figure.set_size_inches(left + side + 1.0, bottom + side + 0.6)
    axes = place(figure, left, bottom, 1.0, 0.6)
    rows = counts.sum(1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(GAMMA, 0, 1), interpolation="nearest")
    if classes <= MOST_COUNTED:
        _count(axes, counts, shares)
    _label(axes, labels, size, np.divide(np.diag(counts), rows[:, 0], out=np.full(classes, np.nan), where=rows[:, 0] > 0))
    bar = figure.colorbar(picture, cax=place(figure, left + side + 0.12, bottom, 0.73, 0.6), ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"])
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    total = counts.sum()
    right = number(float(np.trace(counts) / total)) if total else "?"
    axes.set_title(f"confusion: {int(np.trace(counts))} of {int(total)} right ({right})")


def _count(axes: Any, counts: Array, shares: Array) -> None:
    size = 8 if len(counts) <= 12 else 6
    for i, j in zip(*np.nonzero(counts)):
        axes.text(j, i, str(int(counts[i, j])), ha="center", va="center", fontsize=size, color="white" if shares[i, j] > 0.35 else "black")


def _label(axes: Any, labels: list[str], size: float, recall: Array) -> None:
    """Class names at the ticks, at the left with the class's recall where there is room."""
    classes = len(labels)
    every = 1 if classes <= MOST_NAMED else 5 if classes <= 5 * MOST_NAMED else 10 ** int(np.ceil(np.log10(classes / MOST_NAMED)))
    places = list(range(0, classes, every))
    long = any(len(labels[i]) > 2 for i in places)
    axes.set_xticks(places, [labels[i] for i in places], fontsize=size, rotation=90 if long else 0)
    with_recall = [labels[i] if classes > MOST_COUNTED or np.isnan(recall[i]) else f"{labels[i]}  {recall[i]:.2f}" for i in places]
    axes.set_yticks(places, with_recall, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class" + (", its recall" if classes <= MOST_COUNTED else ""))
    axes.tick_params(length=2)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
