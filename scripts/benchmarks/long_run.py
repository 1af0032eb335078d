"""One training of 10^6 steps with a row a step: `long_run.py RESULT.json` writes the processor microseconds of a step early and late."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import dlrun.train
from dlrun.cli import main

STEPS, WINDOW, FIRST = 1_000_000, 20_000, 1_000
MARKS = (FIRST, FIRST + WINDOW, STEPS - WINDOW, STEPS - 1)
WORDS = ["train", "dataset=moons", "model=linear", f"train.steps={STEPS}", "train.log_every=1", "train.eval_every=0", "train.threads=1"]
QUIET = ["train.checkpoint_every=0", "train.batch_size=8", "checks=none", "log.wandb.mode=disabled"]

if __name__ == "__main__":
    session: Any = dlrun.train.Session
    after_step, at = session.after_step, {}

    def marked(self: Any, step: int) -> bool:
        if step in MARKS:
            at[step] = time.process_time()
        return after_step(self, step)

    session.after_step = marked
    code = main([*WORDS, *QUIET])
    early, late = ((at[b] - at[a]) / (b - a) * 1e6 for a, b in (MARKS[:2], MARKS[2:]))
    Path(sys.argv[1]).write_text(json.dumps({"early": early, "late": late}), "utf-8")
    sys.exit(code)
