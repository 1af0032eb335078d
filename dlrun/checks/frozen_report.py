"""What is frozen, and whether somebody forgot to thaw it.

The catalogue warns of everything that is frozen and randomly initialised. Adapters beside frozen layers, frozen bodies and random features
are that too, and right. So an error needs a network in which nothing is trainable; a warning needs random matrices that are frozen while
only biases and norms train, or a lesser part of the weights, frozen between layers that train on both sides. Layers that are frozen as they
were drawn, before all that train, look like fine-tuning without the weights to tune: whether they were to learn is asked of 100 steps with
and without them.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._stream import beside
from dlrun.owners import build_optimizers
from dlrun.run import Run

LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)
BODIES = (*LAYERS, nn.Embedding)
TRIED, TWICE, LEARNS = 100, 2.0, 0.15
RULE = (
    "error: nothing is trainable; warning: random matrices frozen while no matrix trains, or < 80% frozen between layers that train, "
    f"or layers before all those that train which thawed in {TRIED} steps lower the loss {TWICE:g} times as far"
)
Named = dict[str, nn.Parameter]


@check(stage="update", moment="fast", recipe="a forgotten requires_grad trains nothing and says nothing")
def frozen_report(subject: Subject) -> Finding:
    """Frozen parameters by name and share; whether their weights are random is asked on request (networks are built anew for it)."""
    run = subject.run
    every = {f"{name}.{key}": p for name, module in run.modules.items() for key, p in module.named_parameters()}
    frozen = {name: p for name, p in every.items() if not p.requires_grad}
    if not every:
        return skipped("the networks have no parameters")
    globs = subject.expects.get("frozen") or []
    idle = [glob for glob in globs if not any(_meant(glob, name) for name in _everything(run))]
    share = sum(p.numel() for p in frozen.values()) / max(sum(p.numel() for p in every.values()), 1)
    numbers: dict[str, Any] = {"frozen": sorted(frozen)[:20], "tensors": len(frozen), "share": share}
    if idle:
        text = f"expects.frozen names {', '.join(idle)}: there is no such parameter, buffer or layer"
        return Finding("warning", text, "a typing error, or the network changed", "dlrun train lists the parameters", numbers, RULE)
    if not frozen:
        return Finding("ok", "nothing is frozen", numbers=numbers, threshold=RULE)
    text = f"frozen: {share:.0%} of all weights, {len(frozen)} of {len(every)} tensors ({', '.join(sorted(frozen)[:3])})"
    odd = {name: p for name, p in frozen.items() if not any(_meant(glob, name) for glob in globs)}
    if len(frozen) == len(every) and run.steps > 0 and run.task.turns != 0:  # no objectives: what a step does needs no gradient
        cause = "requires_grad_(False) reached the whole network"
        return Finding(
            "error", f"{text}: nothing can be trained", cause, "thaw what is to be trained: p.requires_grad_(True)", numbers, RULE
        )
    if not odd or subject.patience < 1 or subject.expects.get("pretrained") or run.config.get("start") or len(frozen) == len(every):
        return Finding("info", text, numbers=numbers, threshold=RULE)
    return _forgotten(subject, odd, every, share, text, numbers) or Finding("info", text, numbers=numbers, threshold=RULE)


def _meant(glob: str, name: str) -> bool:
    """Whether a pattern names this: in full (model.slow.0.weight), or within its network (slow.0.weight)."""
    return fnmatchcase(name, glob) or fnmatchcase(name.partition(".")[2], glob)


def _everything(run: Run) -> list[str]:
    """Full names of all parameters, buffers and layers."""
    ways = ("named_parameters", "named_buffers", "named_modules")
    return [f"{name}.{key}" for name, module in run.modules.items() for way in ways for key, _ in getattr(module, way)()]


def _forgotten(subject: Subject, odd: Named, every: Named, share: float, text: str, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on weights that are frozen as they were drawn."""
    random = _random(subject, {name: p for name, p in odd.items() if p.dim() > 1 and p.numel() > 1})
    if not random:
        return None
    numbers["random"] = sorted(random)[:20]
    step = "thaw them: p.requires_grad_(True), or declare expects.frozen=[globs]"
    if not any(p.requires_grad and p.dim() > 1 for p in every.values()):
        what = f"{text}: every matrix stays as it was drawn at random, only biases and norms train"
        return Finding("warning", what, "requires_grad_(False) reached the whole network", step, numbers, RULE)
    between = _between(subject, random) if share < 0.8 and subject.loss_task is not None else []
    if between:
        what = f"{text}: {', '.join(between[:3])} stay as they were drawn at random, between layers that train"
        return Finding("warning", what, "requires_grad was taken away and never given back", step, numbers, RULE)
    return _untuned(subject, random, text, numbers) if subject.loss_task is not None and subject.run.steps > 0 else None


def _untuned(subject: Subject, random: set[str], text: str, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on a body that is frozen as it was drawn and would learn much, were it not frozen."""
    run = subject.copy()
    own = {id(part): f"{name}.{path}" for name in run.modules for path, part in run.modules[name].named_modules()}
    order = [part for part in _called(subject, run) if any(p.dim() > 1 for p in part.parameters(recurse=False))]
    first = next((place for place, part in enumerate(order) if any(p.requires_grad for p in part.parameters(recurse=False))), len(order))
    keys = [[f"{own[id(part)]}.{key}" for key, _ in part.named_parameters(recurse=False)] for part in order]
    body = [n for n, part in enumerate(order) if isinstance(part, BODIES) and any(key in random for key in keys[n])]
    adapts = first < len(order) and any(order[n] in set(order[first].modules()) for n in body)  # low-rank adapters of what is frozen
    if not body or max(body) > first or adapts:
        return None
    before, after, thawed, done = beside(subject, lambda run: _thaw(run, random), TRIED)
    numbers |= {"before": before, "after": after, "thawed": thawed, "tried": done}
    if not (before - thawed > LEARNS * abs(before) and before - thawed > TWICE * (before - after)):
        return None
    what = f"{text}: all layers before those that train stay as they were drawn at random"
    what += f"; {done} steps take the loss from {before:.4g} to {after:.4g}, with them thawed to {thawed:.4g}"
    cause = "layers are frozen as for fine-tuning, and no pretrained weights were loaded"
    return Finding("warning", what, cause, "load the weights, thaw the layers, or declare expects.frozen=[globs]", numbers, RULE)


def _thaw(run: Run, names: set[str]) -> None:
    """All parameters of the layers that hold `names` train, under optimizers made for them as well."""
    layers = {name.rpartition(".")[0] for name in names}
    for name, module in run.modules.items():
        for key, p in module.named_parameters():
            p.requires_grad_(p.requires_grad or f"{name}.{key}".rpartition(".")[0] in layers)
    run.optimizers, run.owned, run.schedulers = build_optimizers(run.config, run.modules, run.steps)


def _random(subject: Subject, candidates: Named) -> set[str]:
    """Those whose values come out otherwise under another seed, and belong to no other tensor of the networks (a copied teacher)."""
    run = subject.run
    if not candidates:
        return set()
    other = subject.fresh(run.seed + 1)
    theirs = {f"{name}.{key}": p for name, module in other.modules.items() for key, p in module.named_parameters()}
    thawed = [p for module in run.modules.values() for p in module.parameters() if p.requires_grad]
    found = set()
    for name, p in candidates.items():
        same = theirs.get(name)
        copied = any(q.shape == p.shape and torch.equal(q, p) for q in thawed)
        if same is not None and same.shape == p.shape and not torch.equal(same, p) and not copied:
            found.add(name)
    return found


def _between(subject: Subject, names: set[str]) -> list[str]:
    """Those that are weights of layers which one forward calls after one layer that trains and before another."""
    run = subject.copy()
    order = _called(subject, run)
    own = {id(part): f"{name}.{path}" for name in run.modules for path, part in run.modules[name].named_modules()}
    trains = [any(p.requires_grad and p.dim() > 1 for p in part.parameters(recurse=False)) for part in order]
    found = []
    for place, part in enumerate(order):
        mine = [f"{own[id(part)]}.{key}" for key, _ in part.named_parameters(recurse=False) if f"{own[id(part)]}.{key}" in names]
        if mine and isinstance(part, LAYERS) and any(trains[:place]) and any(trains[place + 1 :]):
            found += mine
    return found


def _called(subject: Subject, run: Run) -> list[nn.Module]:
    """Modules with parameters of their own in the order of their first call."""
    order: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if module not in order:
            order.append(module)

    parts = [part for name in run.nets for part in run.modules[name].modules() if any(True for _ in part.parameters(recurse=False))]
    handles = [part.register_forward_hook(note) for part in parts]
    subject.outputs(run, subject.prepared(run, subject.few), training=False)
    for handle in handles:
        handle.remove()
    return order
