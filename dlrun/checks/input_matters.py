"""The outputs depend on the input: other rows give other outputs, and each tensor of x has a share in that.

A network that starts at zero (a zero head, a gate) is asked after its zeros were filled, not as it starts: what is asked is whether there
is a path, not how much passes along it yet. Where other rows move nothing the layer is named in which rows become alike; units that are
dead and signals that fade from layer to layer are the business of `dead_units`, `gradient_profile` and `init_scale`. Karpathy's recipe:
an input-independent baseline must be worse.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import map_leaves
from dlrun.checks._dependence import Dependence, calls, differing, exchanged
from dlrun.checks._frame import Finding, Subject, check, gap, skipped, tensors
from dlrun.checks._functions import Functions
from dlrun.checks._lookups import copied_line
from dlrun.checks._players import draws, each
from dlrun.checks._states import of_filler

ROWS, MANY = 16, 4
LOST, KEPT = 1e-7, 1e-4
"""Differences between rows, relative to the largest value of a layer: lost, and clearly there."""
RULE = "outputs of other rows differ by more than 10 x equal forwards + 1e-6 x the largest output"


@check(
    stage="outputs",
    recipe="Karpathy: the input-independent baseline; Hacker's Guide: change the input, look at the output",
    follows=("sample_independence",),
)
def input_matters(subject: Subject) -> Finding:
    """Every row gets the inputs of another row; then each tensor of x alone."""
    if subject.loss_task is None:
        return each(subject, input_matters, draws)
    if subject.kind == "gan":
        return skipped("a task that draws its inputs has none that must matter")
    probe = Dependence(subject, ROWS)
    if probe.x is None or len(probe.batch) < 2:
        return skipped("there is no x, or one row only")
    if not probe.base or not differing(probe.x, exchanged(probe.x)):
        return skipped("the inputs of all rows are equal" if probe.base else "the outputs are no tensors that can be compared")
    if not probe.steady:
        return skipped("equal forwards differ in eval mode, see mode_switch and sample_independence")
    apart = probe.apart(exchanged(probe.x))
    numbers: dict[str, Any] = {"difference": apart, "bound": probe.bound, "rows": len(probe.batch)}
    if apart > probe.bound:
        return copied_line(subject, probe) or _parts(probe, numbers)
    return of_filler(probe) or _alike(subject, probe, numbers)


def _alike(subject: Subject, probe: Dependence, numbers: dict[str, Any]) -> Finding:
    """The verdict where every row gets the same output: where do rows become alike?"""
    functions = Functions()
    with functions:
        seen = spreads(subject, probe)
    numbers["layers"] = seen[:20]
    text = "the outputs do not depend on the input: every row gets the same"
    if any(heard.kind == "relu" and heard.dead == 1 for heard in functions.calls):
        return Finding("info", f"{text}; a ReLU gives 0 for all of them, see dead_units", numbers=numbers, threshold=RULE)
    at = next((i for i, (_, spread) in enumerate(seen) if spread < LOST), len(seen))
    if at and seen[at - 1][1] < KEPT:
        return Finding("info", f"{text}; what tells rows apart fades from layer to layer", numbers=numbers, threshold=RULE)
    if at == 0:
        cause, step = "forward does not hand the input to its first layer, or overwrites it", "follow x through forward line by line"
        return Finding("error", text, cause, step, numbers, RULE)
    where = f"between {seen[at - 1][0]} and {seen[at][0]}" if at < len(seen) else f"after {seen[-1][0]}, the last layer"
    cause = f"rows become alike {where}: a norm or softmax over an axis of size 1, a factor of 0, or a saturated function"
    return Finding("error", text, cause, "print the shapes and a few rows before and after it", numbers, RULE)


def spreads(subject: Subject, probe: Dependence) -> list[tuple[str, float]]:
    """(layer, largest difference between rows over its largest value) of each layer in order."""
    seen: list[tuple[str, float]] = []
    rows = len(probe.batch)

    def note(name: str, module: nn.Module, inputs: Any, out: Any) -> None:
        found = [t for t in tensors(out) if t.is_floating_point() and t.dim() and len(t) == rows][:1]
        for t in found:
            top = float(t.abs().max())
            seen.append((name, float((t - t[:1]).abs().max()) / top if top else 0.0))

    calls(subject, probe.run, probe.batch, note)
    return seen


def _parts(probe: Dependence, numbers: dict[str, Any]) -> Finding:
    """The verdict where x as a whole matters: does each of its tensors, where there are several?"""
    named = dict(_paths(probe.x))
    text = f"other inputs give other outputs (difference {numbers['difference']:.3g})"
    if len(named) < 2:
        return Finding("ok", text, numbers=numbers, threshold=RULE)
    ignored = [name for name, leaf in named.items() if _is_ignored(probe, leaf)]
    if not ignored:
        return Finding("ok", f"{text}, and each of {len(named)} tensors of x matters", numbers=numbers, threshold=RULE)
    numbers["ignored"] = ignored
    text = f"{', '.join(ignored)}, of {len(named)} tensors of x, changes no output"
    level = "warning" if probe.subject.kind == "diffusion" or any(named[name].is_floating_point() for name in ignored) else "info"
    cause = "forward does not use it, or overwrites what it made of it"
    return Finding(level, text, cause, "use it in forward, or leave it out of x", numbers, RULE)


def _paths(x: Any, name: str = "x") -> list[tuple[str, Tensor]]:
    """Every leaf of x with where it stands: `x[a]`, `x[0]`."""
    if isinstance(x, Tensor):
        return [(name, x)]
    items = x.items() if hasattr(x, "items") else enumerate(x)
    return [pair for key, value in items for pair in _paths(value, f"{name}[{key}]")]


def _is_ignored(probe: Dependence, leaf: Tensor) -> bool:
    """Whether one leaf moves no output, by other rows' values or by its gradient; one that is the same in every row says nothing.

    Whole numbers have no gradient. Where they take many values, and no exchange of rows changes a bit of the outputs, they are ignored.
    """
    other = leaf.roll(1, 0)
    if not leaf.is_floating_point() and leaf.dtype != torch.bool and leaf.unique().numel() >= MANY:
        turns = [leaf.roll(shift, 0) for shift in (1, 3, 7)]
        return all(gap(probe.base, probe.out(probe.batch.replace(x=_with(probe.x, leaf, turn)))) == 0 for turn in turns)
    if torch.equal(other, leaf) or gap(probe.base, probe.out(probe.batch.replace(x=_with(probe.x, leaf, other)))) > probe.bound:
        return False
    return probe.reached(leaf, (slice(None),)) is False


def _with(x: Any, leaf: Tensor, other: Tensor) -> Any:
    return map_leaves(lambda t: other if t is leaf else t, x)
