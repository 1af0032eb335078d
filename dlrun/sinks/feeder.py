"""The process that copies a run's metrics.jsonl and events.jsonl to W&B and TensorBoard while the run goes on.

It reads whole lines only, sends no step twice (a copy knows the last step it holds, also over resumes) and ends when the run does or its
parent is gone, at most `LINGER_SECONDS` later. See `background.py` for the protocol.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

POLL_SECONDS = 1.0
LINGER_SECONDS = 60.0
"""How long it may go on after the run's end: uploads take their time, but nothing may stay for ever."""
CHUNK_BYTES = 1 << 22

Row = dict[str, Any]


class Copy(Protocol):
    """One place the truth is copied to."""

    name: str
    folder: str

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        """Import what is slow to import; write nothing yet."""

    def open(self, job: Row) -> int:
        """Get ready in the run's directory, whose config is there; returns the last step the copy already holds (-1: none)."""

    def add(self, rows: list[Row]) -> None:
        """Copy rows, steps increasing."""

    def close(self, summary: Row, events: list[Row], figures: list[Path]) -> str:
        """The run is over: add what is known at its end; returns one line to print."""


class Tail:
    """Reads what is appended to a file of JSON lines, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> Iterator[list[Row]]:
        """The rows since the last call, in portions."""
        while True:
            try:
                with open(self._path, "rb") as file:
                    file.seek(self._offset)
                    chunk = file.read(CHUNK_BYTES)
            except FileNotFoundError:
                return
            whole = chunk.rfind(b"\n") + 1
            if not whole:
                return
            self._offset += whole
            yield [row for line in chunk[:whole].splitlines() if (row := parsed(line)) is not None]


def parsed(line: bytes) -> Row | None:
    """A row with the strings "nan", "inf", "-inf" as the numbers they stand for; None for a line that is no JSON object."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    return {name: float(value) if value in ("nan", "inf", "-inf") else value for name, value in row.items()}


def feed(copy: Copy, watch: Watch) -> str:
    """Copy the run until it has ended; returns one line to print."""
    job = watch.job()
    if job is None:
        return ""
    watch.doing[copy.name] = "starting"
    directory = Path(job["run_dir"])
    (directory / copy.folder).mkdir(exist_ok=True)
    with open(directory / copy.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the feeder of an interrupted run may still be at work when the resumed run starts
        last = copy.open(job)
        watch.doing[copy.name] = "copying"
        follow(copy, directory, last, watch.ended)
        events = [event for rows in Tail(directory / "events.jsonl").read() for event in rows]
        return copy.close(_summary(directory), events, sorted(directory.glob("figures/*.png")))


def follow(copy: Copy, directory: Path, last: int, ended: threading.Event) -> None:
    """Add the rows of metrics.jsonl as they come, each step once, until the run has ended."""
    tail = Tail(directory / "metrics.jsonl")
    while True:
        over = ended.is_set()  # asked first: what was written before the end is still read
        for rows in tail.read():
            new = [row for row in rows if isinstance(row.get("step"), int) and row["step"] > last]
            if new:
                copy.add(new)
                last = new[-1]["step"]
        if over:
            return
        ended.wait(POLL_SECONDS)


def _summary(directory: Path) -> Row:
    try:
        return parsed((directory / "summary.json").read_bytes()) or {}
    except OSError:
        return {}


def guarded(kind: type[Copy], kinds: Mapping[str, Any], watch: Watch) -> None:
    """`feed`, with whatever goes wrong as a line to print and a traceback beside the copy."""
    watch.doing[kind.name] = "importing"
    try:
        watch.lines.append(feed(kind(kinds), watch))
    except BaseException as error:
        reason = str(error).strip().split("\n")[0][:300]
        watch.lines.append(f"{kind.name}: copy incomplete ({type(error).__name__}: {reason}); metrics.jsonl has it all")
        if job := watch.job():
            with contextlib.suppress(OSError), open(Path(job["run_dir"], kind.folder, "error.log"), "a") as file:
                traceback.print_exc(file=file)


class Watch:
    """Waits for the run's directory, then for the run's end: end of file on stdin (or anything there), or the parent's death.

    From the end on a watchdog limits this process's life. It is faulthandler's: it needs no interpreter lock, so that even a hanging C call
    cannot keep the process alive.
    """

    def __init__(self, parent: int, answer: int) -> None:
        self._parent, self._answer = parent, answer
        self._known, self.ended = threading.Event(), threading.Event()
        self._job: Row = {}
        self.doing: dict[str, str] = {}
        self.lines: list[str] = []
        threading.Thread(target=self._wait, daemon=True).start()

    def job(self) -> Row | None:
        """Where the run is, once it is known and its config is there; None if it ended before."""
        self._known.wait()
        while self._job and not Path(self._job["config"]).exists():
            if self.ended.wait(0.05):
                return None
        return self._job or None

    def answer(self, answer: Row) -> None:
        """Write a line to the training process, if it still listens."""
        with contextlib.suppress(OSError):
            os.write(self._answer, (json.dumps(answer) + "\n").encode())

    def _wait(self) -> None:
        with contextlib.suppress(ValueError):  # no line: the training ended before it had a directory
            self._job = json.loads(_line())
        self._known.set()
        while self._job and os.getppid() == self._parent:
            if select.select([0], [], [], 1.0)[0]:
                break
        faulthandler.dump_traceback_later(LINGER_SECONDS, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115 (until the end)
        self.answer({"ending": ", ".join(f"{name} is {what}" for name, what in self.doing.items())})
        self.ended.set()


def copies(kinds: Mapping[str, Any]) -> list[type[Copy]]:
    """The kinds of copy that are asked for; W&B last, for it stays in the main thread."""
    chosen: list[type[Copy]] = []
    if kinds["tensorboard"]:
        from dlrun.sinks.tensorboard_copy import TensorBoardCopy

        chosen.append(TensorBoardCopy)
    if kinds["wandb"]:
        from dlrun.sinks.wandb_copy import WandbCopy

        chosen.append(WandbCopy)
    return chosen


def main() -> None:
    """Entry point of the process: what to copy, and then where the run is, are lines on stdin."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends when its parent does
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(10)
    answer, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # whatever is printed here, by us or by a child of wandb, must not get into the answers
    sys.argv = ["dlrun"]
    kinds = json.loads(_line())
    watch = Watch(kinds["parent"], answer)
    *others, last = copies(kinds)
    threads = [threading.Thread(target=guarded, args=(kind, kinds, watch), daemon=True) for kind in others]
    for thread in threads:
        thread.start()
    guarded(last, kinds, watch)
    for thread in threads:
        thread.join()
    watch.answer({"lines": [line for line in watch.lines if line]})
    os._exit(0)  # all is flushed; W&B's service sees that we are gone and ends, too


def _line() -> bytes:
    """One line from stdin, byte by byte: what follows it is somebody else's to read."""
    text = b""
    while (sign := os.read(0, 1)) not in (b"", b"\n"):
        text += sign
    return text


if __name__ == "__main__":
    main()
