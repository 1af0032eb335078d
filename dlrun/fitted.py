"""What a trained network makes of the rows it was trained on: their loss in eval mode, and how many teach it nothing any more.

Source: Isola's Hacker's Guide (fit the training set first, then generalise; make the data hard). Lines, not warnings: targets may hold
noise that nothing can fit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._rows import scan
from dlrun.data.items import generators_kept
from dlrun.evaluate import evaluating
from dlrun.noise import Noise, seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

ROWS, PART, SECONDS = 1024, 128, 1.0
"""Rows looked at, as many as can be in a second, and rows of a batch."""
MANY = 50
"""Steps below which a run is a try."""
EASY = 0.01
"""Loss in nats of a row that is learned: the target has a probability above 0.99."""
FAR, NEAR = 0.25, 0.1
"""Shares of what knowing nothing costs: training rows that cost more than the one and lie within the other of val are not fitted."""
KINDS = ("classification", "binary", "regression")
"""What has rows with a target each."""


def fitted(run: Run) -> dict[str, Any]:
    """`rows`, `loss`, and of classes `easy`, the share of rows below 0.01 nats; {} without targets, or where rows are read one by one."""
    if not isinstance(run.task, LossTask) or run.task.couples_rows or getattr(run.task, "kind", "other") not in KINDS:
        return {}
    if not getattr(run.data.raw("train"), "in_memory", False):
        return {}
    try:
        with generators_kept(), evaluating(run.modules), run.precision.autocast():
            return _measured(run, run.task)
    except Exception:  # whatever a user's part does with rows it has not met in this order
        return {}


def _measured(run: Run, task: LossTask) -> dict[str, Any]:
    rows, deadline = scan(run.data, "train", ROWS, SECONDS / 2), time.perf_counter() + SECONDS
    seen, total, shares = 0, 0.0, []
    while seen < len(rows) and (not seen or time.perf_counter() < deadline):
        noise = Noise(run.seed, run.steps, seen, "fitted")
        seed_generators(*noise.key)
        batch: Any = task.prepare(rows.batch[seen : seen + PART], noise)
        outputs = task.outputs(run.nets, batch)
        loss = task.loss(outputs, batch)
        total += float(loss[0] if isinstance(loss, tuple) else loss) * len(batch)
        shares.append(_own(run, task, outputs, batch))
        seen += len(batch)
    known = torch.cat([share for share in shares if share is not None]) if all(share is not None for share in shares) else None
    facts: dict[str, Any] = {"rows": seen, "loss": total / seen}
    return facts | ({"easy": float((known < EASY).float().mean())} if known is not None and len(known) else {})


def _own(run: Run, task: LossTask, outputs: Any, batch: Any) -> Tensor | None:
    """-log of the probability of each row's class; None where rows have no one class or outputs are no logits of classes."""
    y = batch.get("y")
    if getattr(task, "kind", "") != "classification" or not isinstance(y, Tensor) or y.dim() != 1 or y.is_floating_point():
        return None
    logits, classes = task.logits(outputs), run.data.spec.classes
    if run.scores.name in ("numbers", "margins") or not isinstance(logits, Tensor) or not classes or logits.shape != (len(y), classes):
        return None
    logits = run.scores.logits(logits, y, "classification").float()
    return -logits.log_softmax(-1)[y >= 0].gather(1, y[y >= 0, None].long())[:, 0]


def fit_lines(run: Run, summary: Mapping[str, Any]) -> list[str]:
    """Printed before the result: how well train is fitted, that it is not where train and val cost much alike, and what clipping did."""
    facts, lines = summary["fitted"], []
    if facts:
        easy = f"; {facts['easy']:.0%} of them cost less than {EASY:g}" if "easy" in facts else ""
        lines.append(f"fit: loss {facts['loss']:.4g} on {facts['rows']} rows of train, in eval mode{easy}")
    worth, val = _price(run, summary["baselines"]), summary["metrics"].get("val/loss")
    if facts and worth is not None and isinstance(val, float) and not run.data.mixed_labels:
        floor = run.task.loss_floor(run.data.spec) or 0.0
        if facts["loss"] - floor > FAR * (worth - floor) and val - facts["loss"] < NEAR * (worth - floor):
            text = f"train is not fitted yet (loss {facts['loss']:.4g}, val {val:.4g}, knowing nothing {worth:.4g})"
            lines.append(f"{text}: first more steps, a larger rate or network, then val; or the targets hold noise")
    share = summary["clipped_share"]
    if share is not None and share > 0.5 and run.steps >= MANY:
        lines.append(f"the gradient was clipped in {share:.0%} of the steps: train.clip_norm={run.train['clip_norm']:g} set their length")
    return lines


def _price(run: Run, known: Mapping[str, float]) -> float | None:
    """The loss on val of what knows no input."""
    return next((known[f"val/{name}_loss"] for name in ("prior", "majority", "mean") if f"val/{name}_loss" in known), None)
