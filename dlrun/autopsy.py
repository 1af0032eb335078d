"""After a non-finite value: which layer and which operation broke first, and the batch that did it, saved for replay.

Works on the failed state as it is: order and noise are functions of the step, so the batch can be drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.anomaly import first_operation
from dlrun.batch import Batch, leaves
from dlrun.checkpoint import write_tensors
from dlrun.finite import NonFinite, broken_parameter
from dlrun.loop import prepare
from dlrun.noise import seed_generators
from dlrun.run import Run


def culprit(run: Run, step: int, batches: list[Batch], loss: bool) -> str:
    """One phrase naming the first parameter, layer output or gradient that is not finite in step `step` (from 1).

    Where the `loss` is not finite, gradients are not asked: they only follow.
    """
    broken = broken_parameter(run.modules)
    if broken:
        return f"it made parameter {broken} non-finite"
    for name, leaf in batches[0].items():
        if any(t.is_floating_point() and not torch.isfinite(t).all() for t in leaves(leaf)):
            return f"the batch's {name} is not finite"
    for module in run.modules.values():
        module.zero_grad()  # those of the failed step are spoilt, by clipping if by nothing else
    found: list[str] = []
    hooks = [
        part.register_forward_hook(_listener(f"{name}.{path}".rstrip("."), found))
        for name, module in run.modules.items()
        for path, part in module.named_modules()
    ]
    try:
        _again(run, step, batches)
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"layer {found[0]} is the first whose output is not finite"
    for name, module in run.modules.items() if not loss else ():
        named = [key for key, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        if named:
            return f"the gradient of {name}.{named[-1]} is the first that is not finite (backward runs from the last layer)"
    return "no layer's output is: the loss itself is"


def _listener(name: str, found: list[str]) -> Any:
    def listen(module: nn.Module, inputs: Any, output: Any) -> None:
        parts = [t for t in leaves(output) if t.is_floating_point()] if isinstance(output, (Tensor, tuple, list, dict)) else []
        if any(not torch.isfinite(t).all() for t in parts):
            found.append(name)

    return listen


def _again(run: Run, step: int, batches: list[Batch], then: Callable[[Tensor], None] = Tensor.backward) -> None:
    """Forward and backward of the failed step's objectives, without an update: enough to see where it breaks."""
    for micro, batch in enumerate(batches):
        prepared = prepare(run, step - 1, micro, batch)
        seed_generators(run.seed, step - 1, micro, 0, "train", 0)
        with run.precision.autocast():
            objective = next(iter(run.task.objectives(run.nets, prepared)), None)
        if objective is not None:
            then(objective.loss)


def save_for_replay(run: Run, folder: Path, error: NonFinite) -> Path:
    """Write the failed step's batch to `replay/step-N.safetensors` and return its path; says more in `error`.

    A loss that is no number while the weights are broken already is the doing of the step before, whose gradient nobody looked at.
    """
    if error.what == "loss" and error.step > 1 and broken_parameter(run.modules):
        error.step, error.what = error.step - 1, "gradient"
    batches = run.data.batches(error.step - 1)
    error.what += f"; {culprit(run, error.step, batches, error.what == 'loss')}"
    if operation := first_operation(lambda then: _again(run, error.step, batches, then)):
        error.what += f"; {operation}"
    named = {
        f"{micro}.{name}.{number}": leaf.detach().cpu().contiguous().clone()
        for micro, batch in enumerate(batches)
        for name, value in batch.items()
        for number, leaf in enumerate(leaves(value))
    }
    path = folder / "replay" / f"step-{error.step:08d}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_tensors(named, path)
    return path
