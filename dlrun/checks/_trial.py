"""One short trial training on a fixed batch, watched from all sides and shared by every check that asks what steps do.

A copy of the run takes up to 20 steps with its real optimizers, at the rates its schedule will give. Around each `step` and `zero_grad`
stands a watcher (`Watched`); what it wrote down is the `Trial`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import FEW, Subject
from dlrun.finite import NonFinite, Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

STEPS, LEAST, SECONDS, AT_MOST = 20, 3, 0.3, 3.0
DRAWS = 4
Made = TypeVar("Made")


def once(make: Callable[[Subject], Made]) -> Callable[[Subject], Made]:
    """`make` called once a subject, however many checks ask."""
    known: WeakKeyDictionary[Subject, Made] = WeakKeyDictionary()

    @functools.wraps(make)
    def give(subject: Subject) -> Made:
        if subject not in known:
            known[subject] = make(subject)
        return known[subject]

    return give


class Losses(Watch):
    """A watch that keeps the losses it sees."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.seen: list[float] = []

    def see(self, step: int, value: Tensor, what: str) -> Tensor | float:
        """Note a loss, then watch as ever."""
        if what == "loss":
            self.seen.append(float(value))
        return super().see(step, value, what)


class Watched:
    """An optimizer that says when it steps and when it drops gradients; in all else the one inside."""

    def __init__(self, inner: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.inner, self.before, self.after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def step(self, *given: Any, **named: Any) -> Any:
        """Step the one inside."""
        self.before()
        return self.inner.step(*given, **named)

    def zero_grad(self, *given: Any, **named: Any) -> Any:
        """Drop the gradients of the one inside."""
        result = self.inner.zero_grad(*given, **named)
        self.after()
        return result


@dataclass
class Trial:
    """What the steps did. Lists by step hold one number a parameter (in the order of `names`); a gradient that is None counts as NaN."""

    run: Run
    batch: Batch
    names: list[str]
    parameters: list[Tensor]
    sizes: list[float]
    """Norm of each parameter before the first step."""
    before: float = math.nan
    after: float = math.nan
    draws: int = 1
    done: int = 0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    moves: list[list[float]] = field(default_factory=list)
    """Norm of each parameter's change in a step."""
    slopes: list[list[float]] = field(default_factory=list)
    """Norm of each parameter's gradient when the optimizer steps, after clipping."""
    gradients: list[Tensor | None] = field(default_factory=list)
    """The gradients of the first step, after clipping."""
    left: list[list[float]] = field(default_factory=list)
    """Norm of each parameter's gradient that zero_grad left."""
    undone: list[tuple[int, str, str]] = field(default_factory=list)
    """(step, parameter, how): weights that were not what the optimizer had left, when it stepped again."""
    first: list[Tensor] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    """Parameters of the networks that are other objects than before."""
    broken: NonFinite | None = None

    def still(self) -> list[str]:
        """Parameters that never moved though they had a gradient at a rate above 0."""
        steps = [number for number, rate in enumerate(self.rates) if rate > 0 and number < len(self.moves)]
        return [
            name
            for place, name in enumerate(self.names)
            if steps
            and all(self.moves[step][place] == 0 for step in steps)
            and any(self.slopes[step][place] > 0 for step in steps if step < len(self.slopes))
        ]

    def relative(self) -> list[float]:
        """Median over the parameters of ||change|| / ||weights|| at each step; vectors (biases, norms) and zeros left out if possible."""
        chosen = [n for n, p in enumerate(self.parameters) if p.dim() > 1 and self.sizes[n] > 0]
        chosen = chosen or [n for n, size in enumerate(self.sizes) if size > 0]
        return [_median([row[n] / self.sizes[n] for n in chosen]) for row in self.moves] if chosen else []


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@once
def trial(subject: Subject) -> Trial:
    """The trial of this subject, made once. Raises NoCopy where nothing can be tried; needs an optimizer and at least one step."""
    run = subject.copy()
    named = subject.parameters(run)
    held = {id(p) for o in run.optimizers.values() for group in o.param_groups for p in group["params"]}
    names = [name for name, p in named.items() if id(p) in held] or list(named)
    chosen: list[Tensor] = [named[name] for name in names]
    sizes = norms(chosen)
    found = Trial(run, subject.prepared(run, subject.few), names, chosen, sizes, first=[p.detach().clone() for p in chosen])
    if subject.loss_task is not None:
        found.before = subject.batch_loss(run, found.batch)
        found.draws = 1 if found.before == subject.batch_loss(run, found.batch, draws=2) else DRAWS
        found.before = found.before if found.draws == 1 else subject.batch_loss(run, found.batch, draws=found.draws)
    ids = [id(p) for p in named.values()]
    try:
        _steps(subject, found)
    except NonFinite as error:
        found.broken = error
    now = subject.parameters(run)
    found.replaced = [name for name, old in zip(named, ids, strict=True) if name not in now or id(now[name]) != old]
    return found


def _steps(subject: Subject, found: Trial) -> None:
    """Take the steps: 0.3 s of work are enough where the loss falls; where it does not, all 20 are taken (3 s)."""
    run, losses, begun = found.run, Losses(found.run.device), time.thread_time()
    found.gradients = [None] * len(found.names)
    found.losses = losses.seen
    kept = [p.detach().clone() for p in found.parameters]
    for name, optimizer in run.optimizers.items():
        scribe = _Scribe(found, optimizer, kept)
        run.optimizers[name] = Watched(optimizer, scribe.before, scribe.after)
    for done in subject.fit(run, subject.few, STEPS, losses):
        found.done = done
        found.moves.append(norms([p.detach() - old for p, old in zip(found.parameters, kept, strict=True)]))
        kept[:] = [p.detach().clone() for p in found.parameters]
        gone = time.thread_time() - begun
        if done < LEAST or gone <= SECONDS:
            continue
        if gone > AT_MOST or subject.loss_task is None or subject.batch_loss(run, found.batch, draws=found.draws) < found.before:
            break
    if subject.loss_task is not None:
        found.after = subject.batch_loss(run, found.batch, draws=found.draws)
        if not math.isfinite(found.after):
            raise NonFinite(found.done, "loss")


class _Scribe:
    """Writes down what one optimizer finds and leaves; `kept` are the weights as the step before left them."""

    def __init__(self, found: Trial, optimizer: Any, kept: list[Tensor]) -> None:
        self.found, self.optimizer, self.kept = found, optimizer, kept
        place = {id(p): number for number, p in enumerate(found.parameters)}
        self.mine = [p for group in optimizer.param_groups for p in group["params"] if id(p) in place]
        self.places = [place[id(p)] for p in self.mine]

    def before(self) -> None:
        """The optimizer is about to step."""
        found, step = self.found, len(self.found.moves)
        if step:
            self._note_undone(step + 1)
        slopes = norms([p.grad for p in self.mine])
        row = _row(found.slopes, step, len(found.names))
        for place, norm in zip(self.places, slopes, strict=True):
            row[place] = norm
        if step == 0:
            for place, p in zip(self.places, self.mine, strict=True):
                found.gradients[place] = None if p.grad is None else p.grad.detach().clone()
        _row(found.rates, step, 0)
        rates = [_number(group.get("lr", 1.0)) for group in self.optimizer.param_groups]
        found.rates[step] = max([found.rates[step] or 0.0, *rates])

    def after(self) -> None:
        """The optimizer has dropped the gradients."""
        row = _row(self.found.left, len(self.found.moves), len(self.found.names))
        for place, norm in zip(self.places, norms([p.grad for p in self.mine]), strict=True):
            row[place] = 0.0 if math.isnan(norm) else norm

    def _note_undone(self, step: int) -> None:
        """Note weights that something else changed a lot since the last step: set back to the start, or drawn anew."""
        found = self.found
        for place in self.places if len(found.undone) < 20 else ():
            now, last, start = found.parameters[place].detach(), self.kept[place], found.first[place]
            if now.shape != last.shape or torch.equal(now, last):
                continue
            moved = float((last - start).norm())
            if moved and torch.equal(now, start):
                found.undone.append((step, found.names[place], "as before the first step"))
            elif moved and float((now - last).norm()) > max(10 * moved, 0.5 * float(last.norm())) > 0:
                found.undone.append((step, found.names[place], "other numbers"))


def _row(store: list[Any], step: int, width: int) -> Any:
    while len(store) <= step:
        store.append([math.nan] * width if width else 0.0)
    return store[step]


def norms(tensors: list[Any]) -> list[float]:
    """The 2-norm of each tensor; NaN for None."""
    there = [t.detach().float() for t in tensors if isinstance(t, Tensor) and not t.is_sparse]
    values = iter(torch.stack(torch._foreach_norm(there)).tolist() if there else [])
    sparse = [isinstance(t, Tensor) and t.is_sparse for t in tensors]
    return [
        float(t.coalesce().values().norm()) if odd else math.nan if t is None else next(values)
        for t, odd in zip(tensors, sparse, strict=True)
    ]


def _number(rate: Any) -> float:
    return 1.0 if rate is None else float(rate)


def steps_on(run: Run, begin: int, end: int, watch: Watch | None = None) -> int:
    """Take the training's own steps from `begin` up to `end` (or the run's last) on up to 32 rows of their batches; gives the last one."""
    log, watch, end = StepLog(), watch or Watch(run.device), min(end, run.steps)
    for module in run.modules.values():
        module.train()
    for step in range(begin, end):
        log.begin(False)
        train_step(run, step, [raw[:FEW] for raw in run.data.batches(step)[:1]], log, watch)
    return end


def try_anew(subject: Subject, change: Callable[[Run], None], steps: int = STEPS) -> tuple[float, float]:
    """(loss before, loss after) of a trial on the same batch on a copy that `change` has changed; infinite where it broke."""
    run = subject.copy()
    change(run)
    batch = subject.prepared(run, subject.few)
    before = subject.batch_loss(run, batch)
    try:
        for _ in subject.fit(run, subject.few, steps):
            pass
    except NonFinite:
        return before, math.inf
    return before, subject.batch_loss(run, batch)


def chance(subject: Subject, batch: Batch) -> float:
    """The loss of the untouched networks on targets of other rows: what a start from scratch costs; 0 where that is not finite."""
    run, y = subject.copy(), batch.get("y")
    shuffled = batch.replace(y=y.roll(1, 0)) if isinstance(y, Tensor) else batch
    value = subject.batch_loss(run, shuffled)
    return value if math.isfinite(value) else 0.0
