"""Shapes: the loss is one number, targets name classes that exist, and outputs do not broadcast against targets.

A prediction [B, 1] against a target [B] broadcasts to [B, B] and trains every row on every other row's target, without an error. Shapes
alone do not prove it (a loss may squeeze by itself): what proves it is that the loss does not care which target belongs to which row.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Subject, check, skipped, tensors
from dlrun.checks._probe import put
from dlrun.functional.criteria import reference
from dlrun.run import Run

RULE = "one loss, classes that exist, and a loss that cares which target belongs to which row"


@check(stage="outputs", moment="fast", recipe="Hacker's Guide: beware of shapes that fit by luck", first=True)
def shape_contract(subject: Subject) -> Finding:
    """One forward and one loss on the first batch; where outputs and targets would broadcast, the loss of shuffled targets."""
    task = subject.loss_task
    if task is None:
        return skipped("a task of several objectives has no single output to compare with its targets")
    run, batch = subject.copy(), subject.batch
    outputs = subject.outputs(run, batch, training=True)
    target, out = batch.get("y"), main_output(run, outputs)
    numbers: dict[str, Any] = {"rows": len(batch), "outputs": [list(tensor.shape) for tensor in tensors(outputs)]}
    if isinstance(target, Tensor):
        numbers["targets"] = list(target.shape)
    wrong = _loss_is_wrong(subject, run, outputs, out, batch, numbers)
    if wrong:
        return wrong
    shown = f"outputs {' and '.join(str(tuple(tensor.shape)) for tensor in tensors(outputs)[:3]) or type(outputs).__name__}"
    shown += f" against targets {tuple(target.shape)}" if isinstance(target, Tensor) else ""
    if out is not None and isinstance(target, Tensor) and _spreads(out, target) and pairing_blind(subject, run, outputs, batch):
        text = f"outputs {tuple(out.shape)} and targets {tuple(target.shape)} broadcast: shuffled targets give the same loss"
        cause = "a missing squeeze or unsqueeze: every row is compared with every other"
        return Finding("error", text, cause, "give both the same shape", numbers, RULE)
    unused = _starts_at_one(subject, out, target)
    if unused:
        cause, step = "labels that start at 1: one output too many, and accuracy of a class nobody asked for", "subtract 1 from the labels"
        return Finding("warning", unused, cause, step, numbers, RULE)
    spare = _spare(subject, out, target)
    if spare:
        cause, step = (
            "a head made for other data: it can name classes that do not exist",
            "give the network as many outputs as there are classes",
        )
        return Finding("warning", spare, cause, step, numbers, RULE)
    return Finding("ok", f"{shown}, one loss", numbers=numbers, threshold=RULE)


def _spare(subject: Subject, out: Tensor | None, target: Any) -> str | None:
    """What to say where there are at least twice as many outputs as classes; one or two spare ones (background, unknown) are usual."""
    classes = subject.run.data.spec.classes
    fresh = not (subject.expects.get("pretrained") or subject.run.config.get("start"))
    kind = getattr(subject.run.task, "kind", None) or subject.run.data.spec.kind
    if out is None or not classes or kind != "classification" or subject.run.data.spec.kind != "classification" or not fresh:
        return None
    outputs = class_count(out, target)
    return f"the network has {outputs} outputs, the data {classes} classes" if outputs >= 2 * classes and outputs > classes + 2 else None


def main_output(run: Run, outputs: Any) -> Tensor | None:
    """The tensor that metrics read, or the first one; None where there is none."""
    found = run.task.logits(outputs) if subscriptable(outputs) else None  # type: ignore[attr-defined]
    return found if isinstance(found, Tensor) else next(iter(tensors(outputs)), None)


def subscriptable(outputs: Any) -> bool:
    """Whether outputs are what `LossTask.logits` is made for."""
    return isinstance(outputs, Tensor) or (isinstance(outputs, tuple) and len(outputs) > 0)


def _loss_is_wrong(subject: Subject, run: Run, outputs: Any, out: Tensor | None, batch: Batch, numbers: dict[str, Any]) -> Finding | None:
    """The finding where the loss is not one number or its targets name classes that do not exist."""
    beyond = _beyond(out, batch.get("y"))
    text, cause = (
        f"targets go from {beyond[0]} to {beyond[1]}, the outputs have {beyond[2]} classes (0 to {beyond[2] - 1})" if beyond else "",
        "labels that start at 1, or a head too small",
    )
    step = "print the smallest and largest label; count classes from 0"
    if beyond and run.device.type != "cpu" and reference(getattr(run.task, "criterion", None), "initial", run.data.spec) is not None:
        return Finding("error", text, cause, step, numbers, RULE, blocks=True)  # on a GPU the loss itself would end the process
    try:
        loss = subject.loss_of(run, outputs, batch)
    except (IndexError, RuntimeError):
        if not beyond:
            raise
        return Finding("error", text, cause, step, numbers, RULE, blocks=True)
    numbers["loss"] = list(loss.shape)
    if loss.numel() == 1:
        return None
    text = f"the loss has shape {tuple(loss.shape)}, expected one number"
    return Finding("error", text, "the loss was not reduced", "return loss.mean()", numbers, RULE, blocks=True)


def _spreads(out: Tensor, target: Tensor) -> bool:
    """Whether the two would broadcast to more numbers than either has."""
    if out.shape == target.shape:
        return False
    try:
        joint = np.broadcast_shapes(out.shape, target.shape)  # torch's own function of that name imports sympy (0.25 s)
    except ValueError:
        return False
    return bool(prod(joint) > max(out.numel(), target.numel()))


def pairing_blind(subject: Subject, run: Run, outputs: Any, batch: Batch) -> bool:
    """Whether the loss stays the same when targets change places among the rows, though it does depend on outputs and targets.

    Asked on outputs that differ from row to row: those of a head that starts at zero are all alike, and any loss would be blind.
    """
    y, rows = batch["y"], len(batch)
    shuffled, same = y.roll(1, 0), y[:1].expand_as(y)
    out = main_output(run, outputs)
    if rows < 3 or torch.equal(shuffled, y) or out is None or not any(t is out for t in tensors(outputs)):
        return False
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(out.shape, generator=generator).to(out.device, out.dtype)
    for made in (out + noise - 0.5, 0.05 + 0.9 * noise):  # the second for losses that take probabilities
        varied = put(outputs, out, made)
        try:
            here, moved, flat = (float(subject.loss_of(run, varied, batch.replace(y=targets))) for targets in (y, shuffled, same))
        except (RuntimeError, ValueError):
            continue
        scale = max(abs(here), abs(moved), 1e-12)
        return abs(here - moved) <= 1e-5 * scale and abs(here - flat) > 1e-4 * scale
    return False


def _beyond(out: Tensor | None, target: Any) -> tuple[int, int, int] | None:
    """(least target, largest, classes) where targets look like classes and name one that the outputs do not have.

    The class axis is the last or the second one; where both fit, the larger. -100 is never counted. Suspicion only: integers may be counts.
    """
    classes = class_count(out, target)
    counted = target[target != -100] if classes else None
    if counted is None or not counted.numel():
        return None
    low, high = int(counted.min()), int(counted.max())
    return (low, high, classes) if low < 0 or high >= classes else None


def class_count(out: Tensor | None, target: Any) -> int:
    """How many classes logits have, by shape: [..., C] or [B, C, ...] against integer targets; 0 where they do not fit."""
    if out is None or not isinstance(target, Tensor) or target.is_floating_point() or target.dim() + 1 != out.dim() or not target.numel():
        return 0
    last = out.shape[-1] if out.shape[:-1] == target.shape else 0
    second = out.shape[1] if (out.shape[0], *out.shape[2:]) == tuple(target.shape) else 0
    return max(last, second)


def _starts_at_one(subject: Subject, out: Tensor | None, target: Any) -> str:
    """What is odd where no row of train has class 0 and every other class is there; one label a row only (tokens have a filler)."""
    classes, every = class_count(out, target), subject.run.data.targets("train")
    if classes < 3 or every is None or every.dim() != 1 or every.is_floating_point() or every.numel() == 0:
        return ""
    present = every.unique().tolist()
    if present != list(range(1, classes)):
        return ""
    return f"labels go from 1 to {classes - 1}: no row of train has class 0, and the outputs have {classes} classes"
