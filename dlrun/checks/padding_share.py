"""A loss dominated by filler: positions behind the end of each row that still count.

The catalogue asks for the most frequent target; background and the most frequent tag are just that by nature. So filler is told by where it
stands: a tail of one value in x and y, of different lengths from row to row. Whether it counts is asked of the loss: its slope there.
Lengths that come beside such rows must be theirs (`_lengths.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import is_integer, parts, sample
from dlrun.checks._lengths import of_other_rows
from dlrun.checks.shape_contract import main_output

SHARE, ROWS = 0.3, 16
LENGTHS = "warning: lengths that come beside rows are those of where filler begins on the whole, and not in 20% of the rows"
RULE = f"warning: more than {SHARE:.0%} of the targets that the loss counts are filler behind the end of rows"


@check(stage="data", recipe="Hacker's Guide: what does the loss really count?")
def padding_share(subject: Subject) -> Finding:
    """Tails of equal values in rows of tokens; the loss's slope at them on the first batch."""
    rows = sample(subject, "train")
    strange = of_other_rows(rows.x)
    if strange:
        name, where, share = strange
        text = f"{name} holds the lengths of other rows: in {share:.0%} of rows the filler of {where} begins elsewhere, while the lengths "
        cause = "rows were sorted, or shuffled, and their lengths were not"
        step = "index rows, lengths and targets by one order"
        return Finding("warning", f"{text}are the same on the whole", cause, step, {"share": share}, LENGTHS)
    y = rows.y
    if subject.loss_task is None or not isinstance(y, Tensor) or y.dim() != 2 or y.shape[1] < 4 or not is_integer(y) or len(rows) < ROWS:
        return skipped("there are no rows of tokens as targets")
    lengths = _lengths(rows.x, y)
    tail = 1 - float(lengths.sum()) / y.numel()
    numbers: dict[str, Any] = {"filler": tail, "rows": len(rows)}
    if len(lengths.unique()) < 3 or tail <= 0:
        return Finding("ok", "rows of tokens end in no filler", numbers=numbers, threshold=RULE)
    counted = _counted(subject)
    if counted is None:
        return Finding(
            "info", f"{tail:.0%} of the targets are filler; the loss does not say what it counts", numbers=numbers, threshold=RULE
        )
    numbers["counted_filler"], numbers["counted"] = counted
    share = counted[0] / max(counted[1], 1)
    text = f"{share:.0%} of the {counted[1]} targets that the loss counts are filler behind the end of rows ({tail:.0%} of all are filler)"
    if share > SHARE:
        cause = "padding is not left out of the loss"
        return Finding("warning", text, cause, "set targets of padding to -100, or mask them", numbers, RULE)
    return Finding("info" if share > 0.02 else "ok", text, numbers=numbers, threshold=RULE)


def _lengths(x: Any, y: Tensor) -> Tensor:
    """Of each row where the tail begins in which neither y nor any x [B, T, ...] changes; a tail of one is none."""
    still = torch.ones(y.shape[0], y.shape[1] - 1, dtype=torch.bool)
    for leaf in (y, *(leaf for leaf in parts(x).values() if leaf.dim() >= 2 and leaf.shape[:2] == y.shape)):
        flat = leaf.detach().cpu().reshape(*y.shape, -1)
        still &= (flat[:, 1:] == flat[:, -1:]).all(-1)
    tail = still.flip(1).long().cumprod(1).sum(1)  # positions 1..T-1 that equal the last, counted from the end
    return torch.where(tail >= 2, y.shape[1] - tail, torch.full_like(tail, y.shape[1]))


def _counted(subject: Subject) -> tuple[int, int] | None:
    """(filler that counts, all that counts) on the first batch; None where the loss's slope cannot be asked."""
    run, batch = subject.copy(), subject.batch
    out, y = subject.outputs(run, batch, training=False), batch.get("y")
    logits = main_output(run, out)
    if logits is None or logits is not out or not isinstance(y, Tensor):
        return None
    leaf = logits.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            loss = subject.live_loss(run, leaf, batch)
            slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    except Exception:  # a loss that does not take the outputs: shape_contract says why
        return None
    if slope is None or slope.dim() != 3:
        return None
    axis = 2 if slope.shape[:2] == y.shape else 1
    if (slope.shape[0], slope.shape[3 - axis]) != tuple(y.shape):
        return None
    counts = (slope != 0).any(axis)
    lengths = _lengths(batch.get("x"), y.cpu()).to(y.device)
    filler = torch.arange(y.shape[1], device=y.device)[None] >= lengths[:, None]
    return int((counts & filler).sum()), int(counts.sum())
