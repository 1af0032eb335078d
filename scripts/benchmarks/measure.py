"""Two things measured in turn: A B A B ..., and the ratio of each pair.

A machine is seldom quiet and never equally fast for long. So what is compared is measured within seconds of each other, in processor time
where a machine is shared, and the median of the pairs' ratios is judged; their spread is shown beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable


@dataclass(frozen=True)
class Promise:
    """A ratio with what was promised of it. `at_least`: the ratio is to be large (steps/s); otherwise small (a cost)."""

    name: str
    floor: float
    aim: float
    at_least: bool


Sample = dict[str, float]
"""One measurement: unit -> value. The first unit is judged (processor time), others are shown beside it (wall time)."""


@dataclass(frozen=True)
class Result:
    """Ratios of one comparison, one a pair; `ours` and `theirs` are the medians of both sides in `unit`."""

    promise: Promise
    what: str
    ratios: tuple[float, ...]
    ours: float
    theirs: float
    unit: str
    judged: bool

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return median(self.ratios)

    @property
    def verdict(self) -> str:
        """`aim`, `floor` or `missed`; `-` where the number is only shown."""
        if not self.judged:
            return "-"
        for name, limit in (("aim", self.promise.aim), ("floor", self.promise.floor)):
            if (self.ratio >= limit) if self.promise.at_least else (self.ratio <= limit):
                return name
        return "missed"


def compare(promise: Promise, what: str, sides: tuple[Callable[[], Sample], Callable[[], Sample]], rounds: int) -> Iterator[Result]:
    """Measure ours, theirs, ours, theirs ...; one round before the first is thrown away, for it fills caches."""
    ours, theirs = sides
    ours(), theirs()
    return results(promise, what, [(ours(), theirs()) for _ in range(rounds)])


def results(promise: Promise, what: str, pairs: Sequence[tuple[Sample, Sample]]) -> Iterator[Result]:
    """One result for each unit of the samples, from measurements (ours, theirs) made in turn."""
    for unit in pairs[0][0]:
        ratios = tuple(a[unit] / b[unit] for a, b in pairs)
        middle = median(a[unit] for a, _ in pairs), median(b[unit] for _, b in pairs)
        yield Result(promise, what, ratios, *middle, unit, judged=unit == next(iter(pairs[0][0])))


def environment() -> dict[str, str]:
    """The caller's, with one thread for every library and this checkout's package."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **threads, "PYTHONPATH": path}


def milliseconds(command: Sequence[str | Path], expect: int = 0, cwd: Path | None = None) -> Sample:
    """User and system time of `command` and the children it waited for, and its wall time; it must exit with `expect`."""
    devnull, start = subprocess.DEVNULL, time.perf_counter()
    child = subprocess.Popen(command, stdin=devnull, stdout=devnull, stderr=subprocess.PIPE, env=environment(), cwd=cwd)
    assert child.stderr is not None
    with child.stderr:
        error = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != expect:
        raise SystemExit(f"error: {' '.join(map(str, command))} exited with {child.returncode}, not {expect}:\n{error[-2000:]}")
    return {"ms cpu": 1000 * (usage.ru_utime + usage.ru_stime), "ms wall": 1000 * wall}


def dlrun() -> list[str]:
    """The installed command of this environment; where it is not installed, the same entry point through Python."""
    command = Path(PYTHON).parent / "dlrun"
    if command.exists():
        return [str(command)]
    return [PYTHON, "-c", "import sys; from dlrun.cli import console; sys.argv[0] = 'dlrun'; sys.exit(console())"]
