"""The runs an experiment needs, and which of them have to be there before which: starts come first, and so does what is tuned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlrun.config.composing import Config
from dlrun.reproduce.sheet import Point, Sheet
from dlrun.study.space import text_of

Outcome = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """One run. `tuning` holds the value that is tried of the tuned axis; it is empty in a run that is judged."""

    experiment: str
    arm: str
    point: Point
    seed: int
    tuning: Point = ()

    def __str__(self) -> str:
        values = " ".join(f"{name}={text_of(value)}" for name, value in (*self.point, *self.tuning))
        return " ".join(filter(None, [self.experiment, self.arm, values, f"seed {self.seed}", "(tuning)" if self.tuning else ""]))


@dataclass(frozen=True)
class Choice:
    """What was tuned: mean of the metric by value, the value taken, and whether it stands at an end of the grid."""

    arm: str
    point: Point
    values: tuple[tuple[Any, float], ...]
    winner: Any
    edge: bool


def judged(sheet: Sheet) -> list[Wanted]:
    """The runs that claims are judged on: seed by seed, so that the first seeds of all arms are there first."""
    return [Wanted(sheet.name, arm, point, seed) for seed in sheet.seeds for point in sheet.points for arm in sheet.arms]


def all_wanted(sheet: Sheet) -> list[Wanted]:
    """Every run, each behind those it needs."""
    found: dict[Wanted, None] = {}

    def add(wanted: Wanted) -> None:
        if wanted in found:
            return
        for other in needs(sheet, wanted):
            add(other)
        found.setdefault(wanted)

    for wanted in judged(sheet):
        add(wanted)
    return list(found)


def needs(sheet: Sheet, wanted: Wanted) -> Iterator[Wanted]:
    """What must be finished before the config of `wanted` is known."""
    if sheet.tune and not wanted.tuning:
        yield from tuning_runs(sheet, wanted.arm, wanted.point)
    above = sheet.start(wanted.arm)
    if above is not None:
        yield Wanted(sheet.name, above, wanted.point, wanted.seed)


def tuning_runs(sheet: Sheet, arm: str, point: Point) -> list[Wanted]:
    """The same grid for every arm."""
    assert sheet.tune is not None
    axis = sheet.tune.axis
    return [Wanted(sheet.name, arm, point, seed, ((axis.name, value),)) for value in axis.values for seed in sheet.tune.seeds]


def choose(sheet: Sheet, arm: str, point: Point, metrics: Mapping[Wanted, Mapping[str, Any]]) -> Choice:
    """The value with the best mean over the tuning seeds; a run without a finite value is the worst, of equals the first wins."""
    tune = sheet.tune
    assert tune is not None
    worst = math.inf if tune.direction == "min" else -math.inf
    found: list[tuple[Any, float]] = []
    for value in tune.axis.values:
        runs = [run for run in tuning_runs(sheet, arm, point) if run.tuning == ((tune.axis.name, value),)]
        seen = [metrics.get(run, {}).get(tune.metric) for run in runs]
        numbers = [float(item) if isinstance(item, (int, float)) and math.isfinite(item) else worst for item in seen]
        found.append((value, sum(numbers) / len(numbers)))
    best = (min if tune.direction == "min" else max)(found, key=lambda pair: pair[1])
    values = tune.axis.values
    return Choice(arm, point, tuple(found), best[0], best[0] in (values[0], values[-1]) and len(values) > 1)


def config_of(sheet: Sheet, wanted: Wanted, chosen: Choice | None, start: str | None) -> Config:
    """The config of a run whose needs are met: with the value tuned for it, and the folder of the run it starts from."""
    assert sheet.tune is None or chosen is not None or wanted.tuning
    tuned: Sequence[tuple[str, Any]] = wanted.tuning or ([(sheet.tune.axis.name, chosen.winner)] if sheet.tune and chosen else [])
    more = [] if start is None else [f"start.from={text_of(start)}"]
    return sheet.compose(wanted.arm, (*wanted.point, *tuned), wanted.seed, *more)
