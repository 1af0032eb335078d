"""Words, one-hot columns and columns of tables that mean something else in val; and splits that share them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw, numbers
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits

WORDS = 60


class reads(nn.Module):
    """The mean of the words' vectors, or one answer a word."""

    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.each = len(out_shape) > 1
        self.words, self.out = nn.Embedding(WORDS, 8), nn.Linear(8, out_shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        words = self.words(x)
        out: Tensor = self.out(words if self.each else words.mean(1))
        return out


def texts(anew: bool) -> Any:
    """Texts of words for or against; val's words `anew` under other numbers."""
    x = torch.randint(WORDS, (900, 16), generator=draw(1))
    weight = torch.randn(WORDS, generator=draw(2))
    y = (weight[x].sum(1) > 0).long()
    other = torch.randperm(WORDS, generator=draw(3))
    val = other[x[600:]] if anew else x[600:]
    return lambda: Splits((x[:600], y[:600]), (val, y[600:]), spec=DataSpec((16,), (2,), "classification", classes=2, vocab=WORDS))


def next_words(anew: bool) -> Any:
    """Each word has one that mostly follows it."""
    follows, g = torch.randperm(WORDS, generator=draw(4)), draw(5)
    steps = [torch.randint(WORDS, (700,), generator=g)]
    for _ in range(12):
        steps.append(torch.where(torch.rand(700, generator=g) < 0.7, follows[steps[-1]], torch.randint(WORDS, (700,), generator=g)))
    text = torch.stack(steps, 1)
    other = torch.randperm(WORDS, generator=draw(3)) if anew else torch.arange(WORDS)
    one, two = text[:500], other[text[500:]]
    spec = DataSpec((12,), (12, WORDS), "language_model", vocab=WORDS)
    return lambda: Splits((one[:, :-1], one[:, 1:]), (two[:, :-1], two[:, 1:]), spec=spec)


@pytest.mark.parametrize("make", [texts, next_words])
def test_words_that_each_split_numbers(make: Any) -> None:
    plug("model", "reads", reads)
    finding = asked("split_input_shift", make(True), "model=reads")
    assert finding.level == "warning" and "numbered anew" in finding.cause, finding
    assert asked("split_input_shift", make(False), "model=reads").level == "not_applicable"


def test_one_hot_columns_of_each_split() -> None:
    code, y = torch.randint(12, (900,), generator=draw(1)), torch.randn(12, generator=draw(2))
    y = y[code] + 0.2 * torch.randn(900, generator=draw(3))

    def made(order: Tensor) -> Any:
        x = torch.nn.functional.one_hot(torch.cat((code[:600], order[code[600:]])), 12).float()
        return asked("split_input_shift", (x, y))

    finding = made(torch.randperm(12, generator=draw(4)))
    assert finding.level == "warning" and "numbered anew" in finding.cause, finding
    assert made(torch.arange(12)).level == "ok"


def test_columns_in_another_order_that_look_alike() -> None:
    x, _ = numbers()
    y = x @ torch.tensor([2.0, -1.5, 1.0, -0.7, 0.4, -0.2, 0.1, 0.0])

    def change(cut: Any) -> None:
        cut["val"][0] = cut["val"][0].roll(3, 1)

    finding = asked("split_input_shift", (x, y), spoil=change)
    assert finding.level == "warning" and "another order" in finding.message, finding
    assert asked("split_input_shift", (x, y)).level == "ok"


def test_a_world_that_changed_is_no_other_order() -> None:
    x, _ = numbers()
    y = torch.cat((x[:600, 0] + x[:600, 1], (x[600:, 0] - x[600:, 1]) * x[600:, 2]))
    assert asked("split_input_shift", (x, y)).level in ("ok", "info")
