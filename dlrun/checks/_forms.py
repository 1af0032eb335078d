"""The form of a network's outputs: any numbers, or bounded ones, shares of classes, log shares. A range is tried, not guessed.

Values alone show little: the outputs of an untrained network lie near 0 with a tanh or without one. So what the last layer gives is made
ten thousand times larger, with either sign: behind a sigmoid, a tanh or a softmax all outputs then lie at its two ends, behind a ReLU none
is below 0. The states of recurrent layers lie between -1 and 1 by their equations, and are put at these ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._probe import Probe
from dlrun.run import Run

STRETCH = 1e4
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
ENDS = 0.95
"""Share of stretched outputs at the two ends from which they count as bounded."""
EXACT = 1e-4

_FORMS: WeakKeyDictionary[Probe, Form] = WeakKeyDictionary()


@dataclass(frozen=True)
class Form:
    """`free`; `bounded` between `low` and `high`; `rectified`: none below 0; `shares` or `logs` that sum to 1 over `axis`."""

    name: str
    low: float = float("-inf")
    high: float = float("inf")
    axis: int = -1

    def of(self, u: Tensor) -> Tensor:
        """What a network of this form can give, from any numbers `u`."""
        made: dict[str, Callable[[], Tensor]] = {
            "bounded": lambda: self.low + (self.high - self.low) * u.sigmoid(),
            "rectified": lambda: nn.functional.softplus(u),
            "shares": lambda: u.softmax(self.axis),
            "logs": lambda: u.log_softmax(self.axis),
        }
        return made.get(self.name, lambda: u * 1.0)()

    def ends(self, up: Tensor) -> Tensor:
        """The furthest a network of a bounded form can go: `high` where `up` (bool), `low` elsewhere."""
        low, high = (0.0, 1.0) if self.name == "shares" else (self.low, self.high)
        return torch.where(up, high, low)


def form(subject: Subject, probe: Probe) -> Form:
    """The form of `probe.out`, found once."""
    if probe not in _FORMS:
        _FORMS[probe] = _find(subject, probe)
    return _FORMS[probe]


def _find(subject: Subject, probe: Probe) -> Form:
    out = probe.out
    if not bool(torch.isfinite(out).all()):
        return Form("free")
    for axis in reversed(range(out.dim())):
        if out.shape[axis] > 1 and float(out.std()) >= 0:
            sums = out.sum(axis)
            if float(out.min()) >= -1e-6 and float(out.max()) <= 1 + 1e-6 and float((sums - 1).abs().max()) < EXACT:
                return Form("shares", 0.0, 1.0, axis)
            if float(out.max()) <= 1e-6 and float(out.logsumexp(axis).abs().max()) < EXACT:
                return Form("logs", axis=axis)
    known = [far for far in (enlarged(subject, probe, factor) for factor in (STRETCH, -STRETCH)) if far is not None]
    return Form("free") if len(known) < 2 else _of_range(out, torch.cat(known))


def _of_range(out: Tensor, far: Tensor) -> Form:
    """The form that stretched outputs tell."""
    if not bool(torch.isfinite(far).all()):
        return Form("free")
    low, high = float(far.min()), float(far.max())
    near = 1e-3 * max(high - low, 1e-12)
    at_ends = float(((far - low < near) | (high - far < near)).float().mean())
    grown = high - low > 30 * max(float(out.max() - out.min()), 1e-6) and high - low > 100
    if at_ends >= ENDS and not grown and high > low and far.numel() >= 8:
        return Form("bounded", _round(low), _round(high))
    if float(out.min()) >= 0 and low == 0 and float((far == 0).float().mean()) > 0.1 and float(out.max()) > 0:
        return Form("rectified", 0.0)
    return Form("free")


def _round(value: float) -> float:
    return round(value, 3) + 0.0


def enlarged(subject: Subject, probe: Probe, factor: float) -> Tensor | None:
    """`out` where the last layer with weights gives `factor` times as much; None where that cannot be tried."""
    last = last_called(subject, probe.run, probe.batch)
    outputs = None if last is None else stretched(subject, probe, last, factor)
    before, after = tensors(probe.outputs), tensors(outputs)
    place = next((i for i, t in enumerate(before) if t is probe.out), None)
    if outputs is None or place is None or len(after) != len(before) or after[place].shape != probe.out.shape:
        return None
    return after[place].detach()


def stretched(subject: Subject, probe: Probe, part: nn.Module, factor: float) -> Any:
    """All outputs where one layer gives `factor` times as much; None where that cannot be tried."""
    handle = part.register_forward_hook(lambda module, inputs, output: _far(module, output, factor))
    try:
        return subject.outputs(probe.run, probe.batch, training=True)
    except Exception:  # numbers of that size may be refused
        return None
    finally:
        handle.remove()


def _far(part: nn.Module, output: Any, factor: float) -> Any:
    """What a layer gives, `factor` times as large; of a recurrent one, whose states lie between -1 and 1, the end on that side."""
    if isinstance(output, nn.utils.rnn.PackedSequence):
        return output._replace(data=_far(part, output.data, factor))
    if isinstance(output, (tuple, list)) and isinstance(part, RECURRENT):
        items = [_far(part, item, factor) for item in output]
        if isinstance(part, (nn.LSTM, nn.LSTMCell)) and isinstance(output[-1], Tensor):
            items[-1] = output[-1] * factor  # the memory, which is not bounded
        return tuple(items)
    if not isinstance(output, Tensor):
        return output
    free = not isinstance(part, RECURRENT) or getattr(part, "nonlinearity", "") == "relu" or getattr(part, "proj_size", 0)
    return output * factor if free else torch.full_like(output, math.copysign(1.0, factor))


def held(subject: Subject, probe: Probe, axis: int) -> bool:
    """Whether outputs stay log-probabilities whatever the last layer gives: their exponentials sum to 1 over `axis`, or to less."""
    outs = [probe.out, *(enlarged(subject, probe, factor) for factor in (10.0, -10.0, 100.0))]
    return all(out is not None and float(out.logsumexp(axis).max()) < EXACT for out in outs)


def last_called(subject: Subject, run: Run, batch: Batch) -> nn.Module | None:
    """The module with parameters of its own whose forward ended last."""
    return next(reversed(called(subject, run, batch)), None)


def called(subject: Subject, run: Run, batch: Batch) -> list[nn.Module]:
    """The modules with parameters of their own in the order in which their forwards ended."""
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(module)

    owners = [m for name in run.nets for m in run.modules[name].modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [m.register_forward_hook(note) for m in owners]
    try:
        subject.outputs(run, batch, training=True)
    finally:
        for handle in handles:
            handle.remove()
    return found
