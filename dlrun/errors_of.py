"""What a trained classifier gets wrong: confusion counts, and the rows it was most sure of and wrong about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.evaluate import evaluating
from dlrun.noise import Noise, seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

WORST = 16


def confusion_and_errors(run: Run, split: str) -> tuple[Tensor | None, list[dict[str, Any]] | None]:
    """(counts [C true, C predicted], the 16 rows with the least probability for their class); (None, None) where rows have no one class.

    An error holds `x` (the row as the network gets it), `true`, `predicted`, `probability` of the predicted class, `row` in the split.
    The probability is NaN where outputs stand for none.
    """
    classes, task = run.data.spec.classes, run.task
    if not classes or not isinstance(task, LossTask) or getattr(task, "kind", "classification") != "classification":
        return None, None
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    worst: list[dict[str, Any]] = []
    seen = 0
    with evaluating(run.modules):
        for number, batch in enumerate(run.data.evaluation(split)):
            noise = Noise(run.seed, 0, split, number, "errors")
            seed_generators(*noise.key)
            batch = task.prepare(batch, noise)
            target, logits = batch.get("y"), task.logits(task.outputs(run.nets, batch)).float()
            if not isinstance(target, Tensor) or target.dim() != 1 or logits.shape != (len(target), classes):
                return None, None
            target, logits = target.long(), run.scores.logits(logits, target, "classification")
            cells = (target * classes + logits.argmax(-1))[target >= 0]  # -100 is no class
            counts += torch.bincount(cells.cpu(), minlength=classes * classes).reshape(classes, classes)
            worst += _wrong(batch, target, logits, seen, run.scores.name in ("logits", "probabilities"))
            worst = sorted(worst, key=lambda error: error["true_probability"])[:WORST]
            seen += len(batch)
    return counts, worst


def _wrong(batch: Any, target: Tensor, logits: Tensor, seen: int, sure: bool) -> list[dict[str, Any]]:
    probability = logits.softmax(-1)
    predicted = probability.argmax(-1)
    mine = probability.gather(1, target.clamp(min=0)[:, None])[:, 0]
    rows = ((predicted != target) & (target >= 0)).nonzero()[:, 0]
    rows = rows[mine[rows].argsort()][:WORST]
    inputs = batch["x"] if isinstance(batch["x"], Tensor) else None
    return [
        {
            "x": inputs[row].to("cpu", copy=True) if inputs is not None else None,  # a view would keep its whole batch alive
            "true": int(target[row]),
            "predicted": int(predicted[row]),
            "probability": float(probability[row].max()) if sure else float("nan"),
            "true_probability": float(mine[row]),
            "row": seen + int(row),
        }
        for row in rows.tolist()
    ]
