"""Small dimensions: a norm layer over one number gives a constant, a softmax over one number gives 1, a layer of one unit is a bottleneck.

A group of one number has no spread: what comes out is the layer's bias, whatever went in. That is a fact and said loudly; few numbers a
group, and narrow layers, are only worth a look.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, nn

from dlrun.checks._frame import Finding, Subject, check, skipped

FEW = 8
RULE = f"norm layers over > 1 number a group; < {FEW} is a note"


@check(stage="outputs", recipe="Hacker's Guide: beware of small dimensions", follows=("shape_contract",))
def small_dims(subject: Subject) -> Finding:
    """Numbers in each group of every norm layer, lengths of softmax layers, widths of linear and convolutional layers, by one forward."""
    run = subject.copy()
    seen: dict[str, tuple[str, int]] = {}
    handles = []
    for name, network in run.modules.items():
        for path, part in network.named_modules():
            handles.append(part.register_forward_hook(_noting(seen, f"{name}.{path}".rstrip("."))))
    batch = subject.prepared(run, subject.few)
    if subject.loss_task is not None:
        subject.outputs(run, batch, training=True)
    else:
        subject.heard(run, batch, training=False)
    for handle in handles:
        handle.remove()
    if not seen:
        return skipped("no layer of torch's own kinds was called")
    norms = {name: size for name, (what, size) in seen.items() if what == "norm"}
    soft = [name for name, (what, size) in seen.items() if what == "softmax" and size == 1]
    narrow = [name for name, (what, size) in seen.items() if what == "width" and size == 1][:-1]
    numbers: dict[str, Any] = {"smallest_norm": min(norms.values(), default=None), "softmax_over_one": soft, "one_unit": narrow}
    ones = [name for name, size in norms.items() if size == 1]
    if ones:
        text = f"norm layer {ones[0]} has one number in a group: its output is a constant, whatever the input is"
        return Finding(
            "warning", text, "groups, or what is left of an image, are too small", "norm over more", numbers | {"layers": ones}, RULE
        )
    if soft:
        text = f"softmax layer {soft[0]} is taken over one number: it gives 1, whatever the input is"
        return Finding("warning", text, "the wrong axis, or one output where a sigmoid was meant", "look at dim", numbers, RULE)
    few = [f"{name} ({size})" for name, size in norms.items() if size < FEW]
    if few or narrow:
        parts = [
            *(["norm layers over few numbers: " + ", ".join(few[:3])] if few else []),
            *(f"{name} has one unit" for name in narrow[:3]),
        ]
        return Finding("info", "; ".join(parts), numbers=numbers, threshold=RULE)
    return Finding("ok", "no dimension is too small", numbers=numbers, threshold=RULE)


def _noting(seen: dict[str, tuple[str, int]], name: str) -> Any:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and name not in seen:
            found = _size(module, inputs[0])
            if found is not None:
                seen[name] = found

    return note


def _size(module: nn.Module, x: Tensor) -> tuple[str, int] | None:
    """What a layer is and its size: numbers a group of a norm (a batch norm over a full batch counts its rows), units of a layer."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return "norm", prod(module.normalized_shape) if isinstance(module, nn.LayerNorm) else FEW
    if isinstance(module, nn.GroupNorm):
        return "norm", x.shape[1] // module.num_groups * prod(x.shape[2:])
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return "norm", prod(x.shape[2:])
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)) and module.dim is not None and x.dim():
        return "softmax", x.shape[module.dim]
    if isinstance(module, nn.Linear):
        return "width", module.out_features
    return ("width", module.out_channels) if isinstance(module, nn.modules.conv._ConvNd) else None
