"""Verdicts over seeds: known cases, error rates on simulated outcomes, and what is never decided by leaving something out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from claiming import DIVERGED, margins, run, seed, steps, verdict
from scipy import stats

from dlrun.claims.judge import below_half, conclude, judge
from dlrun.claims.language import parse
from dlrun.claims.names import Names, defined

NAMES = Names(("a", "b"), {}, ("early", "late"), ("barrier",))


# -- the interval


@pytest.mark.parametrize("values", [[0.5, 1.5, 0.7, 1.1, 0.9], [-3.0, -2.5], [1.0, -1.0, 0.3], [5.0, 5.1, 4.9, 5.05, 4.95, 5.2, 4.8]])
def test_the_interval_is_the_one_sided_t_bound_on_either_side(values: list[float]) -> None:
    found = margins(values)
    mean, half = np.mean(values), stats.t.ppf(0.95, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert found.interval == pytest.approx([mean - half, mean + half], rel=1e-9)
    assert found.verdict == ("met" if mean - half >= 0 else "not_met" if mean + half < 0 else "undecided")
    assert [entry["margin"] for entry in found.per_seed] == values


def test_undecided_says_how_many_more_seeds_would_decide() -> None:
    values = [1.0, -1.0, 0.8, 0.4, -0.2]
    found = margins(values)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    need = next(n for n in range(6, 1000) if mean > stats.t.ppf(0.95, n - 1) * spread / math.sqrt(n))
    assert (found.verdict, found.more_seeds) == ("undecided", need - 5)
    assert "0 is not ruled out" in found.reason
    assert margins([1.0, -1.0, 1e-4]).more_seeds is None, "thousands of seeds"
    assert margins([1.0, -1.0]).more_seeds is None, "a mean of 0 stays"


def test_without_variance_the_sign_decides() -> None:
    assert margins([0.1] * 5).verdict == "met"
    assert margins([-0.1] * 5).verdict == "not_met"
    assert margins([0.0] * 5).verdict == "met", "0 >= 0"
    assert margins([0.0] * 5, 'a["val/x"].final > 0').verdict == "not_met", "0 > 0 is false with every seed"
    assert margins([0.0] * 5, 'not a["val/x"].final >= 0').verdict == "not_met"
    assert margins([0.0] * 5, 'not a["val/x"].final > 0').verdict == "met"
    assert margins([0.1] * 5).interval == [0.1, 0.1]


def test_what_floats_round_away_is_a_tie() -> None:
    assert margins([0.95 - 0.9] * 5, 'a["val/x"].final >= 0.05').verdict == "met", "0.04999999999999993"
    assert margins([0.1 + 0.2] * 5, 'a["val/x"].final > 0.3').verdict == "not_met"


def test_one_seed_is_undecided_but_for_claims_that_count_seeds() -> None:
    found = margins([5.0])
    assert (found.verdict, found.interval, found.more_seeds) == ("undecided", None, 4)
    assert margins([5.0], 'every(a["val/x"].final > 0)').verdict == "met"
    assert margins([5.0], 'median(a["val/x"].final) > 6').verdict == "not_met"
    assert margins([5.0], 'share(a["val/x"].final > 0) >= 1').verdict == "met"


def test_no_seed_is_undecided() -> None:
    for text in ("a.steps > 3", "every(a.steps > 3)", "median(a.steps) > 3"):
        found = judge([parse(text, NAMES)], [])[0]
        assert (found.verdict, found.reason, found.per_seed) == ("undecided", "no seed has run", [])


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_margins_of_any_size_have_an_interval(scale: float) -> None:
    found = margins([1.1 * scale, 1.0 * scale, 0.9 * scale])
    assert found.verdict == "met"
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(scale * (1 - stats.t.ppf(0.95, 2) * 0.1 / math.sqrt(3)), rel=1e-6)
    assert margins([0.0, 1e-300, -1e-300, 1.5e-300]).verdict == "undecided", "squares that are 0 are no lack of spread"
    huge = margins([1.7e308, -1.7e308])
    assert (huge.verdict, huge.interval) == ("undecided", None), "bounds that no float holds are not shown"
    json.dumps(huge.per_seed, allow_nan=False)


# -- seeds without a margin


def test_the_sign_test_is_clopper_and_pearson_below_one_half() -> None:
    for seeds in range(1, 60):
        for met in range(seeds + 1):
            bound = 1.0 if met == seeds else float(stats.beta.ppf(0.95, met + 1, seeds - met))
            assert below_half(met, seeds) == (bound < 0.5), (met, seeds)


@pytest.mark.parametrize(
    ("late", "expected", "more"),
    [
        ([None] * 5, "not_met", None),
        ([None] * 4, "undecided", 1),
        ([30] + [None] * 4, "undecided", 6),
        ([30, 30, 30, 30, None], "undecided", None),
        ([5, 5, 5, 5, None], "not_met", None),
        ([30] * 10 + [None], "undecided", None),
        ([None], "undecided", 4),
    ],
)
def test_events_that_did_not_happen_count_against_a_claim(late: list[int | None], expected: str, more: int | None) -> None:
    found = verdict("a.late.step >= 10", steps(*late))
    assert (found.verdict, found.interval, found.more_seeds) == (expected, None, more)
    assert "late did not happen" in found.reason
    for entry, step in zip(found.per_seed, late, strict=True):
        assert entry["met"] is (step is not None and step >= 10)
        assert (entry["margin"] is None) == (step is None)


def test_a_run_that_diverged_is_a_seed_that_does_not_meet_it() -> None:
    fine, broken = run({"val/x": [1.0, 2.0]}), run({"val/x": [1.0]}, **DIVERGED)
    found = verdict('a["val/x"].final >= 1', [seed(n, a=fine if n else broken) for n in range(5)])
    assert (found.verdict, found.per_seed[0]["met"]) == ("undecided", False)
    assert "a diverged at step 40" in found.reason
    assert verdict('a["val/x"].final >= 1', [seed(n, a=broken) for n in range(5)]).verdict == "not_met"
    assert verdict("every(a.diverged)", [seed(n, a=broken) for n in range(5)]).verdict == "met"
    assert verdict("a.diverged", [seed(n, a=broken) for n in range(5)]).verdict == "met"
    assert verdict('a["val/x"].final >= 1', [seed(n, a=run({"val/x": [math.nan]})) for n in range(5)]).verdict == "not_met"


def test_a_measure_of_a_run_that_diverged_counts_against_a_claim() -> None:
    numbers = [{"barrier": 0.1}, {}, {"barrier": 0.3}]
    found = verdict("barrier.barrier < 1", [seed(n, of, a=run()) for n, of in enumerate(numbers)])
    assert (found.verdict, found.per_seed[1]["met"]) == ("undecided", False)
    assert "seed 1: barrier: a run it measures diverged" in found.reason
    found = verdict("barrier.barrier < 1", [seed(n, of, a=run()) for n, of in enumerate([{"barrier": 0.1}, None])])
    assert (found.verdict, found.reason) == ("undecided", "seed 1: barrier was not measured")


@pytest.mark.parametrize("text", ['a["val/x"].final >= 1', 'every(a["val/x"].final >= 1)', 'median(a["val/x"].final) >= 1'])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (None, "seed 2: a has no run"),
        (run({"val/x": [5.0]}, status="interrupted", step=50), "seed 2: a is interrupted at step 50 of 100"),
        (run({"val/x": [5.0]}, status="failed", reason="MemoryError"), "seed 2: a is failed at step 100 of 100 (MemoryError)"),
        (run({"val/y": [5.0]}), "seed 2: a logs no val/x; it has val/y; did you mean val/y?"),
    ],
)
def test_a_missing_seed_is_never_left_out(text: str, broken: object, said: str) -> None:
    seeds = [seed(n, a=run({"val/x": [5.0 + n]})) for n in range(5)]
    assert verdict(text, seeds).verdict == "met"
    seeds[2] = seed(2, a=broken)  # type: ignore[arg-type]
    found = verdict(text, seeds)
    assert found.verdict == "undecided"
    assert said in found.reason
    assert (found.per_seed[2]["met"], found.per_seed[2]["margin"]) == (None, None)


def test_a_step_beyond_the_end_is_unknown_however_clear_the_curve() -> None:
    seeds = [seed(n, a=run({"val/x": [1.0, 2.0]}, events={"late": 60})) for n in range(5)]
    found = verdict('a["val/x"].at(2 * a.late.step) >= 1', seeds)
    assert (found.verdict, found.more_seeds) == ("undecided", None)
    assert found.reason == "seed 0: a ends at step 100, asked for step 120 (and 4 more seeds)"


# -- claims that count seeds


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("every(a.late.step >= 10)", [10, 20, 30], "met"),
        ("every(a.late.step >= 10)", [10, 20, 9], "not_met"),
        ("every(a.late.step >= 10)", [10, 20, None], "not_met"),
        ("not every(a.late.step >= 10)", [10, 20, 9], "met"),
        ("share(a.late.step >= 10) >= 0.8", [10, 20, 30, 40, 1], "met"),
        ("share(a.late.step >= 10) > 0.8", [10, 20, 30, 40, 1], "not_met"),
        ("share(a.late.step >= 10) >= 0.8", [10, 20, 30, None, 1], "not_met"),
        ("share(a.late.happened) >= 0.6", [1, 1, 1, None, None], "met"),
        ("median(a.late.step) >= 20", [5, 20, 100], "met"),
        ("median(a.late.step) >= 20", [5, 19, 100, 20], "not_met"),
        ("median(a.late.step) >= 20", [100, 20, 30, None, 25], "met"),
        ("median(a.late.step) <= 30", [100, 20, 30, None, 25], "met"),
        ("median(a.late.step) <= 25", [100, 20, 30, None, 25], "not_met"),
        ("median(a.late.step) >= 26", [100, 20, 30, None, 25], "not_met"),
        ("median(a.late.step) >= 1", [100, None, None, None, 25], "not_met"),
        ("median(a.late.step) <= 1e9", [100, None], "not_met"),
        ("0.5 <= median(a.late.step) / median(a.steps) < 0.7", [60, 60, 100], "met"),
        ("every(a.late.step > 5) and share(a.late.step > 10) <= 0.5", [6, 7, 30], "met"),
        ("every(a.late.step > 5) or share(a.late.step > 10) >= 0.3", [6, None, 30], "met"),
    ],
)
def test_claims_that_say_it_themselves_are_decided_by_the_plain_numbers(text: str, values: list[int | None], expected: str) -> None:
    found = verdict(text, steps(*values))
    assert (found.verdict, found.interval, found.more_seeds) == (expected, None, None), found.reason


def test_what_a_seed_says_of_them() -> None:
    found = verdict("median(a.late.step) >= 20", steps(5, None, 100))
    assert found.per_seed[0] == {"seed": 0, "margin": -15.0, "met": False, "left": 5.0, "right": 20.0}
    assert found.per_seed[1] == {"seed": 1, "margin": None, "met": False, "reason": "a: late did not happen"}
    found = verdict("share(a.late.step >= 10) >= 0.5", steps(5, 30))
    assert [entry["met"] for entry in found.per_seed] == [False, True]
    assert found.reason == "1 of 2 seeds meet it"
    found = verdict("share(a.late.step >= 10) - share(a.late.step >= 20) >= 0.5", steps(15, 15))
    assert (found.verdict, found.per_seed[0]) == ("met", {"seed": 0, "margin": None, "met": None})
    found = verdict("every(a.late.step >= 10) and not every(a.late.step >= 20)", steps(15, 30))
    assert [entry["met"] for entry in found.per_seed] == [True, False], "as if each seed were all there are"


# -- when it was written


def test_a_claim_written_after_its_runs_is_not_judged_on_them() -> None:
    old, new = "a.steps >= 100", "a.steps >= 90"
    seeds = [seed(n, a=run(claims=(old, "b.steps > 3")), b=run(claims=("b.steps > 3",))) for n in (0, 3)]
    before, after, other = judge([parse(old, NAMES), parse(new, NAMES), parse("b.steps > 3", NAMES)], seeds)
    assert before.verdict == "met"
    assert after.verdict == "undecided"
    assert after.reason == "the claim was changed after seed 0 had run: judge it on others, seeds=[4,5]"
    assert [entry["met"] for entry in after.per_seed] == [True, True], "shown, and not counted"
    assert other.verdict == "met", "of the arms it reads, both runs hold it"
    one = replace(seeds[0], arms={**seeds[0].arms, "a": {(): run(claims=(new,))}})
    assert "after seed 3" in judge([parse(new, NAMES)], [one, seeds[1]])[0].reason
    measured = replace(seeds[0], measures={"barrier": {(): {"barrier": 1.0}}})
    assert "changed after seed 0" in judge([parse("barrier.barrier > 0", NAMES)], [measured])[0].reason
    assert "no run" in judge([parse(new, NAMES)], [seed(0, a=None)])[0].reason, "what never ran was not told anything"


def test_an_event_that_means_something_else_now_is_another_claim() -> None:
    then: dict[str, Any] = {
        "events": {"late": "val/x >= 1", "early": "val/x >= 0"},
        "measures": {"barrier": {"probe": "p", "runs": ["a"], "points": 5}},
    }
    text, other = "a.late.step >= 10", "barrier.barrier > 0"
    ran = run(claims=(text, other), events={"late": 30}, defined=defined(then))
    seeds = [seed(n, {"barrier": 1.0}, a=ran) for n in range(3)]
    claims = [parse(text, NAMES), parse(other, NAMES)]
    assert [one.verdict for one in judge(claims, seeds, then)] == ["met", "met"]
    assert [one.verdict for one in judge(claims, seeds, {**then, "events": {"late": "val/x >= 1", "early": "val/x > 7"}})] == ["met", "met"]
    first, second = judge(claims, seeds, {**then, "events": {**then["events"], "late": "val/x >= 0.5"}})
    assert (first.verdict, second.verdict) == ("undecided", "met")
    assert first.reason == "events.late, which the claim reads, was changed after seed 0 had run: judge it on others, seeds=[3,4,5]"
    first, second = judge(claims, seeds, {**then, "measures": {"barrier": {**then["measures"]["barrier"], "points": 6}}})
    assert (first.verdict, second.verdict) == ("met", "undecided")
    assert "measures.barrier, which the claim reads, was changed" in second.reason


# -- the experiment


@pytest.mark.parametrize(
    ("own", "controls", "expected"),
    [
        (["met", "met"], [], "reproduced"),
        (["met"], ["not_met"], "reproduced"),
        (["met", "not_met"], [], "not_reproduced"),
        (["not_met", "undecided"], ["met"], "not_reproduced"),
        (["not_met"], ["met", "undecided"], "undecided"),
        (["not_met"], ["not_met"], "undecided"),
        (["met", "undecided"], ["met"], "undecided"),
        ([], ["met"], "undecided"),
        ([], [], "undecided"),
    ],
)
def test_the_verdict_on_an_experiment(own: list[str], controls: list[str], expected: str) -> None:
    judged = {"met": margins([1.0] * 3), "not_met": margins([-1.0] * 3), "undecided": margins([1.0])}
    claims = [parse({"claim": "a.steps > 1", "control": control}, NAMES) for control, of in ((False, own), (True, controls)) for _ in of]
    assert conclude(claims, [judged[name] for name in [*own, *controls]]) == expected


def test_what_is_judged_is_plain_data_and_keeps_its_order() -> None:
    claims = [
        parse({"claim": text, "source": source}, NAMES, "the paper")
        for text, source in (("a.steps > 3", None), ("1 < a.steps < 2", "fig. 2"))
    ]
    found = judge(claims, [seed(n, a=run(claims=("a.steps > 3", "1 < a.steps < 2"))) for n in range(3)])
    assert [(one.claim, one.verdict, one.source) for one in found] == [
        ("a.steps > 3", "met", None),
        ("1 < a.steps < 2", "not_met", "fig. 2"),
    ]
    assert found[0].per_seed[0] == {"seed": 0, "margin": 97.0, "met": True, "left": 100.0, "right": 3.0}
    assert "left" not in found[1].per_seed[0], "three numbers have no left and right"
    assert json.loads(json.dumps([one.__dict__ for one in found], allow_nan=False))
