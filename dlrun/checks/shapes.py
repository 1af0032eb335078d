"""Shapes: outputs have one row a row of the batch, the loss is one number, and outputs do not broadcast against targets.

A prediction [B, 1] against a target [B] broadcasts to [B, B] and trains every row on every other row's target, without an error.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._frame import Finding, Subject, check, skipped


@check(stage="loss", moment="fast", recipe="Hacker's Guide: beware of shapes that fit by luck")
def shapes(subject: Subject) -> Finding:
    """One forward and one loss on the first batch, with torch's broadcast warning turned into a finding."""
    task, batch = subject.loss_task, subject.batch
    if task is None:
        return skipped("a task of several objectives has no single output to compare with its targets")
    run = subject.copy()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        outputs = subject.outputs(run, batch, training=True)
        loss = subject.loss_of(run, outputs, batch)
    rows, out = len(batch), _main(outputs)
    numbers: dict[str, Any] = {"rows": rows, "outputs": list(out.shape), "loss": list(loss.shape)}
    target = batch.get("y")
    if isinstance(target, Tensor):
        numbers["targets"] = list(target.shape)
    if out.dim() == 0 or (out.shape[0] != rows and out.shape[0] % rows):
        return _wrong(f"{rows} rows went in, outputs of shape {tuple(out.shape)} came out", "rows were folded into another axis", numbers)
    if loss.numel() != 1:
        return _wrong(
            f"the loss has shape {tuple(loss.shape)}, expected one number", "the loss was not reduced", numbers, "return loss.mean()"
        )
    broadcast = next((str(w.message).split("\n")[0] for w in heard if "broadcast" in str(w.message)), None)
    if isinstance(target, Tensor) and out.is_floating_point() and target.is_floating_point() and _spreads(out, target):
        broadcast = broadcast or f"outputs {tuple(out.shape)} and targets {tuple(target.shape)} broadcast"
    if broadcast:
        return _wrong(
            broadcast, "a missing squeeze or unsqueeze: every row is compared with every other", numbers, "give both the same shape"
        )
    beyond = _beyond(out, target)
    if beyond is not None:
        return _wrong(
            f"a target names class {beyond}, the outputs have {out.shape[-1]} classes",
            "labels that start at 1, or a head too small",
            numbers,
        )
    shown = f" against targets {tuple(target.shape)}" if isinstance(target, Tensor) else ""
    return Finding("ok", f"outputs {tuple(out.shape)}{shown}, one loss", numbers=numbers, threshold="one output row a row, no broadcast")


def _main(outputs: Any) -> Tensor:
    return next(iter(leaves(outputs)))


def _spreads(out: Tensor, target: Tensor) -> bool:
    """Whether the two broadcast to more numbers than either has, by a lone axis of 1."""
    if out.shape == target.shape:
        return False
    try:
        joint = torch.broadcast_shapes(out.shape, target.shape)
    except RuntimeError:
        return False
    return bool(joint.numel() > max(out.numel(), target.numel()))


def _beyond(out: Tensor, target: Any) -> int | None:
    plain = isinstance(target, Tensor) and not target.is_floating_point() and target.numel() > 0
    if not plain or out.dim() != target.dim() + 1 or out.shape[:-1] != target.shape:
        return None
    top = int(target.max())
    return top if top >= out.shape[-1] else None


def _wrong(message: str, cause: str, numbers: dict[str, Any], step: str = "print the shapes right before the loss") -> Finding:
    return Finding("error", message, cause, step, numbers, "one output row a row, one loss, no broadcast")
