"""Numbers that stand for missing values, among inputs, targets and in one split; and caps, rare events and masks that only look so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw, every, numbers
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor


def missing(x: Tensor, marker: float, share: float = 0.05) -> Tensor:
    return torch.where(torch.rand(x.shape, generator=draw(7)) < share, torch.tensor(marker), x)


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize(("marker", "share"), [(-9999.0, 0.03), (999.0, 0.05), (65535.0, 0.3)])
def test_a_marker_scaled_with_the_rest(marker: float, share: float) -> None:
    finding = asked("input_scale", numbers(), spoil=every(lambda x: standard(missing(50 + 10 * x, marker, share))))
    assert finding.level == "warning" and "missing" in finding.cause, finding


def test_half_of_the_columns_have_a_marker() -> None:
    finding = asked(
        "input_scale", numbers(), spoil=every(lambda x: torch.cat((standard(missing(50 + 10 * x[:, :4], 9999.0)), x[:, 4:]), 1))
    )
    assert finding.level == "warning" and "missing" in finding.cause and "move the outputs" in finding.message, finding


LOOKALIKES = {
    "capped": lambda x: x.clamp(-0.5, 1.0),
    "rare": lambda x: (torch.where(x > 0.5, 20 + x.exp(), torch.zeros(())) - 7) / 10,
    "filled with zero": lambda x: missing(x, 0.0),
    "a code beside": lambda x: missing(x.sigmoid(), -1.0),
    "counts": lambda x: (x.abs() * 3).round() / 3,
}


@pytest.mark.parametrize("case", LOOKALIKES)
def test_values_that_are_no_markers(case: str) -> None:
    assert asked("input_scale", numbers(), spoil=every(LOOKALIKES[case])).level == "ok"


def test_a_marker_that_leaves_the_rest_as_it_is() -> None:
    assert asked("input_scale", numbers(), spoil=every(lambda x: missing(x, -25.0, 0.01))).level == "info"


def masked(out: Tensor, y: Tensor) -> Tensor:
    counts = y > -100
    return ((out.reshape(y.shape) - y).square() * counts).sum() / counts.sum().clamp(min=1)


def test_a_marker_among_targets() -> None:
    x, y = numbers()
    finding = asked("finite_data", (x, missing(y, -999.0)))
    assert finding.level == "warning" and "target" in finding.cause
    assert asked("finite_data", (x, standard(missing(y, -999.0)))).level == "warning"
    plug("loss", "masked", masked)
    assert asked("finite_data", (x, missing(y, -999.0)), "loss=masked").level == "ok"
    assert asked("finite_data", (x, missing(y, 0.0, 0.4))).level == "ok"


def test_one_split_fills_otherwise() -> None:
    def filled(one: float, other: float) -> Any:
        x, y = numbers()

        def spoil(cut: Any) -> None:
            cut["train"][0], cut["val"][0] = missing(cut["train"][0], one), missing(cut["val"][0], other)

        return asked("split_input_shift", (x, y), spoil=spoil)

    finding = filled(0.0, -20.0)
    assert finding.level == "warning" and "filled otherwise" in finding.cause
    assert filled(0.0, 0.0).level == "ok" and filled(-20.0, -20.0).level == "ok"
