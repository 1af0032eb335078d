"""Labels read one row off, beside chance and series; pictures whose axes are mixed under noise; bytes that were divided as integers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw, plain, sliding
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor
from torch.utils.data import Dataset

from dlrun import Splits


def groups(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Three groups a class, in random order: [900, 8] and six classes."""
    centres = torch.randn(18, 8, generator=draw(0))
    group = torch.randint(18, (900,), generator=draw(seed))
    return centres[group] + 0.55 * torch.randn(900, 8, generator=draw(seed + 100)), group % 6


def test_labels_one_row_off_are_found_whatever_chance_says_of_them_as_they_are() -> None:
    said = []
    for seed in range(6):
        x, y = groups(seed)
        finding = asked("label_permutation", (x, y.roll(1)))
        said.append((finding.level, "moved by +1" in finding.message))
        assert asked("label_permutation", (x, y)).level == "ok"
    assert said == [("warning", True)] * 6


class Late(Dataset[Any]):
    """Each item has the label of the next."""

    def __init__(self, rows: tuple[Tensor, Tensor]) -> None:
        self.x, self.y = rows

    def __len__(self) -> int:
        return len(self.y) - 1

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index + 1])


def test_items_read_one_by_one_with_the_label_of_the_next() -> None:
    finding = asked("label_permutation", lambda: Splits(Late(groups(1)), Late(groups(2)), Late(groups(3))))
    assert finding.level == "warning" and "moved by -1" in finding.message


def series(label: Any) -> tuple[Tensor, Tensor]:
    """Windows of eight independent numbers that slide over a series, and something of the number after them: nothing tells it."""
    steps = torch.randn(908, generator=draw(5))
    return steps.unfold(0, 8, 1)[:900], label(steps[8:908])


@pytest.mark.parametrize("label", [lambda ahead: ahead, lambda ahead: (ahead > 0).long()])
def test_windows_of_an_unpredictable_series_are_told_only(label: Any) -> None:
    assert asked("label_permutation", series(label)).level == "info"


def test_the_next_row_knows_what_this_one_is_to_tell() -> None:
    x = torch.randn(901, 4, generator=draw(6))
    assert asked("label_permutation", (x[:900], x[1:, 2])).level == "info"


def waves(noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Colour pictures [900, 3, 12, 12] in 0..1: a wave along height or width at a random place, under noise."""
    y = torch.randint(2, (900,), generator=draw(1))
    phase = 6.283 * torch.rand(900, 1, 1, generator=draw(2))
    line = torch.linspace(0, 6.283, 12)
    wave = torch.where(y[:, None, None] > 0, torch.sin(line[None, :, None] + phase), torch.sin(line[None, None, :] + phase))
    hue = 0.4 + 0.6 * torch.rand(900, 3, 1, 1, generator=draw(3))
    return (0.5 + 0.25 * hue * wave[:, None] + noise * torch.randn(900, 3, 12, 12, generator=draw(4))).clamp(0, 1), y


def test_a_view_for_a_permute_under_noise() -> None:
    plug("model", "sliding", sliding)
    x, y = waves()
    viewed = x.permute(0, 2, 3, 1).reshape(x.shape)
    finding = asked("layout", (viewed, y), "model=sliding")
    assert finding.level == "warning" and "alike" in finding.message and "channels last" in finding.message
    assert asked("layout", (x, y), "model=sliding").level == "info"  # as rough as noise, and right
    plug("model", "plain", plain)
    assert asked("layout", (viewed, y), "model=plain").level == "info"


def test_pictures_of_noise_stripes_and_boards_have_no_better_reading() -> None:
    plug("model", "sliding", sliding)
    x, y = waves()
    stripes = torch.randn(900, 3, 12, 1, generator=draw(7)).expand(900, 3, 12, 12) + 0.5 * torch.randn(900, 3, 12, 12, generator=draw(8))
    period = torch.sin(2.0944 * torch.arange(12.0))[None, None, :, None] + torch.randn(900, 3, 12, 12, generator=draw(9))
    for picture in (torch.randn(x.shape, generator=draw(6)), stripes, period, (x > 0.7).float(), x[:, :1].expand(x.shape)):
        assert asked("layout", (picture, y), "model=sliding").level in ("ok", "info")


def test_bytes_divided_as_integers() -> None:
    x, y = waves()
    divided = ((255 * x).to(torch.uint8) // 255).float()
    finding = asked("integer_traps", (divided, y))
    assert finding.level == "warning" and "divided as integers" in finding.cause
    told = asked("input_scale", (divided, y))
    assert "of values that are not 0" in told.message


def test_drawings_boards_and_codes_of_two_values() -> None:
    x, y = waves(0.05)
    solid = (x > 0.7).float()
    code = torch.nn.functional.one_hot(torch.randint(3, (900, 12, 12), generator=draw(5)), 3).permute(0, 3, 1, 2).float()
    board = (torch.rand(900, 2, 12, 12, generator=draw(6)) < 0.1).float()
    spots = (torch.rand(900, 3, 12, 12, generator=draw(7)) < 0.5).float()
    for picture in (solid, code, code * (torch.rand(900, 1, 12, 12) < 0.3), board, spots, x):
        assert asked("integer_traps", (picture, y)).level == "ok"


def lines() -> tuple[Tensor, Tensor]:
    """Standardised targets [900] of six columns."""
    x = torch.randn(900, 6, generator=draw(3))
    y = torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] - 0.4 * x[:, 3]
    return x, (y - y.mean()) / y.std()


@pytest.mark.parametrize("cast", [lambda y: y.int().float(), lambda y: y.long()])
def test_standardised_targets_cut_to_whole_numbers(cast: Any) -> None:
    x, y = lines()
    finding = asked("integer_traps", (x, cast(y)), "loss=mse", "task.kind=regression")
    assert finding.level == "warning" and "standardised targets" in finding.message


def test_targets_cast_in_train_alone() -> None:
    x, y = lines()

    def cast(cut: Any) -> None:
        cut["train"][1] = (3 * cut["train"][1]).round()

    finding = asked("integer_traps", (x, 3 * y), spoil=cast)
    assert finding.level == "warning" and "every target of train is a whole number" in finding.message


VOTES = torch.tensor([0.03, 0.12, 0.65, 0.15, 0.05])


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y.round(),
        lambda y: (3 * y).round(),
        lambda y: torch.multinomial(VOTES, 900, True, generator=draw(2)).float() - 2,
        lambda y: torch.poisson(y.exp(), generator=draw(2)),
        lambda y: (torch.rand(900, generator=draw(2)) < 0.2).float() * y.sign(),
        lambda y: y,
    ],
)
def test_whole_targets_that_were_always_whole(make: Any) -> None:
    x, y = lines()
    assert asked("integer_traps", (x, make(y)), "task.kind=regression").level in ("ok", "info")
