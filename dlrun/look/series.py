"""Rows that are curves (a number at each of many points), drawn one in a cell, all to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dlrun.sinks.paint import COLOURS, GREY, as_array, literal, place
from dlrun.sinks.terminal import clip
from dlrun.types import DataSpec

LEAST_POINTS = 16
"""Fewer numbers without names are shown as numbers."""
ACROSS, MOST_ROWS = 5, 40
WIDE, HIGH = 1.45, 0.75
"""Inches of a cell."""


def are_series(x: Any, spec: DataSpec) -> bool:
    """Whether rows are drawn as curves: many numbers in a line that are no columns of a table."""
    return isinstance(x, Tensor) and x.dim() == 2 and x.is_floating_point() and x.shape[1] >= LEAST_POINTS and not spec.features


def draw_series(figure: Figure, x: Tensor, texts: Sequence[str], title: str) -> None:
    """The first rows of x [B, L], each with its text; the grey line of each is 0, all have the range of the largest."""
    curves = as_array(x[:MOST_ROWS])
    down = -(-len(curves) // ACROSS)
    finite = abs(curves[np.isfinite(curves)])
    top = float(finite.max(initial=0)) or 1.0
    figure.set_size_inches(ACROSS * WIDE + 0.2, down * HIGH + 0.6)
    axes = place(figure, 0.1, 0.05, 0.1, 0.5)
    axes.axis("off")
    axes.set(xlim=(0, ACROSS), ylim=(-down, 0))
    points = [(0.04 + 0.92 * i / (curves.shape[1] - 1)) for i in range(curves.shape[1])]
    for number, curve in enumerate(curves):
        left, middle = number % ACROSS, -(number // ACROSS) - 0.55
        axes.plot([left + points[0], left + points[-1]], [middle, middle], color=GREY, lw=0.4)
        axes.plot([left + point for point in points], middle + 0.42 * curve / top, color=COLOURS[0], lw=0.9)
        axes.text(left + 0.04, -(number // ACROSS) - 0.02, literal(clip(texts[number], 18)), ha="left", va="top", fontsize=7)
    axes.set_title(literal(f"{title}: {curves.shape[1]} numbers a row, from -{top:.3g} to {top:.3g}"))
