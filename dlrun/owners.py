"""Optimizers, what each owns of the trainable parameters, and the schedule of its rate."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dlrun import registry
from dlrun.errors import UsageError
from dlrun.matrices import hidden_matrices
from dlrun.parts import bound, make, slots
from dlrun.registry import wiring
from dlrun.run import Named
from dlrun.schedule import Scheduler


def share_out(parts: Mapping[str, Mapping[str, Any]], named: Named) -> dict[str, Named]:
    """Which optimizer owns which trainable parameter: a partition, or UsageError naming what is owned twice or not at all.

    A single optimizer owns everything; of several, each owns what its `owns` globs match, else the network it is named after.
    """
    if list(parts) == ["optimizer"] and not parts["optimizer"].get("owns"):
        return {"optimizer": named}
    owned: dict[str, Named] = {slot: [] for slot in parts}
    wrong = []
    for full, parameter in named:
        globs = {slot: part.get("owns") or [f"{slot}.*"] for slot, part in parts.items()}
        owners = [slot for slot, patterns in globs.items() if any(fnmatchcase(full, pattern) for pattern in patterns)]
        if len(owners) == 1:
            owned[owners[0]].append((full, parameter))
        else:
            wrong.append(
                f"parameter {full} is owned by {' and '.join(owners) or 'no optimizer'}: name an optimizer after its network, or set `owns`"
            )
    wrong += [f"optimizer.{slot} owns no parameter" for slot, mine in owned.items() if not mine]
    if wrong:
        raise UsageError(wrong)
    return owned


def build_optimizers(
    config: Mapping[str, Any], modules: Mapping[str, nn.Module], steps: int
) -> tuple[dict[str, Any], dict[str, Named], dict[str, Scheduler]]:
    """Optimizers, what each owns, and their schedules. A network without trainable parameters needs no optimizer."""
    named: Named = []
    seen: set[int] = set()
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                named.append((f"{name}.{key}", parameter))
    if not named:
        return {}, {}, {}
    parts = slots(config.get("optimizer"), "optimizer")
    owned = share_out(parts, named)
    optimizers = {slot: build_optimizer(part, owned[slot], modules, steps) for slot, part in parts.items()}
    plans = slots(config.get("schedule"), "schedule")
    schedulers = {}
    for slot, optimizer in optimizers.items():
        plan = plans.get(slot, plans.get("schedule"))
        if plan is None:
            raise UsageError(f"optimizer.{slot} has no schedule: say schedule.{slot}=constant")
        schedulers[slot] = build_scheduler(plan, optimizer, steps)
    return optimizers, owned, schedulers


def build_optimizer(part: Mapping[str, Any], named: Named, modules: Mapping[str, nn.Module], steps: int) -> Any:
    """One optimizer over the parameters it owns. `hidden`: which are hidden matrices; of one that says what it owns, every matrix."""
    hidden = {full for full, p in named if p.dim() >= 2} if part.get("owns") else hidden_matrices(modules, named)
    try:
        return make("optimizer", part, {"named_parameters": named, "steps": steps, "hidden": hidden}, "owns")
    except ValueError as error:
        if "empty parameter list" not in str(error):
            raise
        known = ", ".join(full for full, _ in named[:4]) + ", .." * (len(named) > 4)
        text = f"optimizer {part['name']} chooses none of the {len(named)} parameters that it is given: {known}"
        raise UsageError(f"{text}. Look at how it selects from named_parameters, and at requires_grad") from error


def build_scheduler(plan: Mapping[str, Any], optimizer: Any, steps: int) -> Scheduler:
    """A multiplier of the learning rate by step, or a torch scheduler stepped once a step."""
    part = registry.get("schedule", plan["name"])
    if "optimizer" in wiring(part):
        return Scheduler(optimizer, steps, stepped=make("schedule", plan, {"optimizer": optimizer, "steps": steps}))
    if plan["name"] not in registry.PLUGINS["schedule"]:
        make("schedule", plan, {"step": 0, "steps": steps})  # options that contradict each other are said before the run begins
    return Scheduler(optimizer, steps, multiplier=bound("schedule", plan))
