"""From nodes of a config to single parts: slots, options, and calls through the registries. Losses and metrics are made here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dlrun import registry
from dlrun.config import defaults
from dlrun.errors import UsageError
from dlrun.registry import wire
from dlrun.task import Task
from dlrun.types import DataSpec, Metric

NOTHING: Mapping[str, Callable[[], Any]] = MappingProxyType({})
METRIC_FACTS = {"best": None, "whole": False, "batches": True, "reads": (), "undefined": "", "probabilities": False, "logits": False}
"""What a metric may say of itself, and what holds where it does not."""


def slots(node: Mapping[str, Any] | None, single: str) -> dict[str, Mapping[str, Any]]:
    """The parts in a config node: {slot: part}; a node with one part is the slot `single`."""
    if not node:
        return {}
    return {single: node} if isinstance(node.get("name"), str) else dict(node)


def options(part: Mapping[str, Any], *drop: str) -> dict[str, Any]:
    """A part's own options: what stands beside its name."""
    return {key: value for key, value in part.items() if key not in ("name", *drop)}


def make(group: str, part: Mapping[str, Any], available: Mapping[str, Any], *drop: str) -> Any:
    """Build one part. A ValueError of dlrun's own parts is the user's to mend; plugins keep their traceback."""
    name = part["name"]
    try:
        return wire(f"{group} {name}", registry.get(group, name), available, options(part, *drop))
    except (ValueError, TypeError) as error:
        if isinstance(error, TypeError) and "left of `*`" not in str(error):
            raise
        if name in registry.PLUGINS[group] and isinstance(error, ValueError):
            raise
        text = str(error).removeprefix(f"{group} ").removeprefix(f"{name} ").removeprefix(f"{name}: ")
        raise UsageError(f"{group} {name}: {text}") from error


def bound(group: str, part: Mapping[str, Any], supplied: Mapping[str, Callable[[], Any]] = NOTHING) -> Any:
    """A part that is called later (loss, metric, augment, schedule) with its options bound; a class is built now.

    `supplied` has a function for each name that the part may ask for left of its star beside what it is called with.
    """
    found = registry.get(group, part["name"])
    asked = {name: give() for name, give in supplied.items() if name in registry.wiring(found)}
    if inspect.isclass(found) or (group == "loss" and _makes_one(found)):
        return make(group, part, asked)
    given = {**asked, **options(part)}
    return functools.partial(found, **given) if given else found


def _makes_one(loss: Callable[..., Any]) -> bool:
    """Whether a loss is no function of outputs and targets but gives one: `def my_loss(): return nn.BCELoss()`."""
    parameters = inspect.signature(loss).parameters.values()
    return all(parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD) for parameter in parameters)


def build_loss(node: Mapping[str, Any] | None, task: Task, spec: DataSpec, supplied: Mapping[str, Callable[[], Any]] = NOTHING) -> Any:
    """The configured loss, or the task's default; several are a dict; None where the task needs none."""
    parts = slots(node, "loss")
    if not parts:
        name = task.default_loss(spec)
        return bound("loss", {"name": name, **defaults(f"loss/{name}")}, supplied) if name else None
    built = {slot: bound("loss", part, supplied) for slot, part in parts.items()}
    return built["loss"] if list(built) == ["loss"] else built


def build_metrics(node: Mapping[str, Any] | None, task: Task, spec: DataSpec) -> dict[str, Metric]:
    """Configured metrics first (the first one with a direction chooses `best`), then those that always go with the task."""
    parts = {part["name"] if slot == "metric" else slot: part for slot, part in slots(node, "metric").items()}
    for name in task.default_metrics(spec):
        parts.setdefault(name, {"name": name, **defaults(f"metric/{name}")})
    metrics = {}
    supplied = {"spec": lambda: spec, "kind": lambda: getattr(task, "kind", None)}
    for slot, part in parts.items():
        found = registry.get("metric", part["name"])
        facts: dict[str, Any] = {fact: getattr(found, fact, value) for fact, value in METRIC_FACTS.items()}
        metrics[slot] = Metric(slot, bound("metric", part, supplied), **facts)
    return metrics
