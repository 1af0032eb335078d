"""The frame of all checks: what a check gets (`Subject`), what it says (`Finding`), and facts about it (`@check`)."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import DlrunError
from dlrun.evaluate import evaluating
from dlrun.finite import NonFinite, Watch
from dlrun.loop import prepare, train_step
from dlrun.noise import seed_generators
from dlrun.registry import facts
from dlrun.run import Run
from dlrun.steplog import StepLog
from dlrun.task import LossTask

STAGES = ("data", "outputs", "loss", "gradient", "update", "learning")
FEW = 32
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
    blocks: bool = False
    """True where nothing after this check can run."""

    def as_json(self) -> dict[str, Any]:
        """The finding as `dlrun check --json` prints it: numbers are plain, whatever a check put there."""
        named = ("check", "level", "message", "cause", "next", "numbers", "threshold", "recipe", "seconds")
        return {name: plain(getattr(self, name)) for name in named}

    def lines(self) -> Iterator[tuple[str, str]]:
        """(text, style) lines for the console: the message, and below anything above info its cause and next step."""
        yield f"check {self.check}: {MARKS[self.level]}: {self.message}", STYLES[self.level]
        if self.level in ("warning", "error"):
            if self.cause:
                yield f"    likely cause: {self.cause}", ""
            if self.next:
                yield f"    next: {self.next}", ""
            if self.recipe:
                yield f"    recipe: {self.recipe}", "dim"


def plain(value: Any) -> Any:
    """`value` as what JSON knows: tensors and numpy's numbers become numbers and lists, anything else text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in what a network returned: nested tuples, lists and mappings, and the attributes of other objects."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors(item)]
    return [item for item in getattr(value, "__dict__", {}).values() if isinstance(item, Tensor)]


class NoCopy(Exception):
    """A part of the run cannot be copied, so that nothing can be tried on it."""


def check(*, stage: str, moment: str = "check", recipe: str = "") -> Callable[[Any], Any]:
    """Facts about a check: its place in causal order, when it runs (fast, check, deep), the recipe it comes from."""
    return facts(stage=stage, moment=moment, recipe=recipe)


def skipped(reason: str) -> Finding:
    """The verdict of a check that does not apply."""
    return Finding("not_applicable", reason)


class Subject:
    """A built run under examination. Whatever a check trains or feeds is a copy; the run stays as it was built.

    `patience` is the time in seconds that a check which could go on for long may take.
    """

    def __init__(self, run: Run, patience: float = 0.3) -> None:
        self.run, self.patience = run, patience
        self.broken: str | None = None

    def judge(self, name: str, part: Callable[[Subject], Finding]) -> Finding:
        """Run one check; an exception in the networks or the loss is itself a finding, and later checks say that they could not run."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of trial steps on copies; the training's own are shown
                finding = skipped(f"not run: {self.broken}") if self.broken else part(self)
        except NoCopy as error:
            finding = skipped(str(error))
        except NonFinite as error:
            text = f"non-finite {error.what} in trial step {error.step}"
            finding = Finding("error", text, "a value overflowed or is undefined", "look at what enters the loss")
        except DlrunError:
            raise
        except (torch.OutOfMemoryError, MemoryError):
            finding = skipped("there is not enough memory for a copy to try things on")
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            finding = Finding("error", text, "the parts do not fit together", "dlrun train --pdb stops there", blocks=True)
        if finding.blocks:
            self.broken = f"{name} found that the set-up cannot run"
        finding.check, finding.recipe = name, getattr(part, "recipe", "")
        return finding

    @property
    def expects(self) -> dict[str, Any]:
        """Facts the user declared."""
        return self.run.config.get("expects") or {}

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
            modules, task, optimizers, schedulers, owned, precision = copy.deepcopy(list(parts.values()))
        except Exception as error:  # whatever a user's object raises when it is copied
            if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
                raise
            raise NoCopy(f"cannot be tried: {_uncopied(parts)} cannot be copied ({_first_line(error)})") from error
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


def _uncopied(parts: Mapping[str, Any]) -> str:
    """Which of `parts` cannot be copied by itself."""
    for name, part in parts.items():
        try:
            copy.deepcopy(part)
        except Exception:
            return name
    return "the run"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
