"""Augmentations: known results, limits, and that the same noise gives the same rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from parts import bound

from dlrun.augments.cutout import cutout
from dlrun.augments.flip import flip
from dlrun.augments.noise import noise as noise_part
from dlrun.augments.random_crop import random_crop
from dlrun.augments.randomize import randomize
from dlrun.augments.roll import roll
from dlrun.augments.rotate import rotate
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
    "rotate": partial(rotate, degrees=(-40, 40), fill="edge"),
    "cutout": partial(cutout, size=2, fill=-1.5),
    "randomize": bound("augment", "randomize", noise_std=[0, 0]),
}
MOVE = [name for name in ALL if name != "cutout"]
STILL: dict[str, Any] = {
    "scale": [1, 1],
    "translation": [0, 0],
    "background": [0, 0],
    "gamma": [1, 1],
    "contrast": [1, 1],
    "brightness": [0, 0],
    "noise_std": [0, 0],
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
    assert all(augment(BATCH.replace(x=BATCH["x"].to(dtype)), noise())["x"].dtype == dtype for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(one["x"][:, 0], one["x"][:, 1])  # all channels of a row move together
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


@pytest.mark.parametrize("name", MOVE)
def test_targets_that_are_images_are_refused_where_pixels_move(name: str) -> None:
    with pytest.raises(ValueError, match="targets .* are images too"):
        ALL[name](Batch({"x": PLACES, "y": PLACES}), noise())
    assert cutout(Batch({"x": PLACES, "y": PLACES}), noise(), size=2, fill=0.0)["y"] is PLACES  # a target that stays is a target still


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
@pytest.mark.parametrize("fill", ["zero", "edge", "reflect"])
def test_rotate_by_quarter_turns_is_rot90(turns: int, fill: Any) -> None:
    square = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = rotate(Batch({"x": square}), noise(), degrees=(90.0 * turns, 90.0 * turns), fill=fill)["x"]
    torch.testing.assert_close(found, square.rot90(turns, (-2, -1)), atol=2e-5, rtol=0)


def test_rotate_turns_about_the_centre_whatever_the_sides_and_says_what_comes_in() -> None:
    half = rotate(Batch({"x": PLACES}), noise(), degrees=(180, 180), fill="zero")["x"]
    torch.testing.assert_close(half, PLACES.flip(-1, -2), atol=1e-3, rtol=0)
    quarter = rotate(Batch({"x": torch.ones(2, 1, 3, 9)}), noise(), degrees=(90, 90), fill="zero")["x"]
    assert torch.allclose(quarter.sum(), torch.tensor(2 * 3 * 3.0), atol=1e-3)  # of a 3 x 9 image turned upright 3 x 3 pixels are left
    ones = torch.ones(3, 1, 8, 8)
    assert torch.allclose(rotate(Batch({"x": ones}), noise(), degrees=(45, 45), fill="edge")["x"], ones)
    assert float(rotate(Batch({"x": ones}), noise(), degrees=(45, 45), fill="zero")["x"][0, 0, 0, 0]) == 0
    assert torch.equal(rotate(BATCH, noise(), degrees=(0, 0), fill="zero")["x"], PLACES)
    with pytest.raises(ValueError, match=r"degrees is \[5, 1\]"):
        rotate(BATCH, noise(), degrees=(5, 1), fill="zero")


def test_rotate_draws_angles_evenly_over_the_range() -> None:
    pointer = torch.zeros(400, 1, 41, 41)
    pointer[:, 0, 20, 24:] = 1  # points to the right: where its mass lies after the turn gives the angle
    found = rotate(Batch({"x": pointer}), noise(), degrees=(-30, 60), fill="zero")["x"][:, 0]
    at = torch.arange(41.0) - 20
    angle = torch.atan2(-(found.sum(2) * at).sum(1), (found.sum(1) * at).sum(1)).rad2deg()
    assert -31 < float(angle.min()) < -25 and 55 < float(angle.max()) < 61 and abs(float(angle.mean()) - 15) < 4 * 26 / 20


def test_cutout_blanks_one_square_a_row_and_nothing_else() -> None:
    found = cutout(Batch({"x": torch.ones(300, 2, 9, 9)}), noise(), size=3, fill=7.0)["x"]
    blank = found == 7
    assert torch.equal(blank[:, 0], blank[:, 1]) and bool(((found == 1) | blank).all())
    lines, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), lines * columns)  # a box
    assert set(lines.tolist()) == set(columns.tolist()) == {2, 3}  # cut by one line where the centre is at an edge
    share = blank[:, 0].float().mean(0)  # every pixel is the centre equally often: inner pixels are blanked in 9 of 81 draws
    assert abs(float(share[1:-1, 1:-1].mean()) - 9 / 81) < 0.02


@pytest.mark.parametrize("shape", [(1000,), (20, 50), (5, 3, 10, 10)])
def test_noise_has_mean_0_and_the_standard_deviation_asked_for(shape: tuple[int, ...]) -> None:
    x = torch.zeros(40, *shape)
    found = noise_part(Batch({"x": x, "y": torch.arange(40)}), noise(), std=0.3)["x"]
    assert abs(float(found.mean())) < 5 * 0.3 / found.numel() ** 0.5 and float(found.std()) == pytest.approx(
        0.3, rel=5 / (2 * found.numel()) ** 0.5
    )
    assert noise_part(Batch({"x": x}), noise(), std=0.0)["x"] is x
    assert noise_part(Batch({"x": x.double()}), noise(), std=0.3)["x"].dtype == torch.float64
    with pytest.raises(ValueError, match="x is int64"):
        noise_part(Batch({"x": x.long()}), noise(), std=0.3)


def test_randomize_with_neutral_ranges_is_the_identity_bit_for_bit() -> None:
    assert torch.equal(randomize(BATCH, noise(), **STILL)["x"], PLACES)
    for option in ("scale", "translation", "gamma", "contrast", "brightness", "noise_std"):
        changed = randomize(BATCH, noise(), **{**STILL, option: [0.5, 0.9]})["x"]
        assert not torch.equal(changed, PLACES) and len({row.numpy().tobytes() for row in changed}) == 200, option


def test_randomize_changes_what_it_says_by_what_it_says() -> None:
    def with_(**ranges: Any) -> torch.Tensor:
        return randomize(BATCH, noise(), **{**STILL, **ranges})["x"]

    torch.testing.assert_close(with_(brightness=[2, 2]), PLACES + 2)
    torch.testing.assert_close(with_(contrast=[0.5, 0.5]), 15.5 + 0.5 * (PLACES - 15.5))
    torch.testing.assert_close(with_(gamma=[2, 2]), 1 + 29 * ((PLACES - 1) / 29) ** 2)
    assert float((with_(noise_std=[3, 3]) - PLACES).std()) == pytest.approx(3, rel=0.05)
    shift = (with_(brightness=[-1, 3]) - PLACES).mean((1, 2, 3))
    assert float(shift.min()) > -1 and float(shift.max()) < 3 and abs(float(shift.mean()) - 1) < 5 * 1.16 / 200**0.5


def test_randomize_places_the_image_on_its_background() -> None:
    x = torch.ones(2, 1, 8, 8)

    def with_(**ranges: Any) -> torch.Tensor:
        return randomize(Batch({"x": x}), noise(), **{**STILL, **ranges})["x"]

    half = with_(scale=[0.5, 0.5], background=[5, 5])
    assert torch.allclose(half[:, :, 2:6, 2:6], x[:, :, 2:6, 2:6]) and torch.allclose(half[:, :, 0], torch.tensor(5.0))
    moved = with_(translation=[0.25, 0.25], background=[-1, -1])
    assert torch.allclose(moved[:, :, 2:, 2:], x[:, :, 2:, 2:]) and torch.allclose(moved[:, :, :2], torch.tensor(-1.0), atol=1e-6)
    ramp = torch.arange(8.0).expand(2, 1, 8, 8)
    wide = randomize(Batch({"x": ramp}), noise(), **{**STILL, "scale": [2, 2]})["x"]
    torch.testing.assert_close(wide[0, 0, 4], (torch.arange(8.0) - 3.5) / 2 + 3.5)


def test_contrast_and_gamma_commute_with_a_normalisation_by_channel() -> None:
    raw = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)
    ranges = {**STILL, "gamma": [0.5, 2], "contrast": [0.3, 1.7]}
    before = (randomize(Batch({"x": raw}), noise(), **ranges)["x"] - mean) / std
    torch.testing.assert_close(randomize(Batch({"x": (raw - mean) / std}), noise(), **ranges)["x"], before, atol=1e-4, rtol=1e-4)
    flat = torch.full((2, 3, 4, 4), 0.3)
    assert torch.equal(randomize(Batch({"x": flat}), noise(), **{**STILL, "gamma": [0.5, 2]})["x"], flat)  # no 0 / 0


@pytest.mark.parametrize(
    ("option", "pair"), [("scale", [0, 1]), ("gamma", [-1, 1]), ("contrast", [-0.1, 1]), ("noise_std", [-1, 0]), ("brightness", [1, 0])]
)
def test_randomize_refuses_ranges_that_mean_nothing(option: str, pair: list[float]) -> None:
    with pytest.raises(ValueError, match=f"augment randomize: {option} is"):
        randomize(BATCH, noise(), **{**STILL, option: pair})


def test_roll_moves_every_series_by_its_own_number_of_places_around_the_end() -> None:
    x = torch.arange(8.0).repeat(900, 1)
    out = roll(Batch({"x": x}), noise(), places=2)["x"]
    places = out.argmin(1)  # where the 0 went
    assert torch.equal(out, torch.stack([row.roll(int(place)) for row, place in zip(x, places)]))
    assert torch.bincount(places, minlength=8)[[3, 4, 5]].sum() == 0 and (torch.bincount(places, minlength=8)[[0, 1, 2, 6, 7]] > 130).all()
    together = roll(Batch({"x": x[:, None].repeat(1, 3, 1)}), noise(), places=2)["x"]
    assert torch.equal(together, out[:, None].expand_as(together)), "channels move together"
    with pytest.raises(ValueError, match="places is 8, more than a row of 8 numbers"):
        roll(Batch({"x": x}), noise(), places=8)
    with pytest.raises(ValueError, match=r"needs series.*found \[3\] torch.float32"):
        roll(Batch({"x": torch.zeros(3)}), noise(), places=1)
    with pytest.raises(ValueError, match=r"targets \[900, 8\] are series too"):
        roll(Batch({"x": x, "y": x}), noise(), places=1)
    assert torch.equal(roll(Batch({"x": x, "y": x[:, 0]}), noise(), places=2)["x"], out)
