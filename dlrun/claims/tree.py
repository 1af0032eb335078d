"""What a claim is made of once it is parsed: a closed set of nodes, none of which can name anything outside the experiment.

A node is a number (over axes: an array), a condition, or one value over all seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

LOW = "loss error errors barrier bits brier calibration distance divergence fid kl mae mse nll perplexity regret rmse"
DOWN = frozenset(LOW.split(" "))
"""Words in the name of a metric that is better when low; any other is better when high."""


@dataclass(frozen=True)
class Node:
    """A part of a claim."""


@dataclass(frozen=True)
class Number(Node):
    """A number as written."""

    value: float


@dataclass(frozen=True)
class Read(Node):
    """A number out of a run's series: `arm["split/metric"].how(argument)`."""

    arm: str
    metric: str
    how: str
    argument: Node | None = None


@dataclass(frozen=True)
class Event(Node):
    """`arm.event.step`, or `.happened` (0 or 1)."""

    arm: str
    event: str
    what: str


@dataclass(frozen=True)
class Fact(Node):
    """`arm.steps`, `.seconds`, `.parameters` or `.diverged` (0 or 1)."""

    arm: str
    what: str


@dataclass(frozen=True)
class Measured(Node):
    """A number of a measure."""

    measure: str
    number: str


@dataclass(frozen=True)
class Values(Node):
    """The values of an axis, along this axis."""

    axis: str


@dataclass(frozen=True)
class Apply(Node):
    """Arithmetic, point by point: an operator or a function, and what it is applied to."""

    function: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Reduce(Node):
    """`argmin argmax min max mean best_of` of an expression over an axis, which is then gone."""

    function: str
    part: Node
    axis: str


@dataclass(frozen=True)
class Slope(Node):
    """Slope of the least-squares line of y over x, along the one axis that both have."""

    y: Node
    x: Node
    axis: str


@dataclass(frozen=True)
class At(Node):
    """An expression at one value of each of some axes: (axis, place in its values)."""

    part: Node
    places: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Compare(Node):
    """A condition: parts with the signs between them."""

    signs: tuple[str, ...]
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Logic(Node):
    """A condition: `and`, `or`, `not` of conditions."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Holds(Node):
    """A condition: that a number which is 0 or 1 is 1."""

    part: Node


@dataclass(frozen=True)
class OverSeeds(Node):
    """`every` (a condition), `median` or `share` (numbers): one value over all seeds."""

    function: str
    part: Node


CONDITIONS = (Compare, Logic, Holds)
EVIDENCE = (Read, Event, Fact, Measured)
"""What comes out of runs."""


def children(node: Node) -> Iterator[Node]:
    """The nodes right below `node`."""
    for field in fields(node):
        value = getattr(node, field.name)
        yield from (part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Node))


def walk(node: Node) -> Iterator[Node]:
    """`node` and every node below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def is_condition(node: Node) -> bool:
    """Whether it holds or not, rather than being a number."""
    return isinstance(node, CONDITIONS) or (isinstance(node, OverSeeds) and node.function == "every")


def over_seeds(node: Node) -> bool:
    """Whether `node` is, or contains, one value over all seeds."""
    return any(isinstance(part, OverSeeds) for part in walk(node))


def axes_of(node: Node, axes: Mapping[str, Any]) -> frozenset[str]:
    """The axes along which `node` still has many values; `axes` are all there are."""
    below = frozenset[str]().union(*(axes_of(child, axes) for child in children(node)))
    if isinstance(node, EVIDENCE):
        return frozenset(axes)
    if isinstance(node, Values):
        return frozenset((node.axis,))
    if isinstance(node, (Reduce, Slope)):
        return below - {node.axis}
    if isinstance(node, At):
        return below - {axis for axis, _ in node.places}
    return below


def better(metric: str) -> str:
    """`down` for a metric that is better when low, by the words of its name, else `up`."""
    words = metric.rsplit("/", 1)[-1].lower().replace("-", "_").split("_")
    return "down" if DOWN.intersection(words) else "up"


OPPOSITE = {"up": "down", "down": "up"}


def directions(node: Node) -> frozenset[str]:
    """In which direction `node` is better, by what it is made of: `up`, `down`, both, or nothing where it says nothing about quality."""
    if isinstance(node, (Read, Measured)):
        return frozenset((better(node.metric if isinstance(node, Read) else node.number),))
    if isinstance(node, Event):
        return frozenset(("up" if node.what == "happened" else "down",))
    if isinstance(node, Fact):
        return frozenset(("down",)) if node.what in ("seconds", "diverged") else frozenset()
    if isinstance(node, Slope) or (isinstance(node, Reduce) and node.function.startswith("arg")):
        return frozenset()
    found = [directions(child) for child in children(node)]
    turned = [frozenset(OPPOSITE[way] for way in ways) for ways in found]
    if isinstance(node, Apply) and node.function in ("neg", "-", "/"):
        found = [*found[:-1], turned[-1]]
    if isinstance(node, Apply) and _may_turn(node):
        found += turned
    return frozenset[str]().union(*found)


def _may_turn(node: Apply) -> bool:
    """Whether it can be better in either direction, whatever its parts are: an absolute value, a factor or exponent below 0."""
    signed = any(isinstance(part, Apply) and part.function == "neg" for part in node.parts)
    return node.function == "abs" or (node.function in ("*", "/", "**") and signed)
