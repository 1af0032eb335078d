"""The frame of all checks: what a check gets (`Subject`), what it says (`Finding`), and facts about it (`@check`)."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.build import build_networks, build_task
from dlrun.checks._copying import whole_copy
from dlrun.checks._finding import LOUD, STAGES, Declared, Finding, NoCopy, check, declared, gap, largest, plain, skipped, tensors
from dlrun.checks._kinds import kind_of
from dlrun.checks._rows import Rows, scan
from dlrun.checks._trouble import first_line, stopped, uncopied
from dlrun.errors import DlrunError
from dlrun.evaluate import evaluating
from dlrun.finite import NonFinite, Watch
from dlrun.loop import prepare, train_step
from dlrun.noise import seed_generators
from dlrun.owners import build_optimizers
from dlrun.run import Run
from dlrun.start import freeze
from dlrun.steplog import StepLog
from dlrun.task import LossTask

__all__ = ["LOUD", "STAGES", "Finding", "NoCopy", "Rows", "Subject", "check", "declared", "gap", "largest", "plain", "skipped", "tensors"]

FEW = 32
LATE = "not run: the time for all checks is used up (--deep takes more)"


class Subject:
    """A built run under examination. Whatever a check trains or feeds is a copy; the run stays as it was built.

    `patience` is the time in seconds that a check which could go on for long may take, `budget` that for all checks together.
    """

    def __init__(self, run: Run, patience: float = 0.3, budget: float = math.inf) -> None:
        self.run, self.patience, self.budget = run, patience, budget
        self._begun = time.thread_time(), time.perf_counter()
        self.broken: str | None = None
        self._rows: dict[str, tuple[int, Rows]] = {}

    def judge(self, name: str, part: Callable[[Subject], Finding]) -> Finding:
        """Run one check; networks or a loss that raise in an ordinary step are a finding, and later checks say that they could not run."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of trial steps on copies; the training's own are shown
                finding = skipped(f"not run: {self.broken}") if self.broken else part(self) if self.seconds_left > 0 else skipped(LATE)
        except NoCopy as error:
            finding = skipped(str(error))
        except NonFinite as error:
            text = f"non-finite {error.what} in trial step {error.step}"
            finding = Finding("error", text, "a value overflowed or is undefined", "look at what enters the loss", symptom=True)
        except DlrunError:
            raise
        except (torch.OutOfMemoryError, MemoryError):
            finding = skipped("there is not enough memory for a copy to try things on")
        except Exception as error:
            finding = stopped(error, self)
        if finding.blocks:
            self.broken = f"{name} found that the set-up cannot run"
        finding.check, finding.recipe = name, getattr(part, "recipe", "")
        return finding

    @property
    def seconds_left(self) -> float:
        """What is left of the budget. Computing time counts, so that a busy machine changes no verdict; waiting counts by a third."""
        worked, passed = time.thread_time() - self._begun[0], time.perf_counter() - self._begun[1]
        return self.budget - max(worked, passed / 3)

    @functools.cached_property
    def expects(self) -> Declared:
        """Facts the user declared."""
        return Declared(self.run.config.get("expects") or {})

    @property
    def batch(self) -> Batch:
        """The first training micro-batch, prepared: what the networks get. Anew each time: a network may write into its input."""
        return self.prepared(self.copy(), self.raw)

    @staticmethod
    def prepared(run: Run, raw: Batch) -> Batch:
        """`raw` as the networks of the copy `run` get it."""
        return prepare(run, 0, 0, raw.map(torch.clone))

    @functools.cached_property
    def raw(self) -> Batch:
        """The first training micro-batch before `prepare`."""
        return self.run.data.batches(0)[0]

    @property
    def few(self) -> Batch:
        """Up to 32 rows of it, for what needs many forwards: checks before a run are to take a second, on slow networks too."""
        return self.raw[:FEW]  # type: ignore[no-any-return]

    @property
    def floor(self) -> float | None:
        """The least loss of a training batch; None where it is unknown. Mixed labels have an entropy that nobody can go below."""
        return None if self.run.data.mixed_labels else self.run.task.loss_floor(self.run.data.spec)

    @property
    def loss_task(self) -> LossTask | None:
        """The task where it has one loss in parts, else None."""
        return self.run.task if isinstance(self.run.task, LossTask) else None

    @functools.cached_property
    def kind(self) -> str:
        """What is learned (classification binary regression language_model sequence vae diffusion contrastive graph gan other)."""
        task = self.run.task
        said, inferred = getattr(task, "kind", self.run.data.spec.kind), bool(getattr(task, "kind_inferred", False))
        if not inferred or self.loss_task is None:
            return str(said)
        try:
            run = self.copy()
            batch = self.prepared(run, self.few)
            return kind_of(said, inferred, batch.get("x"), batch.get("y"), self.outputs(run, batch, training=False))
        except Exception:  # the networks do not run: the checks that run them say so
            return str(said)

    def rows(self, split: str, count: int) -> Rows:
        """Up to `count` random rows of `split` as the networks get them, not augmented; read once and kept. KeyError for an absent split.

        Of a user's Dataset whose items are slow there may be fewer: `len(rows)` says how many, `rows.whole` whether these are all.
        """
        kept = self._rows.get(split)
        if kept is None or not (kept[0] >= count or kept[1].whole):
            kept = self._rows[split] = (count, scan(self.run.data, split, count, self.patience / 4))
        return kept[1].first(count)

    def parameters(self, run: Run) -> dict[str, nn.Parameter]:
        """The trainable parameters of `run` by full name (`model.body.0.weight`), one that several modules share once."""
        first: dict[nn.Parameter, str] = {}
        for name, module in run.modules.items():
            for key, p in module.named_parameters():
                first.setdefault(p, f"{name}.{key}")
        return {name: p for p, name in first.items() if p.requires_grad}

    def fresh(self, seed: int | None = None) -> Run:
        """A run of the same config whose networks, optimizers and task are built anew from `seed` (its own where None).

        Weights that `start` brings are not loaded, what it freezes is frozen. The data is shared.
        """
        run = self.run
        seed = run.seed if seed is None else seed
        task = build_task(run.config, run.data)
        task.metrics = run.task.metrics  # without those that do not fit the data
        modules = build_networks(run.config, task, run.data.spec, seed)
        if "loss" in run.modules:
            modules["loss"] = task.criterion
        freeze((run.config.get("start") or {}).get("freeze") or [], modules)
        for module in modules.values():
            module.to(run.device)
        optimizers, owned, schedulers = build_optimizers(run.config, modules, run.steps)
        parts: dict[str, Any] = {"modules": modules, "task": task, "optimizers": optimizers, "owned": owned, "schedulers": schedulers}
        made = dataclasses.replace(run, **parts, precision=copy.deepcopy(run.precision), seed=seed, ema=None, _updated_by={})
        seed_generators(seed, "start")
        task.start(made.nets)
        return made

    def copy(self) -> Run:
        """A copy of everything that training changes; the data is shared."""
        run = self.run
        parts: dict[str, Any] = {
            "the networks": run.modules,
            "the task": run.task,
            "the optimizers": run.optimizers,
            "the schedules": run.schedulers,
            "the parameters": run.owned,
            "the precision": run.precision,
        }
        try:
            modules, task, optimizers, schedulers, owned, precision = whole_copy(list(parts.values()), run.optimizers.values())
        except Exception as error:  # whatever a user's object raises when it is copied
            if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
                raise
            raise NoCopy(f"cannot be tried: {uncopied(parts)} cannot be copied ({first_line(error)})") from error
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
        with self.forward(run, training), run.precision.autocast():
            seed_generators(run.seed, key)
            return run.task.outputs(run.nets, batch.map(torch.clone))

    def bound(self, run: Run, batch: Batch, *, training: bool = False) -> float:
        """How far outputs of equal inputs may lie apart: 10 x the gap of two equal forwards + 1e-6 x the largest output."""
        one, same = (self.outputs(run, batch, training=training) for _ in range(2))
        return 10 * gap(one, same) + 1e-6 * largest(one)

    def heard(self, run: Run, batch: Batch, *, training: bool, key: str = "check") -> dict[str, list[Any]]:
        """What each network returned, call by call, while a task of any form went once over a prepared batch: nothing is updated.

        In training that is every objective of a step, in evaluation what `evaluate` calls. For a LossTask, `outputs` says more.
        """
        said: dict[str, list[Any]] = {name: [] for name in run.nets}
        handles = [run.modules[name].register_forward_hook(lambda _, __, out, mine=said[name]: mine.append(out)) for name in said]
        try:
            with self.forward(run, training), torch.set_grad_enabled(training), run.precision.autocast():
                seed_generators(run.seed, key)
                copied = batch.map(torch.clone)
                list(run.task.objectives(run.nets, copied)) if training else run.task.evaluate(run.nets, copied)
        finally:
            for handle in handles:
                handle.remove()
        return said

    def loss_of(self, run: Run, outputs: Any, batch: Batch) -> Tensor:
        """The task's loss of given outputs; TypeError where it is no tensor."""
        with torch.no_grad():
            return self.live_loss(run, outputs, batch)

    def live_loss(self, run: Run, outputs: Any, batch: Batch) -> Tensor:
        """The same with gradients."""
        assert isinstance(run.task, LossTask)
        seed_generators(run.seed, "loss")
        with run.precision.autocast():
            loss = run.task.loss(outputs, batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss returned a {type(loss).__name__}, expected a tensor")
        return loss

    def batch_loss(self, run: Run, batch: Batch, *, training: bool = True, draws: int = 1) -> float:
        """The loss on a prepared batch, always under the same noise (mean of `draws`): two values differ by the weights alone."""
        keys = [f"draw {number}" for number in range(draws)]
        losses = [float(self.loss_of(run, self.outputs(run, batch, training=training, key=key), batch)) for key in keys]
        return sum(losses) / draws

    def fit(self, run: Run, raw: Batch, steps: int, watch: Watch | None = None) -> Iterator[int]:
        """Train the copy `run` on one fixed batch with its own optimizer; yields after each step.

        Its schedule is asked for no step that the training would not ask for.
        """
        log, watch = StepLog(), watch or Watch(run.device)
        for module in run.modules.values():
            module.train()
        for step in range(min(steps, run.steps)):
            log.begin(False)
            train_step(run, step, [raw.map(torch.clone)], log, watch)
            yield step + 1
