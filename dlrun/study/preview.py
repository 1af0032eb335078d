"""How long a study will take and how much it will write, told as soon as the first run shows it; afterwards, what it was.

Nothing is timed beforehand: the first run is one of the study's own, so a study of short runs is not kept waiting for its preview.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from dlrun.sinks.terminal import duration
from dlrun.study.ledger import DONE
from dlrun.study.results import run_of

EARLY_SECONDS = 10.0
"""A first run that lasts longer is judged by the steps it has done."""
LEAST_STEPS = 10
OFF = 1.5
"""A prediction of what is written is corrected where runs done since then say so many times more or less."""
MANY_PRUNED = 5
"""Runs given up, where none was finished: then what one takes on average is what the others will take."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Seconds of wall time from the start of the first run, and bytes, of the whole study."""

    runs: int
    seconds: float
    bytes: float
    run_seconds: float


class Preview:
    """Looks at a study's first runs until it can tell: at the first that began in a warm worker, or at one that takes long.

    `since`: when this driver came, by the database's clock; what was done before is no matter of its own.
    """

    def __init__(self, folder: Path, workers: int, since: float = 0.0) -> None:
        self.folder, self.workers, self.since, self.estimate = folder, max(1, workers), since, None
        self._sizes, self._seen = dict[tuple[int, int], int](), 0

    estimate: Estimate | None

    def correct(self, rows: Sequence[Row], planned: int, kinds: Callable[[], Mapping[int, str]]) -> str | None:
        """One line where cells write more or less than the first did; looked at whenever twice as many runs are done as the last time.

        `kinds` gives what parts a cell has, in one word: cells with the same ones write about as much.
        """
        done = [row for row in rows if row["state"] in ("finished", "pruned") and (row["ended"] or 0.0) >= self.since]
        guess = self.estimate
        if guess is None or len(done) < max(2, 2 * self._seen) or len(done) >= planned:
            return None
        self._seen = len(done)
        total = self._written(rows, done, guess.runs, kinds())
        if max(total, guess.bytes) <= OFF * min(total, guess.bytes):
            return None
        self.estimate = replace(guess, bytes=total)
        return f"preview: {volume(total)} in all, by the {len(done)} runs done" + self._too_much(total)

    def _written(self, rows: Sequence[Row], done: Sequence[Row], runs: int, kinds: Mapping[int, str]) -> float:
        """Bytes of so many runs: each as those of its cell, else of its kind, else as all."""
        cells, parts = dict[int, list[int]](), dict[str, list[int]]()
        for row in done:
            cells.setdefault(row["cell"], []).append(self._size(row))
            parts.setdefault(kinds.get(row["cell"], ""), []).append(self._size(row))
        usual = float(mean(map(self._size, done)))
        own = [row for row in rows if row["state"] != "failed" and (row["ended"] is None or row["ended"] >= self.since)]
        known = [cells.get(row["cell"]) or parts.get(kinds.get(row["cell"], "")) for row in own]
        return sum(mean(sizes) if sizes else usual for sizes in known) + usual * max(0, runs - len(own))

    def _size(self, row: Mapping[str, Any]) -> int:
        """Bytes of a run that has ended, counted once."""
        key = row["cell"], row["seed"]
        if key not in self._sizes:
            self._sizes[key] = size_of(Path(run_of(self.folder, row)))
        return self._sizes[key]

    def look(self, rows: Sequence[Row], clock: float, planned: int, steps: Mapping[int, int]) -> str | None:
        """One line, once; `planned` runs are expected in all, `rows` are the ledger's."""
        if self.estimate is not None or all(row["state"] in DONE for row in rows):
            return None
        planned -= sum(row["state"] in DONE and (row["ended"] or 0.0) < self.since for row in rows)  # done before this driver came
        begun = sorted((row for row in rows if (row["began"] or -1.0) >= self.since), key=lambda row: row["began"])
        done = [row for row in begun if row["state"] in ("finished", "pruned")]
        late = [row for row in done if row["began"] >= min(other["ended"] for other in done)]  # its worker was warm
        usual = [row for row in late if row["state"] == "finished"][:1] or (late if len(late) >= MANY_PRUNED else [])
        for row in usual[:1] or [row for row in begun if row["state"] == "running"][:1]:
            run = Path(run_of(self.folder, row))
            whole = mean(took(row) for row in usual) if usual else unfinished(run, clock - row["began"], steps.get(row["cell"]))
            if whole:
                first = took(done[0]) - whole if usual else 0.0
                self._seen = len(done)
                size = mean(map(self._size, done)) if usual else size_of(run)
                self.estimate = estimated(whole, row["cell"], size, planned, steps, self.workers, max(first, 0.0))
                return self._line(self.estimate)
        return None

    def _line(self, found: Estimate) -> str:
        text = f"preview: {found.runs} runs of about {duration(found.run_seconds)} on {self.workers} worker{'s' * (self.workers != 1)}: "
        text += f"{duration(found.seconds)} and {volume(found.bytes)} in all"
        return text + self._too_much(found.bytes)

    def _too_much(self, count: float) -> str:
        free = shutil.disk_usage(self.folder).free
        return f"; only {volume(free)} are free in {self.folder}" if count > free else ""

    def compared(self, rows: Sequence[Row]) -> str | None:
        """Predicted against actual, once all is done; None where too little was predicted to compare."""
        done = [row for row in rows if row["state"] in DONE and row["began"] and (row["ended"] or 0.0) >= self.since]
        if self.estimate is None or len(done) < 2:
            return None
        runs = "" if len(done) == self.estimate.runs else f"{len(done)} runs instead of {self.estimate.runs} "
        seconds = max(row["ended"] for row in done) - max(self.since, min(row["began"] for row in done))
        wrote = sum(map(self._size, done))
        guess = self.estimate
        return f"{runs}took {duration(seconds)} (predicted {duration(guess.seconds)}) and {volume(wrote)} (predicted {volume(guess.bytes)})"


def took(row: Mapping[str, Any]) -> float:
    """Seconds of a run that has ended."""
    return float(row["ended"] - row["began"])


def estimated(seconds: float, cell: int, size: float, planned: int, steps: Mapping[int, int], workers: int, first: float = 0.0) -> Estimate:
    """The whole from one run: `planned` runs, those of cells with other numbers of steps in proportion; `first`: a cold start."""
    mine = steps.get(cell, 0)
    ratios = [count / mine for count in steps.values()] if mine else []
    usual = mean(ratios) if ratios else 1.0
    return Estimate(planned, first + seconds * usual * planned / min(workers, max(planned, 1)), float(size * planned), seconds * usual)


def unfinished(run: Path, seconds: float, steps: int | None) -> float | None:
    """How long a run that began so many seconds ago will take in all, by its share of steps; None while that is not to be told."""
    if seconds < EARLY_SECONDS or not steps:
        return None
    try:
        step = int(json.loads((run / "metrics.jsonl").read_bytes().splitlines()[-1])["step"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None
    return seconds * steps / step if LEAST_STEPS <= step <= steps else None


def size_of(run: Path) -> int:
    """Bytes of a run directory."""
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file())


def volume(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
