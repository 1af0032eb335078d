"""Events over panels of curves: few as lines with their names over them, many as rows of marks, one an event."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlrun.reproduce.bands import Mark
from dlrun.reproduce.paper import width_of
from dlrun.reproduce.scene import Scene
from dlrun.sinks.paint import literal
from dlrun.sinks.terminal import clip

MOST_LINES = 6
"""More marks than that become rows."""
SIZE, ROW, AWAY = 7.5, 0.14, 0.03


@dataclass(frozen=True)
class Lane:
    """Where names stand: (mark, row above the axes, whether left of its line), or rows of marks by event; `height` in inches."""

    height: float = 0.0
    named: tuple[tuple[Mark, int, bool], ...] = ()
    rows: Mapping[str, Sequence[Mark]] = field(default_factory=dict)


def lanes(marks: Sequence[Mark], ends: tuple[float, float], log: bool, inside: float) -> Lane:
    """Rows for the names of all marks, so that none touches another or another's line; `inside`: width of the axes in inches."""
    seen = [mark for mark in marks if mark.median > 0 or not log]
    if len(seen) > MOST_LINES:
        rows = {event: [mark for mark in seen if mark.event == event] for event in dict.fromkeys(mark.event for mark in seen)}
        return Lane(ROW * len(rows) + 0.06, rows=rows)
    taken: list[list[tuple[float, float]]] = []
    named = []
    for mark in sorted(seen, key=lambda mark: -mark.median):
        x = inside * _share(mark.median, ends, log)
        wide = width_of(_label(mark), SIZE) + AWAY + 0.04
        left = x + wide > inside + 0.1
        span = (x - wide, x) if left else (x, x + wide)
        row = next((i for i, there in enumerate(taken) if all(span[1] <= low or high <= span[0] for low, high in there)), len(taken))
        taken += [[] for _ in range(row + 1 - len(taken))]
        taken[row].append(span)
        for below in taken[:row]:
            below.append((x - 0.02, x + 0.02))
        named.append((mark, row, left))
    return Lane(ROW * len(taken) + (0.04 if taken else 0.0), tuple(named))


def _label(mark: Mark) -> str:
    return clip(mark.label, 32)


def _share(step: float, ends: tuple[float, float], log: bool) -> float:
    low, high, step = (math.log(max(each, 1e-9)) for each in (*ends, step)) if log else (*ends, step)
    return (step - low) / ((high - low) or 1.0)


def mark_events(axes: Any, lane: Lane, scene: Scene, inside: float, high: float) -> None:
    """Draw them; `inside`, `high`: size of the axes in inches."""
    if lane.named:
        scene.say("Vertical line: median step of an event over seeds, its band from the first to the last of them.")
    if lane.rows:
        scene.say("Over the panel: each arm's median step of an event, with a bar from the first to the last seed.")
    for mark, row, left in lane.named:
        look = scene.look(mark.arm)
        top = 1 + (ROW * (row + 1) - 0.02) / high
        axes.axvspan(min(mark.steps), max(mark.steps), color=look.colour, alpha=0.13, lw=0, zorder=0)
        axes.plot(
            [mark.median] * 2, [0, top], color=look.colour, ls=look.style, lw=0.9, transform=axes.get_xaxis_transform(), clip_on=False
        )
        place = (-AWAY if left else AWAY) * 72, (ROW * row + 0.02) * 72
        style = {"fontsize": SIZE, "color": look.colour, "ha": "right" if left else "left", "va": "bottom", "annotation_clip": False}
        axes.annotate(literal(_label(mark)), (mark.median, 1), place, axes.get_xaxis_transform(), "offset points", **style)
    for i, (event, marks) in enumerate(lane.rows.items()):
        y = 1 + (ROW * (i + 0.5) + 0.03) / high
        axes.text(-0.02, y, literal(clip(event, 11)), fontsize=7, ha="right", va="center", transform=axes.transAxes)
        for mark in marks:
            look = scene.look(mark.arm)
            style = {"color": look.colour, "transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.plot([min(mark.steps), max(mark.steps)], [y, y], lw=1.2, alpha=0.5, **style)
            axes.plot([mark.median], [y], look.marker, ms=4, mec="white", mew=0.4, **style)
