"""What an experiment asks for: its arms, axes and seeds, what is tuned, and what is judged. Read from its composed config.

Imports no torch: what a command will run is told before anything is loaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlrun.claims.forms import WHOLE
from dlrun.claims.tree import better
from dlrun.config.composing import Config, Nodes, compose
from dlrun.errors import UsageError
from dlrun.study.space import text_of

Point = tuple[tuple[str, Any], ...]
MAX_RUNS = 10_000


@dataclass(frozen=True)
class Axis:
    """A named axis: the keys that move together, and their values at each of its points. A point goes by the first key's value."""

    name: str
    keys: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def values(self) -> tuple[Any, ...]:
        """What its points go by."""
        return tuple(row[0] for row in self.rows)

    def words(self, value: Any) -> tuple[str, ...]:
        """The overrides at a point."""
        row = self.rows[self.values.index(value)]
        return tuple(f"{key}={text_of(item)}" for key, item in zip(self.keys, row))


@dataclass(frozen=True)
class Tune:
    """One axis whose value is picked for every arm (and point of the other axes): the best mean of `metric` over `seeds`."""

    axis: Axis
    metric: str
    direction: str
    seeds: tuple[int, ...]


@dataclass
class Sheet:
    """One experiment as it is asked for. `base` is its config without an arm; `words` what was typed beside its name."""

    name: str
    base: Config
    arms: tuple[str, ...]
    axes: tuple[Axis, ...]
    tune: Tune | None
    seeds: tuple[int, ...]
    words: tuple[str, ...] = ()
    config_dir: str | None = None
    memory: dict[Any, Nodes] = field(default_factory=dict)
    _starts: dict[str, str | None] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The config without an arm, resolved."""
        return self.base.resolved

    @property
    def figure(self) -> dict[str, Any]:
        """What its figure is to show, {} where nothing is said."""
        return self.config.get("figure") or {}

    @property
    def points(self) -> list[Point]:
        """Every combination of the axes; one empty one where there are none."""
        return [tuple(zip((axis.name for axis in self.axes), values)) for values in itertools.product(*(axis.values for axis in self.axes))]

    def compose(self, arm: str, point: Point, seed: int, *more: str) -> Config:
        """The config of a run. Raises UsageError."""
        axes = {axis.name: axis for axis in (*self.axes, *([self.tune.axis] if self.tune else []))}
        words = [f"experiment={self.name}", *([] if arm == WHOLE else [f"arm={arm}"])]
        words += [word for name, value in point for word in axes[name].words(value)]
        return compose([*words, *self.words, f"seed={seed}", *more], config_dir=self.config_dir, memory=self.memory)

    def start(self, arm: str) -> str | None:
        """The arm whose runs those of `arm` start from."""
        if arm not in self._starts:
            start = self.compose(arm, self._any_point(), self.seeds[0]).resolved.get("start") or {}
            self._starts[arm] = start.get("from") if start.get("from") in self.arms else None
        return self._starts[arm]

    def _any_point(self) -> Point:
        first = ((self.tune.axis.name, self.tune.axis.values[0]),) if self.tune else ()
        return (*self.points[0], *first)


def read_sheet(name: str, words: Sequence[str] = (), seeds: int | None = None, config_dir: str | None = None) -> Sheet:
    """The sheet of experiment `name`; `seeds` is how many seeds instead of its own. Raises UsageError with everything that is wrong."""
    memory: dict[Any, Nodes] = {}
    config = compose([f"experiment={name}", *words], config_dir=config_dir, memory=memory)
    tree = config.resolved
    axes = {axis: read_axis(axis, values) for axis, values in (tree.get("axes") or {}).items()}
    tune = read_tune(tree["tune"], axes) if tree.get("tune") else None
    rest = tuple(axis for axis in axes.values() if tune is None or axis is not tune.axis)
    arms = tuple(tree.get("arms") or {}) or (WHOLE,)
    sheet = Sheet(name, config, arms, rest, tune, seeds_of(tree["seeds"], seeds), tuple(words), config_dir, memory)
    if not tree.get("claims"):
        raise UsageError(f"experiment {name} claims nothing: there is nothing to judge; train it with: dlrun train experiment={name}")
    if (count := len(arms) * len(sheet.points) * len(sheet.seeds)) > MAX_RUNS:
        raise UsageError(f"experiment {name}: {count} runs, at most {MAX_RUNS}: fewer axis values or seeds")
    if tune and (both := set(tune.seeds) & set(sheet.seeds)):
        raise UsageError(f"experiment {name}: seed {min(both)} both tunes and judges: take others in tune.seeds")
    check_order(sheet)
    return sheet


def read_axis(name: str, values: Mapping[str, Any]) -> Axis:
    """`{model.width: [32, 64]}`; several keys with lists of equal length move together. Other forms were refused by `claims.forms`."""
    return Axis(name, tuple(map(str, values)), tuple(zip(*values.values())))


def read_tune(tune: Mapping[str, Any], axes: Mapping[str, Axis]) -> Tune:
    """`{axis: lr, by: val/loss, seeds: [100, 101]}`; `by` may end in `:min` or `:max`. Other forms were refused by `claims.forms`."""
    metric, _, direction = str(tune.get("by") or "val/loss").partition(":")
    direction = direction or {"down": "min", "up": "max"}[better(metric)]
    return Tune(axes[tune["axis"]], metric, direction, seeds_of(tune.get("seeds") or [100, 101, 102]))


def seeds_of(found: Any, count: int | None = None) -> tuple[int, ...]:
    """`3` is 0, 1, 2; a list is itself. `count` cuts it, or goes on with the numbers after it."""
    seeds = tuple(range(found)) if isinstance(found, int) else tuple(found)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds: {list(seeds)}: expected a number, or a list of seeds, each once")
    if count is None:
        return seeds
    return (*seeds, *(number for number in range(max(seeds) + 1, max(seeds) + 1 + count)))[:count]


def check_order(sheet: Sheet) -> None:
    """UsageError where arms start from each other in a circle."""
    for arm in sheet.arms:
        seen = [arm]
        while (above := sheet.start(seen[-1])) is not None:
            if above in seen:
                raise UsageError(f"experiment {sheet.name}: arms start from each other in a circle: {' <- '.join([*seen, above])}")
            seen.append(above)
