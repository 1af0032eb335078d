"""Enters the cells of a searched space as they are wanted: as many wait as workers are idle, for a later question knows more results.

A cell is composed, validated and frozen when it is asked for. Values that do not go together make a failed cell of class `config`; the
study goes on, unless the first ones it asks for are all of that kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dlrun.errors import UsageError
from dlrun.rundir import jsonable
from dlrun.study.freezing import Freezer
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Cell
from dlrun.study.record import trials_of
from dlrun.study.search import Points, Search
from dlrun.study.tables import cells, jobs, now, patiently

MOST_INVALID = (2, 10)
"""Cells in a row whose values do not go together after which no more are asked for: before any could be run, and later."""


class Asker:
    """Keeps idle workers supplied until `trials` cells have been entered, by whichever driver."""

    def __init__(self, search: Search, freezer: Freezer, ledger: Ledger, trials: int | None, say: Callable[[str, str], None]) -> None:
        self.search, self.freezer, self.ledger, self.trials, self.say = search, freezer, ledger, trials, say
        self.over = False
        self.problem: str | None = None
        self._valid = self._invalid = 0

    def top_up(self, idle: int, first: Callable[[Cell], bool]) -> bool:
        """Enter cells while fewer jobs wait than workers are idle; True where some were. `over` tells that there will be no more."""
        entered = False
        while not self.over and idle > sum(row["state"] == "waiting" for row in self.ledger.states()):
            entered = self._ask(first) > 0 or entered
        return entered

    def _ask(self, first: Callable[[Cell], bool]) -> int:
        """Ask for one cell and enter it; how many jobs that makes: none where another driver was faster."""
        trials = trials_of(self.search.space, self.ledger, curves=False)
        number = len(trials)
        points = self.search.next(number, trials) if self.trials is None or number < self.trials else None
        if points is None:
            self.over = True
            if self.trials is None or number < self.trials:
                self.say(f"all {number} cells of this space have been tried", "")
            return 0
        try:
            cell = self.freezer.cell(number, points, self.search.name)
        except UsageError as error:
            self._refused(number, points, error)
            return 0
        self._valid, self._invalid = self._valid + 1, 0
        return self.ledger.add([cell], first)

    def _refused(self, number: int, points: Points, error: UsageError) -> None:
        params = {key: value for point in points for key, value in point.values.items()}
        refuse(self.ledger, number, params, self.freezer.seeds, error.lines, self.search.name)
        self._invalid += 1
        if self._invalid >= MOST_INVALID[self._valid > 0]:
            self.over = True
            self.problem = (
                f"{self._invalid} cells in a row cannot be built ({error.lines[0]}): narrow the space, or write conditions (when:)"
            )


def refuse(ledger: Ledger, number: int, params: Mapping[str, Any], seeds: Sequence[int], lines: Sequence[str], source: str) -> bool:
    """Enter a cell whose values do not go together, failed from the start. False where the number is taken."""
    blank = {"study": ledger.study, "cell": number, "text": "", "sha256": "", "seals": "{}", "place": "", "checked": False, "attempt": 0}
    said = [line.removeprefix("command line: ") for line in lines]
    why = {"state": "failed", "failure": "config", "reason": said[0][:500], "log": "\n".join(said[1:]), "signature": ""}

    def do() -> bool:
        with ledger.engine.begin() as connection:
            if connection.execute(sa.select(cells.c.number).where(cells.c.study == ledger.study, cells.c.number == number)).first():
                return False
            row = {"study": ledger.study, "number": number, "params": json.dumps(jsonable(dict(params))), "source": source}
            connection.execute(cells.insert().values(**row))
            turn = connection.execute(sa.select(sa.func.count()).where(jobs.c.study == ledger.study)).scalar() or 0
            for place, seed in enumerate(seeds):
                connection.execute(jobs.insert().values(**blank, **why, seed=seed, turn=turn + place, crashes=0, lost=0, ended=now()))
            return True

    return patiently(do)
