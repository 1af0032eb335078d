"""Every trainable parameter is updated by exactly one optimizer, and no optimizer holds a parameter of another network or a copy."""

from __future__ import annotations

from collections import Counter

from dlrun.checks._frame import Finding, Subject, check, skipped


@check(stage="update", moment="fast", recipe="a forgotten parameter trains nothing and says nothing")
def ownership(subject: Subject) -> Finding:
    """Identities of trainable parameters against those in the optimizers' param_groups."""
    run = subject.run
    named = {id(p): f"{name}.{key}" for name, module in run.modules.items() for key, p in module.named_parameters()}
    trainable = {id(p) for module in run.modules.values() for p in module.parameters() if p.requires_grad}
    if not trainable:
        return skipped("no parameter is trainable")
    held = Counter(id(p) for optimizer in run.optimizers.values() for group in optimizer.param_groups for p in group["params"])
    missing = [named[key] for key in named if key in trainable and key not in held]
    twice = [named.get(key, "?") for key, times in held.items() if times > 1]
    foreign = sum(1 for key in held if key not in named)
    numbers = {"trainable": len(trainable), "held": len(held), "missing": missing[:10], "twice": twice[:10], "foreign": foreign}
    rule = "each trainable parameter in one optimizer"
    if missing:
        text = f"{len(missing)} of {len(trainable)} trainable parameters are in no optimizer: {', '.join(missing[:4])}"
        return Finding(
            "error", text, "the optimizer was built from a part of the network, or before it was changed", "pass it all", numbers, rule
        )
    if foreign:
        text = f"the optimizers hold {foreign} tensors that belong to no network"
        return Finding(
            "error", text, "it was built from a copy, or before layers were replaced", "build it from named_parameters", numbers, rule
        )
    if twice:
        return Finding(
            "error", f"held twice: {', '.join(twice[:4])}", "two groups or optimizers share parameters", "list each once", numbers, rule
        )
    return Finding("ok", f"{len(trainable)} trainable parameters, each in one optimizer", numbers=numbers, threshold=rule)
