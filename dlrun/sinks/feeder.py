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
import re
import select
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dlrun.sinks.tail import Rows, events_of, summary_of

POLL_SECONDS = 1.0
LINGER_SECONDS, MODEL_SECONDS = 60.0, 600.0
"""How long it may go on after the run's end, without and with checkpoints to upload: nothing may stay for ever."""

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

    def close(self, summary: Row | None, events: list[Row], figures: list[Path]) -> str:
        """The run is over: add what is known at its end; returns one line to print. None: another process has taken it over."""


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
        if not follow(copy, directory, last, watch):
            return copy.close(None, [], [])
        return copy.close(summary_of(directory), events_of(directory), sorted(directory.glob("figures/*.png")))


def follow(copy: Copy, directory: Path, last: int, watch: Watch) -> bool:
    """Add the rows of metrics.jsonl as they come, each step once, until the run has ended; False where another process took it over."""
    source = Rows(directory, last)
    while True:
        over = watch.ended.is_set()  # asked first: what was written before the end is still read
        for rows in source.read(over):
            if taken_over(directory, watch.parent):  # asked afterwards: these rows may stand behind a cut that the resumed run made
                return False
            copy.add(rows)
        if over:
            return True
        watch.ended.wait(POLL_SECONDS)


def taken_over(directory: Path, owner: int) -> bool:
    """Whether the run is in the hands of another process than `owner`: its parent died, and the run was resumed."""
    try:
        found = re.match(r"process (\d+) on", (directory / ".lock").read_text(encoding="utf-8"))
    except OSError:
        return False
    return found is not None and int(found[1]) != owner


def guarded(kind: type[Copy], kinds: Mapping[str, Any], watch: Watch) -> None:
    """`feed`, with whatever goes wrong as a line to print and a traceback beside the copy."""
    watch.doing[kind.name] = "importing"
    try:
        watch.lines.append(feed(kind(kinds), watch))
    except BaseException as error:
        watch.lines.append(f"{kind.name}: {told(error)}")
        if job := watch.job():
            with contextlib.suppress(OSError), open(Path(job["run_dir"], kind.folder, "error.log"), "a") as file:
                traceback.print_exc(file=file)


def told(error: BaseException) -> str:
    """One line for what went wrong: a copy's own words where it has some."""
    reason = str(error).strip().split("\n")[0][:300]
    if type(error).__name__ == "NotOnlineError":  # by name: the module is W&B's
        return reason
    return f"copy incomplete ({type(error).__name__}: {reason}); metrics.jsonl has it all"


class Watch:
    """Waits for the run's directory, then for the run's end: end of file on stdin (or anything there), or the parent's death.

    From the end on a watchdog limits this process's life. It is faulthandler's: it needs no interpreter lock, so that even a hanging C call
    cannot keep the process alive.
    """

    def __init__(self, parent: int, answer: int, models: bool) -> None:
        self.parent, self._answer, self._models = parent, answer, models
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
        while self._job and os.getppid() == self.parent:
            if select.select([0], [], [], 1.0)[0]:
                break
        linger = MODEL_SECONDS if self._models else LINGER_SECONDS
        faulthandler.dump_traceback_later(linger, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115 (until the end)
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
    watch = Watch(kinds["parent"], answer, bool((kinds["wandb"] or {}).get("log_model")))
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
