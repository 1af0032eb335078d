"""The outputs see the whole input: every region of a picture, step of a sequence, column or channel has a path to them.

Each of at most 16 regions is exchanged for that of another row; what then moves no output is asked again with a NaN, which passes along
paths too weak for a float (a plain RNN forgets its first steps at the start). Only regions that neither reaches count as unseen, so the
numbers are facts, not a matter of scale. A network that gives an output for each position (tagging, segmentation) may be local: each
region needs to reach some output only, but that one in its own place (`_place.py`). Karpathy's recipe: use backprop to chart dependencies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._attention import itself_alone, wrong_axis
from dlrun.checks._dependence import FEW_COLUMNS, Dependence, Place, exchanged, patched
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._padding import deaf
from dlrun.checks._place import elsewhere
from dlrun.checks._players import draws, each
from dlrun.checks._states import misread
from dlrun.checks._views import mixing_view, told

REGIONS = 16
ROWS, FEW_ROWS, LARGE = 8, 2, 2**15
SHARE = 0.5
Places = dict[str, Place]
RULE = f"more than {SHARE:.0%} of the regions, steps, columns or channels reach an output"


@check(
    stage="outputs",
    recipe="Karpathy: use backprop to chart dependencies; Hacker's Guide: change a pixel, look at the output",
    follows=("input_matters", "sample_independence"),
)
def receptive_field(subject: Subject) -> Finding:
    """Along each axis of each tensor of x: at most 16 regions, the share of which reaches an output."""
    if subject.loss_task is None:
        return each(subject, receptive_field, draws)
    if subject.kind == "gan":
        return skipped("a task that draws its inputs has none that must matter")
    probe = _probe(subject)
    if probe.x is None or len(probe.batch) < 2 or not probe.base:
        return skipped("there is no x, one row only, or no output that can be compared")
    if not probe.steady:
        return skipped("equal forwards differ in eval mode, see mode_switch and sample_independence")
    if not probe.moves(exchanged(probe.x)):
        return skipped("no input changes the outputs, see input_matters")
    numbers: dict[str, Any] = {}
    unseen: list[tuple[float, str, str]] = []
    for number, leaf in enumerate(leaves(probe.x)):
        for what, places in _divisions(leaf):
            found = _seen(probe, leaf, places)
            if len(found) < 2:
                continue
            label = what if number == 0 else f"{what} of tensor {number + 1} of x"
            share = numbers[label] = sum(found.values()) / len(found)
            if 0 < share < 1:  # one that is ignored as a whole is the business of `input_matters`
                unseen.append((share, label, _list([place for place, seen in found.items() if not seen])))
    if not numbers:
        return skipped("no part of the inputs differs between rows by itself")
    view = mixing_view(subject)
    if view and not (view.of_input and view.rows_kept):
        return told(view, numbers, "no view in forward exchanges axes")
    if wrong := wrong_axis(subject) or itself_alone(subject, probe) or deaf(probe) or misread(subject, probe):
        return wrong
    if subject.patience > 1 and (moved := elsewhere(subject)):
        return moved
    if not unseen:
        return Finding("ok", f"every part of the input reaches an output ({', '.join(numbers)})", numbers=numbers, threshold=RULE)
    return _cut_off(probe, unseen, numbers)


def _cut_off(probe: Dependence, unseen: list[tuple[float, str, str]], numbers: dict[str, Any]) -> Finding:
    """The verdict where parts of the input reach no output; `unseen`: (share that reaches one, of what, the others)."""
    slopes = [slope for slope in probe.slopes.values() if slope is not None]
    if slopes and not any(bool(slope.any()) for slope in slopes):
        return skipped("outputs move in steps, without a slope: what is small is not seen in them, see graph_reach")
    share, label, missing = min(unseen)
    text = f"only {share:.0%} of the {label} of the input reach an output; without any path: {missing}"
    cause = "forward cuts the input, or reads one step, place or channel of what it made of it"
    step = "look for an index or slice in forward: x[:, 0], out[:, -1] of the wrong axis"
    return Finding("warning" if share <= SHARE else "info", text, cause, step, numbers, RULE)


def _probe(subject: Subject) -> Dependence:
    """8 rows, of large inputs 2: each region costs a forward."""
    size = max((leaf[0].numel() for leaf in leaves(subject.raw.get("x", ())) if len(leaf)), default=0)
    return Dependence(subject, ROWS if size < LARGE else FEW_ROWS)


def _divisions(leaf: Tensor) -> list[tuple[str, Places]]:
    """(what, {name: place}) for each way in which the axes of one leaf are divided; axis 0 is rows."""
    shape, all_rows = leaf.shape[1:], slice(None)
    if len(shape) == 1:
        what = "columns" if leaf.is_floating_point() or shape[0] <= FEW_COLUMNS else "steps"
        return [(what, {name: (all_rows, cut) for name, cut in _cuts(shape[0])})]
    if len(shape) == 2:
        first: Places = {name: (all_rows, cut) for name, cut in _cuts(shape[0])}
        second: Places = {name: (all_rows, slice(None), cut) for name, cut in _cuts(shape[1])}
        return [("steps", first), ("features", second)]
    if len(shape) == 3:
        channels: Places = {name: (all_rows, cut) for name, cut in _cuts(shape[0])} if shape[0] > 1 else {}
        grid: Places = {
            f"rows {row}, columns {column}": (all_rows, slice(None), down, across)
            for row, down in _cuts(shape[1], 4)
            for column, across in _cuts(shape[2], 4)
        }
        return [("regions", grid), ("channels", channels)]
    return []


def _cuts(size: int, most: int = REGIONS) -> list[tuple[str, slice]]:
    """At most `most` slices of about equal length that cover 0..size-1, with their names."""
    parts = min(size, most)
    edges = [round(i * size / parts) for i in range(parts + 1)] if parts else []
    return [(f"{a}-{b - 1}" if b - a > 1 else f"{a}", slice(a, b)) for a, b in zip(edges, edges[1:])]


def _seen(probe: Dependence, leaf: Tensor, places: Places) -> dict[str, bool]:
    """By place: does it reach an output? Places whose values are the same in every row are left out: nothing could be seen there."""
    donor, found = leaf.roll(1, 0), {}
    for name, place in places.items():
        if torch.equal(leaf[place], donor[place]):
            continue
        found[name] = probe.moves(patched(probe.x, leaf, place, donor)) or probe.reached(leaf, place) is not False
    return found


def _list(places: list[str], most: int = 4) -> str:
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return "; ".join(places[:most]) + more
