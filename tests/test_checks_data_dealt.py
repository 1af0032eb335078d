"""Windows that were dealt out by chance, columns that were computed with the target, ids in a byte, and what only looks like these."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import Splits


def series(rows: int = 1300, columns: int = 3) -> Tensor:
    """Numbers [rows, columns] that each follow the one before."""
    noise, made = torch.randn(rows, columns, generator=draw(1)), []
    for step in noise:
        made.append(0.8 * made[-1] + step if made else step)
    return torch.stack(made)


def windows(size: int, tokens: bool = False) -> tuple[Tensor, Tensor]:
    values = torch.randint(0, 30, (1300, 1), generator=draw(2)) if tokens else series()
    cut = values.unfold(0, size + 1, 1).transpose(1, 2)
    x = cut[:, :size]
    return (x[..., 0] if tokens else x).contiguous(), cut[:, size, 0].float()


def split(x: Tensor, y: Tensor, order: Tensor) -> Any:
    train, val = order[: len(order) * 3 // 4], order[len(order) * 3 // 4 :]
    return lambda: Splits((x[train], y[train]), (x[val], y[val]))


@pytest.mark.parametrize(("size", "tokens"), [(4, False), (24, False), (24, True)])
def test_windows_dealt_out_by_chance_and_by_time(size: int, tokens: bool) -> None:
    x, y = windows(size, tokens)
    words = ("model=takes_words",) if tokens else ()
    plug("model", "takes_words", words_net)
    finding = asked("split_leakage", split(x, y, torch.randperm(len(x), generator=draw(3))), *words)
    assert finding.level == "warning" and "windows were cut first" in finding.cause
    assert asked("split_leakage", split(x, y, torch.arange(len(x))), *words).level in ("ok", "info")


def test_few_windows_right_behind_those_of_train() -> None:
    x, y = windows(24)
    assert asked("split_leakage", lambda: Splits((x[:900], y[:900]), (x[900:940], y[900:940]))).level in ("ok", "info")


def words_net() -> nn.Module:
    return nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(96, 1), nn.Flatten(0))


def lags(column: str) -> tuple[Tensor, Tensor]:
    """The last readings of one series, another one, and one more column; what comes next."""
    both = series()
    one, two = both[:, 0], both[:, 1]
    at = torch.arange(20, len(one) - 20)
    means = {"trailing": (0, -1, -2, -3), "centred": (2, 1, 0, -1, -2), "shifted": (-4, -5)}
    x = [one[at], one[at - 1], two[at], two[at - 2], one[at - 5]]
    if column in means:
        x.append(torch.stack([one[at + 1 + step - int(column == "trailing")] for step in means[column]]).mean(0))
    if column == "total":
        x.append(one[at + 1] + two[at])
    return torch.stack(x, 1), one[at + 1]


@pytest.mark.parametrize(("column", "cause"), [("centred", "looks ahead"), ("total", "a total"), ("trailing", ""), ("shifted", "")])
def test_columns_that_were_computed_with_the_target(column: str, cause: str) -> None:
    x, y = lags(column)
    finding = asked("target_in_input", split(x, y, torch.arange(len(x))))
    level = "info" if column == "total" else "warning"  # a target may as well have been made by such a formula
    assert (finding.level == level and cause in finding.cause) if cause else finding.level == "ok", finding.message


@pytest.mark.parametrize("made", ["sum", "powers", "wave"])
def test_formulas_without_noise_are_no_leak(made: str) -> None:
    x = torch.randn(900, 6, generator=draw(4))
    if made == "powers":
        x = x[:, :1] ** torch.arange(1, 7) / 10
    if made == "wave":
        x = torch.sin(torch.arange(906).double() / 5).unfold(0, 7, 1)[:, :6].float()
    y = torch.sin((torch.arange(len(x)) + 6).double() / 5).float() if made == "wave" else 2 * x[:, 0] - x[:, 2]
    assert asked("target_in_input", split(x, y, torch.arange(len(x)))).level in ("ok", "info")


class Ratings(nn.Module):
    """Two tables, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(100, 4), nn.Embedding(600, 4)

    def forward(self, x: Any) -> Tensor:
        return (self.users(x["user"]) * self.items(x["item"])).sum(1)


@pytest.mark.parametrize("wrap", [True, False])
def test_ids_in_one_byte(wrap: bool) -> None:
    item = torch.randint(600, (6000,), generator=draw(5))
    item = item % 256 if wrap else item
    x, y = {"user": torch.randint(100, (6000,), generator=draw(6)), "item": item}, torch.randn(6000, generator=draw(7))
    cut = {name: slice(*ends) for name, ends in {"train": (0, 5000), "val": (5000, 6000)}.items()}
    pair = [{"x": {key: part[where] for key, part in x.items()}, "y": y[where]} for where in cut.values()]
    plug("model", "ratings", Ratings)
    finding = asked("integer_traps", lambda: Splits(*pair), "model=ratings")
    assert finding.level == ("warning" if wrap else "ok") and (not wrap or "x.item holds every number up to 255" in finding.message)
