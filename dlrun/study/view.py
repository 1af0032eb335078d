"""What one sees of a running study: a table kept up to date on a terminal, plain lines elsewhere. Both come from the ledger alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from dlrun.sinks.console import Console
from dlrun.sinks.terminal import clean, duration, number
from dlrun.study.ledger import DONE, Ledger
from dlrun.study.plan import Goal

PLAIN_SECONDS = 10.0
MOST_RUNNING = 8
Row = Mapping[str, Any]


class View:
    """Prints through `console`; on a terminal a few lines about the study stand below all others."""

    def __init__(self, console: Console, params: Mapping[int, Mapping[str, Any]], planned: int | None = None) -> None:
        self.console, self.params, self.planned = console, params, planned
        self._next = time.monotonic() + PLAIN_SECONDS

    def name(self, row: Row) -> str:
        """A job for people: its cell, its seed and its values."""
        values = " ".join(f"{key}={value}" for key, value in self.params.get(row["cell"], {}).items())
        return clean(f"cell {row['cell']} seed {row['seed']}{f' ({values})' if values else ''}")

    def failed(self, row: Row, folder: str) -> None:
        """A failure, at once, with the last lines of its log."""
        self.console.line(f"{self.name(row)}: {row['failure']}: {row['reason']}", "error")
        for text in (row["log"] or "").splitlines():
            self.console.line(f"  | {text}", "dim")
        if row["attempt"]:  # values that do not go together never had a run
            self.console.line(f"  {folder}", "dim")

    def show(self, rows: Sequence[Row], goal: Goal | None, ledger: Ledger) -> None:
        """Where the study stands."""
        if self.console.live:
            self.console.panel([headline(rows, goal, ledger.clock(), self.planned), *self._running(rows, ledger.newest())])
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            self.console.line(headline(rows, goal, ledger.clock(), self.planned))

    def _running(self, rows: Sequence[Row], readings: Mapping[int, tuple[int, float]]) -> list[str]:
        running = [row for row in rows if row["state"] == "running"]
        texts = []
        for row in running[:MOST_RUNNING]:
            seen = readings.get(row["id"])
            texts.append(f"  {self.name(row)}" + (f": {number(seen[1])} at step {seen[0]}" if seen else ""))
        return texts + ([f"  and {len(running) - MOST_RUNNING} more"] if len(running) > MOST_RUNNING else [])


def headline(rows: Sequence[Row], goal: Goal | None, clock: float, planned: int | None = None) -> str:
    """Done, running, failed, the best run so far, and how long it will take.

    `planned`: runs of a search that enters them one by one; 0 where it goes on until it is stopped.
    """
    counts = {state: sum(row["state"] == state for row in rows) for state in ("finished", "running", "failed", "pruned", "waiting")}
    left = remaining(rows, clock, planned)
    total = "" if planned == 0 else f"/{max(planned or 0, len(rows))}"
    texts = [f"{counts['finished']}{total} runs finished", f"{counts['running']} running"]
    texts += [f"{counts[state]} {state}" for state in ("failed", "pruned") if counts[state]]
    texts += [f"{duration(left)} left"] if left is not None else []
    have = [row for row in rows if row["state"] == "finished"]
    if goal is not None and have:
        best = (max if goal.direction == "max" else min)(have, key=lambda row: row["value"])
        texts.append(f"best {goal.metric} {number(best['value'])} (cell {best['cell']} seed {best['seed']})")
    return " · ".join(texts)


def remaining(rows: Sequence[Row], clock: float, planned: int | None = None) -> float | None:
    """Seconds until all are done at the pace of the newest ones; None where none is done, or nobody knows how many there will be."""
    waiting = sum(row["state"] not in DONE for row in rows) + max(0, (planned or 0) - len(rows))
    if planned == 0:
        return None
    done = sorted((row for row in rows if row["state"] in DONE and row["ended"] and row["began"]), key=lambda row: row["ended"])[-50:]
    if not waiting or not done:
        return None
    span: float = max(done[-1]["ended"] - min(row["began"] for row in done), 1e-3)
    left: float = waiting * span / len(done) - (clock - done[-1]["ended"])
    return max(0.0, left)
