"""Panels against an axis of the experiment: one line an arm or a point of the other axes, its best marked; and where the best lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from dlrun.functional.student import interval
from dlrun.reproduce.bands import spread_of
from dlrun.reproduce.paper import width_of
from dlrun.reproduce.scene import Look, Scene, dress_values, hues, whole_share
from dlrun.reproduce.shown import Panel, best_places, numbered_values, points_along, values_at
from dlrun.sinks.paint import literal
from dlrun.sinks.terminal import clip
from dlrun.study.drawing import DECADES
from dlrun.study.space import text_of


class Along:
    """Where the values of an axis stand on x."""

    def __init__(self, values: Sequence[Any], log: bool) -> None:
        self.values = list(values)
        self.numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values) and len(values) > 1
        low, high = (min(values), max(values)) if self.numeric else (0, 0)
        wide = self.numeric and low > 0 and (math.log10(high / low) > DECADES or self._even())
        self.log = wide or (log and self.numeric and low > 0)

    def _even(self) -> bool:
        """Whether each value is the same multiple of the one before it, such as widths 32, 64, 128."""
        found = sorted(self.values)
        ratios = [later / earlier for earlier, later in zip(found, found[1:])]
        return len(found) > 2 and max(ratios) - min(ratios) < 1e-6 * max(ratios)

    def at(self, value: Any) -> float:
        """The place of a value: itself, or its number where values are names."""
        return float(value) if self.numeric else float(self.values.index(value))

    def dress(self, axis: Any, setter: Any, inches: float) -> None:
        """Scale and ticks of matplotlib's axis, which is `inches` long on paper; labels that would touch another are left out."""
        if self.log:
            setter("log")
        axis.axes.set(**{f"{axis.axis_name}lim": self.ends()})
        labels = self._labels()
        shown: list[tuple[float, str]] = []
        taken: list[tuple[float, float]] = []
        for value, label in sorted(zip(self.values, labels), key=lambda pair: self._urgent(pair[0])):
            middle, half = inches * self._share(value), (width_of(label, 8) if axis.axis_name == "x" else 0.11) / 2 + 0.03
            if all(middle + half <= low or high <= middle - half for low, high in taken):
                taken.append((middle - half, middle + half))
                shown.append((self.at(value), label))
        axis.set_ticks([at for at, _ in shown], [label if label.startswith("$2^") else literal(label) for _, label in shown])
        axis.set_ticks([] if self.numeric and len(shown) == len(labels) else [self.at(value) for value in self.values], minor=True)
        axis.set_minor_formatter(NullFormatter())

    def ends(self) -> tuple[float, float]:
        """Of the axis, with room for the outermost marks."""
        return roomy([self.at(value) for value in self.values], self.log)

    def _labels(self) -> list[str]:
        """Powers of two as such where they are no whole numbers."""
        if self.log and all(math.frexp(value)[0] == 0.5 for value in self.values) and any(value < 1 for value in self.values):
            return [f"$2^{{{math.frexp(value)[1] - 1}}}$" for value in self.values]
        return [label_of(value) for value in self.values]

    def _urgent(self, value: Any) -> int:
        """The ends first, then every other one, then those between."""
        place = self.values.index(value)
        return 0 if place in (0, len(self.values) - 1) else 1 + place % 2

    def _share(self, value: Any) -> float:
        places = [math.log(self.at(each)) if self.log else self.at(each) for each in (value, *self.values)]
        return (places[0] - min(places)) / ((max(places) - min(places)) or 1.0)


def roomy(values: Sequence[float], log: bool) -> tuple[float, float]:
    """From the least to the greatest value, with a twentieth of that more on either side; 0 has no place on a log axis."""
    places = [math.log(value) for value in values if value > 0] if log else list(values)
    low, high = min(places), max(places)
    room = 0.05 * (high - low) or 0.05 * abs(low) or 0.5
    return (math.exp(low - room), math.exp(high + room)) if log else (low - room, high + room)


def label_of(value: Any) -> str:
    """A value of an axis, short."""
    return f"{value:.3g}" if isinstance(value, float) else clip(text_of(value), 14)


def _along(scene: Scene, name: str, log: bool) -> Along:
    return Along(next(axis.values for axis in scene.sheet.axes if axis.name == name), log)


def beside(axes: Any, place: int, count: int) -> Any:
    """The data's transform, a little to the side: bars of several lines at one value of x stand beside each other."""
    step = min(2.2, 6 / count)
    return axes.transData + ScaledTranslation((place - (count - 1) / 2) * step / 72, 0, axes.figure.dpi_scale_trans)


def draw_axis(axes: Any, panel: Panel, scene: Scene) -> None:
    """Means over seeds with their intervals."""
    scale, looks = _along(scene, panel.axis, "x" in scene.logs), hues(panel) if len(panel.points) > 1 else {}
    lines = [(owner, rest) for owner in panel.owners for rest in panel.points]
    drawn = _Lines(axes, scene, panel.best)
    for i, (owner, rest) in enumerate(lines):
        there = points_along(scene.sheet, panel.axis, rest)
        found = [(scale.at(value), values_at(panel, scene.evidence, owner, point)) for value, point in there]
        drawn.add(found, looks.get(rest) or scene.look(owner), beside(axes, i, len(lines)))
    scale.dress(axes.xaxis, axes.set_xscale, scene.inches[0])
    axes.set_xlabel(literal(clip(panel.axis, 40)))
    dress_values(axes, panel, scene, drawn.seen, False)
    drawn.bars(whole_share(panel.quantity, drawn.seen))


def draw_numbered(axes: Any, panel: Panel, scene: Scene) -> None:
    """Numbers of measures against the number in their names, such as a block's or the place on a line."""
    lines = [(owner, point) for owner in panel.owners for point in panel.points]
    drawn = _Lines(axes, scene, "")
    whole = True
    for i, (owner, point) in enumerate(lines):
        found = numbered_values(panel, scene.evidence, owner, point)
        whole = whole and all(x.is_integer() for x, _ in found)
        drawn.add(found, scene.shaded(owner, panel.points, point), beside(axes, i, len(lines)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    axes.set_xlabel("*")
    dress_values(axes, panel, scene, drawn.seen, False)
    drawn.bars(whole_share(panel.quantity, drawn.seen))


class _Lines:
    """The lines of one panel: `seen` is what sets the ends of the axis, `best` which point of a line is starred."""

    def __init__(self, axes: Any, scene: Scene, best: str) -> None:
        self.axes, self.scene, self.best = axes, scene, best
        self.seen: list[float] = []
        self._bars: list[tuple[float, tuple[float, float], Look, Any]] = []
        self._crosses: dict[float, int] = {}

    def add(self, found: Sequence[tuple[float, Sequence[float]]], look: Look, transform: Any) -> None:
        """Means, joined, the best of them marked; a cross where a seed has no value."""
        points: list[tuple[float, float]] = []
        whole: list[tuple[float, float]] = []  # a point with a seed that diverged is no best one
        for x, values in found:
            finite, lost = spread_of(values)
            if finite:
                points.append((x, math.fsum(finite) / len(finite)))
                whole += [] if lost else [points[-1]]
                self._interval(x, finite, look, transform)
        if points:
            style = {"color": look.colour, "ls": look.style, "marker": look.marker}
            self.axes.plot(*zip(*points), ms=3.6, lw=1.4, zorder=4, **style)
        if whole and self.best:
            place = (min if self.best == "min" else max)(whole, key=lambda pair: pair[1])
            self.axes.plot(*place, "*", color=look.colour, ms=9.5, mec="black", mew=0.7, zorder=5)
            self.scene.say(f"Star: where the mean over seeds is {'lowest' if self.best == 'min' else 'highest'}.")
        self._lost([x for x, values in found if spread_of(values)[1]], look)

    def _interval(self, x: float, finite: Sequence[float], look: Look, transform: Any) -> None:
        span = interval(finite)
        self.seen += [min(finite), max(finite)]
        if span:
            self._bars.append((x, span, look, transform))
            self.scene.say("Point: mean over seeds; bar: its 95 % interval.")

    def _lost(self, places: Sequence[float], look: Look) -> None:
        """A cross at the top, in the line's colour."""
        if not places:
            return
        self.scene.say(
            "Cross at the top: a seed of this line has no value there (it diverged, or the event did not happen); it is in no mean."
        )
        style = {"color": look.colour, "ls": "", "marker": "x", "ms": 6, "mew": 1.8, "zorder": 6, "clip_on": False}
        heights = [1 - 0.045 * self._crosses.get(x, 0) for x in places]
        self._crosses |= {x: self._crosses.get(x, 0) + 1 for x in places}
        self.axes.plot(places, heights, transform=self.axes.get_xaxis_transform(), **style)

    def bars(self, ends: tuple[float, float] | None) -> None:
        """Intervals. Wide ones do not set the axis' ends (`ends`, or what the seeds span); what is below 0 has no place on a log axis."""
        if not self.seen:
            return
        log = self.axes.get_yscale() == "log"
        low, high = ends or roomy(self.seen, log)
        for x, (lower, upper), look, transform in self._bars:
            span = [max(lower, low / 10) if log else lower, upper]
            self.axes.plot([x, x], span, color=look.colour, lw=1.1, zorder=3, transform=transform)
        self.axes.set_ylim(low, high)


def draw_best(axes: Any, panel: Panel, scene: Scene) -> None:
    """The place of the best along one axis, against another."""
    x, y = _along(scene, panel.axis, "x" in scene.logs), _along(scene, panel.along, "x" in scene.logs)
    scene.say(
        f"Best {panel.along}: of each seed, by the claims' rule for ties; geometric means."
        if y.log
        else f"Best {panel.along}: of each seed."
    )
    for i, owner in enumerate(panel.owners):
        look, transform = scene.look(owner), beside(axes, i, len(panel.owners))
        points = []
        for value in x.values:
            found = best_places(panel, scene.sheet, scene.evidence, owner, value)
            shown = [math.log(each) for each in found] if y.log else found
            if not shown:
                continue
            middle, span = math.fsum(shown) / len(shown), interval(shown)
            points.append((x.at(value), math.exp(middle) if y.log else middle))
            if span:
                axes.plot(
                    [points[-1][0]] * 2, [math.exp(end) if y.log else end for end in span], color=look.colour, lw=1.1, transform=transform
                )
        if points:
            axes.plot(*zip(*points), color=look.colour, ls=look.style, marker=look.marker, ms=4, lw=1.4, zorder=4)
    x.dress(axes.xaxis, axes.set_xscale, scene.inches[0])
    y.dress(axes.yaxis, axes.set_yscale, scene.inches[1])
    axes.set_xlabel(literal(clip(panel.axis, 40)))
    axes.grid(axis="y", color="0.9", lw=0.6)
