"""A worker: a process that takes jobs from a study's ledger one after another and trains them, with torch and data staying loaded.

Started by the engine with its thread budget in the environment. One JSON line on stdin says which study (`Setting`); the end of stdin says
that whoever started it is gone. On its first stdout it says what it does, one JSON object a line; what parts print goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlrun.errors import MissingError, UsageError
from dlrun.rundir import HeldError
from dlrun.signals import EXIT, Stop
from dlrun.study.failures import classed, note, tail
from dlrun.study.ledger import Failure, Ledger, Taken
from dlrun.study.owners import owner_of
from dlrun.study.pruning import PRUNED, give_up, judge
from dlrun.study.setting import Setting, told
from dlrun.study.warm import warm_up

IDLE_SECONDS, HELD_PAUSE_SECONDS = 0.1, 0.5
HELD_SECONDS = 120.0
"""How long a worker waits for a run directory that an earlier attempt still holds."""
Say = Callable[..., None]


class Lease:
    """Renews a job's lease from a thread; where it is lost, asks the training to stop: another worker has the job."""

    def __init__(self, ledger: Ledger, job: Taken, seconds: float, stop: Stop) -> None:
        self.lost = False
        self._ledger, self._job, self._seconds, self._stop = ledger, job, seconds, stop
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def _renew(self) -> None:
        while not self._done.wait(self._seconds / 3):
            try:
                alive = self._ledger.renew(self._job.id, self._job.attempt, self._seconds)
            except MissingError:  # the database is away; the training is not
                continue
            if not alive and not self._done.is_set():
                self.lost = True
                self._stop.signal = self._stop.signal or "SIGTERM"
                return

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


class Worker:
    """Takes and trains jobs of one study until there is none left, or it is asked to stop."""

    def __init__(self, ledger: Ledger, setting: Setting, stop: Stop, say: Say) -> None:
        from dlrun.study.trainer import Trainer

        self.ledger, self.setting, self.stop, self.say = ledger, setting, stop, say
        self.trainer = Trainer(Path(setting.folder), setting.goal, setting.config_dir, setting.valued, setting.composed)
        self._pause = threading.Event()

    def work(self) -> int:
        """Returns the exit code of the process."""
        while not self.stop.signal:
            job = self.ledger.take(self.setting.owner, self.setting.lease)
            if job is not None:
                self.do(job)
            elif not self.setting.stay and not self.ledger.open_jobs():
                return 0
            else:
                self._pause.wait(IDLE_SECONDS)
        return EXIT[self.stop.signal]

    def do(self, job: Taken) -> None:
        """Train one job and enter what came of it."""
        self.say("began", cell=job.cell, seed=job.seed, attempt=job.attempt)
        stop = Joined(self.stop)
        with Lease(self.ledger, job, self.setting.lease, stop) as lease:
            outcome = self._outcome(job, stop)
        if lease.lost:
            self.say("lost", cell=job.cell, seed=job.seed)
        elif isinstance(outcome, Failure):
            self.ledger.fail(job.id, job.attempt, outcome)
        elif outcome.get("reason") == PRUNED:
            self._prune(job, outcome)
        elif "value" in outcome:
            self.ledger.finish(job.id, job.attempt, outcome["value"], outcome)
        else:
            self.ledger.release(job.id, job.attempt, f"{outcome['status']}")
        self.say("ended", cell=job.cell, seed=job.seed, failed=isinstance(outcome, Failure))

    def _outcome(self, job: Taken, stop: Stop) -> dict[str, Any] | Failure:
        from dlrun.study.trainer import place_of

        log = place_of(Path(self.setting.folder), job) / "log.txt"
        try:
            outcome = self._trained(job, stop)
            if stop.signal or isinstance(outcome, Failure) or outcome["status"] != "interrupted":
                return outcome
            return Failure("bug", "KeyboardInterrupt was raised in the run, and nobody asked for it", "KeyboardInterrupt", tail(log))
        except KeyboardInterrupt:
            return {"status": "interrupted"}
        except (Exception, SystemExit) as error:
            note(error, log)
            return classed(error, log)

    def _trained(self, job: Taken, stop: Stop) -> dict[str, Any] | Failure:
        """What training gave. A held run is waited for: whoever had it lost its lease (it slept) and still has to find that out."""
        patience = time.monotonic() + HELD_SECONDS
        while not stop.signal:
            try:
                return self.trainer.train(job, stop, lambda step, value: self._read(job, step, value))
            except HeldError:
                if time.monotonic() > patience:
                    raise
                self._pause.wait(HELD_PAUSE_SECONDS)
        return {"status": "interrupted"}

    def _read(self, job: Taken, step: int, value: float) -> str | None:
        """Note an intermediate value; a reason to stop there, if there is one."""
        self.ledger.read(job.id, job.attempt, step, value)
        if not self.setting.prune or self.setting.goal is None:
            return None
        return judge(self.ledger, job, step, value, self.setting.prune, self.setting.goal[1])

    def _prune(self, job: Taken, outcome: dict[str, Any]) -> None:
        """Enter that the cell was given up, with the last value it had."""
        assert self.setting.goal is not None
        last = outcome["metrics"].get(self.setting.goal[0])
        self.ledger.finish(job.id, job.attempt, last, {**outcome, "goal": list(self.setting.goal)}, PRUNED)
        give_up(self.ledger, job.cell)


class Joined(Stop):
    """The wish to stop of one job: the process's, or its own (a lost lease), which ends with it. The process listens to signals."""

    _own: str | None = None

    def __init__(self, process: Stop) -> None:
        self.process = process
        super().__init__()

    @property
    def signal(self) -> str | None:
        """Which signal came."""
        return self.process.signal or self._own

    @signal.setter
    def signal(self, value: str | None) -> None:
        self._own = value

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def check_pins(setting: Setting) -> None:
    """Load the plugins that were typed. UsageError where one is no longer what it was when the study was asked."""
    from dlrun.plugins import load_plugins

    now = {Path(plugin["name"]).name: plugin["sha256"] for plugin in load_plugins(setting.plugins)}
    changed = [name for name, sha256 in setting.pins if now.get(Path(name).name) != sha256]
    if changed:
        raise UsageError(f"plugin {', '.join(changed)} has changed since the study began: its cells would not be comparable; new --name")


def listen(stop: Stop) -> None:
    """Save and stop when whoever started this process is gone: the end of stdin says so."""

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 4096):
                pass
        stop.signal = stop.signal or "SIGTERM"

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main(forked: bool = False) -> None:
    """The process: import what training needs, read which study it is, work, and leave at once. A forked one says who it is."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what parts print is no message

    def say(event: str, **facts: Any) -> None:
        with contextlib.suppress(OSError):  # nobody reads; the ledger has it
            out.write(json.dumps({"event": event, **facts}) + "\n")

    code = 3
    with Stop() as stop:
        if forked:
            say("here", pid=os.getpid(), owner=owner_of(os.getpid()))
        try:
            code = serve(stop, say)
        except KeyboardInterrupt:
            code = EXIT["SIGINT"]
        except (MissingError, UsageError) as error:
            say("error", lines=error.lines, code=error.code)
            code = error.code
    for stream in (sys.stdout, sys.stderr, out):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # leaving Python after torch takes 0.4 s


def serve(stop: Stop, say: Say) -> int:
    """Get warm while the driver composes, wait for the study, work."""
    warm_up()

    line = b""
    while not line.endswith(b"\n"):
        if stop.signal:
            return EXIT[stop.signal]
        if not select.select([0], [], [], IDLE_SECONDS)[0]:
            continue
        if not (part := os.read(0, 65536)):  # nothing is to be done after all
            return 0
        line += part
    setting = told(json.loads(line))
    setting = setting if setting.owner else replace(setting, owner=owner_of(os.getpid()))
    sys.argv[:] = list(setting.command) or sys.argv
    check_pins(setting)
    listen(stop)
    ledger = Ledger(setting.storage, setting.study, make=False)
    try:
        return Worker(ledger, setting, stop, say).work()
    finally:
        ledger.close()
