"""The val rule: a dataset without a val split gives up a stated tenth of train, so that nothing is ever chosen on test."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.noise import hash32

SHARE = 0.1


def _stratified(targets: Tensor, wanted: int, generator: torch.Generator) -> Tensor | None:
    """Row numbers with about the same share of every class, or None where some class has fewer than two rows or there are too few."""
    targets = torch.unique(targets, return_inverse=True)[1]  # labels may be negative: those that do not count
    counts = torch.bincount(targets)
    present = counts[counts > 0]
    if wanted < len(present) or int(present.min()) < 2:
        return None
    shuffled = torch.randperm(len(targets), generator=generator)
    parts = []
    for label in counts.nonzero().flatten().tolist():
        rows = shuffled[targets[shuffled] == label]
        parts.append(rows[: max(1, round(SHARE * len(rows)))])
    return torch.cat(parts)


def cut_val(rows: int, targets: Tensor | None, seed: int) -> tuple[Tensor, Tensor, str]:
    """(train rows, val rows, the rule in words). `targets` are whole-number classes of every row, or None for a random cut."""
    if rows < 2:
        raise ValueError("split train has 1 row and there is no val split: a val split cannot be cut from it; give Splits(val=...)")
    wanted = max(1, round(SHARE * rows))
    generator = torch.Generator().manual_seed(hash32(seed, "val"))
    picked = None if targets is None else _stratified(targets, wanted, generator)
    rule = "stratified by class"
    if picked is None:
        picked, rule = torch.randperm(rows, generator=generator)[:wanted], "at random"
    mask = torch.zeros(rows, dtype=torch.bool)
    mask[picked] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten(), rule
