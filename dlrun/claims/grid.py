"""Numbers over the points of named axes, and what stands where there is none.

A grid's axes are names; two grids are combined point by point, along the axes of either (broadcast by name). Imports no torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Index = tuple[int, ...]


@dataclass(frozen=True)
class Gap:
    """No number, and why. `missing`: nobody knows (no run, a metric that was not logged); else the run has none to show (an event that did
    not happen, a NaN), which counts against a claim."""

    missing: bool
    reason: str


Cell = float | Gap


@dataclass(frozen=True)
class Grid:
    """`cells` by their places along `axes`; one cell without axes."""

    axes: tuple[str, ...]
    cells: Mapping[Index, Cell]


def constant(value: Cell) -> Grid:
    """A grid without axes."""
    return Grid((), {(): value})


def places(axes: Sequence[str], sizes: Mapping[str, int]) -> Iterator[Index]:
    """Every point of `axes`."""
    return itertools.product(*(range(sizes[axis]) for axis in axes))


def gap_of(cells: Sequence[Cell]) -> Gap | None:
    """The gap that any number made of `cells` falls into: a missing one first."""
    gaps = [cell for cell in cells if isinstance(cell, Gap)]
    return next((gap for gap in gaps if gap.missing), gaps[0] if gaps else None)


def finite(function: Callable[[], float], says: str) -> Cell:
    """What `function` gives; where that is no finite number (a division by 0, an overflow), it is missing."""
    try:
        value = function()
    except (ArithmeticError, ValueError):
        return Gap(True, f"{says} has no value")
    return float(value) if math.isfinite(value) else Gap(True, f"{says} has no finite value")


def combined(function: Callable[[Sequence[float]], float], grids: Sequence[Grid], sizes: Mapping[str, int], name: str) -> Grid:
    """`function` of the grids' cells, point by point."""
    axes = tuple(axis for axis in sizes if any(axis in grid.axes for grid in grids))
    cells: dict[Index, Cell] = {}
    for place in places(axes, sizes):
        found = [grid.cells[tuple(place[axes.index(axis)] for axis in grid.axes)] for grid in grids]
        cells[place] = gap_of(found) or _applied(function, [cell for cell in found if not isinstance(cell, Gap)], name)
    return Grid(axes, cells)


def _applied(function: Callable[[Sequence[float]], float], numbers: Sequence[float], name: str) -> Cell:
    said = [f"{number:g}" for number in numbers]
    words = f"{name}({', '.join(said)})" if name.isalnum() else f" {name} ".join(said)
    return finite(lambda: function(numbers), words)


def along(grid: Grid, axis: str) -> Iterator[tuple[Index, list[Cell]]]:
    """For every point of the other axes the cells along `axis`, in the order of its values."""
    where = grid.axes.index(axis)
    lines: dict[Index, list[tuple[int, Cell]]] = {}
    for place, cell in grid.cells.items():
        lines.setdefault(place[:where] + place[where + 1 :], []).append((place[where], cell))
    for rest, line in lines.items():
        yield rest, [cell for _, cell in sorted(line, key=lambda pair: pair[0])]


def without(grid: Grid, axis: str, cells: Mapping[Index, Cell]) -> Grid:
    """The grid of `cells` along all axes of `grid` but `axis`."""
    return Grid(tuple(each for each in grid.axes if each != axis), cells)


def spread(grid: Grid, axes: Sequence[str], sizes: Mapping[str, Any]) -> Grid:
    """`grid` repeated along those of `axes` that it lacks."""
    blank = Grid(tuple(axes), dict.fromkeys(places(axes, sizes), 0.0))
    return combined(lambda numbers: numbers[0], [grid, blank], sizes, "")
