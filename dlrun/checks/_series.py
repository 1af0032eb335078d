"""Rows of train in the order in which they are stored, as columns and targets."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import labels, parts

ROWS, FIRST = 1500, 8


def in_order(subject: Subject) -> tuple[Tensor, Tensor]:
    """(columns [N, D], targets [N, K]) of the first rows of train as they are stored, as many as time allows; no rows of others."""
    data = subject.run.data
    count = min(ROWS, data.rows["train"])
    if not getattr(data.raw("train"), "in_memory", False):
        begun = time.thread_time()
        data.head("train", min(FIRST, count))
        each = (time.thread_time() - begun) / FIRST
        count = min(count, int(subject.patience / 16 / max(each, 1e-9)))
    batch = data.head("train", count)
    known = labels(subject, batch.get("y"))
    columns = [leaf.detach().cpu().reshape(len(leaf), -1).double() for leaf in parts(batch.get("x")).values()]
    if known is None or known[1] or not columns:
        return torch.zeros(0, 1), torch.zeros(0, 1)
    return torch.cat(columns, 1), known[0]
