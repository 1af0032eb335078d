"""The space of a study: axes in Hydra's grammar, from the command line or from a YAML of `conf/sweep`.

`optimizer.lr=1e-4,3e-4`, `choice()`, `range()`, `sort()` and `shuffle()` list points, `interval()` is searched (with `tag(log, ...)` on a
logarithmic scale, with `int(...)` in whole numbers). `seed=...` is no axis: seeds are repetitions inside every cell.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from dlrun.config.places import printable
from dlrun.errors import UsageError

MAX_CELLS = 10_000
MAX_TEXT = 100_000
"""Characters of one axis; a list of 10 000 numbers has fewer."""
TAGS = ("log",)


@dataclass(frozen=True)
class Point:
    """One value of an axis: the overrides that set it, and what they set, by key."""

    words: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A key and its points (several keys, where values come in pairs), or the interval it is searched in.

    `when` names values of other keys, as typed, with one of which alone the axis is there.
    """

    keys: tuple[str, ...]
    points: tuple[Point, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def listed(self) -> bool:
        """Whether the axis is a list of points."""
        return bool(self.points)

    def at(self, value: float) -> Point:
        """The point of an interval where `value` is."""
        plain = round(value) if self.whole else float(value)
        return Point((f"{self.keys[0]}={plain!r}",), {self.keys[0]: plain})

    def ends(self) -> tuple[Point, ...]:
        """The points of a list; the two ends of an interval."""
        return self.points or (self.at(self.low), self.at(self.high))

    def there(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the axis is there beside what other axes were set to."""
        return all(key in chosen and text_of(chosen[key]) in allowed for key, allowed in self.when.items())

    def described(self) -> dict[str, Any]:
        """Plain data, for the record."""
        found: dict[str, Any] = {"keys": list(self.keys)}
        if self.listed:
            found["points"] = [list(point.words) for point in self.points]
        else:
            found |= {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}
        return found | ({"when": {key: list(values) for key, values in self.when.items()}} if self.when else {})


@dataclass(frozen=True)
class Space:
    """`axes`, the overrides that all cells share (`words`), and the seeds of every cell; no seeds: the config's own.

    `places`: the file that an override is written in, where it was not typed.
    """

    words: tuple[str, ...]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_grid(self) -> bool:
        """Whether the space is a list of cells."""
        return all(axis.listed for axis in self.axes)

    def size(self) -> int:
        """Cells of the grid, conditions left aside."""
        return prod(len(axis.points) for axis in self.axes)

    def grid(self) -> Iterator[tuple[Point, ...]]:
        """Every combination, the last axis fastest; cells that are equal because an axis is not there come once."""
        if self.size() > MAX_CELLS:
            raise UsageError(f"{self.size()} cells, at most {MAX_CELLS}: say --trials N to search the space instead")
        seen: set[tuple[str, ...]] = set()
        for combination in itertools.product(*(axis.points for axis in self.axes)):
            points = self.present(combination)
            words = tuple(word for point in points for word in point.words)
            if words not in seen:
                seen.add(words)
                yield points

    def present(self, combination: Sequence[Point]) -> tuple[Point, ...]:
        """The points of those axes that are there in this combination."""
        chosen: dict[str, Any] = {}
        kept = []
        for axis, point in zip(self.axes, combination, strict=True):
            if axis.there(chosen):
                chosen.update(point.values)
                kept.append(point)
        return tuple(kept)

    def corners(self) -> Iterator[tuple[Point, ...]]:
        """Cells that show whether any value can be wrong: every point of each axis beside the first ones of the others."""
        first = [axis.ends()[0] for axis in self.axes]
        seen: set[tuple[str, ...]] = set()
        for number, axis in enumerate(self.axes):
            for point in axis.ends():
                points = self.present(self._beside(first, number, point))
                words = tuple(word for one in points for word in one.words)
                if words not in seen:
                    seen.add(words)
                    yield points

    def _beside(self, first: Sequence[Point], number: int, point: Point) -> list[Point]:
        """`first` with `point` in the place `number`, and those points of other axes that its conditions ask for."""
        chosen = [*first]
        chosen[number] = point
        for other, axis in enumerate(self.axes):
            for key, allowed in self.axes[number].when.items():
                if key in axis.keys and other != number:
                    chosen[other] = next((one for one in axis.ends() if text_of(one.values.get(key)) in allowed), chosen[other])
        return chosen

    def described(self) -> dict[str, Any]:
        """Plain data, for the record."""
        return {"axes": [axis.described() for axis in self.axes]}


def text_of(value: Any) -> str:
    """`value` as it is written in an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if value and all(c.isalnum() or c in "_-./:%+@" for c in value) else quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(text_of(inner) for inner in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{text_of(key)}:{text_of(inner)}" for key, inner in value.items()) + "}"
    return repr(value)


def quoted(text: str) -> str:
    """`text` in single quotes; a backslash stands for itself unless a quote follows it."""
    escaped = re.sub(r"(\\*)'", lambda found: found.group(1) * 2 + "\\'", text)
    end = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * end}'"


def read_words(words: Sequence[str]) -> Space:
    """The space that overrides ask for. Raises UsageError with everything that is wrong."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser, plain, axes, seeds, errors = OverridesParser.create(), list[str](), list[Axis](), list[list[int]](), list[str]()
    for word in words:
        try:
            axis = read_axis(parser, word)
            if single := re.fullmatch(r"\+{0,2}seed=(\d{1,18})", word):
                seeds.append([int(single[1])])
            elif axis is None:
                plain.append(word)
            elif axis.keys == ("seed",):
                seeds.append(seeds_of(axis))
            else:
                axes.append(axis)
        except UsageError as error:
            errors += [f"command line: {printable(word, 120)}: {line}" for line in error.lines]
    errors += given_twice(axes, plain) + ["seed: given twice: keep one, e.g. seed=range(5) or seed=3,7"] * (len(seeds) > 1)
    if errors:
        raise UsageError(errors)
    return Space(tuple(plain), tuple(axes), tuple(seeds[0] if seeds else ()))


def read_axis(parser: Any, word: str) -> Axis | None:
    """The axis that one override names; None where it has one value, which `compose` will read and judge."""
    if len(word) > MAX_TEXT:
        raise UsageError(f"longer than {MAX_TEXT} characters")
    try:
        override = parser.parse_override(word)
        value = override.value()
    except Exception:  # `compose` says in its own words what cannot be read
        return None
    if not override.is_sweep_override():
        return None
    key = word.partition("=")[0].strip()
    if key.startswith("~"):
        raise UsageError("a part can be taken away, not swept: list it with null or in an axis of arms")
    key = key.lstrip("+")
    if override.is_choice_sweep() and not hasattr(value, "tags"):
        raise UsageError("glob() lists no values here: name them, a,b,c")
    if strange := set(value.tags) - set(TAGS):
        raise UsageError(f"tag {', '.join(sorted(map(str, strange)))}: expected log")
    if override.is_interval_sweep():
        return _interval(key, value)
    if value.tags:
        raise UsageError("tag(log, ...) goes with interval(); a list has the points it has")
    points = [Point((f"{key}={text}",), {key: parser.parse_override(f"{key}={text}").value()}) for text in override.sweep_string_iterator()]
    if not points:
        raise UsageError("has no value")
    if len({point.words for point in points}) < len(points):
        raise UsageError("the same value twice: repetitions are seeds, seed=range(5)")
    return Axis((key,), tuple(points))


def _interval(key: str, value: Any) -> Axis:
    low, high = value.start, value.end
    log, whole = "log" in value.tags, isinstance(low, int) and isinstance(high, int)
    if not low < high:
        raise UsageError(f"an interval from {low} to {high}: expected the smaller end first")
    if log and low <= 0:
        raise UsageError(f"a logarithmic interval begins above 0, found {low}")
    if key == "seed":
        raise UsageError("seeds are repetitions, not searched: seed=range(5)")
    return Axis((key,), low=low, high=high, log=log, whole=whole)


def seeds_of(axis: Axis) -> list[int]:
    """The seeds that `seed=...` lists."""
    values = [point.values["seed"] for point in axis.points]
    if wrong := [value for value in values if type(value) is not int or value < 0]:
        raise UsageError(f"expected whole numbers from 0, found {wrong[0]!r}")
    return values


def given_twice(axes: Sequence[Axis], plain: Sequence[str]) -> list[str]:
    """Keys that two axes set, or an axis and a single value."""
    keys = [key for axis in axes for key in axis.keys]
    single = {word.partition("=")[0].strip().lstrip("+") for word in plain}
    twice = sorted({key for key in keys if keys.count(key) > 1} | (set(keys) & single))
    return [f"{printable(key, 80)}: given twice: keep one" for key in twice]
