"""Masks of class numbers that were resized or turned with interpolation, which writes the numbers in between along every edge.

Between class 0 and class 3 then lies a seam of 1 or 2, one pixel wide. Real classes have seams as well (a membrane round a cell), and then
in every split: so masks of train are compared with those of val, which nobody transforms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import is_integer, sample

ROWS, EDGES, CLASSES = 128, 300, 64
OFTEN, TIMES = 0.15, 4.0


@dataclass(frozen=True)
class Seams:
    """Of places where classes that are two or more numbers apart meet: how often a number between them lies there, in train and in val."""

    train: float
    val: float
    edges: int


def seams(subject: Subject) -> Seams | None:
    """What is found where masks of train have seams of numbers in between and those of val have none; else None."""
    if "val" not in subject.run.data.rows:
        return None
    one, two = (_between(sample(subject, split, ROWS).y) for split in ("train", "val"))
    if one is None or two is None:
        return None
    (train, edges), (val, others) = one, two
    often = train > OFTEN and train > TIMES * val
    return Seams(train, val, edges) if often and min(edges, others) >= EDGES else None


def _between(y: object) -> tuple[float, int] | None:
    """(share of edges with a number in between, edges) of masks [N, H, W] or [N, 1, H, W] of class numbers; None of anything else."""
    if not isinstance(y, Tensor) or not is_integer(y) or not (y.dim() == 3 or (y.dim() == 4 and y.shape[1] == 1)):
        return None
    masks = y.detach().cpu().long().reshape(len(y), *y.shape[-2:])
    if min(masks.shape[-2:]) < 8 or int(masks.max()) < 2:
        return None
    seen, all_edges = 0, 0
    for one, middle, two in ((masks[:, :-2], masks[:, 1:-1], masks[:, 2:]), (masks[..., :-2], masks[..., 1:-1], masks[..., 2:])):
        low, high = torch.minimum(one, two), torch.maximum(one, two)
        edge = (high - low > 1) & (low >= 0) & (high < CLASSES) & (middle >= 0)
        seen += int((edge & (middle > low) & (middle < high)).sum())
        all_edges += int(edge.sum())
    return seen / max(all_edges, 1), all_edges
