"""One training of 10^6 steps with a row a step: `long_run.py RESULT.json` writes what a step costs early and late.

Minutes lie between the two, and a shared machine is not equally fast for so long: both windows take turns with a bare loop of the same
model, and a step's cost is counted in steps of that.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dlrun.train
from dlrun.cli import main

STEPS, WINDOW, FIRST, BLOCK = 1_000_000, 20_000, 1_000, 50
WINDOWS = {"early": range(FIRST, FIRST + WINDOW), "late": range(STEPS - WINDOW, STEPS)}
WORDS = ["train", "dataset=moons", "model=linear", f"train.steps={STEPS}", "train.log_every=1", "train.eval_every=0", "train.threads=1"]
QUIET = ["train.checkpoint_every=0", "train.batch_size=8", "checks=none", "log.wandb.mode=disabled"]


class Bare:
    """The same linear model by hand, nothing logged."""

    def __init__(self) -> None:
        self.model, self.x, self.y = nn.Linear(2, 2), torch.randn(8, 2), torch.arange(8) % 2
        self.adam = torch.optim.Adam(self.model.parameters(), fused=True)

    def train(self, steps: int) -> None:
        """Go on for `steps` steps."""
        for _ in range(steps):
            loss = nn.functional.cross_entropy(self.model(self.x), self.y)
            self.adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.adam.step()


if __name__ == "__main__":
    session: Any = dlrun.train.Session
    after_step, bare = session.after_step, Bare()
    spent = {name: {"ours": 0.0, "theirs": 0.0} for name in WINDOWS}
    last = [0.0]

    def in_turn(self: Any, step: int) -> bool:
        """Where a window is open, time the block that ends here, then as many steps of the bare loop."""
        go_on = after_step(self, step)
        name = next((name for name, window in WINDOWS.items() if step in window), None)
        if name is None or step % BLOCK:
            return go_on
        now = time.process_time()
        if step - BLOCK in WINDOWS[name]:
            spent[name]["ours"] += now - last[0]
            bare.train(BLOCK)
            spent[name]["theirs"] += time.process_time() - now
        last[0] = time.process_time()
        return go_on

    session.after_step = in_turn
    code = main([*WORDS, *QUIET])
    Path(sys.argv[1]).write_text(json.dumps({name: both["ours"] / both["theirs"] for name, both in spent.items()}), "utf-8")
    sys.exit(code)
