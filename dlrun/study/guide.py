"""What a driver does beside keeping workers busy: asks for cells, previews, keeps the public record, and adds seeds where they decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.sinks.console import Console
from dlrun.study.asking import Asked, identity
from dlrun.study.backend import Backend
from dlrun.study.kinds import kind_of
from dlrun.study.ledger import Ledger
from dlrun.study.lint import objections
from dlrun.study.owners import owner_of
from dlrun.study.plan import Cell, Goal
from dlrun.study.preview import Preview
from dlrun.study.pruning import rung_steps

RECORD_AFTER, RECORD_EVERY, RECORD_SHARE = 20.0, 5.0, 20.0
"""Seconds: when a study counts as long enough for its record to be kept as it runs; how often then; and 1/share of the time at most."""
Rows = Sequence[Mapping[str, Any]]


class Guide:
    """Made before the study is opened, told where it lies (`begin`), asked at every look (`tick`) and at the end (`remarks`).

    `decide`: the most seeds a cell may be given. UsageError where the study cannot be pruned as asked.
    """

    def __init__(self, asked: Asked, decide: int | None = None) -> None:
        question = asked.question
        self.asked, self.decide = asked, decide
        self.searched = question.search != "grid"
        self.every = rung_steps(asked.space, asked.first.resolved["train"]) if question.prune != "none" else 0
        self.goal = question.goal
        self.asker: Any = None
        self.record: Any = None
        self.said = list[str]()
        self._recording = True
        self._next_record = time.monotonic() + RECORD_AFTER

    @property
    def stays(self) -> bool:
        """Whether more jobs may come once all are done, so that idle workers stay."""
        return self.searched or self.decide is not None

    @property
    def goes_on(self) -> bool:
        """Whether more jobs may still come."""
        return self.decide is not None if self.asker is None else not self.asker.over or self.decide is not None

    @property
    def planned(self) -> int | None:
        """Runs of a search, 0 where it ends with the time alone; None: those of a grid, which are all entered at once."""
        if not self.searched:
            return None
        question, space = self.asked.question, self.asked.space
        most = space.size() if space.is_grid else None
        return min((count for count in (question.trials, most) if count), default=0) * len(question.seeds)

    def settle(self, ledger: Ledger) -> Goal | None:
        """The goal where it has to be known before the first run: if nobody named it, the first cell is built to see what it chooses by."""
        if self.goal is None and (self.searched or self.every):
            from dlrun.study.results import goal_of

            self.goal = goal_of(ledger.jobs(), None)  # of a study that is gone on with
        if self.goal is None and (self.searched or self.every):
            from dlrun.session import chooser
            from dlrun.train import build_run

            run = build_run(self.asked.first, load_start=False)
            run.data.close()
            self.goal = Goal(*chooser(run))
        return self.goal

    def begin(self, ledger: Ledger, folder: Path, pool: Backend, console: Console, first: Callable[[Cell], bool]) -> None:
        """The study is open: the first cells of a search are entered."""
        self.ledger, self.folder, self.pool, self.console, self.first = ledger, folder, pool, console, first
        self.preview = Preview(folder, pool.count, ledger.clock())
        if self.searched:
            from dlrun.study.adaptive import Asker
            from dlrun.study.search import Search

            question, goal = self.asked.question, self.goal
            assert goal is not None
            search = Search(self.asked.space, question.search, identity(question), goal)
            self.asker = Asker(search, self.asked.freezer, ledger, question.trials, self._say)
            self.asker.top_up(pool.count, first)

    def _say(self, text: str, style: str = "") -> None:
        self.console.line(text, *([style] if style else []))

    # -- while it runs

    def tick(self, rows: Rows, stopped: bool) -> bool:
        """Do what is due; True where the study is not at its end though every job is done."""
        self._preview(rows)
        self._keep_record()
        if stopped:
            return False
        if self.asker is not None:
            busy = set(self.ledger.owners()) & {process.owner for process in self.pool.processes}
            self.asker.top_up(len(self.pool.processes) - len(busy), self.first)
            if not self.asker.over or self.ledger.open_jobs():
                return True
        return self.decide is not None and not self.ledger.open_jobs() and self._more_seeds()

    @property
    def problem(self) -> str | None:
        """Why the study makes no sense any longer."""
        return None if self.asker is None else self.asker.problem

    def _preview(self, rows: Rows) -> None:
        planned = len(rows) if self.planned is None else max(self.planned, len(rows)) if self.planned else 0
        said = None
        if planned and self.preview.estimate is None:
            said = self.preview.look(rows, self.ledger.clock(), planned, self._steps())
        elif planned:
            said = self.preview.correct(rows, planned, lambda: {cell["number"]: kind_of(cell["params"]) for cell in self.ledger.cells()})
        if said:
            self.console.line(said)

    def _steps(self) -> dict[int, int]:
        """Steps of a run by cell, where the config says them."""
        usual = self.asked.first.resolved["train"]["steps"]
        found = {cell["number"]: cell["params"].get("train.steps", usual) for cell in self.ledger.cells()}
        return {number: steps for number, steps in found.items() if isinstance(steps, int)}

    def _more_seeds(self) -> bool:
        """Enter seeds that may decide between the best cells; False where nothing is left to be decided."""
        from dlrun.study.decide import add_seeds, candidates, wanted_seeds
        from dlrun.study.results import table

        assert self.decide is not None
        found = table(self.ledger, self.folder, self.goal, 0.0)
        wanted = wanted_seeds(found, self.decide)
        if wanted and add_seeds(self.ledger, self.folder, wanted):
            names = ", ".join(str(number) for number in wanted)
            self.console.line(f"undecided: more seeds for cells {names}")
            return True
        if open_ones := candidates(found):
            self.console.line(f"undecided after {self.decide} seeds: cells {', '.join(map(str, open_ones))}")
        return False

    # -- the public record

    def _keep_record(self) -> None:
        """Bring the record level every few seconds, once the study has lasted a while; what goes wrong with it stops no study."""
        if not self._recording or self.goal is None or time.monotonic() < self._next_record:
            return
        began = time.monotonic()
        try:
            if self.record is None:
                from dlrun.study.record import Record

                self.record = Record(self.ledger, self.asked.space, self.goal, f"{owner_of_me()}")
            self.record.sync()
        except Exception as error:  # Optuna's tables are a copy
            self._recording = False
            self.console.line(f"the Optuna record is not kept any longer: {first_line(error)}", "warning")
        cost = time.monotonic() - began
        self._next_record = time.monotonic() + max(RECORD_EVERY, RECORD_SHARE * cost)

    def end(self) -> None:
        """The driver leaves."""
        if self.record is not None:
            self.record.close()
            self.record = None

    # -- afterwards

    def remarks(self, found: Mapping[str, Any]) -> list[str]:
        """Lines below the table; `said` keeps them."""
        took = self.preview.compared(self.ledger.states())
        self.said = [*objections(found, self.asked.space), *([took] if took else [])]
        self.end()
        return self.said


def owner_of_me() -> str:
    """The name of this process."""
    import os

    return owner_of(os.getpid())


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
