"""How often a verdict is wrong: claims judged on simulated outcomes whose truth is known, from seeded generators."""

from __future__ import annotations

import math
import random

import pytest
from claiming import margins, run, seed, steps, verdict
from scipy import stats


def rates(mean: float, seeds: int, repetitions: int, generator: int, rule: str = 'a["val/x"].final >= 0') -> dict[str, float]:
    """How often each verdict is given where margins are normal with this mean and standard deviation 1."""
    draw = random.Random(generator)
    found = [margins([draw.gauss(mean, 1) for _ in range(seeds)], rule).verdict for _ in range(repetitions)]
    return {name: found.count(name) / repetitions for name in ("met", "not_met", "undecided")}


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_at_most_one_in_twenty_true_claims_is_judged_not_met(seeds: int) -> None:
    """The hardest true claim has a margin of exactly 0: then it is 5 %, within four standard errors of 1500 repetitions."""
    assert abs(rates(0.0, seeds, 1500, seeds)["not_met"] - 0.05) < 0.0225
    assert rates(0.3, seeds, 500, seeds)["not_met"] <= 0.05
    assert rates(1.0, seeds, 500, seeds)["not_met"] <= 0.02


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_at_most_one_in_ten_false_claims_is_judged_met(seeds: int) -> None:
    assert rates(-2.0, seeds, 500, 100 + seeds)["met"] <= 0.01, "false by two standard deviations"
    assert abs(rates(-1e-9, seeds, 1500, 200 + seeds)["met"] - 0.05) < 0.0225, "false by a hair"


def test_five_seeds_decide_an_effect_of_three_standard_deviations() -> None:
    assert rates(3.0, 5, 1000, 1)["met"] >= 0.95
    assert rates(-3.0, 5, 500, 2)["not_met"] >= 0.95
    power = 1 - stats.nct.cdf(stats.t.ppf(0.95, 4), 4, 1.0 * math.sqrt(5))
    assert rates(1.0, 5, 1500, 3)["met"] == pytest.approx(power, abs=0.052), "the power of the t-test"


def test_ands_and_ors_keep_the_rates() -> None:
    """`and` of two true claims is no sharper than either: its margin is the least."""
    draw = random.Random(5)
    text = 'a["val/x"].final >= 0 and a["val/y"].final >= 0'
    found = [
        verdict(text, [seed(n, a=run({"val/x": [draw.gauss(2, 1)], "val/y": [draw.gauss(2, 1)]})) for n in range(5)]).verdict
        for _ in range(500)
    ]
    assert found.count("not_met") / 500 <= 0.05
    assert found.count("met") / 500 >= 0.8


def test_claims_on_steps_of_events_keep_the_rates() -> None:
    """Ratios of lognormal steps: a true effect of 30 against the 10 claimed, and a false one of 3."""
    draw = random.Random(6)

    def ratio(true: float) -> str:
        seeds = [
            seed(n, a=run(events={"early": 100, "late": round(100 * true * math.exp(draw.gauss(0, 0.2)))}, step=10**6, steps=10**6))
            for n in range(5)
        ]
        return verdict("a.late.step / a.early.step >= 10", seeds).verdict

    assert sum(ratio(30) == "met" for _ in range(500)) / 500 >= 0.95
    assert sum(ratio(3) == "met" for _ in range(500)) == 0


def test_seeds_that_never_fire_are_no_way_to_a_verdict() -> None:
    """An event that happens with probability p: false where p < 1/2. Not met by mistake is as rare as it should be, met never happens."""
    for share, generator in ((0.5, 7), (0.9, 8)):
        draw = random.Random(generator)
        found = []
        for _ in range(1000):
            late = [30 if draw.random() < share else None for _ in range(8)]
            if None in late:
                found.append(verdict("a.late.step >= 10", steps(*late)).verdict)
        assert found.count("not_met") / 1000 <= 0.05
        assert "met" not in found
