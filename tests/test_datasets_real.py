"""The real data sets are what was published: counts, balance, statistics, first labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest
import torch

from dlrun.data import cache_root
from dlrun.datasets._real import RealData, splits
from dlrun.datasets.cifar10 import DATA as CIFAR
from dlrun.datasets.fashion_mnist import DATA as FASHION
from dlrun.datasets.mnist import DATA as MNIST
from dlrun.errors import MissingError

ABSENT = Callable[[str], NoReturn]
BALANCED = {"fashion_mnist": FASHION, "cifar10": CIFAR}


@pytest.mark.real
@pytest.mark.parametrize(
    ("data", "train", "shape"),
    [
        (FASHION, 60_000, (1, 28, 28)),
        pytest.param(CIFAR, 50_000, (3, 32, 32), marks=pytest.mark.slow),
        pytest.param(MNIST, 60_000, (1, 28, 28), marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_real_data_is_what_was_published(data: RealData, train: int, shape: tuple[int, ...], absent: ABSENT) -> None:
    try:
        split = splits(data, str(cache_root()), None, 5000)
    except MissingError:
        absent(data.title)
    assert [len(x) for x, _ in (split.train, split.val, split.test)] == [train - 5000, 5000, 10_000]
    assert split.train[0].shape[1:] == shape and split.train[0].dtype == torch.uint8
    assert torch.bincount(split.val[1]).tolist() == [500] * 10
    if data.name in BALANCED:
        assert torch.bincount(torch.cat([split.train[1], split.val[1]])).tolist() == [train // 10] * 10
        assert torch.bincount(split.test[1]).tolist() == [1000] * 10
    x = split.train[0].numpy()
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        counts = np.zeros(256)
        for low in range(0, len(x), 10_000):
            counts += np.bincount(x[low : low + 10_000, channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        found = float((counts * values).sum() / counts.sum())
        assert found == pytest.approx(mean, abs=1e-7)
        assert float(np.sqrt((counts * (values - found) ** 2).sum() / counts.sum())) == pytest.approx(std, abs=1e-7)


@pytest.mark.real
def test_fashion_mnist_begins_as_published(absent: ABSENT) -> None:
    """The first train labels and the darkness of the first boot, as everybody's notebook shows them."""
    try:
        split = splits(FASHION, str(cache_root()), None, 5000)
    except MissingError:
        absent("Fashion-MNIST")
    assert split.train[1][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert split.test[1][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert split.spec is not None and split.spec.names[9] == "Ankle boot"
