"""The answer fed in beside the question: an input of a series that equals the targets step by step, read by the output of the same step.

Teacher forcing feeds the answer one step behind; some networks shift it themselves. So the network is asked: where the entry of one step is
changed, does the output of that step change, and none before it? (Where those before change as well, the network may be made to pack its
input and unpack it again: that may be meant.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Subject, gap, largest
from dlrun.checks._inputs import parts
from dlrun.checks.shape_contract import main_output

LEAST_STEPS, EQUAL = 3, 0.95


def answer(subject: Subject) -> str | None:
    """The name of the input that equals the targets, and whose step t the output of step t reads; None where there is none."""
    if subject.loss_task is None:
        return None
    run, batch = subject.copy(), subject.prepared(subject.copy(), subject.few)
    x, y = batch.get("x"), batch.get("y")
    leaves = parts(x)
    if not isinstance(y, Tensor) or len(leaves) < 2 or y.dim() < 2 or y.shape[1] < LEAST_STEPS:
        return None
    for name, leaf in leaves.items():
        alike = leaf.numel() == y.numel() and leaf.shape[:2] == y.shape[:2] and leaf.dtype == y.dtype
        if alike and _equal(leaf.reshape(y.shape), y) and _read(subject, run, batch, name):
            return name
    return None


def _equal(leaf: Tensor, y: Tensor) -> bool:
    counted = y >= 0 if not y.is_floating_point() else y.isfinite()
    if int(counted.sum()) < 0.2 * y.numel() or len(y[counted].unique()) < 2:
        return False
    return float((leaf == y)[counted].float().mean()) > EQUAL


def _read(subject: Subject, run: Any, batch: Any, name: str) -> bool:
    """Whether the output of a step hangs on this entry of the same step, and on none of a later step."""
    plain = main_output(run, subject.outputs(run, batch, training=False))
    leaf = parts(batch["x"])[name]
    steps = leaf.shape[1]
    place = steps // 2
    changed = leaf.clone()
    changed[:, place] = torch.where(leaf[:, place] == leaf[:, 0], leaf[:, -1], leaf[:, 0])
    if torch.equal(changed, leaf):
        changed[:, place] = leaf[:, place].roll(1, 0)
    x = _replaced(batch["x"], leaf, changed)
    other = main_output(run, subject.outputs(run, batch.replace(x=x), training=False))
    if plain is None or other is None or plain.dim() < 2 or plain.shape != other.shape:
        return False
    axis = next((axis for axis in (1, 2) if axis < plain.dim() and plain.shape[axis] == steps), None)
    if axis is None:
        return False
    bound = subject.bound(run, batch) + 1e-6 * largest(plain)
    moved = [gap(plain.select(axis, step), other.select(axis, step)) > bound for step in range(place + 1)]
    return moved[place] and not any(moved[:place])


def _replaced(x: Any, old: Tensor, new: Tensor) -> Any:
    """x with one of its tensors replaced."""
    if x is old:
        return new
    if isinstance(x, dict):
        return {key: _replaced(item, old, new) for key, item in x.items()}
    if isinstance(x, (tuple, list)):
        return type(x)(_replaced(item, old, new) for item in x)
    return x
