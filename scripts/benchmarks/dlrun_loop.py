"""`dlrun train` and the bare loop in one process, in turn: `dlrun_loop.py RESULT.json fused|default|transformer CLIP train OVERRIDES...`.

dlrun's loop is stopped after every block of steps for as many of the bare loop, so that both meet the same machine within a fraction of a
second. Two stopwatches add up their time; dlrun's has its loop with logging and bar, and the saving of checkpoints, but not start-up and
evaluation, which the bare loop does not have. Threads of this process count, a separate one that copies to W&B does not.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bare_loop import BareLoop
from bare_transformer import BareTransformer

import dlrun.train
from dlrun.cli import main

BLOCK = {"transformer": 5}
"""Steps between turns, where they are not 50: a fraction of a second."""


class Stopwatch:
    """Adds up processor and wall seconds between `start` and `stop`."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.running = False

    def start(self) -> None:
        """Begin to count."""
        self.running = True
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        """Add what went by since the start."""
        self.cpu, self.wall = self.cpu + time.process_time() - self._cpu, self.wall + time.perf_counter() - self._wall
        self.running = False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time added; inside another that is timed it counts once."""

        def timed(*values: Any, **named: Any) -> Any:
            if self.running:
                return function(*values, **named)
            self.start()
            try:
                return function(*values, **named)
            finally:
                self.stop()

        return timed


def in_turn(
    block: int, after_step: Callable[..., bool], ours: Stopwatch, theirs: Stopwatch, bare: BareLoop | BareTransformer
) -> Callable[..., bool]:
    """`Session.after_step` that lets the bare loop take a turn after every block."""

    def taking_turns(session: Any, step: int) -> bool:
        go_on = after_step(session, step)
        if step % block == 0:
            ours.stop()
            theirs.start()
            before = theirs.wall
            bare.train(block)
            theirs.stop()
            session.telemetry._next += theirs.wall - before  # its pause is a share of the time of its own steps, not of the other's
            ours.start()
        return go_on

    return taking_turns


if __name__ == "__main__":
    kind, clip, ours, theirs = sys.argv[2], float(sys.argv[3]), Stopwatch(), Stopwatch()
    bare = BareTransformer(clip) if kind == "transformer" else BareLoop(kind == "fused", clip)
    block = BLOCK.get(kind, 50)
    bare.train(block)
    session: Any = dlrun.train.Session
    session.after_step = in_turn(block, session.after_step, ours, theirs, bare)
    session.save = ours.around(session.save)
    dlrun.train.fit = ours.around(dlrun.train.fit)
    code = main(sys.argv[4:])
    seconds = {"ours": {"cpu": ours.cpu, "wall": ours.wall}, "theirs": {"cpu": theirs.cpu, "wall": theirs.wall}}
    Path(sys.argv[1]).write_text(json.dumps(seconds), "utf-8")
    sys.exit(code)
