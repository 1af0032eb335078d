"""Two players, one of whom has won: its loss is next to nothing for long while the other's is high, and nothing is left to learn from.

Goodfellow et al. 2014, "Generative Adversarial Nets", section 3 (the saturated game). Losses below zero (Wasserstein) say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Watcher
from dlrun.run import Run

WON, LOST, LONG, MANY = 0.05, 3.0, 200, 5
RULE = f"one player's loss in 0..{WON} and another's above {LOST:g} for {LONG} steps and {MANY} rows"


class Players(Watcher):
    """`train/<network>_loss` of each player."""

    recipe = "GANs: neither player may win"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.since: dict[tuple[str, str], list[int]] = {}

    def row(self, row: Mapping[str, Any]) -> Finding | None:
        """Which player has been ahead for how long."""
        losses = {key[6:-5]: value for key, value in row.items() if key.startswith("train/") and key.endswith("_loss")}
        losses = {name: value for name, value in losses.items() if name in self.run.nets and isinstance(value, float)}
        for ahead, behind in ((a, b) for a in losses for b in losses if a != b):
            steps = self.since.setdefault((ahead, behind), [])
            if not (0 <= losses[ahead] < WON and losses[behind] > LOST):
                steps.clear()
                continue
            steps.append(row["step"])
            if len(steps) >= MANY and steps[-1] - steps[0] >= LONG:
                text = f"{ahead} has won: its loss is {losses[ahead]:.3g}, that of {behind} {losses[behind]:.3g}, since step {steps[0]}"
                step = f"a lower rate for {ahead}, fewer of its steps, or a penalty on its gradient"
                return Finding("warning", text, f"{ahead} learns faster than {behind}", step, dict(losses), RULE)
        return None
