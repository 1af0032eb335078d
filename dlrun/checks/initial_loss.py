"""The first loss against the value an untrained network should have: ln C for C classes (ln 2 = 0.693), else that of all-zero outputs.

Hacker's Guide (compare with a reference value such as ln 2); Karpathy's recipe (verify loss at init). For logits of variance s^2 across
classes the expected cross-entropy is close to ln C + s^2/2, which separates wrong labels from an over-confident start.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped

SLACK = 0.25
CONFIDENT = 1.5
FAR = 1.5
"""A first loss above FAR times the reference (and beyond the slack) is an error: steps are then spent on unlearning the start."""


@check(stage="loss", moment="fast", recipe="Karpathy: verify loss @ init; Hacker's Guide: ln 2")
def initial_loss(subject: Subject) -> Finding:
    """Loss of the untrained networks on the first batch, in train mode, beside its reference."""
    task, batch = subject.loss_task, subject.batch
    if task is None:
        return skipped("a task of several objectives has no single first loss")
    run = subject.copy()
    outputs = subject.outputs(run, batch, training=True)
    loss = float(subject.loss_of(run, outputs, batch))
    expected, name = reference(subject, outputs)
    if expected is None:
        return Finding("info", f"first loss {loss:.4f}; there is no reference value for this task", numbers={"loss": loss})
    numbers: dict[str, Any] = {"loss": loss, "expected": expected}
    if not classifies(task.logits(outputs), batch):
        return Finding("info", f"first loss {loss:.4f}; outputs of zero would give {expected:.4f}", numbers=numbers)
    spread = float(task.logits(outputs).float().std(-1, correction=0).square().mean().sqrt())
    error = 4 * spread / math.sqrt(len(batch))
    numbers |= {"logit_spread": spread, "slack": SLACK + error}
    threshold = f"|loss - (expected + spread^2/2)| <= {SLACK} + 4 standard errors, spread <= {CONFIDENT}"
    text = f"first loss {loss:.4f}, expected {expected:.4f} ({name})"
    if subject.expects.get("pretrained") or run.config.get("start"):
        return Finding("info", f"{text}; the weights are not fresh", numbers=numbers)
    if loss > FAR * expected and loss > expected + SLACK + error:
        cause = "the last layer starts far too large" if spread > CONFIDENT else "labels, loss and outputs do not fit each other"
        return Finding("error", text, cause, "initialise the last layer smaller, or look at what enters the loss", numbers, threshold)
    if spread > CONFIDENT:
        return Finding(
            "warning", text, f"over-confident at the start: logits spread by {spread:.2f}", "scale the last layer down", numbers, threshold
        )
    if abs(loss - expected - spread**2 / 2) > SLACK + error:
        return Finding("warning", text, "labels or loss do not fit the logits", "look at what enters the loss", numbers, threshold)
    return Finding("ok", f"{text}: as it should be", numbers=numbers, threshold=threshold)


def reference(subject: Subject, outputs: Any) -> tuple[float | None, str]:
    """The loss of an untrained network and what it is called."""
    run, batch = subject.run, subject.batch
    known = run.task.expected_initial_loss(run.data.spec)
    if known is not None:
        count = round(math.exp(known))
        return known, f"ln {count}" if abs(math.log(max(count, 1)) - known) < 1e-6 else "expected for this task"
    if not isinstance(outputs, Tensor):
        return None, ""
    return float(subject.loss_of(run, torch.zeros_like(outputs), batch)), "outputs of zero"


def classifies(logits: Tensor, batch: Any) -> bool:
    """Whether outputs are logits over classes: one axis more than the integer targets."""
    target = batch.get("y")
    return isinstance(target, Tensor) and not target.is_floating_point() and logits.dim() == target.dim() + 1
