"""Schedules against torch's schedulers, step by step, and closed forms where torch has none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import runs
import torch
from parts import bound
from torch.optim import lr_scheduler

from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.preflight import optimizer_lines
from dlrun.train import build_run

Scheduler = Callable[[torch.optim.Optimizer], Any]


def built(*words: str) -> Any:
    return build_run(compose([*runs.QUIET, *words]))


def torchs_rates(make: Scheduler, steps: int, lr: float = 1.0) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = make(optimizer), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


def one_cycle(steps: int, **options: Any) -> Scheduler:
    return lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=steps, cycle_momentum=False, **options)


def warm_stable_decay(warmup: int, stable: int, decay: int, final: float) -> Scheduler:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        up = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
        down = lr_scheduler.LinearLR(optimizer, 1.0, final, decay)
        return lr_scheduler.SequentialLR(optimizer, [up, lr_scheduler.ConstantLR(optimizer, 1.0), down], [warmup, warmup + stable])

    return make


CASES: list[tuple[str, dict[str, Any], int, Scheduler]] = [
    ("step", {"every": 7, "gamma": 0.3}, 40, lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    ("step", {"milestones": [3, 20, 20, 21], "gamma": 0.5}, 40, lambda o: lr_scheduler.MultiStepLR(o, [3, 20, 20, 21], 0.5)),
    ("step", {"milestones": [30, 15]}, 40, lambda o: lr_scheduler.MultiStepLR(o, [15, 30], 0.1)),
    ("step", {}, 40, lambda o: lr_scheduler.MultiStepLR(o, [20, 30], 0.1)),
    ("one_cycle", {}, 50, one_cycle(50)),
    ("one_cycle", {}, 1, one_cycle(1)),
    ("one_cycle", {"pct_start": 0.0}, 9, one_cycle(9, pct_start=0.0)),
    ("one_cycle", {"pct_start": 1.0}, 9, one_cycle(9, pct_start=1.0)),
    (
        "one_cycle",
        {"pct_start": 0.17, "anneal_strategy": "linear", "div_factor": 10.0, "final_div_factor": 5.0},
        47,
        one_cycle(47, pct_start=0.17, anneal_strategy="linear", div_factor=10.0, final_div_factor=5.0),
    ),
    ("one_cycle", {"three_phase": True, "pct_start": 0.4}, 60, one_cycle(60, three_phase=True, pct_start=0.4)),
    ("wsd", {"warmup": 10, "decay": 0.3, "final": 0.1}, 100, warm_stable_decay(10, 60, 30, 0.1)),
]


@pytest.mark.parametrize(("name", "options", "steps", "make"), CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch's SequentialLR calls it so itself
def test_every_step_is_torchs(name: str, options: dict[str, Any], steps: int, make: Scheduler) -> None:
    rate = bound("schedule", name, **options)
    assert [rate(step, steps) for step in range(steps)] == pytest.approx(torchs_rates(make, steps), rel=1e-12, abs=1e-15)


def test_inverse_sqrt_is_the_papers_scaled_to_one() -> None:
    """min(s^-0.5, s w^-1.5) x w^0.5 at s = 1, 2, ...; the peak at the end of the warm-up."""
    rate = bound("schedule", "inverse_sqrt", warmup=16)
    expected = [4.0 * min(s**-0.5, s * 16**-1.5) for s in range(1, 200)]
    assert [rate(step, 1000) for step in range(199)] == pytest.approx(expected, rel=1e-14)
    assert rate(15, 1000) == 1.0 and rate(63, 1000) == 0.5 and rate(255, 1000) == 0.25
    assert rate(63, 10) == 0.5  # the length of the run does not matter
    assert bound("schedule", "inverse_sqrt", warmup=1)(3, 10) == 0.5


@pytest.mark.parametrize(("shape", "quarter"), [("linear", 0.75), ("cosine", 0.8535533906), ("sqrt", 0.5)])
def test_wsd_falls_in_its_last_part_alone(shape: str, quarter: float) -> None:
    rate = bound("schedule", "wsd", warmup=5, decay=0.4, shape=shape, final=0.0)
    assert [rate(step, 100) for step in (0, 4, 5, 59, 60)] == [0.2, 1, 1, 1, 1]
    assert rate(70, 100) == pytest.approx(quarter) and rate(100, 100) == pytest.approx(0, abs=1e-12)
    values = [rate(step, 100) for step in range(60, 101)]
    assert all(a > b for a, b in pairwise(values))
    assert bound("schedule", "wsd", decay=0.4, shape=shape, final=0.2)(70, 100) == pytest.approx(0.2 + 0.8 * quarter)


def test_wsd_at_its_limits() -> None:
    assert {bound("schedule", "wsd", decay=0.0)(step, 10) for step in range(10)} == {1.0}
    whole, line = bound("schedule", "wsd", decay=1.0), bound("schedule", "linear")
    assert [whole(step, 10) for step in range(10)] == [line(step, 10) for step in range(10)]
    late = bound("schedule", "wsd", warmup=8, decay=0.5)
    assert [late(step, 10) for step in (6, 7, 8, 9)] == [7 / 8, 1, 1, 0.5]
    assert [bound("schedule", "wsd", warmup=100)(step, 3) for step in range(3)] == [0.01, 0.02, 0.03]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("schedule=step", "schedule.every=5", "schedule.milestones=[3]"), "schedule step: takes every or milestones, found every=5"),
        (("schedule=one_cycle", "schedule.three_phase=true", "schedule.pct_start=0.6"), "schedule one_cycle: three_phase needs pct_start"),
    ],
)
def test_options_that_contradict_each_other_are_said_before_the_run(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        built(*words)
    assert len(str(caught.value).splitlines()) == 1


def test_the_rates_are_printed_with_the_optimizer() -> None:
    line = optimizer_lines(built("schedule=step", "schedule.milestones=[700]"))[0]
    assert line.endswith("; schedule step: rate x 1 at step 1, 1 at step 301, 1 at step 600")
    assert optimizer_lines(built("schedule=wsd", "train.steps=1"))[0].endswith("; schedule wsd: rate x 1 at step 1")
    assert "schedule" not in optimizer_lines(built())[0]
