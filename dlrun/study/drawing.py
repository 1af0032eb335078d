"""Figures of a study: learning curves coloured by each swept key, slices, parallel coordinates, importances. Drawn after the table.

A cell's curve is the mean over its seeds, its band from the lowest to the highest of them. Colours of numbers go from dark (small) to
light (large); of names, those of Okabe and Ito.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlrun.sinks.paint import COLOURS, GREY, literal, place, save
from dlrun.sinks.terminal import clip
from dlrun.study.plan import Goal
from dlrun.study.space import text_of

MOST_CURVES, MOST_PANELS, MOST_BANDS = 200, 6, 12
DECADES = 1.5
"""Numbers that span more powers of ten stand on a logarithmic axis."""
MARK = COLOURS[1]


@dataclass(frozen=True)
class Shown:
    """A cell as it is drawn: its params, value (None unless finished), interval, state, and its seeds' curves of (step, value)."""

    number: int
    params: Mapping[str, Any]
    state: str
    value: float | None
    interval: Sequence[float] | None
    curves: Sequence[Sequence[tuple[int, float]]] = field(default_factory=tuple)


class Scale:
    """A swept key: where its values stand between 0 and 1, their colours, and ticks."""

    def __init__(self, key: str, cells: Sequence[Shown]) -> None:
        self.key = key
        values = [cell.params[key] for cell in cells if key in cell.params]
        self.numeric = all(_is_number(value) for value in values) and len({float(value) for value in values}) > 1
        if self.numeric:
            self.few = sorted({float(value) for value in values})
            self.low, self.high = self.few[0], self.few[-1]
            self.log = self.low > 0 and math.log10(self.high / self.low) > DECADES
        else:
            self.names = list(dict.fromkeys(text_of(value) for value in values))

    def at(self, value: Any) -> float:
        """0 for the smallest value or first name, 1 for the last."""
        if not self.numeric:
            return self.names.index(text_of(value)) / max(1, len(self.names) - 1)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float(value - self.low) / (self.high - self.low)

    def colour(self, value: Any) -> Any:
        """The colour of a value."""
        if self.numeric:
            return colormaps["viridis"](0.92 * self.at(value))
        return COLOURS[self.names.index(text_of(value)) % len(COLOURS)]

    def ticks(self, count: int = 4) -> list[tuple[float, str]]:
        """Places and labels."""
        if not self.numeric:
            shown = self.names[:: max(1, -(-len(self.names) // 12))]
            return [(self.names.index(name) / max(1, len(self.names) - 1), clip(name, 18)) for name in shown]
        return [(self.at(value), f"{value:.3g}") for value in self._round(count)]

    def _round(self, count: int) -> list[float]:
        """The values themselves where they are few; else powers of ten, or round numbers within the ends; else the ends."""
        if len(self.few) <= count + 2:
            return self.few
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            found = [10.0**power for power in powers][:: max(1, -(-len(powers) // (count + 2)))]
        else:
            found = [float(v) for v in MaxNLocator(count).tick_values(self.low, self.high) if self.low <= v <= self.high]
        return found if len(found) > 1 else [self.low, self.high]


def draw_study(folder: Path, cells: Sequence[Shown], goal: Goal, title: str, importances: Mapping[str, float] | None = None) -> list[Path]:
    """Draw what there is to draw into `folder`; returns the files."""
    keys = [key for key in dict.fromkeys(key for cell in cells for key in cell.params) if _varies(key, cells)][:MOST_PANELS]
    plans: dict[str, Callable[[Figure], None]] = {
        "curves": partial(draw_curves, cells=cells, keys=keys, goal=goal),
        "slices": partial(draw_slices, cells=cells, keys=keys, goal=goal),
        "parallel": partial(draw_parallel, cells=cells, keys=keys, goal=goal),
        "importances": partial(draw_importances, importances=importances or {}, goal=goal),
    }
    folder.mkdir(exist_ok=True)
    return [path for name, plan in plans.items() if (path := save(folder / f"{name}.png", plan, title))]


def _varies(key: str, cells: Sequence[Shown]) -> bool:
    return len({text_of(cell.params[key]) for cell in cells if key in cell.params}) > 1


def draw_curves(figure: Figure, cells: Sequence[Shown], keys: Sequence[str], goal: Goal) -> None:
    """A panel a key: the goal's metric against the step, one line a cell."""
    drawn = [cell for cell in cells if any(len(curve) > 1 for curve in cell.curves)][:MOST_CURVES]
    if not drawn:
        return
    keys = list(keys) or [""]
    panels = _panels(figure, len(keys), 0.7)
    limits = robust_limits([value for cell in drawn for curve in cell.curves for _, value in curve])
    for axes, key in zip(panels, keys, strict=True):
        scale = Scale(key, drawn)
        for cell in drawn:
            steps, mean, low, high = summed(cell.curves)
            colour = scale.colour(cell.params[key]) if key in cell.params else GREY
            axes.plot(steps, mean, color=colour, lw=1.2, ls=":" if cell.state == "pruned" else "-")
            if len(cell.curves) > 1 and len(drawn) <= MOST_BANDS:
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        axes.set(xlabel="step", ylabel=literal(goal.metric), ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if key:
            _legend(axes, scale)
    if any(cell.state == "pruned" for cell in drawn):
        figure.text(0.99, 0.01, "dotted: pruned", ha="right", va="bottom", fontsize=8)


def summed(curves: Sequence[Sequence[tuple[int, float]]]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Steps that all seeds have, with mean, lowest and highest value."""
    found = [dict(curve) for curve in curves if curve]
    steps = sorted(set(found[0]).intersection(*found[1:])) if found else []
    rows = [[curve[step] for curve in found] for step in steps]
    return steps, [math.fsum(row) / len(row) for row in rows], [min(row) for row in rows], [max(row) for row in rows]


def robust_limits(values: Sequence[float]) -> tuple[float, float]:
    """Room for all but the wildest twentieth on either side, so that a diverged run does not flatten the others."""
    low, high = np.quantile(values, (0.0, 1.0))
    inner = np.quantile(values, (0.05, 0.95))
    room = 1.5 * (inner[1] - inner[0]) or 1.0
    low, high = max(low, inner[0] - room), min(high, inner[1] + room)
    margin = 0.04 * (high - low) or 0.05
    return float(low - margin), float(high + margin)


def _legend(axes: Any, scale: Scale) -> None:
    """What the colours mean, above the panel."""
    places = scale.ticks(3) if scale.numeric else [(0.0, name) for name in scale.names[: len(COLOURS)]]
    colours = [colormaps["viridis"](0.92 * at) for at, _ in places] if scale.numeric else COLOURS
    handles = [axes.plot([], [], color=colour, lw=3)[0] for colour in colours[: len(places)]]
    labels = [literal(clip(text, 18)) for _, text in places]
    title = literal(clip(scale.key, 40))
    style = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2, "handlelength": 0.9, "columnspacing": 0.9}
    legend = axes.legend(handles, labels, ncols=5, title=title, title_fontsize=8, alignment="left", **style)
    legend.get_title().set_fontweight("bold")


def _panels(figure: Figure, count: int, above: float) -> list[Any]:
    """`count` axes in a grid, `above` inches over each."""
    across = min(count, 3)
    down = -(-count // across)
    wide, high = (5.2, 3.0) if count == 1 else (3.7, 2.5)
    figure.set_size_inches(wide * across, (high + above) * down + 0.3)
    found = []
    for i in range(count):
        column, row = i % across, down - 1 - i // across
        left, bottom = wide * column + 0.7, (high + above) * row + 0.55
        found.append(place(figure, left, bottom, wide * (across - 1 - column) + 0.15, (high + above) * (down - 1 - row) + above + 0.3))
    return found


def crowned(have: Sequence[Shown], goal: Goal) -> Shown | None:
    """The cell that the table marks as the best: the first of equal ones; with one seed a cell none."""
    if not any(cell.interval for cell in have):
        return None
    return (max if goal.direction == "max" else min)(have, key=lambda cell: cell.value or 0.0)


def draw_slices(figure: Figure, cells: Sequence[Shown], keys: Sequence[str], goal: Goal) -> None:
    """A panel a key: every finished cell's value with its interval; the best one marked, as in the table."""
    have = [cell for cell in cells if cell.value is not None]
    if len(have) < 2 or not keys:
        return
    best = crowned(have, goal)
    limits = robust_limits([cell.value for cell in have if cell.value is not None])
    for axes, key in zip(_panels(figure, len(keys), 0.2), keys, strict=True):
        mine = [cell for cell in have if key in cell.params]
        scale = Scale(key, mine or have)
        for cell in mine:
            x, colour = scale.at(cell.params[key]) + _aside(scale, cell.number), MARK if cell is best else COLOURS[0]
            if cell.interval:
                axes.plot([x, x], cell.interval, color=colour, lw=1, alpha=0.6)
            axes.plot([x], [cell.value], "o", color=colour, ms=5 if cell is best else 3.5, zorder=3 if cell is best else 2, alpha=0.85)
        ticks = scale.ticks()
        axes.set_xticks([at for at, _ in ticks], [literal(text) for _, text in ticks], rotation=0 if len(ticks) < 6 else 30)
        axes.set(xlabel=literal(clip(key, 40)), ylabel=literal(goal.metric), ylim=limits, xlim=(-0.12, 1.12))
        axes.grid(axis="y", color="0.9", lw=0.6)
        axes.set_axisbelow(True)


def _aside(scale: Scale, number: int) -> float:
    """How far beside a name a cell is drawn, so that cells of one name can be told apart; none where numbers stand."""
    return 0.0 if scale.numeric else 0.2 * ((number * 0.618) % 1 - 0.5) / max(1, len(scale.names) - 1)


def draw_parallel(figure: Figure, cells: Sequence[Shown], keys: Sequence[str], goal: Goal) -> None:
    """One line a finished cell through its values, coloured by what came out: light is better; the best one marked, as in the table."""
    have = [cell for cell in cells if cell.value is not None]
    if len(have) < 2 or len(keys) < 2:
        return
    best = crowned(have, goal)
    have.sort(key=lambda cell: (cell is best, (cell.value or 0.0) * (1 if goal.direction == "max" else -1)))
    figure.set_size_inches(max(4.2, 1.5 * (len(keys) + 1)), 3.6)
    axes = place(figure, 0.5, 0.45, 0.75, 0.55)
    scales = [*(Scale(key, have) for key in keys)]
    low, high = min(cell.value or 0.0 for cell in have), max(cell.value or 0.0 for cell in have)
    for rank, cell in enumerate(have):
        points = [(i, scale.at(cell.params[scale.key])) for i, scale in enumerate(scales) if scale.key in cell.params]
        points.append((len(scales), ((cell.value or 0.0) - low) / ((high - low) or 1.0)))
        last = cell is best
        colour = MARK if last else colormaps["viridis"](0.92 * rank / max(1, len(have) - 1))
        axes.plot(*zip(*points, strict=True), color=colour, lw=2.2 if last else 1, alpha=1 if last else 0.7)
    for i, scale in enumerate(scales):
        _column(axes, i, scale.ticks())
    _column(axes, len(scales), [(i / 3, f"{low + (high - low) * i / 3:.4g}") for i in range(4)])
    names = [*keys, goal.metric]
    axes.set_xticks(range(len(names)), [literal(clip(name, 22)) for name in names])
    axes.set(xlim=(-0.05, len(scales) + 0.05), ylim=(-0.05, 1.05), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _column(axes: Any, x: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(x, color="0.6", lw=0.8, zorder=0)
    for at, text in ticks:
        style = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7}
        axes.text(x + 0.03, at, literal(text), fontsize=7, va="center", zorder=5, bbox=style)


def draw_importances(figure: Figure, importances: Mapping[str, float], goal: Goal) -> None:
    """Bars: the share of the value's variance that each key accounts for."""
    if not importances:
        return
    items = sorted(importances.items(), key=lambda item: item[1])
    figure.set_size_inches(5.2, 0.32 * len(items) + 1.2)
    axes = place(figure, 1.9, 0.55, 0.5, 0.5)
    axes.barh([literal(clip(name, 26)) for name, _ in items], [share for _, share in items], color=COLOURS[0], height=0.6)
    for i, (_, share) in enumerate(items):
        axes.text(share + 0.01, i, f"{share:.2f}", va="center", fontsize=8)
    axes.set(xlabel=literal(f"share of the variance of {goal.metric} (fANOVA)"), xlim=(0, max(1e-6, *(s for _, s in items)) * 1.15))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
