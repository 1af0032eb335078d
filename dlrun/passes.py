"""Steps whose optimizer needs the gradient at several points: the step's objective is run that often before anything else goes on.

Every pass sees the same batch and the same noise. What a row says of the batch is that of the first pass, at the weights before the step;
`grad_norm` and `clipped` are of the last, whose gradient steps. Buffers keep what the first pass made of them: running means of the data
are to be those of the weights, not of points nearby.
"""

from __future__ import annotations

from collections.abc import Iterator

from dlrun.errors import UsageError
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.steplog import StepLog


def passes(run: Run, log: StepLog) -> Iterator[int]:
    """The passes of one step, numbered; between them what only one of them may change or count is taken care of."""
    kept = []
    buffers = [buffer for module in run.modules.values() for buffer in module.buffers()]
    for number in range(run.passes):
        log.first_pass, log.last_pass = number == 0, number == run.passes - 1
        yield number
        if number == 0:
            kept = [buffer.clone() for buffer in buffers]
    for buffer, value in zip(buffers, kept, strict=True):
        buffer.copy_(value)


def check_passes(run: Run) -> None:
    """UsageError where the run's optimizers need several passes and its other parts do not allow them."""
    asked = {slot: getattr(optimizer, "passes", 1) for slot, optimizer in run.optimizers.items()}
    if run.passes == 1:
        return
    slot = next(slot for slot, number in asked.items() if number == run.passes)
    label = f"optimizer {slots(run.config['optimizer'], 'optimizer')[slot]['name']} runs the objective of a step {run.passes} times"
    single = next((slot for slot, number in asked.items() if number != run.passes), None)
    if single is not None:
        raise UsageError(f"{label}, optimizer.{single} once: both must be of the same kind")
    if run.task.turns != 1:
        raise UsageError(f"{label}, and task {run.config['task']['name']} has objectives of its own that build on each other: take adamw")
    if run.precision.scaler is not None:
        raise UsageError(f"{label}, which fp16's scaler cannot follow: say train.precision=bf16")
