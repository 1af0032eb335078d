"""Runs and seeds made up for tests of claims, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlrun.claims.evidence import Point, RunEvidence, SeedEvidence, Series
from dlrun.claims.judge import Judged, judge
from dlrun.claims.language import parse
from dlrun.claims.names import Names

NAMES = Names(("a", "b"), {}, ("early", "late"), ("barrier",))
GRID = Names(("a", "b"), {"width": (32, 64, 128), "lr": (0.01, 0.1, 1.0, 10.0)}, ("early", "late"), ("barrier",))


def series(values: Sequence[float], every: int = 10) -> Series:
    """Values at steps 0, every, 2 every ..."""
    return Series(tuple(range(0, every * len(values), every)), tuple(map(float, values)))


def run(metrics: Mapping[str, Sequence[float]] | None = None, claims: Sequence[str] = (), **others: Any) -> RunEvidence:
    """A run that finished after 100 steps."""
    found = RunEvidence("run", "finished", 100, 100, {name: series(of) for name, of in (metrics or {}).items()}, {}, 2.5, 1000, False, ())
    return replace(found, claims=tuple(claims), **others)


DIVERGED = {"status": "failed", "diverged": True, "step": 40, "reason": "non-finite loss"}


def seed(number: int = 0, measures: Mapping[str, float] | None = None, **arms: RunEvidence | None) -> SeedEvidence:
    """A seed without axes."""
    return SeedEvidence(
        number, {}, {name: {(): found} for name, found in arms.items()}, {"barrier": {(): measures}} if measures is not None else {}
    )


def grid(axes: Mapping[str, tuple[Any, ...]], make: Any, number: int = 0) -> SeedEvidence:
    """A seed whose arm `a` has the run `make(value of each axis)` at every point."""
    points: list[Point] = [()]
    for axis, values in axes.items():
        points = [(*point, (axis, value)) for point in points for value in values]
    return SeedEvidence(number, axes, {"a": {point: make(*(value for _, value in point)) for point in points}})


def verdict(text: str, seeds: Sequence[SeedEvidence], names: Names = NAMES) -> Judged:
    """The judgement on one claim, which every run is given as one it was made for."""
    told = [
        replace(
            each,
            arms={arm: {point: found and replace(found, claims=(text,)) for point, found in at.items()} for arm, at in each.arms.items()},
        )
        for each in seeds
    ]
    return judge([parse(text, names)], told)[0]


def margins(values: Sequence[float], text: str = 'a["val/x"].final >= 0') -> Judged:
    """The judgement on seeds with these margins; None stands for an event that did not happen, which the claim reads as well."""
    return verdict(text, [seed(number, a=run({"val/x": [value]})) for number, value in enumerate(values)])


def steps(*late: int | None) -> list[SeedEvidence]:
    """Seeds whose arm `a` saw the event `late` at these steps, None: never."""
    return [seed(number, a=run(events={} if step is None else {"late": step})) for number, step in enumerate(late)]
