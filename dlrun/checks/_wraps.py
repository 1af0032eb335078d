"""Numbers that went round in a small integer type, in series and in tokens (in pictures: `integer_traps.py`).

A series that wrapped jumps by the whole range of the type (of a part of it, a power of two, where the numbers are even), and is smooth
round the circle. Tokens that wrapped use every number up to the
type's last one and none beyond, where the vocabulary goes on. Angles and counters go round by themselves, though not on all 256 steps of a
byte: compasses have 360, clocks 24 or 60.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import calls
from dlrun.checks._frame import Subject
from dlrun.checks._inputs import is_integer, parts, sample

RANGES = (255, 65535)
LEAST, FULL = 256, 0.97
LONG, PAIRS, EXACT = 8, 2000, 0.05
FAR, ROUND, NONE, ONWARD = 0.005, 0.75, 0.25, 0.7
BEYOND, USED, ROOM, COLUMNS, MANY = 1.15, 0.9, 1.3, 64, 8192
"""A table of embeddings may be a third larger than it need be: its size is rounded up, or kept for tokens to come."""


def wrapped_series(leaf: Tensor) -> dict[str, float]:
    """What is to be known of neighbours along the longest axis where values wrapped; {} where they did not.

    `far`: jumps over three quarters of the range; `between`: over about half of it; `round`: how much shorter ways are round the circle in
    rows with far jumps; `onward`: how many far jumps go on, round the circle, as the series went before (which a square wave does not).
    """
    if leaf.dim() not in (2, 3) or is_integer(leaf):
        return {}
    axis = max(range(1, leaf.dim()), key=lambda axis: leaf.shape[axis])
    size = leaf.shape[axis]
    levels = leaf.double().unique()
    if size < LONG or len(levels) < 64 or not bool(levels.isfinite().all()):
        return {}
    steps, grid = _grid(leaf.double(), levels)
    count = 2 ** steps.bit_length() - 1
    if count < LEAST - 1 or steps < FULL * count:
        return {}
    step = grid.narrow(axis, 1, size - 1) - grid.narrow(axis, 0, size - 1)
    jump = step.abs()
    if jump.numel() < PAIRS:
        return {}
    far = jump > 0.75 * count
    around = torch.where(jump > count / 2, step - step.sign() * (count + 1), step)
    before, after = around.narrow(axis, 0, size - 2), around.narrow(axis, 1, size - 2)
    asked = far.narrow(axis, 1, size - 2) & (before != 0) & (after != 0)
    loud = far.flatten(1).any(1)
    facts = {
        "range": float(count + 1),
        "far": float(far.double().mean()),
        "between": float(((jump > 0.4 * count) & ~far).double().mean()),
        "round": float(around[loud].abs().sum() / jump[loud].sum().clamp(min=1e-9)),
        "onward": float((before.sign() == after.sign())[asked].double().mean()) if bool(asked.any()) else 0.0,
    }
    wrapped = facts["far"] > FAR and facts["between"] < NONE * facts["far"] and facts["round"] < ROUND and facts["onward"] > ONWARD
    return facts if wrapped else {}


def _grid(x: Tensor, levels: Tensor) -> tuple[int, Tensor]:
    """(how many steps lie between the least and the largest value, the step of each value); (0, x) where they stand on no even grid."""
    step, span = float((levels[1:] - levels[:-1]).min()), float(levels[-1] - levels[0])
    if step <= 1e-6 * span or span / step > max(RANGES) + 1:
        return 0, x
    count = round(span / step)
    places = (levels - levels[0]) * count / span
    if float((places - places.round()).abs().max()) > EXACT:
        return 0, x
    return count, ((x - levels[0]) * count / span).round()


def wrapped_tokens(subject: Subject) -> tuple[str, int, int] | None:
    """(name, its largest number, how many there could be) of tokens, ids or classes that end where an integer type does; else None."""
    spec = subject.run.data.spec
    splits = [split for split in ("train", "val", "test") if split in subject.run.data.rows]
    rows = [sample(subject, split) for split in splits]
    named, tables = dict(_named(spec, rows[0])), {}
    if any(float(leaf.max()) in RANGES for leaf in _entries(rows[0].x).values() if leaf.numel()):
        tables = {name: many for name, many in _looked_up(subject).items() if name not in named}
        rows = [sample(subject, split, MANY) for split in splits] if tables else rows
    for name, many in [*named.items(), *tables.items()]:
        room = ROOM if name in tables else 1.0
        found = [leaf for part in rows for key, leaf in {**_entries(part.x), **parts({"y": part.y}, "batch")}.items() if key == name]
        highest = [int(leaf.max()) for leaf in found]
        for top in RANGES:
            used = found[0][(found[0] >= 0) & (found[0] <= top)].unique()
            if many > room * BEYOND * (top + 1) and max(highest) == top and len(used) > USED * (top + 1):
                return name.removeprefix("batch."), top, many
    return None


def _entries(x: Any) -> dict[str, Tensor]:
    """What a table of embeddings may be asked for, by name: tokens [N, T], a number a row [N], columns of ids [N, K]."""
    found = dict[str, Tensor]()
    for name, leaf in parts({"x": x}, "batch").items():
        if leaf.dim() in (1, 2) and is_integer(leaf):
            found[name] = leaf
        if leaf.dim() == 2 and leaf.shape[1] <= COLUMNS and leaf.dtype != torch.bool:
            found |= {f"{name}[:, {place}]": column for place, column in enumerate(leaf.unbind(1))}
    return found


def _looked_up(subject: Subject) -> dict[str, int]:
    """Rows of the largest table of embeddings that gets each entry of x as it is, by the entry's name."""
    run, found = subject.copy(), dict[str, int]()
    batch = subject.prepared(run, subject.few)
    entries = {name: leaf for name, leaf in _entries(batch.get("x")).items() if len(leaf.unique()) > 1}

    def note(_: str, layer: Any, inputs: Any, __: Any) -> None:
        tokens = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        for name, leaf in entries.items():
            if tokens is not None and tokens.numel() == leaf.numel() and torch.equal(tokens.long().flatten(), leaf.long().flatten()):
                found[name] = max(found.get(name, 0), int(layer.num_embeddings))

    if entries and subject.loss_task is not None:
        tables = (nn.Embedding, nn.EmbeddingBag)
        calls(subject, run, batch, lambda name, layer, inputs, out: note(name, layer, inputs, out) if isinstance(layer, tables) else None)
    return found


def _named(spec: Any, rows: Any) -> Iterator[tuple[str, int]]:
    """Tensors of whole numbers with the number of values that the data says they may take."""
    for key, leaf in parts({"x": rows.x}, "batch").items():
        if is_integer(leaf) and leaf.dim() == 2 and spec.vocab:
            yield key, int(spec.vocab)
    for key, leaf in parts({"y": rows.y}, "batch").items():
        many = spec.vocab if spec.kind == "language_model" else spec.classes
        if is_integer(leaf) and many:
            yield key, int(many)
