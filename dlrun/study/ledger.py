"""The ledger of a study: which jobs there are, who works on which, what came out. Every change is one transaction.

A job is taken with a lease that its worker renews; where it runs out the job is taken again under the next attempt number, and whatever the
earlier attempt reports from then on does not count (fencing). Nothing here knows how a job is trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from dlrun.errors import UsageError
from dlrun.rundir import jsonable
from dlrun.study.differences import different
from dlrun.study.plan import Cell
from dlrun.study.tables import attempts, cells, connect, jobs, now, patiently, readings, studies

MOST_CRASHES, MOST_LOST = 3, 20
"""Attempts that a job may cost workers: dying of it (by a fault, or ending in the middle), and going away for no known reason."""
OPEN, DONE = ("waiting", "running"), ("finished", "failed", "pruned")
T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """A job in the hands of a worker: what to train, and the attempt under which its outcome counts."""

    id: int
    cell: int
    seed: int
    text: str
    sha256: str
    attempt: int
    checked: bool
    seals: dict[str, str] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a job has no value: a class, one line, what makes two failures the same, and the last lines of its log."""

    kind: str
    reason: str
    signature: str = ""
    log: str = ""


class Ledger:
    """One study's rows in a database. Safe to be used by several threads and processes at once."""

    def __init__(self, url: str, study: str, *, make: bool = True) -> None:
        self.study, self.engine = study, connect(url, make=make)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    # -- what is asked

    def open(self, question: Mapping[str, Any], sha256: str) -> bool:
        """Begin the study or join it; True where it is new. UsageError where one of this name asked something else."""

        def do(connection: sa.Connection) -> bool:
            row = connection.execute(sa.select(studies).where(studies.c.name == self.study)).first()
            if row is None:
                text = json.dumps(question, sort_keys=True)
                connection.execute(studies.insert().values(name=self.study, sha256=sha256, question=text, begun=now()))
            elif row.sha256 != sha256:
                raise UsageError(different(self.study, json.loads(row.question), question))
            return row is None

        return self._change(do)

    def add(self, new: Iterable[Cell], checked: Callable[[Cell], bool] | None = None) -> int:
        """Enter cells and their jobs, all or none; those known already stay as they were frozen. Returns how many jobs are new.

        `checked` says which cells' first jobs the fast checks run for: these come first, so that parts which do not go together are known
        early. Without it they run for every cell, in the order of the cells.
        """
        wanted = list(new)

        def do(connection: sa.Connection) -> int:
            known = {number for (number,) in connection.execute(sa.select(cells.c.number).where(cells.c.study == self.study))}
            pairs = sa.select(jobs.c.cell, jobs.c.seed).where(jobs.c.study == self.study)
            have = {(cell, seed) for cell, seed in connection.execute(pairs)}
            turn = len(have)
            rows = [
                {"study": self.study, "number": cell.number, "params": json.dumps(jsonable(cell.params)), "source": cell.source}
                for cell in wanted
                if cell.number not in known
            ]
            fresh = [(cell, job) for cell in wanted for job in cell.jobs if (job.cell, job.seed) not in have]
            first = {(job.cell, job.seed) for cell, job in fresh if job is cell.jobs[0] and (not checked or checked(cell))}
            fresh.sort(key=lambda pair: bool(checked) and (pair[1].cell, pair[1].seed) not in first)
            entries = [
                {**_new(self.study), "cell": job.cell, "seed": job.seed, "text": job.text, "sha256": job.sha256, "turn": turn + place}
                | {"seals": json.dumps(job.seals), "place": job.place}
                | {"checked": (job.cell, job.seed) in first}
                for place, (_, job) in enumerate(fresh)
            ]
            for table, found in ((cells, rows), (jobs, entries)):
                if found:
                    connection.execute(table.insert(), found)
            return len(entries)

        return self._change(do)

    # -- a worker's side

    def take(self, owner: str, lease: float) -> Taken | None:
        """The next job, under a lease of so many seconds; None where nothing waits. A job whose lease ran out waits again."""

        def do(connection: sa.Connection) -> Taken | None:
            self._expire(connection)
            waiting = sa.select(jobs).where(jobs.c.study == self.study, jobs.c.state == "waiting").order_by(jobs.c.turn).limit(1)
            row = connection.execute(waiting.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            attempt = row.attempt + 1
            found = {"state": "running", "attempt": attempt, "owner": owner, "lease_until": now() + lease}
            began = {} if row.began is not None else {"began": now()}
            connection.execute(jobs.update().where(jobs.c.id == row.id).values(**found, **began))
            connection.execute(attempts.insert().values(job=row.id, attempt=attempt, owner=owner, began=now()))
            return Taken(row.id, row.cell, row.seed, row.text, row.sha256, attempt, row.checked, json.loads(row.seals), row.place)

        return self._change(do)

    def renew(self, job: int, attempt: int, lease: float) -> bool:
        """Prolong a lease; False where the job is no longer this attempt's."""
        change = jobs.update().where(*_live(job, attempt)).values(lease_until=now() + lease)
        return self._change(lambda connection: connection.execute(change).rowcount == 1)

    def read(self, job: int, attempt: int, step: int, value: float) -> bool:
        """Note an intermediate value; a step that runs again after a resume replaces its own. False where the attempt is not live."""

        def do(connection: sa.Connection) -> bool:
            if connection.execute(sa.select(jobs.c.id).where(*_live(job, attempt))).first() is None:
                return False
            connection.execute(readings.delete().where(readings.c.job == job, readings.c.step >= step))
            connection.execute(readings.insert().values(job=job, step=step, value=value))
            return True

        return self._change(do)

    def finish(self, job: int, attempt: int, value: float | None, summary: Mapping[str, Any], state: str = "finished") -> bool:
        """Enter a result. It counts only for the live attempt; said twice (an answer got lost) it counts once."""
        found = {"value": value, "summary": json.dumps(jsonable(summary), allow_nan=False)}
        return self._end(job, attempt, state, {"state": state, **found, "failure": None, "reason": None})

    def fail(self, job: int, attempt: int, failure: Failure) -> bool:
        """Enter that a job has no value."""
        return self._end(job, attempt, f"failed: {failure.kind}", _failed(failure))

    def release(self, job: int, attempt: int, outcome: str) -> bool:
        """Give a job back before it is done; whoever takes it next goes on from its newest checkpoint."""
        return self._end(job, attempt, outcome, {"state": "waiting"})

    def _end(self, job: int, attempt: int, outcome: str, found: Mapping[str, Any]) -> bool:
        def do(connection: sa.Connection) -> bool:
            done = {"ended": now()} if found["state"] in DONE else {}
            change = jobs.update().where(*_live(job, attempt)).values(**found, **done, lease_until=None)
            if connection.execute(change).rowcount == 1:
                _close(connection, job, attempt, outcome)
                return True
            mine = sa.select(attempts.c.outcome).where(attempts.c.job == job, attempts.c.attempt == attempt)
            return bool(connection.execute(mine).scalar() == outcome)

        return self._change(do)

    # -- deaths

    def died(self, owner: str, cause: str, *, own_fault: bool, failure: Failure | None = None) -> list[tuple[int, int]]:
        """A worker is gone: its jobs wait again, or fail after too many deaths. Returns (cell, seed) of the jobs it had."""
        return self._change(lambda connection: self._lose(connection, jobs.c.owner == owner, cause, own_fault, failure))

    def owners(self) -> list[str]:
        """Who works on something."""
        found = sa.select(jobs.c.owner).where(jobs.c.study == self.study, jobs.c.state == "running").distinct()
        return [owner for (owner,) in self._look(found)]

    def _expire(self, connection: sa.Connection) -> None:
        self._lose(connection, jobs.c.lease_until < now(), "its lease ran out", False, None)

    def _lose(self, connection: sa.Connection, which: Any, cause: str, own_fault: bool, failure: Failure | None) -> list[tuple[int, int]]:
        wanted = sa.select(jobs).where(jobs.c.study == self.study, jobs.c.state == "running", which).with_for_update(skip_locked=True)
        lost = connection.execute(wanted).all()
        for row in lost:
            counts = {"crashes": row.crashes + own_fault, "lost": row.lost + (not own_fault)}
            too_many = counts["crashes"] >= MOST_CRASHES or counts["lost"] >= MOST_LOST
            end: dict[str, Any] = {"state": "waiting", "lease_until": None}
            if too_many:
                why = failure or Failure("machine", f"{cause}; its worker went away with it {row.attempt} times", log=row.log or "")
                end = {**_failed(why), "ended": now(), "lease_until": None}
            connection.execute(jobs.update().where(jobs.c.id == row.id, jobs.c.attempt == row.attempt).values(**counts, **end))
            _close(connection, row.id, row.attempt, cause)
        return [(row.cell, row.seed) for row in lost]

    def retry(self, kinds: Sequence[str]) -> int:
        """Failed jobs of these classes wait again, after all others; nothing of a finished one is touched. Returns how many."""

        def do(connection: sa.Connection) -> int:
            last = connection.execute(sa.select(sa.func.max(jobs.c.turn)).where(jobs.c.study == self.study)).scalar() or 0
            where = (jobs.c.study == self.study, jobs.c.state == "failed", jobs.c.failure.in_(kinds))
            found = connection.execute(sa.select(jobs.c.id).where(*where).order_by(jobs.c.turn).with_for_update()).all()
            for place, (job,) in enumerate(found, 1):
                blank = dict.fromkeys(("failure", "reason", "signature", "log", "ended"))
                change = jobs.update().where(jobs.c.id == job)
                connection.execute(change.values(state="waiting", turn=last + place, crashes=0, lost=0, **blank))
            return len(found)

        return self._change(do)

    # -- looking

    def clock(self) -> float:
        """The database's time."""
        return float(self._look(sa.select(now()))[0][0])

    def open_jobs(self) -> int:
        """How many jobs are not done."""
        count = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.study == self.study, jobs.c.state.in_(OPEN))
        return int(self._look(count)[0][0])

    def cells(self) -> list[dict[str, Any]]:
        """Every cell by number: number, params, source."""
        found = self._look(sa.select(cells).where(cells.c.study == self.study).order_by(cells.c.number))
        return [{"number": row.number, "params": json.loads(row.params), "source": row.source} for row in found]

    def jobs(self, *only: int) -> list[dict[str, Any]]:
        """Every job (or only these) in the order of cells and seeds, without its config."""
        wanted = [column for column in jobs.c if column.name != "text"]
        chosen = (jobs.c.id.in_(only),) if only else ()
        found = self._look(sa.select(*wanted).where(jobs.c.study == self.study, *chosen).order_by(jobs.c.cell, jobs.c.id))
        return [{**row._mapping, "summary": json.loads(row.summary) if row.summary else None} for row in found]

    def states(self) -> list[dict[str, Any]]:
        """Every job in the order of cells and seeds, in short: what changes while a study runs."""
        names = ("id", "cell", "seed", "state", "attempt", "began", "ended", "value", "failure", "signature", "place")
        found = self._look(sa.select(*(jobs.c[name] for name in names)).where(jobs.c.study == self.study).order_by(jobs.c.cell, jobs.c.id))
        return [dict(row._mapping) for row in found]

    def newest(self) -> dict[int, tuple[int, float]]:
        """The last intermediate value of what runs, by job: (step, value)."""
        last = sa.select(readings.c.job, sa.func.max(readings.c.step).label("step")).group_by(readings.c.job).subquery()
        pair = sa.and_(readings.c.job == last.c.job, readings.c.step == last.c.step)
        mine = sa.select(readings).join(last, pair).join(jobs, jobs.c.id == readings.c.job)
        found = self._look(mine.where(jobs.c.study == self.study, jobs.c.state == "running"))
        return {row.job: (row.step, row.value) for row in found}

    def readings(self) -> dict[int, list[tuple[int, float]]]:
        """Intermediate values by job: (step, value) in order."""
        mine = sa.select(readings).join(jobs, jobs.c.id == readings.c.job).where(jobs.c.study == self.study)
        found: dict[int, list[tuple[int, float]]] = {}
        for row in self._look(mine.order_by(readings.c.job, readings.c.step)):
            found.setdefault(row.job, []).append((row.step, row.value))
        return found

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt: job, attempt, owner, began, ended, outcome."""
        mine = sa.select(attempts).join(jobs, jobs.c.id == attempts.c.job).where(jobs.c.study == self.study)
        return [dict(row._mapping) for row in self._look(mine.order_by(attempts.c.job, attempts.c.attempt))]

    # -- transactions

    def _look(self, query: Any) -> Sequence[sa.Row[Any]]:
        def do() -> Sequence[sa.Row[Any]]:
            with self.engine.connect().execution_options(reading=True) as connection, connection.begin():
                return connection.execute(query).all()

        return patiently(do)

    def _change(self, do: Callable[[sa.Connection], T]) -> T:
        def once() -> T:
            with self.engine.begin() as connection:
                return do(connection)

        return patiently(once)


def _live(job: int, attempt: int) -> tuple[Any, ...]:
    return jobs.c.id == job, jobs.c.attempt == attempt, jobs.c.state == "running"


def _new(study: str) -> dict[str, Any]:
    return {"study": study, "state": "waiting", "attempt": 0, "crashes": 0, "lost": 0}


def _failed(failure: Failure) -> dict[str, Any]:
    found = {"failure": failure.kind, "reason": failure.reason, "signature": failure.signature, "log": failure.log}
    return {"state": "failed", **found}


def _close(connection: sa.Connection, job: int, attempt: int, outcome: str) -> None:
    where = (attempts.c.job == job, attempts.c.attempt == attempt, attempts.c.ended.is_(None))
    connection.execute(attempts.update().where(*where).values(ended=now(), outcome=outcome))
