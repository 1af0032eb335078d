"""Every trainable parameter is updated by exactly one optimizer, and no optimizer holds a copy of a network instead."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped

RULE = "each trainable parameter in one optimizer, but for those that expects.frozen names"


@check(stage="update", moment="fast", recipe="a forgotten parameter trains nothing and says nothing")
def optimizer_owns(subject: Subject) -> Finding:
    """Parameters, by identity or by memory (an optimizer may keep one flat tensor), against the optimizers' param_groups."""
    run = subject.run
    named = {id(p): f"{name}.{key}" for name, module in run.modules.items() for key, p in module.named_parameters()}
    trainable = {id(p): p for module in run.modules.values() for p in module.parameters() if p.requires_grad}
    if not trainable:
        return skipped("no parameter is trainable")
    tensors = [p for optimizer in run.optimizers.values() for group in optimizer.param_groups for p in group["params"]]
    held, memory = Counter(id(p) for p in tensors), {_memory(p) for p in tensors}
    reached = {key for key, p in trainable.items() if key in held or _memory(p) in memory}
    frozen = {key for key in trainable if any(fnmatchcase(named[key], glob) for glob in subject.expects.get("frozen") or [])}
    missing = [named[key] for key in trainable if key not in reached and key not in frozen]
    twice = [named.get(key, "?") for key, times in held.items() if times > 1]
    moving = [named[key] for key in frozen if key in reached]
    own = {_memory(p) for module in run.modules.values() for p in module.parameters()}
    foreign = sum(1 for p in tensors if id(p) not in named and _memory(p) not in own)
    numbers = {"trainable": len(trainable), "held": len(held), "missing": missing[:10], "twice": twice[:10], "foreign": foreign}
    return _judge(missing, twice, moving, foreign, numbers)


def _judge(missing: list[str], twice: list[str], moving: list[str], foreign: int, numbers: dict[str, Any]) -> Finding:
    total = numbers["trainable"]
    if missing:
        text = f"{len(missing)} of {total} trainable parameters are in no optimizer: {', '.join(missing[:4])}"
        cause = "the optimizer was built from a part of the network, or before it was changed"
        if foreign:
            text += f"; the optimizers hold {foreign} tensors that belong to no network"
            cause = "the optimizer was built from a copy, or before layers were replaced"
        step = "pass it every parameter of named_parameters, or declare expects.frozen=[globs]"
        return Finding("error", text, cause, step, numbers, RULE)
    if moving:
        text = f"declared by expects.frozen, yet an optimizer updates them: {', '.join(sorted(moving)[:4])}"
        return Finding("error", text, "requires_grad was never taken away", "say start.freeze, or requires_grad_(False)", numbers, RULE)
    if twice:
        text = f"held twice: {', '.join(twice[:4])}"
        return Finding("error", text, "two groups or optimizers share parameters", "list each once", numbers, RULE)
    if foreign:
        text = f"{total} trainable parameters, each in one optimizer, which hold {foreign} more tensors that belong to no network"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    return Finding("ok", f"{total} trainable parameters, each in one optimizer", numbers=numbers, threshold=RULE)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() or id(tensor)
