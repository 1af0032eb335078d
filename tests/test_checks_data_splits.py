"""Splits that share rows, labels that do not belong, inputs of another form, and splits that only look so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import Splits, asked, clouds, draw, every, numbers, smooth
from checks_found import parts  # noqa: F401 (a fixture)
from torch import Tensor

Cut = dict[str, list[Any]]


def shuffled(y: Tensor) -> Tensor:
    return y[torch.randperm(len(y), generator=draw(5))]


@pytest.mark.parametrize("rows", [200, 12])
def test_rows_of_train_in_val(rows: int) -> None:
    def copy(cut: Cut) -> None:
        cut["val"][0][:rows], cut["val"][1][:rows] = cut["train"][0][:rows], cut["train"][1][:rows]

    finding = asked("split_leakage", clouds(), spoil=copy)
    assert finding.level == "error" and f"{rows} of 200 rows of val are in train byte for byte" in finding.message
    assert finding.numbers["val"]["equal"] == rows and finding.numbers["test"]["equal"] == 0
    clean = asked("split_leakage", clouds())
    assert clean.level in ("ok", "info") and clean.numbers["val"]["equal"] == 0


def test_copies_mirrored_ones_and_noisy_ones_are_counted_as_such() -> None:
    x, y = smooth()
    test = x[800:].clone()
    x[100:107], x[107] = test[:7], test[7].flip(-1)
    x[108] = test[8] + 0.02 * torch.randn(3, 12, 12, generator=draw())
    fact = asked("split_leakage", (torch.cat([x[:800], test]), y)).numbers["test"]
    assert (fact["equal"], fact["mirrored"]) == (7, 1) and fact["near"] == 1


def test_nearly_equal_rows_and_rows_by_number() -> None:
    def near(cut: Cut) -> None:
        cut["val"][0] = cut["train"][0][:200] + 0.01 * torch.randn(200, 8, generator=draw())

    finding = asked("split_leakage", clouds(), spoil=near)
    assert finding.level == "warning" and "200 of 200 nearly so" in finding.message
    x, y = clouds()

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 900

        def __getitem__(self, index: int) -> Any:
            return x[index] + 0.1 * torch.randn(8), y[index]

    whole = Rows()
    part = torch.utils.data.Subset
    finding = asked("split_leakage", lambda: Splits(part(whole, range(600)), part(whole, range(500, 800))))
    assert finding.level == "error" and "100 rows of val are rows of train by number" in finding.message


def test_tables_of_categories_may_repeat() -> None:
    x = torch.randint(0, 3, (900, 4), generator=draw()).float()
    assert asked("split_leakage", (x, x.sum(1).long() % 2)).level == "info"
    assert asked("duplicates_within", (x, x.sum(1).long() % 2)).level == "info"


SHUFFLED = {
    "train": (lambda cut: cut["train"].__setitem__(1, shuffled(cut["train"][1])), "not within train"),
    "val": (lambda cut: cut["val"].__setitem__(1, shuffled(cut["val"][1])), "not within val"),
}


@pytest.mark.parametrize("case", SHUFFLED)
@pytest.mark.parametrize("data", [clouds, smooth, numbers])
def test_labels_shuffled_in_one_split(case: str, data: Any) -> None:
    spoil, words = SHUFFLED[case]
    finding = asked("label_permutation", data(), spoil=spoil)
    assert finding.level == "warning" and words in finding.message
    assert asked("label_permutation", data()).level == "ok"


@pytest.mark.parametrize("data", [clouds, smooth])
def test_labels_shuffled_everywhere(data: Any) -> None:
    x, y = data()
    finding = asked("label_permutation", (x, shuffled(y)))
    assert finding.level == "warning" and "shuffled" in finding.cause


def test_labels_of_the_row_before() -> None:
    x, y = clouds()
    finding = asked("label_permutation", (x, y.roll(1)))
    assert finding.level == "warning" and "with the labels moved by +1" in finding.message


def test_a_hard_relation_is_told_only() -> None:
    x = torch.randint(0, 2, (900, 14), generator=draw()).float()
    assert asked("label_permutation", (x, x.sum(1).long() % 2)).level == "info"
    noise = torch.randn(900, 16, generator=draw()), torch.randint(0, 6, (900,), generator=draw(1))
    assert asked("label_permutation", noise).level == "info"


def test_labels_numbered_otherwise_in_val() -> None:
    def rename(cut: Cut) -> None:
        cut["val"][1] = (cut["val"][1] + 1) % 4

    finding = asked("split_label_shift", clouds(), spoil=rename)
    assert finding.level == "warning" and "numbered in another order" in finding.cause
    assert asked("split_label_shift", clouds()).level == "ok"


def test_shares_of_classes_that_differ() -> None:
    x, y = clouds()
    rare = torch.cat([(y == 0).nonzero()[:, 0][:40], (y == 1).nonzero()[:, 0]])

    def one_sided(cut: Cut) -> None:
        common = (cut["train"][1] != 0).nonzero()[:, 0]
        kept = torch.cat([common[:300], (cut["train"][1] == 0).nonzero()[:, 0][:20]])
        cut["train"] = [cut["train"][0][kept], cut["train"][1][kept]]
        cut["val"] = [x[rare][:180], y[rare][:180]]

    assert asked("split_label_shift", (x, y), spoil=one_sided).level == "warning"

    def long_tail(cut: Cut) -> None:  # balanced val beside an unbalanced train: usual
        kept = torch.cat([(cut["train"][1] == k).nonzero()[:, 0][: 150 // 4**k] for k in range(4)])
        cut["train"] = [cut["train"][0][kept], cut["train"][1][kept]]

    assert asked("split_label_shift", (x, y), spoil=long_tail).level in ("ok", "info")


def test_numbers_in_another_unit() -> None:
    finding = asked("split_label_shift", numbers(), spoil=lambda cut: cut["val"].__setitem__(1, cut["val"][1] * 50 + 300))
    assert finding.level == "warning" and "another unit" in finding.cause
    assert asked("split_label_shift", numbers(), spoil=lambda cut: cut["val"].__setitem__(1, cut["val"][1] + 3)).level == "info"


def scaled(x: Tensor) -> Tensor:
    return x * 40 + 100


@pytest.mark.parametrize("change", [scaled, lambda x: -x, lambda x: x.transpose(2, 3), lambda x: x.flip(1)])
def test_val_of_another_form(change: Any) -> None:
    finding = asked("split_input_shift", smooth(), spoil=every(change, "val"))
    assert finding.level == "warning"
    assert asked("split_input_shift", smooth()).level == "ok"


def test_a_shift_that_is_none_of_form_is_told() -> None:
    x = torch.linspace(0, 30, 900)[:, None] + torch.randn(900, 6, generator=draw())
    finding = asked("split_input_shift", (x, x[:, 0] - x[:, 1]))
    assert finding.level == "info" and finding.numbers["moved_by_sd"] > 1


def test_an_index_that_repeats_and_one_for_inputs_alone() -> None:
    def modulo(cut: Cut) -> None:
        cut["train"] = [part[torch.arange(600) % 40] for part in cut["train"]]

    def half(cut: Cut) -> None:
        cut["train"][0] = cut["train"][0][torch.arange(600) // 4]

    assert "6.7% of 600 rows of train are unique" in asked("duplicates_within", clouds(), spoil=modulo).message
    assert asked("duplicates_within", clouds(), spoil=modulo).level == "warning"
    finding = asked("duplicates_within", clouds(), spoil=half)
    assert finding.level == "warning" and "different indices" in finding.cause
    assert asked("duplicates_within", clouds()).level == "ok"
    assert asked("duplicates_within", clouds(), "expects.repeated_inputs=true", spoil=modulo).level == "info"


def test_rare_classes_repeated_until_all_are_even_are_right() -> None:
    x, y = clouds()

    def even(cut: Cut) -> None:
        one, other = (cut["train"][1] == 0).nonzero()[:, 0][:15], (cut["train"][1] == 1).nonzero()[:, 0][:150]
        rows = torch.cat([one.repeat(10), other])
        cut["train"] = [part[rows] for part in cut["train"]]
        cut["val"] = [part[cut["val"][1] < 2] for part in cut["val"]]
        cut["test"] = [part[cut["test"][1] < 2] for part in cut["test"]]

    assert asked("duplicates_within", (x, y), spoil=even).level == "info"
