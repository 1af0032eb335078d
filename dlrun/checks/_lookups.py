"""Tables of embeddings that are asked with another column's numbers: the line of the users was copied for the items.

Whole numbers that are there to be looked up (a user, an item, a word) and move no output are unusual, but may be kept for other ends. Where
two tables of the network are asked with the same numbers instead, or one with the same number in every row, and a table could hold what is
ignored, the wrong name stands in forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import FEW_COLUMNS, MANY_VALUES, Dependence, patched
from dlrun.checks._frame import Finding, Subject, gap
from dlrun.checks._inputs import parts

RULE = "every column of whole numbers that a table could hold moves an output, or no other column stands in its place"


def copied_line(subject: Subject, probe: Dependence) -> Finding | None:
    """The finding where a column moves no bit of the outputs, while tables are asked twice with another one, or with one number."""
    if not any(isinstance(part, nn.Embedding) for module in probe.run.modules.values() for part in module.modules()):
        return None
    ignored = [(name, leaf) for name, leaf, place in _columns(probe.x) if _ignored(probe, leaf, place) for leaf in (leaf[place],)]
    if not ignored:
        return None
    asked = _asked(subject, probe)
    for name, values in ignored:
        fits = [(table, size, given) for table, size, given in asked if int(values.max()) < size and int(values.min()) >= 0]
        if any(torch.equal(given, values.flatten()) for _, _, given in asked):
            continue
        found = _instead(fits, asked)
        if found:
            text = f"{name} is looked up nowhere and changes no output, while {found}"
            cause = "a copied line in forward: the table is asked with another column's numbers"
            return Finding("warning", text, cause, "look which column each table of forward is asked with", {"ignored": name}, RULE)
    return None


def _instead(fits: list[tuple[str, int, Tensor]], asked: list[tuple[str, int, Tensor]]) -> str:
    """What is asked in the place of a column that is ignored; "" where nothing stands out."""
    for table, size, given in fits:
        if size > 1 and len(given.unique()) == 1:
            return f"the table {table} is asked with {int(given[0])} in every row"
        for other, _, known in asked:
            if other != table and len(given.unique()) >= MANY_VALUES and torch.equal(given, known):
                return f"the tables {other} and {table} are asked with the same numbers"
    return ""


def _columns(x: Any) -> Iterator[tuple[str, Tensor, tuple[slice, ...]]]:
    """(name, leaf, place) of each column of whole numbers with many values."""
    for name, leaf in parts(x).items():
        if leaf.is_floating_point() or leaf.dtype == torch.bool or leaf.dim() not in (1, 2):
            continue
        wide = leaf.dim() == 2 and leaf.shape[1] > 1
        if wide and leaf.shape[1] > FEW_COLUMNS:
            continue
        for column in range(leaf.shape[1]) if wide else (None,):
            place = (slice(None),) if column is None else (slice(None), slice(column, column + 1))
            if len(leaf[place].unique()) >= MANY_VALUES:
                yield name if column is None else f"column {column} of {name}", leaf, place


def _ignored(probe: Dependence, leaf: Tensor, place: tuple[slice, ...]) -> bool:
    """Whether other rows' values there change no bit of the outputs."""
    turns = (patched(probe.x, leaf, place, leaf.roll(by, 0)) for by in (1, 3, 7))
    return all(gap(probe.base, probe.out(probe.batch.replace(x=turn))) == 0 for turn in turns)


def _asked(subject: Subject, probe: Dependence) -> list[tuple[str, int, Tensor]]:
    """(name of a table, its rows, the numbers that it is asked with, one a row) in a forward."""
    heard: list[tuple[str, int, Tensor]] = []

    def hook(name: str, part: nn.Embedding) -> Any:
        def note(module: nn.Module, inputs: Any, out: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].numel() == len(probe.batch):
                heard.append((name, part.num_embeddings, inputs[0].detach().flatten().clone()))

        return note

    run = probe.run
    known = [(f"{name}.{path}", part) for name in run.nets for path, part in run.modules[name].named_modules()]
    handles = [part.register_forward_hook(hook(name, part)) for name, part in known if isinstance(part, nn.Embedding)]
    try:
        subject.outputs(run, probe.batch, training=False)
    finally:
        for handle in handles:
            handle.remove()
    return heard
