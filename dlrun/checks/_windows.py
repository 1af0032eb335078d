"""Windows of a series that were cut first and dealt out to the splits by chance: most of a window of val stands in windows of train.

A row is a window where a piece of it, moved by some steps, stands in another row. Which axis holds the steps is not known, nor how far
apart windows begin: three steps of val's rows that stand in train at another place say both, and the piece that both rows share proves it.
What they share must be so rich that it is no chance: many fractions, or tokens in an order that no other window has. (Tiles of a picture
are windows, too.) Windows of a split by time overlap at the border alone, which may be many of few: so windows of train must lie before
and behind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.checks._frame import Rows
from dlrun.checks._inputs import is_integer, parts

WINDOWS, OFTEN = 0.2, 0.4
"""Share of the rows of a split above which windows of fractions, and of tokens, were dealt out by chance."""
ASKED, KNOWN, MOST, LONGEST, TRIED, LEAST = 512, 8192, 2**22, 512, 8, 32
VARIED, DISTINCT, TOKENS, SHORT = 0.5, 0.95, 8, 3


def slid(train: Rows, rows: Rows) -> float:
    """The share of rows that are windows of a series some steps before or behind a window of train; 0 where these are few."""
    one, two = (list(parts(part.x).values()) for part in (train, rows))
    if len(one) != 1 or len(two) != 1 or one[0].shape[1:] != two[0].shape[1:] or min(len(one[0]), len(two[0])) < LEAST:
        return 0.0
    known, asked = one[0].detach().cpu(), two[0][:ASKED].detach().cpu()
    if known.dtype == torch.bool or known.is_complex() or known.dtype != asked.dtype or not known.numel():
        return 0.0
    known = known[: min(KNOWN, MOST // known[0].numel())]
    axes = [axis for axis in range(1, min(known.dim(), 4)) if SHORT <= known.shape[axis] <= LONGEST]
    return max((_along(known.movedim(axis, 1), asked.movedim(axis, 1)) for axis in axes), default=0.0)


def _along(known: Tensor, asked: Tensor) -> float:
    """The same of rows [N, T, ...] with their steps along axis 1."""
    size = known.shape[1]
    later, earlier = torch.zeros(2, len(asked), dtype=torch.bool)
    if not _rich(known[:, 1:]):
        return 0.0
    one, two = _codes(known), _codes(asked)
    for step in _steps(one, two):
        if _rich(known[:, step:]):
            ahead, behind = slice(step, size), slice(0, size - step)
            later |= torch.isin(_joined(two[:, ahead]), _joined(one[:, behind]))
            earlier |= torch.isin(_joined(two[:, behind]), _joined(one[:, ahead]))
    share = float((later & earlier).double().mean())
    return share if share > (OFTEN if is_integer(known) else WINDOWS) else 0.0


def _steps(one: Tensor, two: Tensor) -> list[int]:
    """The most frequent numbers of steps by which the first or the last steps of codes `two` [M, T] stand later or earlier in `one`."""
    size = one.shape[1]
    wide = min(SHORT, size - 1)
    first, last = _joined(two[:, :wide]), _joined(two[:, -wide:])
    hits = {}
    for step in range(1, (size - wide) // 2 + 2):
        if step + wide <= size:
            later, earlier = one[:, step : step + wide], one[:, size - wide - step : size - step]
            hits[step] = int(torch.isin(first, _joined(later)).sum() + torch.isin(last, _joined(earlier)).sum())
    return [step for step in sorted(hits, key=lambda step: hits[step], reverse=True)[:TRIED] if hits[step] > 0]


def _codes(rows: Tensor) -> Tensor:
    """A number for all that one step of a row holds, [N, T]: equal numbers are equal steps (but for one in 2^64)."""
    flat = rows.reshape(*rows.shape[:2], -1)
    whole = flat.long() if is_integer(flat) else flat.float().contiguous().view(torch.int32).long()
    return _joined(whole)


def _joined(values: Tensor) -> Tensor:
    """One number for what stands along the last axis, in its order: a sum modulo 2^64 of values times numbers drawn for each place."""
    drawn = torch.randint(-(2**62), 2**62, (values.shape[-1],), generator=torch.Generator().manual_seed(0)) * 2 + 1
    mixed = (values + 1) * drawn
    total: Tensor = (mixed ^ (mixed >> 29)).sum(-1)
    return total


def _rich(pieces: Tensor) -> bool:
    """Whether pieces [N, T, ...] hold so much that equal ones are the same piece of a series."""
    if is_integer(pieces):
        return pieces.shape[1] >= TOKENS and len(_joined(_codes(pieces)).unique()) > DISTINCT * len(pieces)
    flat = pieces.reshape(len(pieces), -1)
    columns = flat[:, torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], 16)).long()]
    varied = [len(column.unique()) > VARIED * len(column) and bool((column != column.round()).any()) for column in columns.unbind(1)]
    return sum(varied) >= 2
