"""The side of a Ray worker that runs on its machine: an actor that holds the same worker process as `pool.py` starts on this one.

The process, and not the actor, trains: its threads are set before torch loads, it dies of what it does alone, and where the actor is killed
its stdin ends, so that it saves and leaves. Imports neither Ray nor torch.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlrun import __version__
from dlrun.study.owners import place
from dlrun.study.process import Process
from dlrun.study.setting import told

PATIENCE_SECONDS = 10.0
"""How long a disk that machines share may take to show a file."""


class Actor:
    """One worker process. Methods run in threads of their own: `read` waits while the others are called."""

    def __init__(self, threads: int, environment: Mapping[str, str], folder: str) -> None:
        os.environ.update(environment)
        if os.path.isdir(folder):
            os.chdir(folder)  # names on the command line are meant from there
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # Ray's workers are deaf to Ctrl-C
        self.process = Process(threads)
        self.ended: tuple[int, str] | None = None
        self.trouble: list[dict[str, Any]] = []

    def facts(self) -> dict[str, str]:
        """Who it is: `owner` in the ledger, `machine`, and the versions that must agree."""
        version = f"dlrun {__version__}, Python {sys.version_info[0]}.{sys.version_info[1]}"
        return {"owner": self.process.owner, "machine": place().partition(".")[0], "version": version}

    def tell(self, facts: dict[str, Any], proof: str) -> None:
        """Begin to work on a study, if its folder with the driver's `proof` in it is here, too."""
        folder = Path(facts["folder"])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (folder / proof).is_file() and time.monotonic() < deadline:
            time.sleep(0.2)
        if not (folder / proof).is_file():
            machine = place().partition(".")[0]
            line = f"{folder} is not on {machine}: with Ray on several machines output_root must lie on a disk that all of them share"
            self.trouble.append({"event": "error", "lines": [line], "code": 2})
            self.process.signal(signal.SIGKILL)
            return
        self.process.tell(told(facts))

    def read(self) -> list[dict[str, Any]] | None:
        """Waits until the process says something; None at its end."""
        said = self.process.read()
        if said is None and self.trouble:
            said, self.trouble = self.trouble, []
        return said

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self.process.signal(number)

    def end(self) -> tuple[int, str]:
        """The exit code of the process, once it has ended, and what it printed."""
        if self.ended is None:
            code = self.process.close()
            self.ended = code, self.process.output()
            self.process.errors.close()
        return self.ended
