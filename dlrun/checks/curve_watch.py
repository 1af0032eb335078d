"""The curves while they grow: a loss that runs away, one that does not move, a validation loss that turns round.

Source: Karpathy's recipe (look at the loss curve); trend: Mann 1945, Kendall 1975. Thresholds in running minima and MAD alone would raise
the alarm at an ordinary cyclic rate or a small batch; here a loss diverges when it stays above where it *began*, by half of what it had
gained. Plateaus and oscillation are not reported: every training that works ends in the one, and small batches look like the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Evaluation, Watcher, falls, median, spread
from dlrun.run import Run

LONG, MANY = 50, 5
"""Steps and rows that a loss must stay high before it counts as diverged."""
HALF, STILL = 0.5, 0.02
"""Share of the run after which a loss that is within 2 % of its start does not learn."""
RISES, TURN = 3, 0.05


class Thinned:
    """At most 400 (step, loss, rate), evenly over the run, so that a row costs the same at any step."""

    MOST = 400

    def __init__(self) -> None:
        self.kept: list[tuple[int, float, float]] = []
        self.stride, self.seen = 1, 0

    def add(self, step: int, loss: float, rate: float) -> None:
        """One more row; every second one goes where there are too many."""
        if self.seen % self.stride == 0:
            self.kept.append((step, loss, rate))
        self.seen += 1
        if len(self.kept) > self.MOST:
            self.kept, self.stride = self.kept[::2], 2 * self.stride


class curve_watch(Watcher):
    """`train/loss` and `val/loss`, row by row; nothing for tasks of several objectives or where the loss may rise."""

    stage, recipe = "learning", "Karpathy: look at the loss curve"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.losses = Thinned()
        self.recent: deque[tuple[int, float]] = deque(maxlen=LONG + 1)
        self.val: list[tuple[int, float]] = []
        self.last, self.turned = 0, False

    def row(self, row: Mapping[str, Any]) -> Finding | None:
        """Divergence at once; not learning at half of the run."""
        if self.may_rise:
            return None
        loss, val = row.get("train/loss"), row.get("val/loss")
        if isinstance(val, float):
            self.val.append((row["step"], val))
        if not isinstance(loss, float):
            return None
        self.losses.add(row["step"], loss, float(row.get("train/lr") or 0.0))
        self.recent.append((row["step"], loss))
        before, self.last = self.last, row["step"]
        return self._diverges() or (self._rests(row["step"]) if before < HALF * self.run.steps <= row["step"] else None)

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """A validation loss that rises while the training loss falls."""
        val = self.val
        if self.turned or self.may_rise or len(val) <= RISES + 1:
            return None
        best, last = min(val, key=lambda pair: pair[1]), val[-1]
        rising = all(later[1] > sooner[1] for sooner, later in zip(val[-RISES - 1 : -1], val[-RISES:], strict=True))
        before, after = (
            median([loss for step, loss, _ in self.losses.kept if low < step <= high]) for low, high in _spans(best[0], last[0])
        )
        if not (rising and last[1] - best[1] > TURN * abs(best[1]) and after < before):
            return None
        self.turned = True
        text = f"val loss rises since step {best[0]}, {best[1]:.4g} -> {last[1]:.4g}, while the training loss falls"
        cause = "the network learns its training rows by heart"
        numbers = {"best": best[1], "best_step": best[0], "last": last[1]}
        rule = f"{RISES} rises running, {TURN:.0%} above the best"
        return Finding("info", text, cause, "take the best checkpoint; more data, augmentation or decay", numbers, rule)

    def _diverges(self) -> Finding | None:
        first, now = self.losses.kept[0][1], self.recent[-1][0]
        high = first + max(0.2 * abs(first), 1e-6)
        recent = [pair for pair in self.recent if pair[0] >= now - LONG]
        recent = recent if len(recent) >= MANY else list(self.recent)[-MANY:]
        if len(recent) < MANY or now - recent[0][0] < LONG or min(loss for _, loss in recent) <= high:
            return None
        values = [loss for step, loss, _ in self.losses.kept if step < recent[0][0]]
        if len(values) < MANY:
            return None
        gained, noise = first - min(values), spread([b - a for a, b in pairwise(values)])
        bound = max(high, first + 0.5 * gained, first + 6 * noise)
        if min(loss for _, loss in recent) <= bound:
            return None
        text = f"train loss diverges: above {min(loss for _, loss in recent):.4g} since step {recent[0][0]}, it began at {first:.4g}"
        numbers = {"first": first, "least": min(values), "bound": bound}
        rule = f"{MANY} rows over {LONG} steps above the start by half of what was gained, 6 x noise and 20 %"
        return Finding("warning", text, "the learning rate is too high", "try a third of it, or train.clip_norm=1", numbers, rule)

    def _rests(self, step: int) -> Finding | None:
        values, rates = [loss for _, loss, _ in self.losses.kept], [rate for _, _, rate in self.losses.kept]
        if len(values) < 3 * MANY or (self.run.config.get("expects") or {}).get("pretrained") or self.run.config.get("start"):
            return None
        first, last = median(values[:MANY]), median(values[-MANY:])
        warm = sum(rate > 0.5 * max(rates) for rate in rates) >= HALF * len(rates)
        floor = self.run.task.loss_floor(self.run.data.spec)
        done = floor is not None and first - floor < 0.05 * max(abs(first), 1e-9)
        if not warm or done or falls(values) < 0.1 or abs(last - first) > STILL * abs(first):
            return None
        text = f"not learning: train loss {first:.4g} -> {last:.4g} in {step} of {self.run.steps} steps"
        numbers = {"first": first, "last": last, "p": falls(values)}
        rule = f"no downward trend (p > 0.1) and within {STILL:.0%} of its start at half of the run"
        cause = "the learning rate is far too low, or the targets do not follow from the inputs"
        return Finding("warning", text, cause, "dlrun check --deep says which", numbers, rule)


def _spans(best: int, last: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(from, to) steps about the best validation loss and before the last."""
    quarter = max((last - best) / 2, 1)
    return (best - quarter, best), (last - quarter, last)
