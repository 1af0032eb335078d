"""The one loop: batches -> objectives -> backward, clip, step -> log, evaluate, save. It never asks what it trains.

A step is one global batch: all micro-batches, every objective once, `after_step` once. The optimizers an objective names are stepped
before its generator is resumed, so a task's code below a yield sees the updated weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.finite import Watch
from dlrun.functional.clipping import clip_norm
from dlrun.noise import Noise, seed_generators
from dlrun.passes import passes
from dlrun.run import Run
from dlrun.steplog import StepLog
from dlrun.task import Task
from dlrun.types import Objective, double

ONCE = range(1)


class Session(Protocol):
    """What goes on around the loop: logging, evaluation, saving, and the wish to stop."""

    watch: Watch
    log: StepLog

    def wants_row(self, step: int) -> bool: ...
    def after_step(self, step: int) -> bool: ...


def fit(run: Run, session: Session, begin: int) -> int:
    """Train from step `begin` (steps done so far) to `run.steps`, or until the session wishes to stop; returns the steps done."""
    for module in run.modules.values():
        module.train()
    with closing(run.data.stream(begin)) as stream:
        for step in range(begin, run.steps):
            session.log.begin(session.wants_row(step + 1))
            train_step(run, step, next(stream), session.log, session.watch)
            if not session.after_step(step + 1):
                return step + 1
    return run.steps


def train_step(run: Run, step: int, batches: Sequence[Batch], log: StepLog, watch: Watch) -> None:
    """One step on the micro-batches of one global batch."""
    for scheduler in run.schedulers.values():
        scheduler.set(step)
    log.rates(run.optimizers)  # now: a torch scheduler moves on before the step is over
    prepared = [prepare(run, step, micro, batch) for micro, batch in enumerate(batches)]
    turns = run.task.turns
    for _ in ONCE if run.passes == 1 else passes(run, log):
        generators = [run.task.objectives(run.nets, batch) for batch in prepared]
        for turn in count() if turns is None else range(turns):
            if not apply_objective(run, (step, turn), generators, prepared, log, watch):
                break
    if overrides(run.task, "after_step"):
        seed_generators(run.seed, step, "after")
        run.task.after_step(run.nets, prepared)
    for scheduler in run.schedulers.values():
        scheduler.advance()
    if run.ema is not None:
        run.ema.update()


def prepare(run: Run, step: int, micro: int, batch: Batch) -> Batch:
    """The random part of a micro-batch that lies outside the networks, under noise of its own."""
    if not overrides(run.task, "prepare"):
        return batch
    noise = Noise(run.seed, step, micro, 0, "prepare")
    seed_generators(*noise.key)
    return run.task.prepare(batch, noise)


def overrides(task: Task, method: str) -> bool:
    """Whether a task has a method of its own: seeding for one that does nothing would cost 5 us a step."""
    return getattr(type(task), method) is not getattr(Task, method)


def apply_objective(
    run: Run, place: tuple[int, int], generators: Sequence[Iterator[Objective]], batches: Sequence[Batch], log: StepLog, watch: Watch
) -> bool:
    """Draw the next objective from every micro-batch, add up its gradients and step its optimizers; False when there is none left.

    Losses are weighed by `count` over the step's total, so the gradient is that of the full batch, for masked means too.
    """
    step, turn = place
    first: Objective | None = None
    counts: list[Tensor | float] = []
    for micro, generator in enumerate(generators):
        seed_generators(run.seed, step, micro, 0, "train", turn)
        with run.precision.autocast():
            objective = next(generator, None)
        agree(first, objective, micro)
        if objective is None:
            continue
        first = first or objective
        counts.append(objective.count if len(generators) == 1 else double(objective.count))  # float32 shares would cost 1e-8
        share = relative_weight(counts) if len(generators) > 1 else 1.0
        if share is None:  # no counted unit: the loss is 0/0 and adds nothing
            continue
        inputs = run.updated_by(objective.update)[1]
        loss = watch.see(step + 1, objective.loss.detach(), "loss")
        run.precision.backward(objective.loss if share == 1.0 else objective.loss * share, inputs)
        log.add(objective, "loss" if inputs is None else f"{objective.update[0]}_loss", loss, run.task, batches[micro])
    if first is None:
        return False
    update(run, step, first.update, counts, log, watch)
    return True


def relative_weight(counts: Sequence[Tensor | float]) -> Tensor | float | None:
    """The last count over the first that is not 0; None where the last is 0."""
    return counts[-1] / next(c for c in counts if c) if counts[-1] else None


def agree(first: Objective | None, objective: Objective | None, micro: int) -> None:
    """All generators of a step yield the same names in the same order, or the run stops."""
    if micro and (first.update if first else None) != (objective.update if objective else None):
        raise RuntimeError(
            f"the objectives of micro-batch {micro} differ from those of micro-batch 0: "
            f"{objective.update if objective else 'none'} against {first.update if first else 'none'}"
        )


def update(run: Run, step: int, networks: tuple[str, ...], counts: Sequence[Tensor | float], log: StepLog, watch: Watch) -> None:
    """Clip and step the optimizers of `networks`, then drop their gradients."""
    names, _ = run.updated_by(networks)
    optimizers = [run.optimizers[name] for name in names]
    run.precision.unscale(optimizers)
    parameters = [parameter for name in names for _, parameter in run.owned[name]]
    if len(counts) > 1:
        rescale(parameters, counts)
    if log.histograms is not None:
        log.histograms.take(step + 1, [pair for name in names for pair in run.owned[name]])
    if run.train["clip_norm"] is not None:
        norm = clip_norm(parameters, run.train["clip_norm"])
        overflows = run.precision.scaler is not None  # an fp16 overflow is skipped and counted by the scaler
        seen = norm if overflows else watch.see(step + 1, norm, f"gradient of {', '.join(networks)}")
        log.clip(seen, run.train["clip_norm"])
    run.precision.step(optimizers)
    for optimizer in optimizers:
        optimizer.zero_grad()


def rescale(parameters: Sequence[nn.Parameter], counts: Sequence[Tensor | float]) -> None:
    """From sums relative to the first count to the mean over the step's total."""
    reference: Any = next((c for c in counts if c), 1.0)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, float(reference / sum(counts)))
