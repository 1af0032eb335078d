"""Panels of rows: one an arm or a measure, its seeds, their mean and its interval, with the numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from dlrun.claims.evidence import Point
from dlrun.functional.student import interval
from dlrun.reproduce.along import label_of
from dlrun.reproduce.bands import spread_of
from dlrun.reproduce.scene import LOST, NOTE, Look, Scene
from dlrun.reproduce.shown import Panel, values_at
from dlrun.sinks.paint import literal
from dlrun.sinks.terminal import clip, number


def rows_of(panel: Panel) -> list[tuple[str, Point]]:
    """The rows of a panel of dots."""
    return [(owner, point) for owner in panel.owners for point in panel.points]


def row_name(owner: str, point: Point) -> str:
    """`decay width=32`."""
    return " ".join([*([] if owner == "run" else [owner]), *(f"{key}={label_of(value)}" for key, value in point)]) or "all runs"


def draw_dots(axes: Any, panel: Panel, scene: Scene) -> None:
    """One row an owner and point."""
    rows, seen = rows_of(panel), list[float]()
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [literal(clip(row_name(*row), 22)) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", lw=0.6)
    for i, (owner, point) in enumerate(rows):
        values = values_at(panel, scene.evidence, owner, point)
        finite, lost = spread_of(values)
        seen += finite
        _row(axes, i, finite, scene.look(owner), scene)
        style = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": NOTE, "color": LOST if lost else "0.25"}
        axes.text(1.02, i, literal(note_of(values)), **style)
    if not seen:
        axes.set_xticks([])
        return
    positive = min(seen) > 0
    if positive and (math.log10(max(seen) / min(seen)) > 2 or "y" in scene.logs):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.08)


def _row(axes: Any, i: int, finite: Sequence[float], look: Look, scene: Scene) -> None:
    """One row: the seeds small, their mean large with its interval."""
    if not finite:
        return
    mean, span = math.fsum(finite) / len(finite), interval(finite)
    aside = [i + 0.22 * ((n % 3) - 1) for n in range(len(finite))] if len(finite) > 1 else []
    axes.plot(finite[: len(aside)], aside, "o", color=look.colour, ms=3, alpha=0.45, mew=0, zorder=3)
    axes.plot([mean], [i], look.marker, color=look.colour, ms=6, mec="white", mew=0.6, zorder=5)
    if span:
        scene.say("Small dots: seeds; large ones: their mean with its 95 % interval.")
        axes.plot(span, [i, i], color=look.colour, lw=1.8, zorder=4)


def note_of(values: Sequence[float]) -> str:
    """What is written beside a row: mean and interval, and how many seeds have no value."""
    finite, lost = spread_of(values)
    gone = f"{lost} without a value" if lost else ""
    if not finite:
        return gone or "not there"
    mean, span = math.fsum(finite) / len(finite), interval(finite)
    if not span or span[0] == span[1]:
        return ", ".join(filter(None, [number(mean, 3), gone]))
    half = number((span[1] - span[0]) / 2, 2)
    places = len(half.partition(".")[2])
    shown = number(mean, 3) if "e" in half else f"{mean:.{places}f}"
    return ", ".join(filter(None, [f"{shown} ± {half}", gone]))
