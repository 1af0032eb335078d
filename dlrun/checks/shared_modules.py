"""The same layer at several places: `[layer] * n` gives n names for one layer, and the network is shallower than it looks.

Weights are also tied on purpose (a Siamese network, an embedding that is the readout, a layer applied again and again): such sharing
stands under names of its own, so that only one layer twice in the same Sequential or ModuleList is suspicious.

Two parameters on one memory (`b.weight.data = a.weight.data`) are no tie: each has a gradient and a state of the optimizer of its own, both
step the same numbers, and a copy, a checkpoint or a move to another device parts them.
"""

from __future__ import annotations

from torch import nn

from dlrun.checks._frame import Finding, Subject, check

RULE = "no layer with parameters stands twice in one Sequential or ModuleList; no two parameters share memory"


@check(stage="gradient", moment="fast", recipe="count the parameters: a network has as many as it should")
def shared_modules(subject: Subject) -> Finding:
    """Names that lead to the same module with parameters."""
    places: dict[nn.Module, list[str]] = {}
    repeated: list[tuple[str, int, nn.Module]] = []
    for name, module in subject.run.modules.items():
        for path, part in module.named_modules(remove_duplicate=False):
            if any(True for _ in part.parameters(recurse=False)):
                places.setdefault(part, []).append(f"{name}.{path}".rstrip("."))
        for path, part in module.named_modules():
            if isinstance(part, (nn.Sequential, nn.ModuleList)):
                repeated += [(f"{name}.{path}".rstrip("."), times, layer) for layer, times in _twice(part)]
    shared = {names[0]: len(names) for names in places.values() if len(names) > 1}
    if repeated:
        name, times, layer = repeated[0]
        text = f"{name} holds one and the same {type(layer).__name__} {times} times: its weights are shared"
        cause, step = "[layer] * n repeats a layer, it does not copy it", "[make_layer() for _ in range(n)], or copy.deepcopy"
        return Finding("warning", text, cause, step, {"container": name, "times": times, "shared": shared}, RULE)
    twins = _twins(subject)
    if twins:
        text = f"{twins[0]} and {twins[1]} are two parameters on one memory: they part when the network is copied or moved"
        cause = "weights were tied by .data, or by a view, and not by assigning the parameter itself"
        return Finding("warning", text, cause, "tie them as one: b.weight = a.weight", {"parameters": twins}, RULE)
    if shared:
        text = f"{len(shared)} layers have several names (shared weights): {', '.join(list(shared)[:3])}"
        return Finding("info", text, numbers={"shared": shared}, threshold=RULE)
    return Finding("ok", "no layer stands at two places", threshold=RULE)


def _twins(subject: Subject) -> list[str]:
    """The first two names of different trainable parameters that hold the same numbers in memory; [] where there are none."""
    seen: dict[tuple[object, ...], str] = {}
    for name, p in subject.parameters(subject.run).items():
        place = (p.data_ptr(), p.numel(), p.dtype)
        if p.numel() and place[0] and place in seen:
            return [seen[place], name]
        seen[place] = name
    return []


def _twice(container: nn.Sequential | nn.ModuleList) -> list[tuple[nn.Module, int]]:
    """Layers with parameters that stand in `container` more than once."""
    children = [child for child in container._modules.values() if child is not None and any(True for _ in child.parameters())]
    return [(child, children.count(child)) for child in dict.fromkeys(children) if children.count(child) > 1]
