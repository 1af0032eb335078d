"""How datasets that come without splits are cut: stated shares for val and test, the same of every class, picked by a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.noise import hash32


def cut(labels: Tensor | None, rows: int, val: float, test: float, seed: int, names: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Row numbers of train, val and, where `test` is above 0, test; int64, ascending, no row twice.

    Of each class (labels int64 [rows] in 0..C-1; None: all rows are one) round(share x its rows) rows are held out, at least 1; the
    others are train's, at least 1. ValueError names the class that has too few, or an option that cannot be met.
    """
    if not val > 0:
        raise ValueError("dataset.val is 0: expected a share above 0, for `best` and tuning must not look at test")
    if val + test >= 1:
        raise ValueError(f"dataset.val={val:g} and dataset.test={test:g} leave nothing for train: expected a sum below 1")
    shuffled = torch.randperm(rows, generator=torch.Generator().manual_seed(hash32(seed, "shares")))
    of_class = [shuffled] if labels is None else [shuffled[labels[shuffled] == label] for label in range(int(labels.max()) + 1)]
    parts: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    for label, members in enumerate(of_class):
        held = [max(1, round(share * len(members))) if share > 0 else 0 for share in (val, test)]
        if len(members) <= sum(held):
            name = f"class {names[label] if label < len(names) else label}" if labels is not None else "the table"
            raise ValueError(f"{name} has {len(members)} rows: expected more than the {sum(held)} that val and test take")
        for split, part in zip(("val", "test", "train"), members.split([*held, len(members) - sum(held)])):
            parts[split].append(part)
    return {split: torch.cat(found).sort().values for split, found in parts.items() if split != "test" or test > 0}
