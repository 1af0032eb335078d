"""What an expression of claims comes to, on the evidence of one seed.

A number is finite or a `Gap`, a condition a `Margin`, the number by which it holds, or a Gap. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from dlrun.claims import tree
from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.grid import Cell, Gap, Grid, Index, along, combined, constant, finite, gap_of, places, spread, without
from dlrun.claims.language import expression
from dlrun.claims.names import Names
from dlrun.claims.readings import of_measure, of_run
from dlrun.claims.tree import Node

TIE = 0.01
"""Values this close to the best, as a share of it, count as the best too: a grid of rates has ties, and one step of it would flicker."""

POINTWISE: dict[str, Callable[[Sequence[float]], float]] = {
    "neg": lambda x: -x[0],
    "+": lambda x: x[0] + x[1],
    "-": lambda x: x[0] - x[1],
    "*": lambda x: x[0] * x[1],
    "/": lambda x: x[0] / x[1],
    "**": lambda x: math.pow(x[0], x[1]),
    "abs": lambda x: abs(x[0]),
    "log": lambda x: math.log(x[0]),
    "log2": lambda x: math.log2(x[0]),
    "log10": lambda x: math.log10(x[0]),
    "exp": lambda x: math.exp(x[0]),
    "sqrt": lambda x: math.sqrt(x[0]),
    "min": min,
    "max": max,
}


def evaluate(text: str, seed: SeedEvidence) -> float:
    """The number that `text` stands for with this seed, as in `baseline`.

    UsageError, in one line, where the text is wrong; ValueError where runs give it no value.
    """
    names = Names(tuple(seed.arms), seed.axes, None, tuple(seed.measures))
    cell = Evaluator(seed).number(expression(text, names)).cells[()]
    if isinstance(cell, Gap):
        raise ValueError(cell.reason)
    return cell


class Evaluator:
    """Works out numbers on the evidence of one seed; `known` are those over all seeds."""

    def __init__(self, seed: SeedEvidence, known: Mapping[Node, float] | None = None) -> None:
        self.seed, self.known = seed, known or {}
        self.axes = tuple(seed.axes)
        self.sizes = {axis: len(values) for axis, values in seed.axes.items()}

    def number(self, node: Node) -> Grid:
        """The value of a number: a grid along the axes it has."""
        if isinstance(node, tree.Number):
            return constant(node.value)
        if isinstance(node, tree.OverSeeds):
            return constant(self.known[node])
        if isinstance(node, tree.Values):
            return Grid((node.axis,), {(place,): float(value) for place, value in enumerate(self.seed.axes[node.axis])})
        if isinstance(node, tree.Apply):
            return combined(POINTWISE[node.function], [self.number(part) for part in node.parts], self.sizes, node.function)
        if isinstance(node, tree.Reduce):
            return self._reduced(node)
        if isinstance(node, tree.Slope):
            return self._slope(node)
        if isinstance(node, tree.At):
            return self._at(node)
        return self._evidence(node)

    def _evidence(self, node: Node) -> Grid:
        """What runs or measures say, at every point."""
        argument = self.number(node.argument) if isinstance(node, tree.Read) and node.argument is not None else None
        cells: dict[Index, Cell] = {}
        for place in places(self.axes, self.sizes):
            point = tuple((axis, self.seed.axes[axis][where]) for axis, where in zip(self.axes, place, strict=True))
            at = f" ({', '.join(f'{axis}={value}' for axis, value in point)})" if point else ""
            if isinstance(node, tree.Measured):
                cells[place] = of_measure(node, self.seed.measures.get(node.measure, {}).get(point), f"{node.measure}{at}")
            elif isinstance(node, (tree.Read, tree.Event, tree.Fact)):
                step = None if argument is None else argument.cells[tuple(place[self.axes.index(axis)] for axis in argument.axes)]
                cells[place] = of_run(node, self.seed.arms.get(node.arm, {}).get(point), step, f"{node.arm}{at}")
            else:
                raise TypeError(f"no number: {type(node).__name__}")
        return Grid(self.axes, cells)

    def _at(self, node: tree.At) -> Grid:
        grid = self.number(node.part)
        for axis, place in node.places:
            grid = without(grid, axis, {rest: line[place] for rest, line in along(grid, axis)})
        return grid

    def _slope(self, node: tree.Slope) -> Grid:
        y, x = self.number(node.y), self.number(node.x)
        axes = tuple(axis for axis in self.axes if axis in y.axes or axis in x.axes)
        over = [dict(along(spread(grid, axes, self.sizes), node.axis)) for grid in (y, x)]
        rest = Grid(axes, {})
        return without(rest, node.axis, {place: _line(over[0][place], over[1][place]) for place in over[0]})

    def _reduced(self, node: tree.Reduce) -> Grid:
        grid = self.number(node.part)
        reduce = _mean if node.function == "mean" else _chooser(node, self.seed)
        return without(grid, node.axis, {rest: reduce(line) for rest, line in along(grid, node.axis)})


def _mean(line: Sequence[Cell]) -> Cell:
    numbers = [cell for cell in line if not isinstance(cell, Gap)]
    return gap_of(line) or finite(lambda: math.fsum(number / len(line) for number in numbers), "the mean")


def _line(y: Sequence[Cell], x: Sequence[Cell]) -> Cell:
    """Slope of the least-squares line through the points (x, y)."""
    gap = gap_of([*y, *x])
    if gap is not None:
        return gap
    ys, xs = ([cell for cell in line if not isinstance(cell, Gap)] for line in (y, x))
    middle = math.fsum(xs) / len(xs)
    return finite(
        lambda: math.fsum((a - middle) * b for a, b in zip(xs, ys, strict=True)) / math.fsum((a - middle) ** 2 for a in xs),
        "a slope over equal x",
    )


def _chooser(node: tree.Reduce, seed: SeedEvidence) -> Callable[[Sequence[Cell]], Cell]:
    """What picks along an axis. A point without a number (a run that diverged) counts as the worst there is: it is passed over where the
    best is sought; where the worst is sought it is found, and has no number."""
    ways = tree.directions(node.part)
    better = next(iter(ways)) if len(ways) == 1 else None
    sought = {"min": "down", "argmin": "down", "max": "up", "argmax": "up"}.get(node.function, better)
    passed = sought == better if better else node.function.startswith("arg") or not ways
    values = seed.axes[node.axis]

    def choose(line: Sequence[Cell]) -> Cell:
        gap = gap_of(line)
        found = {place: cell for place, cell in enumerate(line) if not isinstance(cell, Gap)}
        if gap is not None and (gap.missing or not passed or not found):
            return gap
        best = min(found.values()) if sought == "down" else max(found.values())
        if not node.function.startswith("arg"):
            return best
        return _middle([float(values[place]) for place, cell in found.items() if abs(cell - best) <= TIE * abs(best)])

    return choose


def _middle(tied: Sequence[float]) -> float:
    """The geometric mean; of values that are not all positive, the arithmetic one."""
    if len(tied) == 1:
        return tied[0]
    if min(tied) > 0:
        return math.exp(math.fsum(math.log(value) for value in tied) / len(tied))
    return math.fsum(value / len(tied) for value in tied)
