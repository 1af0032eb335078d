"""The public record of a study: an Optuna study of its name in the same database, for `optuna-dashboard` and other readers of such.

The ledger is the truth and this a copy of it: trial n is cell n, its value the mean over the cell's seeds. What a killed driver left out is
caught up by the next one. Optuna is imported when a record is opened: 0.5 s, and 1 s more to make its tables.
"""

from __future__ import annotations

import datetime as dt
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dlrun.rundir import jsonable
from dlrun.study.ledger import DONE, Ledger
from dlrun.study.owners import is_gone
from dlrun.study.plan import Goal
from dlrun.study.results import means, state_of
from dlrun.study.space import Axis, Space, text_of
from dlrun.study.tables import BUSY_SECONDS, metadata, now, patiently

LEASE_SECONDS = 120.0
TURNS, TURN_SECONDS = 10, 0.3
"""How often tables are tried to be made, and what lies between."""
STATES = {"finished": "COMPLETE", "failed": "FAIL", "pruned": "PRUNED", "running": "RUNNING", "waiting": "WAITING"}
writers = sa.Table(
    "dlrun_writers",
    metadata,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)
"""Which driver writes the record: one at a time, for a trial's number is how many there were before."""


@dataclass(frozen=True)
class Trial:
    """A cell as Optuna sees it: values by axis (`params`), one of Optuna's states, its value, and intermediate means by step."""

    number: int
    params: dict[str, Any]
    state: str
    value: float | None = None
    steps: dict[int, float] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None


def axis_name(axis: Axis) -> str:
    """What an axis is called in the record."""
    return ",".join(axis.keys)


def choices(axis: Axis) -> tuple[Any, ...]:
    """The points of a listed axis as Optuna's categories: its numbers, or texts."""
    if len(axis.keys) == 1:
        values = [point.values[axis.keys[0]] for point in axis.points]
        if all(type(value) in (int, float) and math.isfinite(value) for value in values) and len(set(values)) == len(values):
            return tuple(values)
    return tuple(",".join(text_of(point.values[key]) for key in axis.keys) for point in axis.points)


def placed(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's params by axis: the category or the number; axes that are not there in the cell are left out."""
    found = {}
    for axis in space.axes:
        if any(key not in params for key in axis.keys):
            continue
        if not axis.listed:
            found[axis_name(axis)] = params[axis.keys[0]]
            continue
        mine = {key: params[key] for key in axis.keys}
        places = [number for number, point in enumerate(axis.points) if jsonable(dict(point.values)) == jsonable(mine)]
        if places:
            found[axis_name(axis)] = choices(axis)[places[0]]
    return found


def distribution(axis: Axis) -> Any:
    """The axis as one of Optuna's distributions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.listed:
        return CategoricalDistribution(choices(axis))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def trials_of(space: Space, ledger: Ledger, *, curves: bool = True) -> list[Trial]:
    """Every cell of the ledger as a trial, in order; without `curves` intermediate values only where a sampler reads them."""
    jobs: dict[int, list[dict[str, Any]]] = {}
    for job in ledger.states():
        jobs.setdefault(job["cell"], []).append(job)
    wanted = curves or any(job["state"] == "pruned" for found in jobs.values() for job in found)
    readings = ledger.readings() if wanted else {}
    return [_trial(space, cell, jobs.get(cell["number"], []), readings) for cell in ledger.cells()]


def _trial(space: Space, cell: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], readings: Mapping[int, Any]) -> Trial:
    state = state_of([job["state"] for job in jobs])
    if state in ("running", "waiting") and any(job["state"] == "pruned" for job in jobs):
        state = "running"  # its other seeds are being stopped
    curves = [dict(readings.get(job["id"], ())) for job in jobs]
    steps = means([curve for curve in curves if curve or state not in DONE])
    value = None
    if state == "finished":
        value = math.fsum(job["value"] for job in jobs) / len(jobs)
    elif state == "pruned" and steps:
        value = steps[max(steps)]
    began = min((job["began"] for job in jobs if job["began"]), default=None)
    ended = max((job["ended"] for job in jobs if job["ended"]), default=None)
    return Trial(cell["number"], placed(space, cell["params"]), STATES[state], value, steps, began, ended if state in DONE else None)


def frozen(space: Space, trial: Trial) -> Any:
    """Optuna's own form of a trial."""
    from optuna.trial import TrialState, create_trial

    known = {axis_name(axis): distribution(axis) for axis in space.axes}
    state = TrialState[trial.state]
    value = trial.value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers as categories are meant
        found = create_trial(
            state=state,
            params=trial.params,
            distributions={name: known[name] for name in trial.params},
            intermediate_values=trial.steps,
            value=value,
        )
    found.datetime_start = _date(trial.began) or (None if trial.state == "WAITING" else found.datetime_start)
    found.datetime_complete = _date(trial.ended) or found.datetime_complete
    return found


def direction(goal: Goal) -> Any:
    """The goal's direction in Optuna's words."""
    return "maximize" if goal.direction == "max" else "minimize"


def _date(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds)


class Record:
    """The Optuna study `ledger.study`, kept level with the ledger by one driver (`owner`) at a time."""

    def __init__(self, ledger: Ledger, space: Space, goal: Goal, owner: str) -> None:
        from optuna.logging import ERROR, get_verbosity, set_verbosity

        verbosity = get_verbosity()
        set_verbosity(ERROR)
        try:
            study = self._open(ledger, goal)
        finally:
            set_verbosity(verbosity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental for years; the dashboard labels its axes with it
            study.set_metric_names([goal.metric])
        self.ledger, self.space, self.owner = ledger, space, owner
        self._study: int = study._study_id
        self._ids, self._told = list[int](), list[Trial | None]()

    def _open(self, ledger: Ledger, goal: Goal) -> Any:
        """Optuna's tables and its study. Drivers that make them at the same time get in each other's way: who came second looks again."""
        from optuna import create_study
        from optuna.exceptions import StorageInternalError
        from optuna.storages import RDBStorage

        url = ledger.engine.url.render_as_string(hide_password=False)
        lite = ledger.engine.dialect.name == "sqlite"
        options = {"connect_args": {"timeout": BUSY_SECONDS}} if lite else {}
        turn = 0
        while True:
            try:
                metadata.create_all(ledger.engine, tables=[writers])
                self.storage = RDBStorage(url, engine_kwargs=options)
                if lite:
                    self._hurry()
                return create_study(storage=self.storage, study_name=ledger.study, direction=direction(goal), load_if_exists=True)
            except (sa.exc.DBAPIError, StorageInternalError):
                turn += 1
                if turn == TURNS:
                    raise
                time.sleep(TURN_SECONDS)

    def _hurry(self) -> None:
        """Rows reach the disk when the database finds time: the ledger has them."""

        @sa.event.listens_for(self.storage.engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")

        self.storage.engine.dispose()

    def close(self) -> None:
        """Give the connections back, and the turn to whoever wants it."""
        change = writers.delete().where(writers.c.study == self.ledger.study, writers.c.owner == self.owner)
        patiently(lambda: self._execute(change))
        self.storage.remove_session()
        self.storage.engine.dispose()

    def _execute(self, change: Any) -> int:
        with self.ledger.engine.begin() as connection:
            return int(connection.execute(change).rowcount)

    def mine(self) -> bool:
        """Take or keep the turn to write; False while another living driver has it."""

        def do() -> bool:
            until = now() + LEASE_SECONDS
            with self.ledger.engine.begin() as connection:
                query = sa.select(writers.c.owner, writers.c.until, now().label("time")).where(writers.c.study == self.ledger.study)
                row = connection.execute(query).first()
                if row is None:
                    connection.execute(writers.insert().values(study=self.ledger.study, owner=self.owner, until=until))
                    return True
                if row.owner != self.owner and row.until > row.time and not is_gone(row.owner):
                    return False
                where = (writers.c.study == self.ledger.study, writers.c.owner == row.owner)
                return connection.execute(writers.update().where(*where).values(owner=self.owner, until=until)).rowcount == 1

        return patiently(do)

    def sync(self) -> bool:
        """Bring the record level with the ledger; False where that is another driver's turn. ValueError if trials are not the ledger's."""
        if not self.mine():
            self._ids.clear()
            return False
        trials = trials_of(self.space, self.ledger)
        if not self._ids:
            there = self.storage.get_all_trials(self._study, deepcopy=False)
            self._ids = [trial._trial_id for trial in there]
            self._told = [self._as_told(trial) for trial in there]
        if len(self._ids) > len(trials):
            raise ValueError(f"holds {len(self._ids)} trials and the study has {len(trials)} cells: someone else writes into it")
        renewed = time.monotonic()
        for trial in trials:
            if time.monotonic() - renewed > LEASE_SECONDS / 8:
                renewed = time.monotonic()
                if not self.mine():
                    return False
            self._write(trial)
        return True

    @staticmethod
    def _as_told(trial: Any) -> Trial:
        """What the record holds of a trial, as far as it is compared."""
        return Trial(trial.number, dict(trial.params), trial.state.name, trial.value, dict(trial.intermediate_values))

    def _write(self, trial: Trial) -> None:
        if trial.number >= len(self._ids):
            made = self.storage.create_new_trial(self._study, template_trial=frozen(self.space, trial))
            self._ids.append(made)
            self._told.append(trial)
            return
        told = self._told[trial.number]
        if told and (told.state, told.value, told.steps) == (trial.state, trial.value, trial.steps):
            return
        self._update(self._ids[trial.number], trial, told)
        self._told[trial.number] = trial

    def _update(self, key: int, trial: Trial, told: Trial | None) -> None:
        from optuna.trial import TrialState

        if told and told.state in ("COMPLETE", "FAIL", "PRUNED"):  # tried again, or with more seeds: Optuna has no way back
            with self.storage.engine.begin() as connection:
                connection.execute(sa.text("UPDATE trials SET state = 'RUNNING' WHERE trial_id = :key"), {"key": key})
        elif told and told.state == "WAITING" and trial.state != "WAITING":
            self.storage.set_trial_state_values(key, TrialState.RUNNING)
        for step, value in trial.steps.items():
            if told is None or told.steps.get(step) != value:
                self.storage.set_trial_intermediate_value(key, step, value)
        if trial.state not in ("RUNNING", "WAITING"):
            values = None if trial.value is None else [trial.value]
            self.storage.set_trial_state_values(key, TrialState[trial.state], values)
