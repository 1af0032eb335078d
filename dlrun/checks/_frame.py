"""The frame of all checks: what a check gets (`Subject`), what it says (`Finding`), and facts about it (`@check`)."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.evaluate import evaluating
from dlrun.finite import NonFinite, Watch
from dlrun.loop import prepare, train_step
from dlrun.noise import seed_generators
from dlrun.registry import facts
from dlrun.run import Run
from dlrun.steplog import StepLog
from dlrun.task import LossTask

STAGES = ("data", "loss", "gradient", "update", "learning")
MARKS = {"ok": "ok", "info": "note", "warning": "warning", "error": "ERROR", "not_applicable": "n/a"}
STYLES = {"ok": "good", "info": "", "warning": "warning", "error": "error", "not_applicable": "dim"}


@dataclass
class Finding:
    """One verdict: level ok, info, warning, error or not_applicable, with its numbers, threshold, one cause and one next step."""

    level: str
    message: str
    cause: str = ""
    next: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    threshold: str = ""
    check: str = ""
    recipe: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The finding as `dlrun check --json` prints it."""
        return dataclasses.asdict(self)

    def lines(self) -> Iterator[tuple[str, str]]:
        """(text, style) lines for the console: the message, and below anything above info its cause and next step."""
        yield f"check {self.check}: {MARKS[self.level]}: {self.message}", STYLES[self.level]
        if self.level in ("warning", "error"):
            if self.cause:
                yield f"    likely cause: {self.cause}", ""
            if self.next:
                yield f"    next: {self.next}", ""


def check(*, stage: str, moment: str = "check", recipe: str = "") -> Callable[[Any], Any]:
    """Facts about a check: its place in causal order, when it runs (fast, check, deep), the recipe it comes from."""
    return facts(stage=stage, moment=moment, recipe=recipe)


def skipped(reason: str) -> Finding:
    """The verdict of a check that does not apply."""
    return Finding("not_applicable", reason)


class Subject:
    """A built run under examination. Whatever a check trains or feeds is a copy; the run stays as it was built."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.broken: str | None = None

    def judge(self, name: str, part: Callable[[Subject], Finding]) -> Finding:
        """Run one check; an exception in the networks or the loss is itself a finding, and later checks say that they could not run."""
        if self.broken:
            finding = skipped(f"not run: {self.broken}")
        else:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of trial steps on copies; the training's own are shown
                    finding = part(self)
            except NonFinite as error:
                finding = Finding(
                    "error", f"non-finite {error.what} in trial step {error.step}", "a value overflowed or is undefined", "look at it"
                )
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                self.broken = f"{type(error).__name__} in {name}"
                text = " ".join(str(error).split())[:300]
                finding = Finding(
                    "error", f"{type(error).__name__}: {text}", "the parts do not fit together", "dlrun train --pdb stops there"
                )
        finding.check, finding.recipe = name, getattr(part, "recipe", "")
        return finding

    @property
    def expects(self) -> dict[str, Any]:
        """Facts the user declared."""
        return self.run.config.get("expects") or {}

    @functools.cached_property
    def batch(self) -> Batch:
        """The first training micro-batch, prepared: what the networks get."""
        return prepare(self.run, 0, 0, self.raw)

    @functools.cached_property
    def raw(self) -> Batch:
        """The first training micro-batch before `prepare`."""
        return self.run.data.batches(0)[0]

    @property
    def loss_task(self) -> LossTask | None:
        """The task where it has one loss in parts, else None."""
        return self.run.task if isinstance(self.run.task, LossTask) else None

    def copy(self) -> Run:
        """A copy of everything that training changes; the data is shared."""
        run = self.run
        parts = (run.modules, run.optimizers, run.schedulers, run.task, run.owned, run.precision)
        modules, optimizers, schedulers, task, owned, precision = copy.deepcopy(parts)
        return dataclasses.replace(
            run,
            modules=modules,
            optimizers=optimizers,
            schedulers=schedulers,
            task=task,
            owned=owned,
            precision=precision,
            ema=None,
            _updated_by={},
        )

    @contextmanager
    def forward(self, run: Run, training: bool) -> Iterator[None]:
        """Without gradients, in train or eval mode, modes put back."""
        with evaluating(run.modules):
            if training:
                for module in run.modules.values():
                    module.train()
            yield

    def outputs(self, run: Run, batch: Batch, *, training: bool, key: str = "check") -> Any:
        """The outputs of a LossTask on a prepared batch, under noise keyed by `key`."""
        assert isinstance(run.task, LossTask)
        with self.forward(run, training):
            seed_generators(run.seed, key)
            return run.task.outputs(run.nets, batch)

    def loss_of(self, run: Run, outputs: Any, batch: Batch) -> Tensor:
        """The task's loss of given outputs."""
        assert isinstance(run.task, LossTask)
        with torch.no_grad():
            loss = run.task.loss(outputs, batch)
        return (loss[0] if isinstance(loss, tuple) else loss).detach()

    def batch_loss(self, run: Run, batch: Batch, *, training: bool = True) -> float:
        """The loss on a prepared batch, always under the same noise, so that two values differ by the weights alone."""
        return float(self.loss_of(run, self.outputs(run, batch, training=training), batch))

    def fit(self, run: Run, raw: Batch, steps: int) -> Iterator[int]:
        """Train the copy `run` on one fixed batch with its own optimizer; yields after each step.

        Its schedule is asked for no step that the training would not ask for.
        """
        log, watch = StepLog(), Watch(run.device)
        for step in range(min(steps, run.steps)):
            log.begin(False)
            train_step(run, step, [raw], log, watch)
            yield step + 1
