"""Leads a study through the runs of experiments: a run is frozen and entered as soon as what it needs is done, and never before.

Keeps what it knows of each run in `state`; killed at any moment and begun anew, the run directories say the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dlrun.claims.forms import WHOLE
from dlrun.config.composing import Config
from dlrun.config.dump import dump
from dlrun.config.reach import seals
from dlrun.errors import UsageError
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.there import Found, Store, Today, fingerprint, new_place
from dlrun.reproduce.wanted import Choice, Wanted, all_wanted, choose, config_of, needs
from dlrun.rundir import read_json
from dlrun.sinks.console import Console
from dlrun.study.backend import Backend
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Cell, Goal, Job
from dlrun.study.space import text_of

PREFIX = "reproduce-"
Rows = Sequence[Mapping[str, Any]]


@dataclass
class State:
    """What is known of a run: where it lies (once it was found, or entered), whether it is done, and why it never will be."""

    path: Path | None = None
    done: bool = False
    lost: str | None = None


class Runs:
    """The runs of one or several experiments and what is known of each. `fresh`: none that lies there already counts.

    `ready` are configs of runs that can begin, `groups` what the seeds of each cell share, by its number; `trained` are the runs of this
    call, `busy` the seconds they took by experiment, one worker's each; `folder` and `workers` are the study's that trains them.
    """

    def __init__(self, sheets: Sequence[Sheet], root: Path, *, fresh: bool = False) -> None:
        self.sheets = {sheet.name: sheet for sheet in sheets}
        self.root, self.fresh = root.absolute(), fresh
        self.state = {wanted: State() for sheet in sheets for wanted in all_wanted(sheet)}
        self.groups = list(dict.fromkeys(map(_group, self.state)))
        self._cells = {group: number for number, group in enumerate(self.groups)}
        self.metrics: dict[Wanted, Mapping[str, Any]] = {}
        self.choices: dict[tuple[str, str, Any], Choice] = {}
        self.lines: list[str] = []
        self.trained: list[Wanted] = []
        self.busy = dict.fromkeys(self.sheets, 0.0)
        self.folder, self.workers = self.root, 1
        self._stores = {sheet.name: Store(self.root, sheet.name, empty=fresh) for sheet in sheets}
        self._today, self._taken = Today(), set[Path]()
        self.ready: dict[Wanted, Config] = {}

    # -- what is there

    def look(self) -> None:
        """Find what is there, as far as configs are known; what is not stays to be trained."""
        moved = True
        while moved:
            moved = False
            for wanted, state in self.state.items():
                if state.done or state.lost or wanted in self.ready or not self._met(wanted):
                    continue
                moved = True
                if self._blocked(wanted):
                    continue
                config = self._config(wanted)
                found = self._there(wanted, config)
                if found is None:
                    self.ready[wanted] = config
                else:
                    self._finish(wanted, found.path)

    def _met(self, wanted: Wanted) -> bool:
        sheet = self.sheets[wanted.experiment]
        return all(self.state[other].done or self.state[other].lost for other in needs(sheet, wanted))

    def _blocked(self, wanted: Wanted) -> bool:
        """Whether what it starts from will never be there; runs of a tuning that failed count as the worst."""
        sheet = self.sheets[wanted.experiment]
        gone = next((other for other in needs(sheet, wanted) if not other.tuning and self.state[other].lost), None)
        if gone is not None:
            self.state[wanted].lost = f"it starts from {gone}, which is not there"
        return gone is not None

    def _config(self, wanted: Wanted) -> Config:
        sheet = self.sheets[wanted.experiment]
        return config_of(sheet, wanted, self._choice(wanted), self._start(wanted))

    def _choice(self, wanted: Wanted) -> Choice | None:
        sheet = self.sheets[wanted.experiment]
        if sheet.tune is None or wanted.tuning:
            return None
        key = (wanted.experiment, wanted.arm, wanted.point)
        if key not in self.choices:
            self.choices[key] = choose(sheet, wanted.arm, wanted.point, self.metrics)
        return self.choices[key]

    def _start(self, wanted: Wanted) -> str | None:
        above = self.sheets[wanted.experiment].start(wanted.arm)
        if above is None:
            return None
        path = self.state[Wanted(wanted.experiment, above, wanted.point, wanted.seed)].path
        assert path is not None
        return str(path)

    def _there(self, wanted: Wanted, config: Config) -> Found | None:
        for found in self._stores[wanted.experiment].finished(config, self._start(wanted)):
            before, now = fingerprint(found.path), self._today(config)
            if before == now:
                return found
            self.lines.append(
                f"{found.path}: trained on other data than today's (fingerprint {str(before)[:16]}, now {now[:16]}): run again"
            )
        return None

    def _finish(self, wanted: Wanted, path: Path) -> None:
        state = self.state[wanted]
        state.path, state.done = path, True
        if wanted.tuning:
            self.metrics[wanted] = read_json(path / "summary.json").get("metrics") or {}

    # -- what is to be trained

    @property
    def missing(self) -> list[Wanted]:
        """What is neither done nor given up."""
        return [wanted for wanted, state in self.state.items() if not state.done and not state.lost]

    def cells_to_enter(self) -> list[Cell]:
        """Cells with a job for every run that can begin now and was not entered."""
        found: dict[int, list[Job]] = {}
        for wanted, config in self.ready.items():
            state = self.state[wanted]
            if state.path is not None:
                continue
            text = dump(config.saved)
            begun = self._stores[wanted.experiment].begun(config)
            state.path = begun.path if begun else new_place(self.root, wanted.experiment, name_of(wanted), self._taken)
            place = os.path.relpath(state.path, self.folder)
            number = self._cells[_group(wanted)]
            sums = sha256(text.encode()).hexdigest()
            found.setdefault(number, []).append(Job(number, wanted.seed, text, sums, seals(config.paths) or {}, place))
        kinds = {number: "tune" if self.groups[number][-1] else "arm" for number in found}
        return [Cell(number, params_of(self.groups[number]), tuple(jobs), kinds[number]) for number, jobs in found.items()]

    def hear(self, row: Mapping[str, Any], job: Callable[[int], Mapping[str, Any]]) -> bool:
        """Take what the ledger says of a job; True where that is news. `job` gives its whole row."""
        wanted = self._wanted(row)
        state = self.state[wanted]
        if state.done or state.lost or row["state"] not in ("finished", "failed"):
            return False
        state.path = Path(os.path.normpath(self.folder / row["place"]))
        self.ready.pop(wanted, None)
        self.trained.append(wanted)
        self.busy[wanted.experiment] += max(0.0, (row["ended"] or 0.0) - (row["began"] or 0.0))
        if row["state"] == "finished" or row["failure"] == "non_finite":
            self._stores[wanted.experiment].add(state.path)  # a value that was tuned and taken is not trained twice
            self._finish(wanted, state.path)
        else:
            state.lost = f"{row['failure']}: {job(row['id'])['reason']}"
        return True

    def _wanted(self, row: Mapping[str, Any]) -> Wanted:
        experiment, arm, point, tuning = self.groups[row["cell"]]
        return Wanted(experiment, arm, point, row["seed"], tuning)


class Lead:
    """The leader of the study that trains what `runs` lacks."""

    goal: Goal | None = None
    every = 0
    problem: str | None = None

    def __init__(self, runs: Runs, told: Callable[[str], None]) -> None:
        self.runs, self.told = runs, told
        self.planned = len(runs.missing)
        self._untold = {wanted.experiment for wanted in runs.missing}

    @property
    def stays(self) -> bool:
        """Idle workers stay: a run may be waited for by others."""
        return True

    @property
    def goes_on(self) -> bool:
        """Whether something is still to be trained."""
        return bool(self.runs.missing)

    def settle(self, ledger: Ledger) -> Goal | None:
        """Runs are not compared by a goal."""
        return None

    def begin(self, ledger: Ledger, folder: Path, pool: Backend, console: Console, first: Callable[[Cell], bool]) -> None:
        """Enter what can begin."""
        self.ledger, self.first = ledger, first
        self.runs.folder, self.runs.workers = folder.absolute(), pool.count
        self._enter()

    def _enter(self) -> None:
        self.runs.look()
        cells = self.runs.cells_to_enter()
        if cells:
            self.ledger.add(cells, self.first)

    def tick(self, rows: Rows, stopped: bool) -> bool:
        """Hear what is done, enter what waited for it, and say which experiment is complete."""
        news = [self.runs.hear(row, lambda job: self.ledger.jobs(job)[0]) for row in rows]
        if any(news):
            self._enter()
        missing = self.runs.missing
        whole = self._untold - {wanted.experiment for wanted in missing}
        self._untold -= whole
        for name in sorted(whole) if not stopped else ():
            self.told(name)
        return not stopped and bool(missing)

    def remarks(self, found: Mapping[str, Any]) -> list[str]:
        """Nothing below a table: what came out is the verdict's to say."""
        return []


def _group(wanted: Wanted) -> tuple[str, str, Any, Any]:
    """What the seeds of a cell share."""
    return wanted.experiment, wanted.arm, wanted.point, wanted.tuning


def params_of(group: tuple[str, str, Any, Any]) -> dict[str, Any]:
    """A cell as the view names it."""
    experiment, arm, point, tuning = group
    return {"experiment": experiment, **({} if arm == WHOLE else {"arm": arm}), **dict(point), **dict(tuning)}


def name_of(wanted: Wanted) -> str:
    """`s0-decay`, `s0-plain-width=32`."""
    values = [f"{name}{text_of(value)}" for name, value in (*wanted.point, *wanted.tuning)]
    return "-".join([f"s{wanted.seed}", *([] if wanted.arm == WHOLE else [wanted.arm]), *values])


def study_name(runs: Runs) -> str:
    """A name that equal commands share while equal runs are missing, and new ones do not.

    Configs are part of it: what a call with other overrides, or from before a change of the experiment, left in its ledger are other runs.
    """
    configs = [*(sheet.base for sheet in runs.sheets.values()), *runs.ready.values()]
    left = "\n".join([*map(str, runs.missing), *(dump(config.saved) for config in configs), str(time.time_ns()) if runs.fresh else ""])
    return f"{PREFIX}{sha256(left.encode()).hexdigest()[:12]}"


def check_all(runs: Runs) -> None:
    """Compose what was not composed to look for it, with any value where one is still to be tuned. Raises UsageError."""
    errors: dict[str, None] = {}
    for wanted in (each for each in runs.missing if each not in runs.ready):
        sheet = runs.sheets[wanted.experiment]
        guess = list(wanted.tuning) or ([(sheet.tune.axis.name, sheet.tune.axis.values[0])] if sheet.tune else [])
        try:
            sheet.compose(wanted.arm, (*wanted.point, *guess), wanted.seed)
        except UsageError as error:
            errors.update(dict.fromkeys(error.lines))
    if errors:
        raise UsageError(list(errors))
