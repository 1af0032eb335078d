"""What a trained network makes of val: no better than guessing, worse than guessing, or better than can be.

Ojala and Garriga 2010, "Permutation Tests for Studying Classifier Performance", section 3.1; Kaufman et al. 2012, "Leakage in Data Mining",
section 4. A set-up that learns nothing for long, or whose rows cannot be generalised from, is no fault of wiring: not above chance is a
note, said once at the end. Well below chance, by a network that is well above it on train, is what labels shifted against their rows look
like: a warning. No error on val is a note, since easy and generated data are learned without one; a loss below its floor cannot be.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Evaluation, Watcher
from dlrun.run import Run

PERMUTATIONS, LEAST, EFFECT, MANY = 200, 50, 0.1, 200
ABOVE = f"score on val above that of {PERMUTATIONS} random orders of its targets; below all of them by {EFFECT:g}: warning"
POSSIBLE = f"val loss at or above its floor; up to {MANY} rows, or an error among them"


class Guessing(Watcher):
    """Accuracy of classes, correlation of numbers, at the first evaluation after an epoch and at the last."""

    recipe = "permutation test"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.looked = False

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """Compare the score with its null."""
        due = seen.step > 0 and (seen.final or (seen.epochs >= 1 and not self.looked))
        if not due or self.may_rise or self.run.data.rows.get("val", 0) < LEAST:
            return None
        self.looked = True
        scored = score_and_null(seen.compared("val"))
        if scored is None:
            return None
        score, null, what = scored
        numbers = {
            "score": score,
            "chance": float(null.mean()),
            "highest": float(null.max()),
            "lowest": float(null.min()),
            "step": seen.step,
        }
        if score < numbers["lowest"] - EFFECT:
            on_train = score_and_null(seen.compared("train"))
            if on_train is None or on_train[0] < float(on_train[1].max()) + EFFECT:
                return None
            text = f"val {what} {score:.3f} is below that of guessing ({numbers['chance']:.3f}), on train it is {on_train[0]:.3f}"
            step = "look at rows of val beside their targets"
            return Finding("warning", text, "the targets of val are shifted against their rows", step, numbers, ABOVE)
        if seen.final and score <= numbers["highest"]:
            text = f"val {what} {score:.3f} is not above that of guessing ({numbers['chance']:.3f}, at most {numbers['highest']:.3f})"
            return Finding("info", text, "nothing was learned that holds for val", "train longer, or look at val", numbers, ABOVE)
        return None


class TooGood(Watcher):
    """`val/loss` at every evaluation, `val/accuracy` at the last."""

    recipe = "too good to be true: look for leakage"

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """Compare with what can be."""
        run, loss = self.run, seen.metrics.get("val/loss")
        floor = run.task.loss_floor(run.data.spec)
        if floor is not None and loss is not None and loss < floor - 1e-4 * max(1.0, abs(floor)):
            text = f"val loss {loss:.4g} is below {floor:.4g}, the least it can be"
            cause = "the loss is not what it is taken for: its sign, a term of its own, or targets outside their range"
            return Finding("warning", text, cause, "look at the loss of one row", {"loss": loss, "floor": floor}, POSSIBLE)
        rows = run.data.rows.get("val", 0)
        if seen.final and seen.metrics.get("val/accuracy") == 1.0 and rows > MANY:
            text = f"val accuracy is 1 on {rows} rows"
            return Finding("info", text, "easy data, or val leaks into train", "dlrun check looks for leaks", {"rows": rows}, POSSIBLE)
        return None


def score_and_null(compared: tuple[Any, Any] | None) -> tuple[float, Tensor, str] | None:
    """The score, its values under random orders of the targets, and its name; None for outputs and targets of other forms."""
    if compared is None:
        return None
    out, y = compared
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(y), generator=generator) for _ in range(PERMUTATIONS)]
    if out.dim() == 2 and y.dim() == 1 and not y.is_floating_point() and out.shape[1] > 1:
        named, y = out.argmax(1).cpu(), y.cpu()
        null = torch.stack([(named == y[order]).double().mean() for order in orders])
        return float((named == y).double().mean()), null, "accuracy"
    if out.numel() == y.numel() == len(y) and y.is_floating_point():
        a, b = (value.detach().double().reshape(-1).cpu() for value in (out, y))
        a, b = a - a.mean(), b - b.mean()
        size = a.norm() * b.norm()
        if not torch.isfinite(size) or size <= 1e-12:
            return None
        return float(a @ b / size), torch.stack([a @ b[order] / size for order in orders]), "correlation"
    return None
