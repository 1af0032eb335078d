"""Augmentations of a run: built with what they ask for by name, and tried on two rows before anything is spent on a run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dlrun import registry
from dlrun.batch import Batch
from dlrun.data import Data
from dlrun.data.items import generators_kept
from dlrun.errors import DlrunError, UsageError
from dlrun.functional.criteria import reads_shares, unwrap
from dlrun.noise import Noise
from dlrun.parts import make, options, slots
from dlrun.task import Task
from dlrun.types import DataSpec

Augment = Callable[[Batch, Noise], Batch]
GIVEN = ("batch", "noise", "classes")
"""What may stand left of an augmentation's star."""


def add_augments(data: Data, node: Mapping[str, Any] | None, task: Task) -> None:
    """Give `data` the augmentations of the config, in its order, unless the task asked for them. UsageError where one cannot work."""
    if "augments" in registry.wiring(type(task)):
        return  # the task calls them itself, with noise of its own for each view of a row
    parts = slots(node, "augment")
    classes = classes_of(task, data.spec)
    data.augments = build_augments(node, classes)
    if not parts:
        return
    least = min(high - low for low, high in data.cuts)
    plain = data.head("train", min(2, least))
    with generators_kept():
        batch = plain
        for number, (slot, part) in enumerate(parts.items()):
            batch = _tried(data, number, batch, slot, part)
    mixing = any(getattr(registry.get("augment", part["name"]), "mixes", False) for part in parts.values())
    data.mixed_labels = data.spec.kind in ("classification", "binary") and (mixing or _differ(plain.get("y"), batch.get("y")))
    if data.mixed_labels and not reads_shares(task.criterion):
        name = getattr(unwrap(task.criterion)[0], "__name__", "of this run")
        raise UsageError(f"augment: mixed labels are shares of classes, which loss {name} would read as labels: say loss=cross_entropy")


def _tried(data: Data, number: int, batch: Batch, slot: str, part: Mapping[str, Any]) -> Batch:
    """The rows after one augmentation. A ValueError of dlrun's own parts is the user's to mend; plugins keep their traceback."""
    try:
        return data.augmented(batch, 0, only=number)
    except ValueError as error:
        if isinstance(error, DlrunError) or part["name"] in registry.PLUGINS["augment"]:
            raise
        text = str(error).removeprefix("augment ").removeprefix(f"{part['name']} ").removeprefix(f"{part['name']}: ")
        named = slot if slot == part["name"] else f"{slot} ({part['name']})"
        raise UsageError(f"augment.{named}: {text}") from error


def build_augments(node: Mapping[str, Any] | None, classes: int | None) -> tuple[Augment, ...]:
    """The configured augmentations in order, each to be called as augment(batch, noise)."""
    return tuple(build_augment(part, classes) for part in slots(node, "augment").values())


def build_augment(part: Mapping[str, Any], classes: int | None) -> Augment:
    """One augmentation, ready to be called with a batch and its noise; what else it asks for by name is given."""
    found = registry.get("augment", part["name"])
    if inspect.isclass(found):
        made = make("augment", part, {"classes": classes})
        wanted = registry.wiring(made)
    else:
        made = functools.partial(found, **options(part))
        wanted = registry.wiring(found)
    unknown = [name for name in wanted if name not in GIVEN]
    if unknown:
        allowed = ", ".join(GIVEN)
        raise UsageError(
            f"augment {part['name']} asks for {', '.join(unknown)}: left of `*` there may stand {allowed}; options right of it"
        )

    def augment(batch: Batch, noise: Noise) -> Batch:
        given = {"batch": batch, "noise": noise, "classes": classes}
        changed: Batch = made(**{name: given[name] for name in wanted})
        return changed

    return augment


def classes_of(task: Task, spec: DataSpec) -> int | None:
    """How many classes a whole-number target can name; None where it is a number to the task (one output a row: binary, regression)."""
    shapes = [tuple(shape[1]) for shape in task.networks(spec).values()]  # a user's task may give plain tuples
    return None if shapes == [()] else spec.classes


def _differ(before: Any, after: Any) -> bool:
    """Whether targets are not what they were."""
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return type(before) is not type(after)
    return before.dtype != after.dtype or before.shape != after.shape or not bool((before == after).all())
