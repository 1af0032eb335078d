"""Schedules: closed forms at the first step, the end of the warm-up, the middle and the last step."""

from __future__ import annotations

import pytest
import torch
from parts import bound

from dlrun import registry


def test_constant() -> None:
    assert [bound("schedule", "constant")(step, 100) for step in (0, 50, 99)] == [1, 1, 1]


def test_warmup() -> None:
    rate = bound("schedule", "warmup", warmup=10)
    assert [rate(step, 100) for step in (0, 4, 9, 10, 99)] == [0.1, 0.5, 1, 1, 1]


@pytest.mark.parametrize(("name", "middle", "last"), [("cosine", 0.5, 0.000304), ("linear", 0.5, 1 / 90)])
def test_ramps(name: str, middle: float, last: float) -> None:
    rate = bound("schedule", name, warmup=10, final=0.0)
    assert [rate(step, 100) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1, 1]
    assert rate(55, 100) == pytest.approx(middle) and rate(99, 100) == pytest.approx(last, rel=2e-3)
    assert rate(100, 100) == pytest.approx(0)
    down = bound("schedule", name, warmup=10, final=0.2)
    assert down(10, 100) == 1 and down(55, 100) == pytest.approx(0.6) and down(100, 100) == pytest.approx(0.2)


def test_cosine_is_torchs_cosine_annealing() -> None:
    rate = bound("schedule", "cosine", final=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.2)
    for step in range(30):
        assert 2.0 * rate(step, 30) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()


@pytest.mark.parametrize("name", registry.builtin_names("schedule"))
def test_no_step_is_lost_and_no_rate_exceeds_one(name: str) -> None:
    rate = bound("schedule", name)
    for steps in (1, 2, 17, 1000):
        values = [rate(step, steps) for step in range(steps)]
        assert all(0 < value <= 1 for value in values)
        assert all(isinstance(value, float) for value in values)


@pytest.mark.parametrize("name", ["warmup", "cosine", "linear"])
def test_a_run_shorter_than_its_warmup_is_all_warmup(name: str) -> None:
    rate = bound("schedule", name, warmup=100)
    assert [rate(step, 3) for step in range(3)] == [0.01, 0.02, 0.03]
    assert 0 <= rate(150, 3) <= 1
