"""The panels of an experiment's figure: curves against the step; `along.py` and `dots.py` have the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import MaxNLocator

from dlrun.claims.evidence import Point
from dlrun.reproduce.along import draw_axis, draw_best, draw_numbered
from dlrun.reproduce.bands import Band, band
from dlrun.reproduce.dots import draw_dots
from dlrun.reproduce.scene import LOST, SMALL, Look, Scene, dress_values
from dlrun.reproduce.shown import Panel
from dlrun.sinks.paint import GREY, literal


def paint(axes: Any, panel: Panel, scene: Scene, ends: tuple[float, float]) -> None:
    """Draw a panel; `ends` are those of the step axis."""
    if panel.form == "curves":
        _curves(axes, panel, scene, ends)
    else:
        {"axis": draw_axis, "best": draw_best, "numbered": draw_numbered, "dots": draw_dots}[panel.form](axes, panel, scene)
    axes.set_axisbelow(True)


def bands_of(panel: Panel, scene: Scene) -> dict[tuple[str, Point], Band]:
    """What a panel of curves draws; arms and points that logged nothing are left out."""
    log = "x" in scene.logs
    keys = [(owner, point) for owner in panel.owners for point in panel.points]
    found = {key: band(scene.evidence, *key, panel.quantity.name, log, scene.start) for key in keys}
    return {key: one for key, one in found.items() if len(one.steps) or one.alone}


def _curves(axes: Any, panel: Panel, scene: Scene, ends: tuple[float, float]) -> None:
    found = bands_of(panel, scene)
    _words_of_curves(panel, found, scene)
    axes.set_xlim(*ends)
    if "x" in scene.logs:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for i, ((owner, point), one) in enumerate(reversed(found.items())):
        look = scene.shaded(owner, panel.points, point)
        axes.plot(one.steps, one.mean, color=look.colour, ls=look.style, lw=1.6, zorder=3 + 0.01 * i)
        if one.seeds > 1:
            axes.fill_between(one.steps, one.low, one.high, color=look.colour, alpha=0.18 if len(found) < 8 else 0.09, lw=0, zorder=2)
        _alone(axes, one, look, scene)
    axes.set_xlabel("step")
    dress_values(axes, panel, scene, [value for one in found.values() for value in one.values], any(one.alone for one in found.values()))


def _alone(axes: Any, one: Band, look: Look, scene: Scene) -> None:
    """Seeds that diverged: thin, up to a cross."""
    for lone in one.alone:
        scene.say("Thin line to a red cross: a seed that diverged, in no mean.")
        if len(lone.steps):
            axes.plot(lone.steps, lone.values, color=look.colour, ls=look.style, lw=0.8, zorder=2.5)
        x = lone.steps[-1] if len(lone.steps) else axes.get_xlim()[0]
        axes.plot([x], [0.975], "x", color=LOST, ms=6, mew=1.8, zorder=6, transform=axes.get_xaxis_transform(), clip_on=False)


def _words_of_curves(panel: Panel, found: Mapping[tuple[str, Point], Band], scene: Scene) -> None:
    counts = sorted({one.seeds for one in found.values() if one.seeds})
    if not counts:
        return
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] > 1:
        scene.say(f"Line: mean of {seeds} seeds; band: from the lowest to the highest of them.")
    else:
        scene.say("One seed: no band.")
    if any(one.binned for one in found.values()):
        scene.say("What has many values is averaged over short stretches.")


def nothing(axes: Any, text: str) -> None:
    """An empty panel says why."""
    axes.set(xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.text(0.5, 0.5, literal(text), transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=SMALL, wrap=True)
