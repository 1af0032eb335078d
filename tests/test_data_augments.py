"""Augmentations: known results, limits, and that the same noise gives the same rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from dlrun.augments.flip import flip
from dlrun.augments.random_crop import random_crop
from dlrun.augments.shift import shift
from dlrun.batch import Batch
from dlrun.noise import Noise

PLACES = torch.arange(30.0).view(1, 1, 5, 6).repeat(200, 2, 1, 1) + 1
BATCH = Batch({"x": PLACES, "y": torch.arange(200)})
ALL: dict[str, Callable[..., Batch]] = {
    "flip": partial(flip, p=0.5, axis="horizontal"),
    "random_crop": partial(random_crop, pad=2, fill="zero"),
    "mirrored": partial(random_crop, pad=2, fill="reflect"),
    "shift": partial(shift, pixels=2),
}


def noise(step: int = 0) -> Noise:
    return Noise(0, step, 0, 0, "augment", 0)


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL.keys())
def test_the_noise_decides_and_nothing_else(augment: Callable[..., Batch]) -> None:
    kept = BATCH["x"].clone()
    one = augment(BATCH, noise())
    torch.rand(7)
    assert torch.equal(one["x"], augment(BATCH, noise())["x"]) and not torch.equal(one["x"], augment(BATCH, noise(1))["x"])
    assert one["x"].shape == BATCH["x"].shape and torch.equal(one["y"], BATCH["y"]) and torch.equal(BATCH["x"], kept)
    assert torch.equal(one["x"][:, 0], one["x"][:, 1])  # all channels of a row move together
    assert len({row.numpy().tobytes() for row in one["x"]}) > 1  # rows move on their own


@pytest.mark.parametrize(("axis", "dim"), [("horizontal", -1), ("vertical", -2)])
def test_flip_mirrors_a_share_p(axis: Any, dim: int) -> None:
    assert torch.equal(flip(BATCH, noise(), p=0.0, axis=axis)["x"], PLACES)
    assert torch.equal(flip(BATCH, noise(), p=1.0, axis=axis)["x"], PLACES.flip(dim))
    found = flip(BATCH, noise(), p=0.3, axis=axis)["x"]
    mirrored = (found == PLACES.flip(dim)).flatten(1).all(1)
    assert bool((mirrored | (found == PLACES).flatten(1).all(1)).all()) and 35 < int(mirrored.sum()) < 85


def test_random_crop_moves_each_row_by_at_most_pad() -> None:
    found = random_crop(BATCH, noise(), pad=2, fill="zero")["x"]
    padded = torch.nn.functional.pad(PLACES[0], [2] * 4)
    windows = {(top, left): padded[:, top : top + 5, left : left + 6] for top in range(5) for left in range(5)}
    seen = [next(place for place, window in windows.items() if torch.equal(row, window)) for row in found]
    assert len(set(seen)) == 25  # every offset occurs among 200 rows
    whole = random_crop(BATCH, noise(), pad=2, fill="reflect")["x"]
    assert float(whole.min()) >= 1
    with pytest.raises(ValueError, match="pad is 5"):
        random_crop(BATCH, noise(), pad=5, fill="reflect")


def test_shift_keeps_every_pixel() -> None:
    found = shift(BATCH, noise(), pixels=2)["x"]
    assert torch.equal(found.flatten(2).sort().values, PLACES.flatten(2))
    rolled = {(-t, -s): PLACES[0].roll((t, s), (1, 2)) for t in range(-2, 3) for s in range(-2, 3)}
    assert len({next(place for place, image in rolled.items() if torch.equal(row, image)) for row in found}) == 25


def test_images_without_a_channel_axis_work_too_and_other_rows_are_refused() -> None:
    flat = Batch({"x": PLACES[:, 0]})
    assert all(augment(flat, noise())["x"].shape == (200, 5, 6) for augment in ALL.values())
    for x in (torch.rand(4, 7), torch.ones(4, 3, 3, dtype=torch.int64), (torch.rand(4, 3, 3),)):
        for augment in ALL.values():
            with pytest.raises(ValueError, match="needs images"):
                augment(Batch({"x": x}), noise())
