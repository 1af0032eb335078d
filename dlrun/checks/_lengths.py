"""Lengths that come beside rows of filler and belong to other rows: sorted, or shuffled, apart from them.

Where the filler of a row begins is a fact of the row. Lengths that are the same on the whole, and not row by row, are those of other rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._inputs import is_integer, parts

LEAST, KINDS, DIFFER = 32, 4, 0.2


def of_other_rows(x: Any) -> tuple[str, str, float] | None:
    """(name of the lengths, name of the rows, share of rows they do not fit); None where all fit, or where there are none."""
    named = {name: leaf.detach().cpu() for name, leaf in parts(x).items()}
    lengths = {name: leaf.flatten() for name, leaf in named.items() if is_integer(leaf) and leaf.numel() == len(leaf) >= LEAST}
    for rows, leaf in named.items():
        ends = _ends(leaf) if leaf.dim() in (2, 3) and leaf.shape[1] >= 4 and leaf.dtype != torch.bool else None
        for name, given in lengths.items() if ends is not None else ():
            if ends is None or len(given.unique()) < KINDS or int(given.min()) < 1 or int(given.max()) > leaf.shape[1]:
                continue
            near = (given.sort().values - ends.sort().values).abs().float().mean()  # a last step may equal the filler by chance
            wrong = float((given - ends).abs().gt(1).float().mean())
            if float(near) < 0.5 and wrong > DIFFER:
                return name, rows, wrong
    return None


def _ends(leaf: Tensor) -> Tensor | None:
    """[N]: the number of steps before the filler of each row; None where rows end in no filler."""
    flat = leaf.reshape(*leaf.shape[:2], -1)
    filler = flat[:, -1].mode(0).values
    tail = (flat == filler).all(-1).flip(1).long().cumprod(1).sum(1)
    ends = leaf.shape[1] - tail
    return ends if len(ends.unique()) >= KINDS and float((tail > 0).float().mean()) > 0.3 else None
