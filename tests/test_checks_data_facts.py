"""Exact facts of data that no sound set-up shows, each beside a look-alike that does no harm."""

from __future__ import annotations

from typing import Any

import torch
from checks_data import DataSpec, Splits, asked, clouds, draw, smooth
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun.checks._columns import filled_for, ranked_as
from dlrun.checks._rowwise import scaled_by_row
from dlrun.checks.label_histogram import _filler

UNITS = torch.tensor([60.0, 5.0, 30.0, 1500.0, 45.0, 2.0])


def test_rows_scaled_across_columns_of_unlike_units() -> None:
    raw = UNITS + UNITS * 0.2 * torch.randn(300, 6, generator=draw(1))
    for scaled in ((raw - raw.mean(1, keepdim=True)) / raw.std(1, keepdim=True), raw / raw.norm(dim=1, keepdim=True)):
        assert scaled_by_row(scaled).startswith("every row has")
    alike = torch.randn(300, 6, generator=draw(2))
    assert scaled_by_row((alike - alike.mean(1, keepdim=True)) / alike.std(1, keepdim=True)) == ""
    spectra = torch.linspace(0, 3, 30).sin() + 0.1 * torch.randn(300, 30, generator=draw(3))
    assert scaled_by_row((spectra - spectra.mean(1, keepdim=True)) / spectra.std(1, keepdim=True)) == ""
    assert scaled_by_row((raw - raw.mean(0)) / raw.std(0)) == ""


def test_pictures_divided_twice_before_they_are_normalised() -> None:
    x, y = smooth()
    bytes_ = ((x - x.min()) / (x.max() - x.min())).clamp(0, 1)
    finding = asked("input_scale", ((bytes_ / 255 - 0.45) / 0.2, y), "train.batch_size=32")
    assert finding.level == "warning" and finding.cause == "inputs were scaled down twice"
    assert asked("input_scale", ((bytes_ - 0.45) / 0.2, y), "train.batch_size=32").level != "warning"


def test_values_cut_to_next_to_nothing() -> None:
    x, y = clouds()
    cut = (x - x.amin(0)) / (x.amax(0) - x.amin(0))
    finding = asked("constant_input", (cut.int().float(), y))
    assert finding.level == "error" and "have the same inputs, and not the same targets" in finding.message
    rare = (torch.rand(900, 8, generator=draw(5)) < 0.1).float()
    assert asked("constant_input", (rare, y)).level != "error"


class Pairs(nn.Module):
    """Of a listener two songs are compared."""

    def __init__(self, apart: bool = False) -> None:
        super().__init__()
        self.who, self.song, self.other = nn.Embedding(30, 4), nn.Embedding(40, 4), nn.Embedding(40, 4)
        self.apart = apart

    def forward(self, x: Tensor) -> Any:
        who, one, two = self.who(x[:, 0]), self.song(x[:, 1]), (self.other if self.apart else self.song)(x[:, 2])
        return (who * one).sum(1), (who * two).sum(1)


def test_a_negative_drawn_once_for_all_rows() -> None:
    x = torch.stack((torch.randint(30, (900,), generator=draw(1)), torch.randint(40, (900,), generator=draw(2))), 1)
    plug("loss", "ranks", lambda out, y: -nn.functional.logsigmoid(out[0] - out[1]).mean())
    words = ("model=pairs", "loss=ranks", "task.kind=other")

    def splits(third: Tensor) -> Any:
        whole = torch.cat((x, third[:, None]), 1)
        return lambda: Splits({"x": whole[:600]}, {"x": whole[600:]}, {"x": whole[600:]}, spec=DataSpec((3,), (), "other"))

    plug("model", "pairs", lambda: Pairs())
    finding = asked("constant_input", splits(torch.full((900,), 7)), *words)
    assert finding.level == "warning" and finding.message.startswith("x[2] is the same in every row of train, x[1] is not")
    assert asked("constant_input", splits(torch.randint(40, (900,), generator=draw(3))), *words).level != "warning"
    plug("model", "pairs", lambda: Pairs(apart=True))  # a code of one's own kind that has one value is no twin
    assert asked("constant_input", splits(torch.full((900,), 7)), *words).level != "warning"


def hot(lists: Tensor, width: int) -> Tensor:
    return torch.zeros(len(lists), width).scatter_(1, lists, 1.0)


def test_lists_of_labels_filled_up_with_a_label() -> None:
    count = torch.randint(1, 4, (400, 1), generator=draw(1))
    lists = torch.rand(400, 8, generator=draw(2)).argsort(1)[:, :3]
    finding = _filler(hot(lists.where(torch.arange(3) < count, torch.zeros(())).long(), 8))
    assert (
        finding is not None and finding.level == "warning" and finding.message.startswith("label 0 stands in every row with fewer than 3")
    )
    left_out = hot((lists + 1).where(torch.arange(3) < count, torch.zeros(())).long(), 9)[:, 1:]
    always_three, ordinal = hot(lists, 8), (torch.arange(8) <= torch.randint(8, (400, 1), generator=draw(3))).float()
    parents = left_out.clone()
    parents[:, 0] = 1
    for healthy in (left_out, always_three, ordinal, parents, (torch.rand(400, 8, generator=draw(4)) < 0.2).float()):
        assert _filler(healthy) is None


class Gaps(torch.utils.data.Dataset[Any]):
    """Words of which some are hidden; those are the targets."""

    def __init__(self, rows: int, copies: bool) -> None:
        self.ids, self.copies = torch.randint(1, 40, (rows, 12), generator=draw(rows)), copies

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        ids = self.ids[index].clone() if self.copies else self.ids[index]
        hidden = torch.rand(12) < 0.3
        y = ids.masked_fill(~hidden, -100)
        ids[hidden] = 0
        return ids, y


def test_words_hidden_in_what_the_dataset_keeps() -> None:
    plug("model", "told", lambda: nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 40)))
    plug("loss", "of_hidden", lambda out, y: nn.functional.cross_entropy(out.transpose(1, 2), y))
    for copies, level in ((False, "error"), (True, "info")):  # val is drawn anew each time
        assert asked("item_stability", _hidden(copies), "model=told", "loss=of_hidden", "task.kind=language_model").level == level


def _hidden(copies: bool) -> Any:
    return lambda: Splits(Gaps(200, copies), Gaps(60, True), Gaps(61, True))


def test_tokens_cut_to_bytes_and_looked_up_in_a_larger_table() -> None:
    words = torch.randint(700, (900, 24), generator=draw(1))
    y = (words[:, 0] > 350).long()
    for size, rows, level in ((256, 701, "warning"), (256, 257, "ok"), (701, 701, "ok")):
        plug("model", "bag", _bag(rows))
        assert asked("integer_traps", (words % size, y), "model=bag", "task.kind=classification").level == level


def _bag(rows: int) -> Any:
    return lambda: nn.Sequential(nn.EmbeddingBag(rows, 8), nn.Linear(8, 2))


def test_a_column_filled_in_for_one_outcome() -> None:
    x, y = clouds()
    left = y % 2
    amount = torch.where(left == 1, 20 + 10 * torch.rand(900, generator=draw(1)), torch.zeros(()))
    finding = asked("target_in_input", (torch.cat((x, amount[:, None]), 1), left), "task.kind=classification")
    assert finding.level == "warning" and "in all" in finding.message and "rows of class 0" in finding.message
    spent = torch.where(torch.rand(900, generator=draw(2)) < 0.3 + 0.4 * left, amount.mean() + x[:, 0], torch.zeros(()))
    assert asked("target_in_input", (torch.cat((x, spent[:, None]), 1), left), "task.kind=classification").level == "ok"
    grey = (torch.rand(900, 9, generator=draw(3)) * 16).round() * left[:, None]  # pixels that are blank for a class
    assert filled_for(torch.cat((x, grey), 1).double(), left) == []


def test_a_column_in_the_very_order_of_the_target() -> None:
    x = torch.randn(500, 4, generator=draw(1)).double()
    y = (x[:, :1] + 0.1 * torch.randn(500, 1, generator=draw(2))).double()
    assert ranked_as(torch.cat((x, y.exp()), 1), y) == [4]
    assert ranked_as(x, y) == []


def test_a_smooth_function_of_one_column_is_no_copy() -> None:
    x = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert ranked_as(x, 500 + 50 * x[:, :1].tanh()) == []
    for made in (x[:, :1].exp(), -x[:, :1].argsort(0).argsort(0).double(), (x[:, :1] + 9) ** 2, 1 / (x[:, :1] + 9)):
        assert ranked_as(x, 3 * made) == [0]
