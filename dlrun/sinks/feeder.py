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

    def __init__(self, job: Mapping[str, Any]) -> None:
        """Import what is slow to import; write nothing yet."""

    def open(self) -> int:
        """Get ready once the config is there; returns the last step the copy already holds (-1: none)."""

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


def feed(copy: Copy, job: Mapping[str, Any], ended: threading.Event) -> str:
    """Copy the run of `job` until it has ended; returns one line to print."""
    while not Path(job["config"]).exists():
        if ended.wait(0.05):
            return ""
    directory = Path(job["run_dir"])
    (directory / copy.folder).mkdir(exist_ok=True)
    with open(directory / copy.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the feeder of an interrupted run may still be at work when the resumed run starts
        follow(copy, directory, ended)
        events = [event for rows in Tail(directory / "events.jsonl").read() for event in rows]
        return copy.close(_summary(directory), events, sorted(directory.glob("figures/*.png")))


def follow(copy: Copy, directory: Path, ended: threading.Event) -> None:
    """Add the rows of metrics.jsonl as they come, each step once, until the run has ended."""
    last, tail = copy.open(), Tail(directory / "metrics.jsonl")
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


def guarded(kind: type[Copy], job: Mapping[str, Any], ended: threading.Event, lines: list[str]) -> None:
    """`feed`, with whatever goes wrong as a line to print and a traceback beside the copy."""
    try:
        lines.append(feed(kind(job), job, ended))
    except BaseException as error:
        reason = str(error).strip().split("\n")[0][:300]
        lines.append(f"{kind.name}: copy incomplete ({type(error).__name__}: {reason}); metrics.jsonl has it all")
        with contextlib.suppress(OSError), open(Path(job["run_dir"], kind.folder, "error.log"), "a") as file:
            traceback.print_exc(file=file)


def watch(ended: threading.Event, parent: int, answer: int) -> None:
    """Wait for the end of the run (a line or end of file on stdin, or the parent's death) and see to it that this process ends, too.

    The watchdog is faulthandler's: it needs no interpreter lock, so that even a hanging C call cannot keep the process alive.
    """
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0]:
            break
    faulthandler.dump_traceback_later(LINGER_SECONDS, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115 (until the end)
    with contextlib.suppress(OSError):
        os.write(answer, b'{"ending": true}\n')
    ended.set()


def copies(job: Mapping[str, Any]) -> list[type[Copy]]:
    """The kinds of copy that `job` asks for; W&B last, for it stays in the main thread."""
    chosen: list[type[Copy]] = []
    if job["tensorboard"]:
        from dlrun.sinks.tensorboard_copy import TensorBoardCopy

        chosen.append(TensorBoardCopy)
    if job["wandb"]:
        from dlrun.sinks.wandb_copy import WandbCopy

        chosen.append(WandbCopy)
    return chosen


def main() -> None:
    """Entry point of the process: the job is a JSON line on stdin."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends when its parent does
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(10)
    answer, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # whatever is printed here, by us or by a child of wandb, must not get into the answers
    job = json.loads(_first_line())
    sys.argv = ["dlrun"]
    ended, lines = threading.Event(), list[str]()
    threading.Thread(target=watch, args=(ended, job["parent"], answer), daemon=True).start()
    *others, last = copies(job)
    threads = [threading.Thread(target=guarded, args=(kind, job, ended, lines), daemon=True) for kind in others]
    for thread in threads:
        thread.start()
    guarded(last, job, ended, lines)
    for thread in threads:
        thread.join()
    with contextlib.suppress(OSError):
        os.write(answer, (json.dumps({"lines": [line for line in lines if line]}) + "\n").encode())
    os._exit(0)  # all is flushed; W&B's service sees that we are gone and ends, too


def _first_line() -> bytes:
    """One line from stdin, byte by byte: nothing of what follows may be taken from `watch`."""
    text = b""
    while (sign := os.read(0, 1)) not in (b"", b"\n"):
        text += sign
    return text


if __name__ == "__main__":
    main()
