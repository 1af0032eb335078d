"""The gradient of the loss reaches every trainable parameter, and nothing else that is kept from step to step.

A detach, .data, .item(), no_grad or argmax cuts the path; a layer that forward never calls has none; a layer in a plain list is called
and has a gradient, but belongs to no network: no optimizer, no checkpoint and no device knows it. A layer that forward makes is another
one in each step. Out of reach means in none of up to 20 batches. Experts of a mixture that no row chose, and branches that are taken in
some batches, are named but are no fault. A state that is detached from step to step leaves every parameter a gradient: see `_cut.py`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dlrun.checks._created import without_graph
from dlrun.checks._cut import cut
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._reach import Reach, reach
from dlrun.checks._true_slope import untrue

MOST, TINY = 0.5, 0.01
"""Share of all numbers out of reach above which a finding is an error, and below which norms and biases that nobody calls are a note."""
RULE = f"every trainable parameter has a gradient that is not zero in one of up to 20 batches; error above {MOST:.0%} of all numbers"


@check(
    stage="gradient",
    moment="fast",
    recipe="Karpathy: use backprop to chart dependencies",
    follows=("input_matters", "receptive_field", "unit_symmetry", "dead_units"),
)
def graph_reach(subject: Subject) -> Finding:
    """Gradients of every objective on one batch, on up to 20 where something is out of reach."""
    if not any(p.requires_grad for module in subject.run.modules.values() for p in module.parameters()):
        return skipped("no parameter is trainable")
    found = reach(subject)
    if found.severed:
        text, cause = "the loss has no gradient at all", "detach(), .item(), .data, no_grad() or argmax between the last layer and the loss"
        return Finding("error", text, cause, "return the loss as a tensor made of the outputs", {"loss": found.loss}, RULE)
    numbers: dict[str, Any] = {"parameters": len(found.names), "batches": found.batches, "foreign": found.foreign[:10]}
    if found.foreign:
        text = f"{len(found.foreign)} tensors that get a gradient belong to no network: {', '.join(found.foreign[:3])}"
        cause = "layers in a plain list or dict, or a tensor that is no nn.Parameter: no optimizer and no checkpoint knows them"
        return Finding("error", text, cause, "use nn.ModuleList, nn.ModuleDict, nn.Parameter", numbers, RULE)
    if found.anew:
        text = f"{len(found.anew)} parameters are drawn anew in every step and never learn: {', '.join(map(str, found.anew[:3]))}"
        cause = "a layer is made in forward: it belongs to no network, and the next step has another one"
        return Finding("error", text, cause, "make it once, in __init__", numbers | {"anew": found.anew[:10]}, RULE)
    globs = subject.expects.get("frozen") or []
    out = [n for n, moved in enumerate(found.moved) if not moved and not any(fnmatchcase(found.names[n], glob) for glob in globs)]
    if not out:
        odd = _forgets(subject, numbers) or without_graph(subject) or (untrue(subject) if subject.patience >= 1 else None)
        if odd:
            return odd
        return Finding("ok", f"the gradient reaches all {len(found.names)} trainable parameters", numbers=numbers, threshold=RULE)
    return _unreached(subject, found, out, numbers)


def _forgets(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on a state that is handed from step to step without its gradient; asked on request only."""
    if subject.loss_task is None or subject.patience < 1:
        return None
    found = cut(subject)
    if found is None:
        return None
    text = f"outputs hang on early steps of the sequence (on {len(found.moves)} of those that were changed)"
    text += f", yet their gradient comes to {found.reached} of {found.length} steps only: nothing learns what to remember"
    cause = "the hidden state is detached, or kept as numbers (.data, .item(), no_grad), at each step"
    more = numbers | {"length": found.length, "moves": found.moves, "cut": found.cut, "reached": found.reached}
    return Finding("warning", text, cause, "detach it between batches only", more, "a gradient wherever outputs hang on a step")


def _unreached(subject: Subject, found: Reach, out: list[int], numbers: dict[str, Any]) -> Finding:
    """The verdict on parameters out of reach: cut off, never called, always zero, or conditional."""
    conditional = _conditional(subject, found, out)
    plainly = [n for n in out if n not in conditional]
    never = [n for n in plainly if not found.got[n]]
    zero = [n for n in plainly if found.got[n] and not _by_arithmetic(subject, found, n)]
    numbers |= {"never": _names(found, never), "always_zero": _names(found, zero), "conditional": _names(found, sorted(conditional))}
    if not never and not zero:
        text = f"{len(out)} parameters had no gradient in {found.batches} batches, by design as it seems: {_list(found, out)}"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    share = numbers["share"] = sum(found.sizes[n] for n in (*never, *zero)) / sum(found.sizes)
    level, shapes = "error" if share > MOST else "warning", {name: p.dim() for name, p in subject.parameters(subject.run).items()}
    if never:
        uncalled = [n for n in never if found.names[n].rpartition(".")[0] not in found.called]
        if len(uncalled) == len(never) and not zero and share < TINY and all(shapes[found.names[n]] < 2 for n in never):
            text = f"forward never calls {len(never)} parameters of a few numbers: {_list(found, never)}: left over?"
            return Finding("info", text, numbers=numbers, threshold=RULE)
        text = (
            f"the gradient never reaches {len(never)} of {len(found.names)} parameters ({share:.0%} of all numbers): {_list(found, never)}"
        )
        cause = (
            "forward never calls these layers" if len(uncalled) == len(never) else "detach(), .data, no_grad() or argmax cuts their path"
        )
        step = "call them, or delete them" if len(uncalled) == len(never) else "look at what happens after them in forward"
        return Finding(level, text, cause, f"{step}; or declare expects.frozen=[globs]", numbers, RULE)
    text = f"the gradient of {len(zero)} of {len(found.names)} parameters is exactly 0 in {found.batches} batches: {_list(found, zero)}"
    cause = "a rounding, a comparison, a factor of 0 or a saturated function stops it"
    return Finding(level, text, cause, "look at what happens after them in forward", numbers, RULE)


def _conditional(subject: Subject, found: Reach, out: list[int]) -> set[int]:
    """Those among `out` that are skipped by choice: called now and then, or beside others that are called in part."""
    parts = {f"{name}.{path}".rstrip("."): m for name, module in subject.run.modules.items() for path, m in module.named_modules()}
    chosen = set()
    for n in out:
        path = found.names[n].rpartition(".")[0]
        around = [".".join(path.split(".")[:end]) for end in range(1, len(path.split(".")) + 1)]
        lists = [place for place in around if isinstance(parts.get(place), (nn.ModuleList, nn.ModuleDict))]
        beside = {name for place in lists for name in found.partial if name.startswith(f"{place}.")}
        if beside or any(place in found.partial for place in around):
            chosen.add(n)
    return chosen


def _by_arithmetic(subject: Subject, found: Reach, n: int) -> bool:
    """Whether a gradient of 0 tells nothing of the path: that of a bias before a norm, or of one matrix of a layer whose others get theirs.

    The recurrent matrix of a layer that reads backwards has none where only its first step is read out.
    """
    sizes = {name: p.dim() for name, p in subject.parameters(subject.run).items()}
    layer = found.names[n].rpartition(".")[0]
    beside = [found.moved[m] for m, name in enumerate(found.names) if name.rpartition(".")[0] == layer and sizes[name] > 1]
    return sizes[found.names[n]] < 2 or any(beside)


def _names(found: Reach, chosen: list[int]) -> list[str]:
    return [found.names[n] for n in chosen[:10]]


def _list(found: Reach, chosen: list[int]) -> str:
    more = f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""
    return ", ".join(found.names[n] for n in chosen[:3]) + more
