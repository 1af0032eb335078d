"""A row's target acts on that row's output first, also in a loss that sorts or compares rows.

A loss that sorts its rows (Cox's likelihood, rankings) sorts all it is given, or marks and weights land on other rows: no shape tells. So
one row's target is changed at a time, column by column, and the slopes' changes are compared: a sound loss moves the row itself as much as
any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._forms import Form
from dlrun.checks._frame import Finding
from dlrun.checks._probe import Probe, put

ROWS, COLUMNS, LEAST = 16, 6, 6
FAINT, MOST = 0.3, 0.6
RULE = f"a changed target moves its own row's slope by > {FAINT:g} of what it moves any other's, in {1 - MOST:.0%} of rows at least"


def elsewhere(asked: Probe, shape: Form) -> Finding | None:
    """The finding where a part of the targets acts on other rows than its own."""
    y, rows = asked.batch.get("y"), len(asked.batch)
    if y is None or not asked.steady or rows < 2 * LEAST:
        return None
    spread = max(float(asked.out.std()), 0.1)
    u = asked.noise("own row")
    u = asked.out + 0.5 * spread * u if shape.name == "free" else shape.of(0.5 * u)
    here = _slope(asked, u, y)
    for number, leaf in enumerate(leaf for leaf in leaves(y) if leaf.dim() and len(leaf) == rows):
        columns = leaf.reshape(rows, -1).shape[1]
        for j in range(columns) if columns <= COLUMNS else (None,):
            acts = _acts(asked, u, y, leaf, j, here)
            share = sum(own < FAINT * top for own, top in acts) / max(len(acts), 1)
            if len(acts) >= LEAST and share > MOST:
                part = ("the targets" if len(list(leaves(y))) == 1 else f"target {number + 1}") + ("" if j is None else f", column {j}")
                numbers: dict[str, Any] = {"column": j, "rows": len(acts), "elsewhere": share}
                text = f"{part}: in {share:.0%} of {len(acts)} rows a changed target acts on another row's output, and hardly on its own"
                cause = "rows were sorted, shuffled or selected, and not all of outputs, targets, marks and weights alike"
                return Finding("error", text, cause, "index all of them with the same order", numbers, RULE)
    return None


def _slope(asked: Probe, u: Tensor, y: Any) -> Tensor:
    batch = asked.batch.replace(y=y)
    with torch.enable_grad():
        leaf = u.detach().clone().requires_grad_()
        loss = asked.of(put(asked.outputs, asked.out, leaf * 1.0), batch)
        slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return torch.zeros_like(u) if slope is None else slope.detach()


def _acts(asked: Probe, u: Tensor, y: Any, leaf: Tensor, column: int | None, here: Tensor) -> list[tuple[float, float]]:
    """(change of the own row's slope, largest change of any row's) for rows whose changed target acts at all."""
    rows, found = len(leaf), []
    values = leaf.reshape(rows, -1) if column is None else leaf.reshape(rows, -1)[:, column : column + 1]
    for i in range(min(rows, ROWS)):
        other = (values != values[i]).any(1).nonzero().flatten()
        if not len(other):
            continue
        flat = leaf.reshape(rows, -1).clone()
        flat[i, slice(None) if column is None else slice(column, column + 1)] = values[other[i % len(other)]]
        changed = (_slope(asked, u, put(y, leaf, flat.reshape(leaf.shape))) - here).reshape(rows, -1).abs().amax(1)
        top = float(changed.max())
        if top > 1e-6 * float(here.abs().max()):
            found.append((float(changed[i]), top))
    return found
