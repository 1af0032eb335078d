"""The networks of a task of several objectives, each by itself: what it got in a training step, and what it makes of that.

A check that looks at the outputs of one network needs no loss of it. So each network that a step calls becomes a subject of its own, with
the rows that it got there as a batch (noise for a generator, data for a critic), and is asked as the one network of a supervised task is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.checks._finding import LEVELS
from dlrun.checks._frame import Finding, Rows, Subject, gap, largest, skipped, tensors
from dlrun.checks._trial import once
from dlrun.run import Run
from dlrun.task import LossTask
from dlrun.types import Networks


class Alone(LossTask):
    """The outputs of one network on what it got in a step."""

    kind = "gan"

    def __init__(self, name: str) -> None:
        self.name = name

    def outputs(self, nets: Networks, batch: Batch) -> Any:
        """What the network gives: inputs stand by their place, or by name."""
        x = batch["x"]
        if isinstance(x, Tensor):
            return nets[self.name](x)
        places = sorted(key for key in x if key.isdigit())
        return nets[self.name](*(x[key] for key in places), **{key: value for key, value in x.items() if not key.isdigit()})

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """None of its own: it is no outputs' fault."""
        return torch.zeros(())


class Fed:
    """The run's data, but for the batches: these are what the network got."""

    def __init__(self, data: Any, batch: Batch) -> None:
        self._data, self._batch = data, batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy in the making has none yet
            raise AttributeError(name)
        return getattr(self._data, name)

    def batches(self, step: int) -> list[Batch]:
        """The same rows at each step."""
        return [self._batch]


class Player(Subject):
    """One network as a subject of its own. `makes` says whether its outputs are rows like those of the data."""

    def __init__(self, subject: Subject, name: str, batch: Batch, makes: bool) -> None:
        run = subject.run
        data: Any = Fed(run.data, batch)
        alone = {name: run.modules[name]}
        only: dict[str, Any] = {"modules": alone, "optimizers": {}, "owned": {}, "schedulers": {}, "ema": None, "_updated_by": {}}
        super().__init__(dataclasses.replace(run, data=data, task=Alone(name), **only), subject.patience, subject.budget)
        self._begun, self.name, self.makes = subject._begun, name, makes
        self.__dict__ |= {"raw": batch, "kind": "other", "expects": subject.expects}

    @staticmethod
    def prepared(run: Run, raw: Batch) -> Batch:
        """Nothing is left to prepare."""
        return raw.map(torch.clone)

    def rows(self, split: str, count: int) -> Rows:
        """The rows that there are."""
        return Rows(self.raw[:count], torch.arange(min(count, len(self.raw))), False)


@once
def players(subject: Subject) -> list[Player]:
    """A subject for each network that a step calls with tensors of one row each; none where it is called by other means."""
    run = subject.copy()
    given: dict[str, list[tuple[Any, Any, Any]]] = {name: [] for name in run.nets}
    handles = [run.modules[name].register_forward_hook(_note(given[name]), with_kwargs=True) for name in given]
    batch = subject.prepared(run, subject.raw)
    try:
        with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
            list(run.task.objectives(run.nets, batch))
    finally:
        for handle in handles:
            handle.remove()
    real, found = batch.get("x"), []
    for name, calls in given.items():
        rows = _rows(calls[0]) if calls else None
        if rows is not None:
            out = tensors(calls[0][2])
            makes = isinstance(real, Tensor) and bool(out) and out[0].shape[1:] == real.shape[1:]
            found.append(Player(subject, name, rows, makes))
    return found


def each(subject: Subject, part: Callable[[Subject], Finding], quiet: Callable[[Player, Finding], bool] | None = None) -> Finding:
    """The verdict of `part` on each network by itself: the worst one, or all of them.

    `quiet` tells whether a warning or an error of a network is to be a note: where what it names may be meant.
    """
    found: dict[str, Finding] = {}
    for player in players(subject):
        try:
            found[player.name] = part(player)
        except Exception as error:  # outside its task a network may refuse what it gets
            found[player.name] = skipped(f"it does not run by itself ({type(error).__name__})")
        if quiet is not None and found[player.name].level in ("warning", "error") and quiet(player, found[player.name]):
            found[player.name].level = "info"
    if not found:
        return skipped("no network of this task was called with rows of tensors")
    worst = max(found.values(), key=lambda one: LEVELS.index(one.level))
    numbers = {name: one.numbers for name, one in found.items()}
    if worst.level in ("warning", "error"):
        name = next(name for name, one in found.items() if one is worst)
        return dataclasses.replace(worst, message=f"{name}: {worst.message}", numbers=numbers)
    text = "; ".join(f"{name}: {one.message}" for name, one in found.items())
    return Finding(worst.level, text, numbers=numbers, threshold=worst.threshold)


def draws(player: Player, found: Finding) -> bool:
    """Whether the outputs are other ones under other noise: a network that draws by itself may take its input for the number of rows."""
    run = player.copy()
    one, two = (player.outputs(run, player.prepared(run, player.few), training=False, key=key) for key in ("one", "two"))
    return gap(one, two) > 1e-6 * largest(one)


def _note(calls: list[tuple[Any, Any, Any]]) -> Any:
    def hook(module: nn.Module, inputs: Any, named: Mapping[str, Any], out: Any) -> None:
        calls.append((inputs, named, out))

    return hook


def _rows(call: tuple[Any, Any, Any]) -> Batch | None:
    """What a call was given as a batch; None where that are no tensors of equally many rows."""
    inputs, named, _ = call
    given = {**{str(place): value for place, value in enumerate(inputs)}, **named}
    if not given or not all(isinstance(value, Tensor) and value.dim() for value in given.values()):
        return None
    if len({len(value) for value in given.values()}) != 1:
        return None
    kept = {key: value.detach().clone() for key, value in given.items()}
    return Batch({"x": kept["0"] if list(kept) == ["0"] else kept})
