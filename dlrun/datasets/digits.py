"""Handwritten digits of 8 x 8 pixels, 1797 rows, 10 classes; ships with scikit-learn, so it needs no download.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (its test set).
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from dlrun.noise import hash32
from dlrun.ranges import Seed
from dlrun.types import DataSpec, Splits

HELD_OUT = 30
"""Rows a class in val, and again in test."""


def _table() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 [1797, 65]: 64 pixels in 0..16, then the class.

    Read from the file itself: importing scikit-learn to have it read would cost a second of CPU.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("dataset digits comes with scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        table = np.array([line.split(",") for line in text.split()], dtype=np.float32)
    except (OSError, ValueError, EOFError):  # a release of scikit-learn that keeps its file elsewhere
        from sklearn.datasets import load_digits

        digits = load_digits()
        table = np.concatenate([digits.data, digits.target[:, None]], axis=1)
    if table.shape != (1797, 65):
        raise ValueError(f"dataset digits: scikit-learn's file has shape {table.shape}, expected (1797, 65)")
    return table.astype(np.uint8)


def digits(*, seed: Seed) -> Splits:
    """x float32 [1, 8, 8], standardised with mean and std of train; y in 0..9; 1197 / 300 / 300 rows, val and test balanced."""
    table = torch.from_numpy(_table())
    y = table[:, 64].long()
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(hash32(seed, "digits")))
    by_class = [shuffled[y[shuffled] == label] for label in range(10)]
    rows = {
        "test": torch.cat([of[:HELD_OUT] for of in by_class]),
        "val": torch.cat([of[HELD_OUT : 2 * HELD_OUT] for of in by_class]),
        "train": torch.cat([of[2 * HELD_OUT :] for of in by_class]),
    }
    x = table[:, :64].float().div_(16).view(-1, 1, 8, 8)
    mean, std = x[rows["train"]].mean(), x[rows["train"]].std()
    x = x.sub_(mean).div_(std)
    spec = DataSpec(
        in_shape=(1, 8, 8),
        out_shape=(10,),
        kind="classification",
        classes=10,
        names=tuple(str(digit) for digit in range(10)),
        split_rule=f"1197 / 300 / 300 rows, {HELD_OUT} a class in val and in test, dataset seed {seed}",
        source="scikit-learn's digits.csv.gz",
        notes=(f"data: x is scaled to 0..1, then standardised with train's mean {float(mean):.4f} and std {float(std):.4f}",),
    )
    split = {name: {"x": x[index], "y": y[index]} for name, index in rows.items()}
    return Splits(split["train"], split["val"], split["test"], spec)
