"""Curves over seeds: their mean and the band they span, what of them diverged, and where events stand. Imports no matplotlib."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlrun.claims.evidence import Point, RunEvidence, SeedEvidence

Array = np.ndarray[Any, Any]
BINS = 160
"""A metric of every training batch is drawn as its means over this many stretches of the axis; what has fewer values is drawn as it is."""


@dataclass(frozen=True)
class Alone:
    """A seed's curve that is in no mean, for it diverged: its finite part."""

    seed: int
    steps: Array
    values: Array


@dataclass(frozen=True)
class Band:
    """An arm's curve: mean, lowest and highest over `seeds` seeds, at the steps that all of these have; `binned` where it was averaged."""

    steps: Array
    mean: Array
    low: Array
    high: Array
    seeds: int
    alone: tuple[Alone, ...] = ()
    binned: bool = False

    @property
    def values(self) -> list[float]:
        """Everything that is drawn."""
        return [float(value) for part in (self.low, self.high, *(one.values for one in self.alone)) for value in part]

    @property
    def last(self) -> float:
        """The last step."""
        return max((float(steps[-1]) for steps in (self.steps, *(one.steps for one in self.alone)) if len(steps)), default=0.0)


def band(evidence: Sequence[SeedEvidence], arm: str, point: Point, metric: str, log: bool, start: int = 0) -> Band:
    """Of one arm at one point, from step `start` on; `log` leaves out step 0, and averages over equal stretches of log(step)."""
    whole: list[tuple[Array, Array]] = []
    alone: list[Alone] = []
    for seed in evidence:
        run = seed.arms.get(arm, {}).get(point)
        if run is None or metric not in run.series:
            continue
        steps, values = _finite(run, metric, max(start, int(log)))
        if run.diverged:
            alone.append(Alone(seed.seed, steps, values))
        elif len(steps):
            whole.append((steps, values))
    longest = max((len(steps) for steps, _ in whole), default=0)
    found = [_binned(steps, values, log) for steps, values in whole] if longest > 2 * BINS else whole
    return Band(*_over_seeds(found), len(found), tuple(alone), longest > 2 * BINS)


def _finite(run: RunEvidence, metric: str, start: int) -> tuple[Array, Array]:
    series = run.series[metric]
    steps, values = np.array(series.steps, dtype=float), np.array(series.values, dtype=float)
    kept = np.isfinite(values) & (steps >= start)
    return steps[kept], values[kept]


def _binned(steps: Array, values: Array, log: bool) -> tuple[Array, Array]:
    """Means over equal stretches; seeds that log the same steps get the same ones."""
    places = np.log(steps) if log else steps
    span = places[-1] - places[0] or 1.0
    bins = np.minimum((BINS * (places - places[0]) / span).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    kept = counts > 0
    sums = [np.bincount(bins, weights=part, minlength=BINS)[kept] / counts[kept] for part in (steps, values)]
    return sums[0], sums[1]


def _over_seeds(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array, Array, Array]:
    """Steps that all have, mean, lowest, highest."""
    if not curves:
        return (np.zeros(0),) * 4
    shared = curves[0][0]
    for steps, _ in curves[1:]:
        shared = np.intersect1d(shared, steps)
    rows = np.stack([values[np.isin(steps, shared)] for steps, values in curves])
    return shared, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0)


@dataclass(frozen=True)
class Mark:
    """Where an event stands in an arm: median, first and last step over the seeds in which it happened, of `seeds` that ran."""

    event: str
    arm: str
    steps: tuple[int, ...]
    seeds: int

    @property
    def median(self) -> float:
        """The middle seed's step."""
        return statistics.median(self.steps)

    @property
    def label(self) -> str:
        """Its name, and in how many seeds it happened where not in all."""
        return self.event + (f" ({len(self.steps)} of {self.seeds})" if len(self.steps) < self.seeds else "")


@dataclass
class Events:
    """The events of an experiment: those that can be marked, and (event, arm) of those that never happened."""

    marks: list[Mark] = field(default_factory=list)
    never: list[tuple[str, str]] = field(default_factory=list)


def events_of(evidence: Sequence[SeedEvidence], names: Sequence[str], arms: Sequence[str]) -> Events:
    """Every event in every arm, points of axes taken together."""
    found = Events()
    for name in names:
        for arm in arms:
            runs = [run for seed in evidence for run in seed.arms.get(arm, {}).values() if run is not None]
            steps = tuple(run.events[name] for run in runs if name in run.events)
            if steps:
                found.marks.append(Mark(name, arm, steps, len(runs)))
            elif runs:
                found.never.append((name, arm))
    return found


def spread_of(values: Sequence[float]) -> tuple[list[float], int]:
    """The values that are numbers, and how many are none."""
    finite = [value for value in values if math.isfinite(value)]
    return finite, len(values) - len(finite)
