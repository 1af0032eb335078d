"""What the panels of an experiment's figure share: looks of arms and points, words for the caption, the axis of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from dlrun.claims.evidence import Point, SeedEvidence
from dlrun.reproduce.bands import Events
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.shown import Panel, Quantity
from dlrun.sinks.curves import scale_values
from dlrun.sinks.paint import COLOURS
from dlrun.study.drawing import robust_limits

STYLES = ("-", (0, (5, 1.6)), (0, (5, 1.4, 1.2, 1.4)), (0, (1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "<", ">")
LOST = "#c00000"
SMALL, NOTE = 7.5, 7.0


@dataclass(frozen=True)
class Look:
    """How an arm, or a point of the axes, is drawn."""

    colour: Any
    style: Any = "-"
    marker: str = "o"


@dataclass
class Scene:
    """What all panels share; `said` gathers what the caption has to explain."""

    sheet: Sheet
    evidence: Sequence[SeedEvidence]
    events: Events
    logs: Sequence[str]
    inches: tuple[float, float] = (3.0, 2.0)  # of the panel that is being drawn
    said: dict[str, None] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Put a sentence into the caption, once."""
        self.said.setdefault(text)

    @property
    def start(self) -> int:
        """The step at which curves begin."""
        return int(self.sheet.figure.get("from", 0))

    @property
    def owners(self) -> tuple[str, ...]:
        """All that may have a colour."""
        return (*self.sheet.arms, *(self.sheet.config.get("measures") or {}))

    def look(self, owner: str) -> Look:
        """The look of an arm or a measure, another for each: measures may stand beside arms."""
        i = self.owners.index(owner)
        return Look(COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)], MARKERS[i % len(MARKERS)])

    def shaded(self, owner: str, points: Sequence[Point], point: Point) -> Look:
        """The look of one line of several of an arm: paler the later where arms differ, else from dark to light."""
        look, share = self.look(owner), points.index(point) / max(1, len(points) - 1)
        if len(points) == 1:
            return look
        if len(self.sheet.arms) == 1:
            return Look(colormaps["viridis"](0.92 * share), "-", MARKERS[points.index(point) % len(MARKERS)])
        pale = tuple(part + (1 - part) * 0.65 * share for part in to_rgb(look.colour))
        return Look(pale, look.style, look.marker)


def hues(panel: Panel) -> dict[Point, Look]:
    """The looks of the lines of an `axis` panel that has one a point of the other axes."""
    last = max(1, len(panel.points) - 1)
    return {
        point: Look(colormaps["viridis"](0.92 * i / last), STYLES[i % len(STYLES)], MARKERS[i % len(MARKERS)])
        for i, point in enumerate(panel.points)
    }


def dress_values(axes: Any, panel: Panel, scene: Scene, values: Sequence[float], wild: bool) -> None:
    """The y axis: logarithmic where asked for or where values span decades; a diverged curve does not set its ends."""
    finite = np.array([value for value in values if math.isfinite(value)])
    axes.grid(axis="y", color="0.9", lw=0.6)
    if not len(finite):
        return
    if "y" in scene.logs and (finite > 0).all():
        axes.set_yscale("log")
    elif panel.quantity.share:
        axes.set_ylim(*(whole_share(panel.quantity, values) or axes.get_ylim()))
    else:
        scale_values(axes, finite, panel.quantity.name)
    if wild and axes.get_yscale() == "log":
        low, high = robust_limits([math.log10(value) for value in finite if value > 0])
        axes.set_ylim(10**low, 10**high)
    elif wild:
        axes.set_ylim(*robust_limits(list(finite)))


def whole_share(quantity: Quantity, values: Sequence[float]) -> tuple[float, float] | None:
    """The ends of an axis from 0 to 1, for a share that takes much of it."""
    finite = [value for value in values if math.isfinite(value)]
    fills = quantity.share and finite and min(finite) >= 0 and max(finite) <= 1 and max(finite) - min(finite) > 0.3
    return (-0.02, 1.03) if fills else None
