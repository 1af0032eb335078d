"""Rows as they are written: every kind of value is read to the number it stands for, whatever it is kept in."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dlrun.rundir import row_line
from dlrun.telemetry import plain
from dlrun.types import Mean, Whole


def test_tensors_means_and_numbers_of_many_kinds_keep_their_order_and_their_bits() -> None:
    third = torch.tensor(1 / 3)
    rows = [
        {"step": 1, "a": third, "b": Mean(torch.tensor(2), torch.tensor(3)), "c": 0.25, "d": torch.tensor([7], dtype=torch.int32)},
        {
            "step": 2,
            "a": Mean(third.double(), 2.0),
            "b": torch.tensor(1.5, dtype=torch.bfloat16),
            "c": Mean(1.0, torch.tensor(4.0)),
            "d": 9,
        },
    ]
    assert plain(rows) == [
        {"step": 1, "a": third.item(), "b": 2 / 3, "c": 0.25, "d": 7.0},
        {"step": 2, "a": third.double().item() / 2, "b": 1.5, "c": 0.25, "d": 9},
    ]


def test_a_mean_reads_as_its_own_value_does() -> None:
    for sum_, count in ((torch.tensor(70), torch.tensor(128)), (torch.tensor(0.1), 3.0), (5.0, 7.0), (torch.tensor(2.0), torch.tensor(0))):
        mean = Mean(sum_, count)
        got, want = plain([{"a": mean}])[0]["a"], mean.value()
        assert got == want or (math.isnan(got) and math.isnan(want))


def test_what_works_itself_out_is_asked() -> None:
    squared = Mean(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]), lambda total, count: float((total / count).sum()))
    whole = Whole((torch.tensor([1.0, 2.0]),), (torch.tensor([0.0, 1.0]),), lambda out, y: (out - y).mean())
    assert plain([{"a": squared, "b": torch.tensor(3.0), "c": whole}]) == [{"a": 1.5, "b": 3.0, "c": 1.0}]


@pytest.mark.parametrize("value, text", [(math.nan, '"nan"'), (math.inf, '"inf"'), (-math.inf, '"-inf"'), (1e-300, "1e-300"), (3, "3")])
def test_a_line_is_valid_json_whatever_the_number(value: float, text: str) -> None:
    line = row_line({"step": 4, "train/loss": value})
    assert line == f'{{"step": 4, "train/loss": {text}}}\n' and json.loads(line)["step"] == 4
