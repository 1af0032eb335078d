"""Where the next cell of a searched space lies: random, quasi-random, or as a sampler of Optuna suggests from what is known so far.

Nothing is remembered between two questions: a suggestion follows from what was asked, the cell's number and the results in the ledger. So
one worker gives the same series every time, a driver that died takes nothing with it, and several may ask at once: the first to enter a
number wins.

Source: Sobol 1967, "On the distribution of points in a cube", scrambled by Owen 1998 (`qmc`); Bergstra et al. 2011, "Algorithms for
Hyper-Parameter Optimization", section 4 (`tpe`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from random import Random
from typing import Any

from dlrun.rundir import jsonable
from dlrun.study.plan import Goal
from dlrun.study.record import Trial, axis_name, choices, direction, distribution, frozen, placed
from dlrun.study.space import MAX_CELLS, Axis, Point, Space

Points = tuple[Point, ...]


def seeded(*what: object) -> int:
    """A seed that depends on all of `what`."""
    return int.from_bytes(sha256(repr(what).encode()).digest()[:4], "little")


def at(axis: Axis, share: float) -> Point:
    """The point of an axis at `share` in [0, 1) of its length: of the list, of the interval, of its logarithm."""
    if axis.listed:
        return axis.points[min(int(share * len(axis.points)), len(axis.points) - 1)]
    wider = 0.5 if axis.whole else 0.0  # every whole number gets the same share, the ends too
    low, high = axis.low - wider, axis.high + wider
    value = math.exp(math.log(low) + share * (math.log(high) - math.log(low))) if axis.log else low + share * (high - low)
    return axis.at(min(max(value, axis.low), axis.high))


class Search:
    """Suggests cells of `space` by the method `name`; `identity` is the sum of what was asked."""

    def __init__(self, space: Space, name: str, identity: str, goal: Goal) -> None:
        self.space, self.name, self.identity, self.goal = space, name, identity, goal

    def next(self, number: int, trials: Sequence[Trial]) -> Points | None:
        """The points of cell `number`, `trials` being all before it; None where every cell of a listed space has been tried."""
        if self.name == "random":
            return self._random(number, trials)
        points = self._qmc(number) if self.name == "qmc" else self._suggested(number, trials)
        if self._listed and self._words(points) in self._tried(trials):
            return self._random(number, trials)  # a run again would tell nothing new
        return points

    def _random(self, number: int, trials: Sequence[Trial]) -> Points | None:
        if self._listed:
            tried = self._tried(trials)
            return next((points for points in self._shuffled if self._words(points) not in tried), None)
        draw = Random(seeded(self.identity, number, "random"))
        return self.space.present([at(axis, draw.random()) for axis in self.space.axes])

    def _qmc(self, number: int) -> Points:
        from scipy.stats.qmc import Sobol

        engine = Sobol(max(1, len(self.space.axes)), scramble=True, rng=seeded(self.identity, "qmc"))
        if number:
            engine.fast_forward(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how many points there will be is the user's choice
            shares = engine.random(1)[0]
        return self.space.present([at(axis, float(share)) for axis, share in zip(self.space.axes, shares, strict=False)])

    def _suggested(self, number: int, trials: Sequence[Trial]) -> Points:
        """What Optuna's sampler says to the results so far; cells that still run count as such."""
        import optuna

        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numbers as categories are meant; what is experimental is tested here
                study = optuna.create_study(sampler=sampler(self.name, seeded(self.identity, number)), direction=direction(self.goal))
                study.add_trials([frozen(self.space, _begun(trial)) for trial in trials])
                return self.space.present(list(self._walk(study.ask())))
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _walk(self, trial: Any) -> Iterator[Point]:
        """One point an axis; of one that is not there in this cell any, for `present` leaves it out."""
        chosen: dict[str, Any] = {}
        for axis in self.space.axes:
            if not axis.there(chosen):
                yield axis.ends()[0]
                continue
            found = trial._suggest(axis_name(axis), distribution(axis))
            point = axis.points[choices(axis).index(found)] if axis.listed else axis.at(found)
            chosen.update(point.values)
            yield point

    # -- spaces of which every cell can be listed

    @cached_property
    def _listed(self) -> bool:
        return self.space.is_grid and self.space.size() <= MAX_CELLS

    @cached_property
    def _shuffled(self) -> list[Points]:
        cells = list(self.space.grid())
        Random(seeded(self.identity, "order")).shuffle(cells)
        return cells

    def _words(self, points: Points) -> str:
        """What tells a cell from others."""
        return repr(placed(self.space, {key: jsonable(value) for point in points for key, value in point.values.items()}))

    @staticmethod
    def _tried(trials: Sequence[Trial]) -> set[str]:
        return {repr(trial.params) for trial in trials}


def _begun(trial: Trial) -> Trial:
    """A cell that waits is as good as running: it will be run."""
    return Trial(trial.number, trial.params, "RUNNING", None, trial.steps) if trial.state == "WAITING" else trial


def sampler(name: str, seed: int) -> Any:
    """One of Optuna's samplers. They are made anew for every question, so only those that keep nothing to themselves."""
    from optuna import samplers

    if name == "gp":
        return samplers.GPSampler(seed=seed)
    return samplers.TPESampler(seed=seed, constant_liar=True)
