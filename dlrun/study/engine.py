"""The driver of a study: enters its cells, keeps workers alive, shows where it stands, and stops where going on makes no sense.

It holds nothing that the ledger does not: killed at any moment and begun again, or begun a second time beside itself, it goes on.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlrun.errors import MissingError
from dlrun.signals import EXIT
from dlrun.sinks.console import Console
from dlrun.study.asking import identity
from dlrun.study.backend import Backend, Place
from dlrun.study.failures import AGAIN, common, diagnosis
from dlrun.study.joining import ledger_of, write_question
from dlrun.study.kinds import FirstOfKind
from dlrun.study.leading import Leader
from dlrun.study.ledger import DONE, Ledger
from dlrun.study.owners import is_gone
from dlrun.study.plan import Cell, Question
from dlrun.study.pool import make_pool
from dlrun.study.results import goal_of, lines, remarks, run_of, table, write_csv
from dlrun.study.setting import Setting
from dlrun.study.view import View

TICK_SECONDS, QUIET_SECONDS = 0.5, 0.05
LEASE_SECONDS = 30.0
GRACE_SECONDS = 10.0
"""How long workers have to save where the driver fails."""
MOST_EARLY_DEATHS = (3, 20)
"""Workers in a row that end before they have done anything, by themselves or killed by others: then none of them will."""


@dataclass(frozen=True)
class Means:
    """What the command line named besides the question: plugins to import, where YAML lies, leases, and what guides a search.

    `valued`: runs are compared by a goal's value, in a table at the end; else they are done when they have finished, and nothing is shown.
    `composed`: what Hydra made of parts while cells were frozen (`config.memory`).
    """

    plugins: tuple[str, ...] = ()
    config_dir: str | None = None
    lease: float = LEASE_SECONDS
    guide: Leader | None = None
    valued: bool = True
    composed: tuple[Any, ...] = ()


def run_study(
    question: Question,
    cells: Iterable[Cell],
    folder: Path,
    storage: str | None,
    workers: int | None,
    console: Console,
    *,
    means: Means | None = None,
    pool: Backend | None = None,
) -> tuple[dict[str, Any], int]:
    """Run what is not done of a study, in `folder`; returns the document of the contract and the exit code.

    0: every cell is finished; 1: one failed; 3: the ledger or the disk cannot be used; 130, 143: stopped by a signal, all saved.
    """
    pool = pool or make_pool(workers)
    try:
        pool.start()
        url = ledger_of(folder, storage)
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(url, folder.name)
    except OSError as error:
        pool.close()
        raise MissingError(f"cannot make {folder}: {error.strerror}; say output_root=FOLDER to write elsewhere") from None
    except BaseException:
        pool.close()
        raise
    try:
        return Driver(question, folder.absolute(), url, ledger, pool, console, means or Means()).run(list(cells))
    finally:
        pool.close(GRACE_SECONDS)
        ledger.close()


class Driver:
    """One driver; there may be others of the same study."""

    def __init__(self, question: Question, folder: Path, url: str, ledger: Ledger, pool: Backend, console: Console, means: Means) -> None:
        self.question, self.folder, self.ledger, self.pool, self.console = question, folder, ledger, pool, console
        self.guide, self.first = means.guide, FirstOfKind()
        self.goal = self.guide.settle(ledger) if self.guide else question.goal
        goal = (self.goal.metric, self.goal.direction) if self.goal else None
        named = (means.plugins, question.plugins, means.config_dir, tuple(sys.argv))
        kept: dict[str, Any] = {"stay": self.guide.stays, "prune": self.guide.every} if self.guide else {}
        kept |= {"valued": means.valued, "composed": means.composed}
        self.setting = Setting(url, folder.name, str(folder), "", means.lease, goal, *named, **kept)
        self.begun = time.monotonic()
        self.since = 0.0
        self.stopped: str | None = None
        self.code = self.asked = self.early = 0
        self.told: set[tuple[int, int]] = set()
        self.view: View | None = None

    # -- beginning and end

    def run(self, cells: Sequence[Cell]) -> tuple[dict[str, Any], int]:
        """Until all jobs are done, or it is asked to stop."""
        self._enter(cells)
        self.since = self.ledger.clock()
        params = {cell["number"]: cell["params"] for cell in self.ledger.cells()}
        self.view = View(self.console, params, self.guide.planned if self.guide else None)
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._free()
            if self.guide:
                self.guide.begin(self.ledger, self.folder, self.pool, self.console, self.first)
            left = self.pool.count if self.guide and self.guide.goes_on else self.ledger.open_jobs()
            self.pool.keep(left)
            self.pool.start(left)
            self.pool.tell(self.setting)
            self._watch()
        finally:
            self.console.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.setting.stay:
            self.pool.signal(signal.SIGTERM)
        result = self._result()  # while the workers see that all is done, and leave
        self._let_go()
        return result

    def _enter(self, cells: Sequence[Cell]) -> None:
        asked = {key: value for key, value in asdict(self.question).items() if key not in ("trials", "timeout")}
        new = self.ledger.open(asked, identity(self.question))
        write_question(self.question, self.folder, self.setting.storage, joins=not new)
        self.ledger.add(cells, self.first)
        if not new and not any(not is_gone(owner) for owner in self.ledger.owners()):
            again = self.ledger.retry(AGAIN)
            if again:
                self.console.line(f"{again} failed run{'s' * (again != 1)} tried again, after the others")

    def _result(self) -> tuple[dict[str, Any], int]:
        if not self.setting.valued:
            return {}, EXIT.get(self.stopped or "", self.code)
        found = table(self.ledger, self.folder, self.goal, time.monotonic() - self.begun)
        write_csv(self.ledger, self.folder)
        title, columns, rows = lines(found)
        self.console.table(title, columns, rows)
        for text in [*remarks(found), *(self.guide.remarks(found) if self.guide else ())]:
            self.console.line(text)
        self.console.line(f"{self.folder}: results.csv, runs/")
        if self.stopped in EXIT:
            lost = "stopped, all saved" if self.asked < 2 else "stopped at once: what runs did since their newest checkpoints is lost"
            self.console.line(f"{lost}; the same command goes on", "warning")
            return found, EXIT[self.stopped]
        return found, self.code or int(any(cell["state"] != "finished" for cell in found["cells"] if cell["state"] != "pruned"))

    def _let_go(self) -> None:
        """Wait for the workers' ends; keep what parts printed while they had them."""
        deadline = time.monotonic() + 2.0
        while self.pool.processes and time.monotonic() < deadline:
            for process, said in self.pool.listen(QUIET_SECONDS):
                if said is None:
                    self.pool.end(process)
        if self.pool.outputs:
            with open(self.folder / "workers.log", "a", encoding="utf-8") as file:
                file.write("\n".join(self.pool.outputs))
            self.console.line(f"what parts printed is in {self.folder / 'workers.log'}")
            self.pool.outputs.clear()

    # -- while it runs

    def _note(self, number: int, frame: object) -> None:
        """Ctrl-C, SIGTERM: the first asks the workers to save, the next ends them at once."""
        self.asked += 1
        self.stopped = self.stopped if self.stopped in EXIT else signal.Signals(number).name
        self.pool.signal(number if self.asked == 1 else signal.SIGKILL)

    def _stop(self, why: str, code: int) -> None:
        """Have the workers save and give their jobs back; the study ends with `code`."""
        if self.stopped is None:
            self.stopped, self.code = why, code
            self.pool.signal(signal.SIGTERM)

    def _watch(self) -> None:
        looked = 0.0
        while True:
            for process, said in self.pool.listen(QUIET_SECONDS if self.stopped else TICK_SECONDS):
                self._heard(process, said)
            if self.stopped and not self.pool.processes:
                self._look()
                return
            now = time.monotonic()
            if now - looked >= TICK_SECONDS or not self.pool.processes or self._due:
                looked = now
                if not self._look() and not self.stopped:
                    return
                self._free()
            if self.question.timeout is not None and now - self.begun > self.question.timeout:
                self._stop(f"the study's {self.question.timeout:g} s are over", 75)

    _due, _left = False, 0

    def _look(self) -> int:
        """Show the ledger; say failures that are new. Returns how many jobs are open."""
        assert self.view is not None
        rows = self.ledger.states()
        if any(row["cell"] not in self.view.params for row in rows):
            self.view.params = {cell["number"]: cell["params"] for cell in self.ledger.cells()}
        fresh = [
            row for row in rows if row["state"] == "failed" and row["ended"] >= self.since and (row["id"], row["attempt"]) not in self.told
        ]
        for row in self.ledger.jobs(*(row["id"] for row in fresh)) if fresh else ():
            self.told.add((row["id"], row["attempt"]))
            self.view.failed(row, run_of(self.folder, row))
        if alike := common(rows, self.since):
            names = " and ".join(f"cell {row['cell']} seed {row['seed']}" for row in alike)
            if self.stopped is None:
                self.console.line(f"{names} failed alike, and none has finished: the others are not tried", "error")
            self._stop("failures alike", 1)
        left = sum(row["state"] not in DONE for row in rows)
        self._left, self._due = left, left <= len(self.pool.processes)
        goal = self.goal or self._goal(rows)
        self.view.show(rows, goal, self.ledger)
        return int(self._guided(rows)) or left

    def _guided(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Let the guide look too; whether it says that there is more to come."""
        if self.guide is None or self.view is None:
            return False
        more = self.guide.tick(rows, bool(self.stopped))
        if self.guide.problem and self.stopped is None:
            self.console.line(self.guide.problem, "error")
            self._stop(self.guide.problem, 1)
        return more

    _known: Any = None

    def _goal(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """The goal nobody named, once a run is finished."""
        done = next((row["id"] for row in rows if row["state"] == "finished"), None)
        if self._known is None and done is not None and self.setting.valued:
            self._known = goal_of(self.ledger.jobs(done), None)
        return self._known

    def _free(self) -> None:
        """Take back what processes of this machine had that are gone."""
        for owner in self.ledger.owners():
            if is_gone(owner):
                self.ledger.died(owner, "its process is gone", own_fault=False)

    def _heard(self, process: Place, said: list[dict[str, Any]] | None) -> None:
        """A message, or the end of a worker."""
        for message in said or ():
            if message["event"] == "error" and self.stopped is None:
                for text in message["lines"]:
                    self.console.line(text, "error")
                self._stop(message["lines"][0], message["code"])
            if message["event"] == "ended":  # to look costs the workers a core for some milliseconds
                self._left -= 1
                self._due = self._due or message["failed"] or self._left <= len(self.pool.processes)
        if said is None:
            self._ended(process)

    def _ended(self, process: Place) -> None:
        """A worker is gone: what it had is free, and another takes its place where there is work."""
        output, code = process.output(), self.pool.end(process)
        self.early = 0 if process.useful else self.early + 1
        cause, own, failure = diagnosis(code, output)
        if code != 0 and self.asked < 2:
            for cell, seed in self.ledger.died(process.owner, cause, own_fault=own, failure=failure):
                self.console.line(f"a worker ended in cell {cell} seed {seed}: {cause}", "warning")
        elif code != 0:
            self.ledger.died(process.owner, "stopped at once", own_fault=False)
        if self.stopped or code in (130, 143):
            return
        if self.early >= MOST_EARLY_DEATHS[not own]:
            for text in output.splitlines()[-15:]:
                self.console.line(f"  | {text}", "dim")
            raise MissingError(f"{self.early} workers ended before they had done anything: {cause}")
        wanted = self.pool.count if self.guide and self.guide.goes_on else self.ledger.open_jobs()
        if code != 0 and wanted:
            self.pool.start(wanted)
            self.pool.tell(self.setting)
