"""The rates of a run before it: schedules that do not do what their author meant, and odd ones that do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from checks_steppers import asked

from dlrun.checks._rates import sketch

S = torch.optim.lr_scheduler
WRONG: dict[str, tuple[Callable[..., Any], str, str]] = {
    "off_at_once": (lambda step, steps: float(step < 5), "warning", "exactly 0 in 99% of the steps"),
    "epochs_for_steps": (lambda step, steps: 0.1 ** (step // 10), "warning", "below 1 % of its peak in 97% of the steps"),
    "exponential_of_epochs": (lambda optimizer, steps: S.ExponentialLR(optimizer, gamma=0.9), "warning", "below 1 % of its peak"),
    "warms_for_ever": (lambda step, steps: min(1.0, step / 10_000), "warning", "still rises at the last step, at 6% of lr"),
    "runs_backwards": (lambda step, steps: 0.01 * 100 ** (step / steps), "warning", "still rises at the last step"),
    "rises_late": (lambda step, steps: 0.01 if step < 0.6 * steps else 1.0, "warning", "rises late: to 100 times"),
    "flips": (lambda step, steps: (-1.0) ** step, "error", "negative in 300 steps (599 changes of sign)"),
    "falls_below": (lambda step, steps: 1 - 2 * step / steps, "error", "negative in 299 steps"),
    "whole_numbers": (lambda step, steps: float(step // steps), "error", "the rate is 0 in every step"),
    "undefined": (lambda step, steps: 1 / step, "error", "raises at step 1 of 600: ZeroDivisionError"),
    "no_number": (lambda step, steps: float("nan") if step == 7 else 1.0, "error", "the rate is nan at step 8"),
    "rate_itself": (lambda step, steps: 0.003 * 0.999**step, "warning", "never above 0.3 % of lr"),
    "rate_itself_in_torch": (lambda optimizer, steps: S.LambdaLR(optimizer, lambda step: 0.003), "warning", "never above 0.3 % of lr"),
    "too_short": (lambda optimizer, steps: S.OneCycleLR(optimizer, 0.01, total_steps=30), "error", "raises at step 31 of 600"),
}
RIGHT: dict[str, Callable[..., Any]] = {
    "tenth": lambda step, steps: min(1.0, 10 * step / steps),
    "noam": lambda step, steps: 64**-0.5 * min((step + 1) ** -0.5, (step + 1) * 60**-1.5),
    "polynomial": lambda step, steps: (1 - step / steps) ** 2,
    "inverse_time": lambda step, steps: 1 / (1 + step / 100),
    "triangles": lambda optimizer, steps: S.CyclicLR(optimizer, 1e-4, 1e-2, step_size_up=40, cycle_momentum=False),
    "restarts": lambda optimizer, steps: S.CosineAnnealingWarmRestarts(optimizer, T_0=50, T_mult=2),
    "one_cycle": lambda optimizer, steps: S.OneCycleLR(optimizer, 0.01, total_steps=steps),
    "quarters": lambda optimizer, steps: S.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], gamma=0.1),
    "two_parts": lambda optimizer, steps: S.SequentialLR(
        optimizer, [S.LinearLR(optimizer, 1e-3, 1, 60), S.CosineAnnealingLR(optimizer, steps - 60)], milestones=[60]
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_schedule_that_nobody_meant(case: str) -> None:
    part, level, words = WRONG[case]
    plug("schedule", case, part)
    finding = asked("schedule_preview", f"schedule={case}")
    assert finding.level == level and words in finding.message and finding.cause and finding.next, finding


@pytest.mark.parametrize("case", RIGHT)
def test_a_schedule_that_is_odd_but_right(case: str) -> None:
    plug("schedule", case, RIGHT[case])
    rate = ("optimizer.lr=1",) if case == "noam" else ()  # a schedule that brings the scale of its rates along
    assert asked("schedule_preview", f"schedule={case}", *rate).level == "ok"


def test_a_trial_of_few_steps_may_end_in_its_warm_up() -> None:
    assert asked("schedule_preview", "schedule=slow_start", "train.steps=30").level == "ok"
    assert asked("schedule_preview", "schedule=slow_start", "train.steps=300").level == "warning"


def test_a_schedule_that_raises_stops_no_other_check() -> None:
    plug("schedule", "undefined", WRONG["undefined"][0])
    assert "see schedule_preview" in asked("update_size", "schedule=undefined").message


def test_many_cycles_are_a_note() -> None:
    plug("schedule", "short", lambda optimizer, steps: S.CosineAnnealingLR(optimizer, T_max=10))
    finding = asked("schedule_preview", "schedule=short")
    assert finding.level == "info" and finding.numbers["cycles"] == 30


def test_rates_are_those_of_the_training() -> None:
    finding = asked("schedule_preview", "schedule=cosine", "schedule.warmup=10", "optimizer.lr=0.5", "train.steps=100")
    assert finding.numbers["peak"] == pytest.approx(0.5) and finding.numbers["last"][0] < 0.001 and finding.numbers["first"][0] < 0.06


def test_a_sketch_shows_the_shape() -> None:
    assert sketch([1.0, 0.5, 0.0, -1.0, float("nan")]) == "█▄ !!"
    assert sketch([0.0, 0.0]) == "  " and sketch([]) == "" and len(sketch([1.0] * 500)) == 32
