"""Fashion-MNIST: 70,000 grey pictures of 28 x 28 pixels of clothes, 10 classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms, 2017.
"""

from __future__ import annotations

from pathlib import Path

from dlrun.datasets._decode import IDX_FILES, decode_idx
from dlrun.datasets._real import RealData, splits
from dlrun.ranges import Count, Fraction
from dlrun.registry import facts
from dlrun.types import Splits

DATA = RealData(
    name="fashion_mnist",
    title="Fashion-MNIST",
    arrays={
        "train_x": ((60_000, 1, 28, 28), "ff0ab3b3c208aee563cf9b1598e80cdc0aabd74188674b7d99d492e8275037a5"),
        "train_y": ((60_000,), "e0d8c95680e2ff8cc0a3962053451103a197bbd0cc6555343a602327a05edde5"),
        "test_x": ((10_000, 1, 28, 28), "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a"),
        "test_y": ((10_000,), "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"),
    },
    decode=decode_idx,
    members={f"{name}.gz": 2**25 for name in IDX_FILES.values()},
    system=("/usr/share/datasets/fashion-mnist",),
    torchvision="FashionMNIST",
    debian="dataset-fashion-mnist",
    mean=(0.28595623,),
    std=(0.35299673,),
    names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""Mean and std are those of the 55,000 rows that are in train whatever `val` is."""


@facts(real=DATA)
def fashion_mnist(root: str, *, folder: Path | None, val: Count, n: Count | None, label_noise: Fraction) -> Splits:
    """x uint8 [1, 28, 28], standardised on the device; y in 0..9; 60000 - `val` / `val` / 10000 rows. `root` is the data cache."""
    return splits(DATA, root, folder, val, n, label_noise)
