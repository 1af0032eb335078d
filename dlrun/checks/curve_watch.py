"""The curves while they grow: a loss that runs away, one that does not move, a validation loss that turns round.

Source: Karpathy's recipe (look at the loss curve); trend: Mann 1945, Kendall 1975. Thresholds in running minima and MAD alone would raise
the alarm at an ordinary cyclic rate or a small batch; here a loss diverges when it stays above where it *began*, by half of what it had
gained. Plateaus and oscillation are not reported: every training that works ends in the one, and small batches look like the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Evaluation, Watcher, falls, median, spread
from dlrun.run import Run

LONG, MANY = 50, 5
"""Steps and rows that a loss must stay high before it counts as diverged."""
HALF, STILL = 0.5, 0.02
"""Share of the run after which a loss that is within 2 % of its start does not learn."""
RISES, TURN = 3, 0.05


class curve_watch(Watcher):
    """`train/loss` and `val/loss`, row by row; nothing for tasks of several objectives or where the loss may rise."""

    stage, recipe = "learning", "Karpathy: look at the loss curve"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.losses: list[tuple[int, float]] = []
        self.rates: list[float] = []
        self.val: list[tuple[int, float]] = []
        self.turned = False

    def row(self, row: Mapping[str, Any]) -> Finding | None:
        """Divergence at once; not learning at half of the run."""
        if self.may_rise:
            return None
        loss, val = row.get("train/loss"), row.get("val/loss")
        if isinstance(val, float):
            self.val.append((row["step"], val))
        if not isinstance(loss, float):
            return None
        self.losses.append((row["step"], loss))
        self.rates.append(float(row.get("train/lr") or 0.0))
        return self._diverges() or self._rests(row["step"])

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """A validation loss that rises while the training loss falls."""
        val = self.val
        if self.turned or self.may_rise or len(val) <= RISES + 1:
            return None
        best, last = min(val, key=lambda pair: pair[1]), val[-1]
        rising = all(later[1] > sooner[1] for sooner, later in zip(val[-RISES - 1 : -1], val[-RISES:], strict=True))
        before, after = (median([loss for step, loss in self.losses if low < step <= high]) for low, high in _spans(best[0], last[0]))
        if not (rising and last[1] - best[1] > TURN * abs(best[1]) and after < before):
            return None
        self.turned = True
        text = f"val loss rises since step {best[0]}, {best[1]:.4g} -> {last[1]:.4g}, while the training loss falls"
        cause = "the network learns its training rows by heart"
        numbers = {"best": best[1], "best_step": best[0], "last": last[1]}
        rule = f"{RISES} rises running, {TURN:.0%} above the best"
        return Finding("info", text, cause, "take the best checkpoint; more data, augmentation or decay", numbers, rule)

    def _diverges(self) -> Finding | None:
        first, recent = self.losses[0][1], self.losses[-MANY:]
        if len(self.losses) < 2 * MANY or recent[-1][0] - recent[0][0] < LONG:
            return None
        values = [loss for _, loss in self.losses]
        gained, noise = first - min(values), spread([b - a for a, b in zip(values[:-MANY], values[1:-MANY])])
        bound = first + max(0.5 * gained, 6 * noise, 0.2 * abs(first), 1e-6)
        if min(loss for _, loss in recent) <= bound:
            return None
        text = f"train loss diverges: above {min(loss for _, loss in recent):.4g} since step {recent[0][0]}, it began at {first:.4g}"
        numbers = {"first": first, "least": min(values), "bound": bound}
        rule = f"{MANY} rows over {LONG} steps above the start by half of what was gained, 6 x noise and 20 %"
        return Finding("warning", text, "the learning rate is too high", "try a third of it, or train.clip_norm=1", numbers, rule)

    def _rests(self, step: int) -> Finding | None:
        steps = self.run.steps
        crossed = len(self.losses) > 1 and self.losses[-2][0] < HALF * steps <= step
        values = [loss for _, loss in self.losses]
        if (
            not crossed
            or len(values) < 3 * MANY
            or (self.run.config.get("expects") or {}).get("pretrained")
            or self.run.config.get("start")
        ):
            return None
        first, last = median(values[:MANY]), median(values[-MANY:])
        warm = sum(rate > 0.5 * max(self.rates) for rate in self.rates) >= HALF * len(self.rates)
        floor = self.run.task.loss_floor(self.run.data.spec)
        done = floor is not None and first - floor < 0.05 * max(abs(first), 1e-9)
        if not warm or done or falls(values) < 0.1 or abs(last - first) > STILL * abs(first):
            return None
        text = f"not learning: train loss {first:.4g} -> {last:.4g} in {step} of {steps} steps"
        numbers = {"first": first, "last": last, "p": falls(values)}
        rule = f"no downward trend (p > 0.1) and within {STILL:.0%} of its start at half of the run"
        cause = "the learning rate is far too low, or the targets do not follow from the inputs"
        return Finding("warning", text, cause, "dlrun check --deep says which", numbers, rule)


def _spans(best: int, last: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(from, to) steps about the best validation loss and before the last."""
    quarter = max((last - best) / 2, 1)
    return (best - quarter, best), (last - quarter, last)
