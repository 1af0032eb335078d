"""Types along the way: no cast loses what the values say, nothing turns to another precision that nobody asked for, nothing overflows.

Casts are seen as torch executes them, in the network and in the loss, whoever calls them. What is judged is what a cast loses: tokens kept
as floats lose nothing as integers, pixels times 255 next to nothing, standardised inputs or quantities nearly all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dlrun.checks._frame import Finding, Subject, check, tensors

LOST = 0.3
"""Share of the root mean square that a cast takes away from which it is loud."""
HALF_TOP = 1e4
RULE = f"no cast to integers loses > {LOST:.0%} of its values; no float64 from float32; none above {HALF_TOP:g} in half precision"


@dataclass
class Seen:
    """What casts did: the worst loss, where values became integers, and whether anything overflowed."""

    lost: float = 0.0
    kind: str = ""
    example: list[float] = field(default_factory=list)
    overflowed: str = ""


class Casts(TorchDispatchMode):
    """Looks at every cast of floats to something smaller."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = Seen()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and isinstance(made, Tensor) and args[0].is_floating_point() and made.numel():
            self._look(args[0], made)
        return made

    def _look(self, value: Tensor, made: Tensor) -> None:
        if made.dtype == torch.bool:
            return
        if not made.is_floating_point() and not made.is_complex():
            source = value.detach().double()
            size = float(source.square().mean().sqrt())
            lost = float((source - made.double()).square().mean().sqrt()) / size if size > 0 else 0.0
            if lost > self.seen.lost:
                name = f"{_short(value)} to {_short(made)}"
                self.seen.lost, self.seen.kind, self.seen.example = lost, name, source.flatten()[:3].tolist()
        elif made.dtype == torch.float16 and bool(torch.isinf(made).any()) and bool(torch.isfinite(value).all()):
            self.seen.overflowed = f"{_short(value)} to {_short(made)}"


@check(stage="outputs", recipe="Hacker's Guide: look at the data right before model(data): type and range", follows=("shape_contract",))
def dtype_path(subject: Subject) -> Finding:
    """One forward and one loss, with every cast watched; types of inputs, weights and outputs beside each other."""
    if subject.loss_task is None:
        return _of_players(subject)
    run = subject.copy()
    batch = subject.prepared(run, subject.few)
    with Casts() as net:
        outputs = subject.outputs(run, batch, training=True)
    with Casts() as loss:
        value = subject.loss_of(run, outputs, batch)
    weights = {_short(p) for module in run.modules.values() for p in module.parameters() if p.is_floating_point()}
    given = {_short(t) for t in tensors(outputs) if t.is_floating_point()}
    worst, where = max(((net.seen, "the network"), (loss.seen, "the loss")), key=lambda pair: pair[0].lost)
    numbers: dict[str, Any] = {"weights": sorted(weights), "outputs": sorted(given), "loss": _short(value), "lost": worst.lost}
    if found := _lossy(net.seen.overflowed or loss.seen.overflowed, worst, where, numbers):
        return found
    if "float64" in given and "float64" not in weights and weights:
        text = f"outputs are float64, weights {', '.join(sorted(weights))}"
        return Finding("info", text, "numpy's or a table's float64 entered the network", "cast it to float32", numbers, RULE)
    if not given and tensors(outputs):
        return Finding("info", "the network gives whole numbers", numbers=numbers, threshold=RULE)
    return Finding("ok", f"{', '.join(sorted(given))} all the way", numbers=numbers, threshold=RULE)


def _lossy(overflowed: str, worst: Seen, where: str, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a cast overflowed, or lost what the values say."""
    if overflowed:
        text = f"a cast {overflowed} overflows to infinity"
        return Finding("error", text, "values above 65504 do not fit half precision", "scale them, or use bf16", numbers, RULE)
    if worst.lost <= LOST:
        return None
    shown = ", ".join(f"{number:.3g}" for number in worst.example)
    text = f"{where} casts {worst.kind} and loses {min(worst.lost, 1):.0%} of the values (such as {shown})"
    cause = "a .long(), .int() or .byte() of values between whole numbers: they become 0 or 1"
    return Finding("warning", text, cause, "leave them floats", numbers, RULE)


def _of_players(subject: Subject) -> Finding:
    """The verdict on a step of several objectives: casts in all of its networks and losses, and the types of what networks give."""
    run = subject.copy()
    with Casts() as step:
        heard = subject.heard(run, subject.prepared(run, subject.few), training=True)
    given = {_short(t) for calls in heard.values() for t in tensors(calls) if t.is_floating_point()}
    numbers: dict[str, Any] = {"outputs": sorted(given), "lost": step.seen.lost}
    found = _lossy(step.seen.overflowed, step.seen, "a step", numbers)
    return found or Finding("ok", f"{', '.join(sorted(given)) or 'no floats'} all the way", numbers=numbers, threshold=RULE)


def _short(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
