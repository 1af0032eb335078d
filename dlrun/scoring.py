"""Whether outputs are logits, probabilities or plain numbers: the loss is asked what it takes, and metrics of classes read them so.

A network that ends in a sigmoid and a loss over probabilities are as right as plain logits and a loss over these; only a metric that cuts
at 0 where the loss has its middle at one half is wrong. A few made-up outputs tell: to a loss over logits more is always better, one over
probabilities refuses what lies outside of [0, 1], is NaN there or flat, a squared error gets worse again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.evaluate import evaluating
from dlrun.functional.classes import form
from dlrun.functional.criteria import unwrap
from dlrun.functional.scores import Scores
from dlrun.noise import Noise, seed_generators
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.task import LossTask

MARGIN = 1e-6
"""Relative difference of two losses from which one counts as lower."""
UNKNOWN = "metrics read outputs as logits; the loss does not tell: say task.scores=probabilities if the network gives these"
SAID = {
    "probabilities": "metrics read outputs as probabilities, as the loss does (class 1 from 0.5 on)",
    "numbers": "metrics read outputs as numbers near the targets, as the loss does; they are no probabilities",
    "margins": "outputs are margins: their sign and order count, they are no probabilities",
}


@dataclass(frozen=True)
class Reading:
    """A metric that gets logits and labels of 0 and 1, whatever the network gives."""

    func: Callable[..., Any]
    scores: Scores
    kind: str | None

    def __call__(self, out: Any, y: Any) -> Any:
        return self.func(self.scores.logits(out, y, self.kind), self.scores.targets(y))


def settle_scores(run: Run) -> list[str]:
    """Find out what the outputs are (`run.scores`) and have the metrics of classes read them so; returns a line where they are no logits.

    Raises UsageError where labels are -1 and 1 and the loss takes 0 and 1, and for a metric somebody asked for that needs probabilities.
    """
    task = run.task
    if not isinstance(task, LossTask) or not any(metric.logits for metric in task.metrics.values()):
        return []
    kind, signed = getattr(task, "kind", None), _signed(run)
    if signed and getattr(unwrap(task.criterion)[0], "signed", True) is False:
        name = (run.config.get("loss") or {}).get("name") or task.default_loss(run.data.spec)
        raise UsageError(f"loss {name} takes labels of 0 and 1, this dataset gives -1 and 1: let it give (y + 1) / 2")
    known, lines = _said(run, task), []
    if known is None:
        known, open_question = _asked(run, task, signed)
        lines += [UNKNOWN] if open_question else []
    run.scores = Scores(known or "logits", signed)
    if run.scores == Scores():
        return lines
    task.metrics = {
        name: replace(metric, function=Reading(metric.function, run.scores, kind)) if metric.logits else metric
        for name, metric in task.metrics.items()
    }
    lines += [SAID[run.scores.name]] if run.scores.name in SAID else []
    return lines + (["labels are -1 and 1: metrics read -1 as class 0"] if signed else []) + _without_probabilities(run, task)


def _signed(run: Run) -> bool:
    """Whether the labels are -1 and 1, as far as they are in memory, else as far as the first rows tell."""
    y = run.data.targets("train")
    y = run.data.head("train", 512).get("y") if y is None else y
    if not isinstance(y, Tensor) or not y.numel() or y.is_complex() or y.dtype == torch.bool:
        return False
    return bool((y == -1).any()) and bool((y == 1).any()) and bool((y.abs() == 1).all())


def _said(run: Run, task: LossTask) -> Any:
    """What the user says (`task.scores`), or what is known of the loss."""
    said = getattr(task, "scores", None)
    loss, _ = unwrap(task.criterion)
    if said is not None or loss is None:
        return said
    if getattr(loss, "margins", False):
        return "margins"
    if isinstance(loss, nn.BCELoss):
        return "probabilities"
    own = str(getattr(loss, "__module__", "")).startswith("dlrun.losses.") and getattr(loss, "__name__", "") not in ("mse", "l1", "huber")
    return "logits" if own or isinstance(loss, (nn.BCEWithLogitsLoss, nn.CrossEntropyLoss)) else None


def _without_probabilities(run: Run, task: LossTask) -> list[str]:
    """Take out metrics of probabilities where outputs are none. UsageError for one that was asked for."""
    lost = [name for name, metric in task.metrics.items() if metric.probabilities and run.scores.name in ("numbers", "margins")]
    if not lost:
        return []
    asked = {(part["name"] if slot == "metric" else slot) for slot, part in slots(run.config.get("metric"), "metric").items()}
    for name in lost:
        if name in asked:
            raise UsageError(
                f"metric {name} needs probabilities, to this loss outputs are {run.scores.name}: "
                "take a loss over logits or probabilities (if they are probabilities, say task.scores=probabilities)"
            )
    task.metrics = {name: metric for name, metric in task.metrics.items() if name not in lost}
    return [f"metric {', '.join(lost)} is left out: outputs are no probabilities"]


def _asked(run: Run, task: LossTask, signed: bool) -> tuple[Any, bool]:
    """What the loss says, None where it cannot be asked; and whether outputs would then pass for probabilities."""
    noise = Noise(run.seed, "scores")
    try:
        with evaluating(run.modules), run.precision.autocast():
            seed_generators(*noise.key)
            batch = task.prepare(run.data.head("train", 2), noise)
            outputs = task.outputs(run.nets, batch)
            out = task.logits(outputs)
            found = _judged(task, outputs, batch, signed)
            return found, found is None and bool(((out >= 0) & (out <= 1)).all())
    except UsageError:
        raise
    except Exception:  # the same forward and loss fail again where that can be reported: in the checks, or in the first step
        return None, False


def _judged(task: LossTask, outputs: Any, batch: Batch, signed: bool) -> Any:
    """Put made-up outputs to the loss. On the CPU: torch's kernels for probabilities stop a whole GPU process at a wrong number."""
    out, y = task.logits(outputs), batch["y"]
    outputs, batch = _on_cpu(outputs), batch.map(lambda tensor: tensor.cpu())
    found = form(out, y, getattr(task, "kind", None))
    up = _right(out.cpu(), y.cpu(), found)
    with _criterion_on_cpu(task):

        def cost(made: Tensor) -> float | None:
            return _cost(task, outputs, batch, made.to(out.dtype))

        return of_labels(cost, up, signed) if found == "labels" else of_classes(cost, up)


def _on_cpu(outputs: Any) -> Any:
    if isinstance(outputs, (tuple, list)):
        return tuple(_on_cpu(part) for part in outputs)
    return outputs.cpu() if isinstance(outputs, Tensor) else outputs


def _right(out: Tensor, y: Tensor, found: str) -> Tensor:
    """Of the outputs' shape, 1 where the target names them and 0 elsewhere."""
    if found == "labels":
        return (y.reshape(out.shape) > 0.5).double()
    index = y.argmax(-1) if found == "shares" else y.clamp(min=0).long()
    return nn.functional.one_hot(index, out.shape[-1]).double()


@contextmanager
def _criterion_on_cpu(task: LossTask) -> Iterator[None]:
    kept = task.criterion
    if isinstance(kept, nn.Module):
        task.criterion = copy.deepcopy(kept).cpu()
    try:
        yield
    finally:
        task.criterion = kept


def _cost(task: LossTask, outputs: Any, batch: Batch, made: Tensor) -> float | None:
    """The loss where the network had given `made`; None where it takes no such outputs."""
    try:
        loss = task.loss((made, *outputs[1:]) if isinstance(outputs, tuple) else made, batch)
        value = float(loss[0] if isinstance(loss, tuple) else loss)
    except Exception:  # probabilities outside of 0 and 1
        return None
    return value if math.isfinite(value) else None


Cost = Callable[[Tensor], float | None]


def _lower(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and a < b - MARGIN * max(abs(a), abs(b))


def _like(outside: float | None, end: float | None) -> bool:
    """Whether the loss refuses what lies outside, or clamps it to the end."""
    return outside is None or not (_lower(outside, end) or _lower(end, outside))


def of_labels(cost: Cost, up: Tensor, signed: bool) -> str | None:
    """What the loss takes for labels; `up` is 1 where an output should be large. None where outputs make no difference to it."""

    def at(one: float, zero: float) -> float | None:
        return cost(torch.where(up > 0, one, zero).to(up.dtype))

    good, bad = at(0.75, 0.25), at(0.25, 0.75)
    if not _lower(good, bad) and not (signed and _lower(at(0.75, -0.75), at(-0.75, 0.75))):
        return None
    wrong, far = at(-4.0, 5.0), at(4.0, -3.0)
    if _lower(far, at(0.5, 0.5)) and _lower(at(0.0, 1.0), wrong):
        return "logits"
    if signed and _lower(at(0.9, -0.9), at(0.9, 0.0)):
        return "numbers"
    return "probabilities" if _like(wrong, at(0.0, 1.0)) or _like(far, at(1.0, 0.0)) else "numbers"


def of_classes(cost: Cost, up: Tensor) -> str | None:
    """What the loss takes for classes; `up` is 1 at the class of each target. None where outputs make no difference to it."""
    classes = up.shape[-1]
    if not _lower(cost(0.8 * up + 0.2 / classes), cost(0.2 * up + 0.8 / classes)):
        return None
    zeros = torch.zeros_like(up)
    wrong, far = cost(-4 * up), cost(4 * up)
    if _lower(far, cost(0.5 * up)) and _lower(cost(zeros), wrong):
        return "logits"
    return "probabilities" if _like(wrong, cost(zeros)) or _like(far, cost(up)) else "numbers"
