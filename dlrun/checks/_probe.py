"""The loss as a function of outputs and targets alone: what it says of outputs that a check makes up, and how it pulls at them.

No network is needed once one batch went through it, so a question to the loss costs well under a millisecond. Of a structure of outputs
(a tuple, a dict, a distribution) one tensor is varied, `out`: the one that is compared with the targets.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import FEW, Subject, tensors
from dlrun.checks._targets import Targets, read
from dlrun.noise import hash32, seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

MOST_NUMBERS = 2**21
"""Outputs larger than this are cut to fewer rows: a vocabulary of 50,000 over 1,000 tokens is 200 MB a row."""
LEAST_ROWS = 4
ENOUGH = 16

_PROBES: WeakKeyDictionary[Subject, Probe | None] = WeakKeyDictionary()


@dataclass(eq=False)
class Probe:
    """A prepared batch, what the networks made of it (`outputs`, of which `out` is varied), and its targets as they were understood."""

    run: Run
    batch: Batch
    outputs: Any
    out: Tensor
    kind: str
    targets: Targets

    def loss(self, z: Tensor, target: Tensor | None = None, key: str = "loss") -> Tensor:
        """The loss where the network gives `z` in place of `out`, and targets are `target`, under noise keyed by `key`."""
        batch = self.batch
        if target is not None and self.targets.value is not None:
            batch = batch.replace(**{self.targets.name: put(batch[self.targets.name], self.targets.value, target)})
        return self.of(put(self.outputs, self.out, z), batch, key)

    def of(self, outputs: Any, batch: Batch | None = None, key: str = "loss") -> Tensor:
        """The loss of whole outputs."""
        task = self.run.task
        assert isinstance(task, LossTask)
        seed_generators(self.run.seed, key)
        with self.run.precision.autocast():
            loss = task.loss(outputs, self.batch if batch is None else batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TypeError("the loss is not one number")
        return loss.reshape(())

    def at(self, z: Tensor, target: Tensor | None = None, key: str = "loss") -> float:
        """The same as a number."""
        with torch.no_grad():
            return float(self.loss(z, target, key))

    def slope(
        self, u: Tensor, target: Tensor | None = None, through: Callable[[Tensor], Tensor] | None = None, key: str = "loss"
    ) -> Tensor:
        """The gradient of the loss with respect to `u`, where the network gives `through(u)` (u itself): zeros where there is none."""
        with torch.enable_grad():
            leaf = u.detach().clone().requires_grad_()
            loss = self.loss(through(leaf) if through is not None else leaf * 1.0, target, key)
            if not loss.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        return torch.zeros_like(u) if slope is None else slope.detach()

    def noise(self, name: str) -> Tensor:
        """Standard normal numbers of the shape of `out`, the same in every process."""
        drawn = torch.randn(self.out.shape, generator=torch.Generator().manual_seed(hash32("probe", name)))
        return drawn.to(self.out.device, self.out.dtype)

    @property
    def steady(self) -> bool:
        """Whether the loss of equal outputs is the same, whatever noise it could draw and however often it is asked."""
        return self.at(self.out) == self.at(self.out, key="other") == self.at(self.out)


def probe(subject: Subject) -> Probe | None:
    """The probe of a run, built once; None for tasks without one loss, and where no output is a tensor of numbers."""
    if subject not in _PROBES:
        _PROBES[subject] = _build(subject) if subject.loss_task is not None else None
    return _PROBES[subject]


def _build(subject: Subject) -> Probe | None:
    """The first way to cut a batch that the loss takes; the exception of the last one where none is taken."""
    run, failed = subject.copy(), None
    for raw in _batches(subject):
        batch = subject.prepared(run, raw)
        outputs = subject.outputs(run, batch, training=True)
        largest = max((t.numel() for t in tensors(outputs)), default=0)
        if largest > MOST_NUMBERS and len(raw) > LEAST_ROWS:
            batch = subject.prepared(run, raw[: max(LEAST_ROWS, len(raw) * MOST_NUMBERS // largest)])
            outputs = subject.outputs(run, batch, training=True)
        try:
            out = _varied(subject, run, outputs, batch)
        except Exception as error:
            failed = error
            continue
        return None if out is None else Probe(run, batch, outputs, out, subject.kind, read(subject.kind, out, batch))
    raise failed or TypeError("there is no batch")


def _batches(subject: Subject) -> Iterator[Batch]:
    """Some 32 rows; the first micro-batch as it is, where a loss may need its size."""
    raw, run = subject.raw, subject.run
    if len(raw) < ENOUGH and not run.task.couples_rows and getattr(run.data.raw("train"), "in_memory", False):
        steps = range(min(FEW // max(len(raw), 1), FEW))
        with contextlib.suppress(RuntimeError, KeyError, IndexError):
            yield Batch.cat([micro for step in steps for micro in run.data.batches(step)])[:FEW]
    elif len(raw) > FEW and not run.task.couples_rows:
        yield raw[:FEW]
    yield raw


def _varied(subject: Subject, run: Run, outputs: Any, batch: Batch) -> Tensor | None:
    """The tensor of `outputs` that the loss compares with the targets: the first it pulls at that fits, else the first it pulls at."""
    found = [t for t in tensors(outputs) if t.is_floating_point() and t.numel() and t.dim()]
    if not found:
        return None
    live = {id(t): t.clone().requires_grad_() for t in found}
    replaced = outputs
    for t in found:
        replaced = put(replaced, t, live[id(t)])
    with torch.enable_grad():
        loss = subject.live_loss(run, replaced, batch)
        slopes = torch.autograd.grad(loss.sum(), list(live.values()), allow_unused=True) if loss.requires_grad else [None] * len(live)
    pulled = [t for t, slope in zip(found, slopes, strict=True) if slope is not None]
    fits = [t for t in pulled if read(subject.kind, t, batch).mode != "none"]
    return (fits or pulled or found)[0]


def put(value: Any, old: Tensor, new: Tensor) -> Any:
    """`value`, a structure of tensors, with `new` wherever `old` stands."""
    if value is old:
        return new
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        made: Any = copy.copy(value)
        for key, item in value.items():
            made[key] = put(item, old, new)
        return made
    if isinstance(value, (tuple, list)):
        items = [put(item, old, new) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    made = copy.copy(value)
    for key, item in getattr(value, "__dict__", {}).items():
        if item is old:
            object.__setattr__(made, key, new)
    return made
