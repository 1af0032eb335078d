"""`dlrun train` in this process, with a stopwatch around its loop and its checkpoints: `dlrun_loop.py RESULT.json train OVERRIDES...`.

Start-up and evaluation are left out, as they are for the bare loop; logging, the bar and the saving of checkpoints are in. Threads of
this process count, a separate one that copies to W&B does not. Loops are timed in place because whole processes differ more in their
start-up from one time to the next than the loops do.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlrun.train
from dlrun.cli import main


class Stopwatch:
    """Adds up the seconds spent in the calls it wraps; a wrapped call inside another counts once."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.running = False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time added."""

        def timed(*values: Any, **named: Any) -> Any:
            if self.running:
                return function(*values, **named)
            self.running, cpu, wall = True, time.process_time(), time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                self.cpu, self.wall = self.cpu + time.process_time() - cpu, self.wall + time.perf_counter() - wall
                self.running = False

        return timed


if __name__ == "__main__":
    watch = Stopwatch()
    dlrun.train.fit = watch.around(dlrun.train.fit)  # type: ignore[assignment]
    dlrun.train.Session.save = watch.around(dlrun.train.Session.save)  # type: ignore[method-assign]
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({"cpu": watch.cpu, "wall": watch.wall}), "utf-8")
    sys.exit(code)
