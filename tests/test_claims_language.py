"""The language of claims: what can be said, and one line for what cannot, however hostile; nothing is ever called or looked up."""

from __future__ import annotations

import pytest
from claiming import GRID, NAMES

from dlrun.claims import tree
from dlrun.claims.functions import FACTS, FUNCTIONS, HAPPENINGS, READINGS
from dlrun.claims.language import Claim, condition, expression, parse
from dlrun.claims.names import Names
from dlrun.errors import UsageError


def wrong(text: str, names: Names = NAMES) -> str:
    """The one line that refuses `text`."""
    with pytest.raises(UsageError) as caught:
        condition(text, names)
    assert len(caught.value.lines) == 1 and "\n" not in caught.value.lines[0] and caught.value.lines[0].isprintable()
    assert len(caught.value.lines[0]) < 700
    return caught.value.lines[0]


GOOD = [
    "a.late.step / a.early.step >= 10",
    'b["test/accuracy"].at(2 * a.late.step) < 0.05',
    'a["val_ema/loss"].mean(50) <= b["val/loss"].first',
    "-1 < a.seconds / b.seconds <= 2 ** 0.5",
    "a.late.happened and not b.late.happened or a.diverged",
    'barrier.barrier < 0.1 and barrier["mid/point"] > 1e-3',
    "abs(log2(a.parameters)) + log10(exp(sqrt(a.steps))) > log(2)",
    "min(a.steps, b.steps, 3) >= max(1, 2)",
    "every(a.steps >= 3)",
    "median(a.late.step) / median(b.late.step) >= 3",
    "share(a.late.happened) >= 0.8 and not every(b.diverged)",
    "share(a.early.step < 10) - share(b.early.step < 10) > 0.2",
    "  a.steps >= 3\n  and b.steps >= 3\n",
]
GOOD_GRID = [
    'slope(log(argmin(a["train/loss"].final, lr)), log(width)) <= -0.5',
    "best_of(at(a[\"test/accuracy\"].final, width=64), lr) >= max(at(b['test/accuracy'].final, width=32), lr)",
    "min(min(a.steps, lr), width) >= mean(mean(b.steps, width), lr)",
    "at(a.steps, width=32, lr=10) > 1",
    "at(at(a.steps, width=32.0), lr=1) > 1",
    "max(max(a.late.step * width, width), lr) > 3",
    'slope(at(a["val/loss"].final, lr=0.1) / width, width) > 0',
]


@pytest.mark.parametrize("text", GOOD)
def test_what_can_be_said(text: str) -> None:
    assert tree.is_condition(condition(text, NAMES))


@pytest.mark.parametrize("text", GOOD_GRID)
def test_what_can_be_said_over_axes(text: str) -> None:
    node = condition(text, GRID)
    assert not tree.axes_of(node, GRID.axes)


WRONG = {
    "decy.steps > 1": "no decy here; there are arms a, b; measures barrier; functions abs",
    "a.lat.step > 1": "a has no lat; there are events early, late, and steps, seconds, parameters, diverged; did you mean a.late?",
    "a.late.stp > 1": "a.late.stp: an event has .step and .happened; did you mean a.late.step?",
    "a.late > 1": "a.late: an event has .step and .happened",
    "a > 1": 'a is an arm: say a["test/accuracy"].final',
    "barrier > 1": "barrier is a measure: say barrier.NUMBER",
    "barrier.x.y > 1": "barrier is a measure",
    "log > 1": "log is a function: log(e)",
    "logg(a.steps) > 1": "did you mean log?",
    "a(3) > 1": "a is an arm, no function",
    'a["x"].final > 1': "a metric is split/name, such as test/accuracy",
    'a["tst/x"].final > 1': "did you mean test?",
    'a["test/x"] > 1': 'a["test/x"] is a series: say one of .final, .first, .max, .min, .at(STEP), .mean(STEP)',
    'a["test/x"].finl > 1': 'did you mean a["test/x"].final?',
    'a["test/x"].last > 1': 'did you mean a["test/x"].final?',
    'a["test/x"].final() > 1': "the others take no ()",
    'a["test/x"].final(3) > 1': "final takes no argument: leave the () out",
    'a["test/x"].at > 1': "say .at(STEP)",
    'a["test/x"].at() > 1': "as in .at(STEP)",
    'a["test/x"].at(1, 2) > 1': "expected one argument",
    'a["test/x"].at(step=3) > 1': "expected one argument",
    'a["test/x"].at(median(a.steps)) > 1': "not over all seeds",
    'a["test/x"].final.final > 1': "is a series",
    "a[0].final > 1": "the name of a metric in quotes",
    "a.steps(1) > 1": "is no function: leave the () out",
    "a.steps == 3": "say abs(a - b) <= tolerance",
    "a.steps != 3": "say abs(a - b) <= tolerance",
    "a.steps = 3": "say >=, <=, or abs(a - b) <= tolerance",
    "a.steps in b.steps": "no such comparison in a claim; there are >= <= > <",
    "a.steps is 3": "no such comparison",
    "a.steps": "a number, expected a condition",
    "1 < 2": "it reads nothing of any run",
    "a.steps > True": "True is no number",
    'a.steps > "3"': "is no number; text in quotes names a metric",
    "a.steps > 1e999": "too large for a number",
    "a.steps > " + "9" * 400: "too large for a number",
    "a.steps > 3j": "3j is no number",
    "a.steps % 2 > 1": "no such operator in a claim; there are + - * / **",
    "+a.steps > 1": "no such operator in a claim; there are - and not",
    "abs(a.steps > 1) > 0": "is a condition, abs takes numbers",
    "(a.steps > 1) + 1 > 0": "is a condition, + takes numbers",
    "a.steps and b.steps > 1": "a.steps is a number, and takes conditions",
    "not a.steps": "a.steps is a number, not takes conditions",
    "every(a.steps) > 1": "a.steps is a number, every takes conditions",
    "median(a.steps > 3) > 1": "is a condition, median takes numbers",
    "median(a.steps) >= b.steps": "one side is over all seeds",
    "every(a.steps > 1) and b.steps > 1": "one side is over all seeds",
    "median(median(a.steps)) > 1": "each goes over all seeds, one is enough",
    " and ".join(["share(a.late.happened) > 0"] * 9): "more than 8 of every, median and share",
    "log() > 1": "0 arguments, say log(e)",
    "log(1, 2) > a.steps": "2 arguments, say log(e)",
    "log(e=1) > a.steps": "log takes no keywords",
    "log(*a) > 1": "no * in a claim",
    "log(**a) > 1": "no * in a claim",
    "min(a.steps) > 1": "say min(e, AXIS) or min(a, b, ...)",
    "argmin(a.steps, lr) > 1": "axes here: none",
    "at(a.steps, lr=1) > 1": "at: no axis lr; there are none",
    "slope(a.steps, b.steps) > 0": "they share none",
    "a.steps > 1 # really": "a claim is plain text without comments",
    'a["\\x74est/x"].final > 1': "a claim is plain text without comments",
    "a.steps > 1; b.steps > 1": "not an expression",
    "": "not an expression",
    "a" * 501 + " > 1": "505 characters; a claim has at most 500",
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.items(), ids=lambda text: text[:40])
def test_what_is_wrong_is_told_in_one_line(text: str, said: str) -> None:
    line = wrong(text)
    assert said in line
    assert line.startswith(("'", '"')), "the claim comes first"


WRONG_GRID = {
    "a.steps > 1": "a.steps has a value for every lr and width: say min(..., lr), mean(..., lr) or at(..., lr=0.01)",
    "min(a.steps, lr) > 1": "has a value for every width",
    "a.diverged or b.diverged": "has a value for every lr and width",
    "every(a.late.happened)": "has a value for every lr and width",
    "median(a.steps) > 1": "has a value for every lr and width",
    "min(a.steps, b.steps, lr) > 1": "over axis lr min takes one expression",
    "argmin(a.steps, b.steps) > 1": "say argmin(e, AXIS); axes here: width, lr",
    "argmin(at(a.steps, lr=1), lr) > 1": "is the same along lr: leave argmin out",
    "at(at(a.steps, lr=1), lr=1) > 1": "is the same along lr: leave it out",
    "at(a.steps, lr=2) > 1": "axis lr has no value 2; it has 0.01, 0.1, 1.0, 10.0",
    "at(a.steps, lrr=1) > 1": "at: no axis lrr; there are width, lr; did you mean lr?",
    "at(a.steps, lr=True) > 1": "axis lr has no value True",
    "at(a.steps, lr=a.steps) > 1": "axis lr has no value a.steps",
    "at(a.steps, 3, lr=1) > 1": "say at(e, AXIS=VALUE), with axes width, lr",
    "slope(a.steps, b.steps) > 1": "both have the axes lr, width: reduce one first",
    'best_of(a["val/loss"].final + a["val/accuracy"].final, lr) > 1': "not one metric, so that best has no meaning",
    "best_of(abs(a.early.step), lr) > 1": "not one metric",
    "lr.x > 1": "lr is no arm",
    "lr > 1": "lr has a value for every lr",
}


@pytest.mark.parametrize(("text", "said"), WRONG_GRID.items(), ids=lambda text: text[:40])
def test_what_is_wrong_with_axes_is_told_in_one_line(text: str, said: str) -> None:
    assert said in wrong(text, GRID)


def test_an_axis_of_words_has_places_and_no_values() -> None:
    names = Names(("a",), {"rule": ("sgd", "adam"), "one": (1,)})
    assert condition("at(at(a.steps, one=1), rule='adam') > 1", names)
    assert "argmin needs numbers, axis rule has 'sgd': say at(..., rule='sgd')" in wrong("argmin(at(a.steps, one=1), rule) > 1", names)
    assert "rule in an expression needs numbers" in wrong("max(rule, rule) > 1", names)
    assert "a slope needs two values of axis one" in wrong("slope(at(a.steps, rule='sgd'), one) > 1", names)


def test_twenty_deep_is_enough() -> None:
    def nested(deep: int) -> str:
        return "-" * deep + "a.steps > 1"

    assert condition(nested(18), NAMES)
    assert "nested more than 20 deep" in wrong(nested(19))
    assert "nested more than 20 deep" in wrong("-" * 480 + "a.steps > 1")
    assert "not an expression" in wrong("(" * 240 + "a.steps" + ")" * 240 + " > 1"), "Python's own limit"
    assert condition("(" * 100 + "a.steps" + ")" * 100 + " > 1", NAMES), "brackets alone are no depth"


def test_a_claim_may_bring_its_source_and_what_destroys_it() -> None:
    entry = {"claim": "a.steps > 1", "source": "fig. 1", "mutation": {"train.steps": 0}, "control": True}
    assert parse(entry, NAMES, "the paper") == Claim("a.steps > 1", "fig. 1", {"train.steps": 0}, True, condition("a.steps > 1", NAMES))
    assert parse("a.steps > 1", NAMES, "the paper").source == "the paper"
    assert parse(" a.steps  > 1\n", NAMES).text == " a.steps  > 1\n", "the very text"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (3, "expected a claim in quotes"),
        ({"clam": "a.steps > 1"}, "expected a claim in quotes"),
        ({"claim": ["a.steps > 1"]}, "expected a claim in quotes"),
        ({"claim": "a.steps > 1", "sorce": "x"}, "unknown key sorce; a claim has claim, source, mutation, control; did you mean source?"),
        ({"claim": "a.steps > 1", "source": 3}, "source: expected text, found 3"),
        ({"claim": "a.steps > 1", "mutation": "x=1"}, "mutation: expected a mapping of overrides"),
        ({"claim": "a.steps > 1", "mutation": {}}, "mutation: expected a mapping of overrides"),
        ({"claim": "a.steps > 1", "control": 1}, "control: expected true or false"),
    ],
)
def test_an_entry_of_another_form_is_refused(entry: object, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(").replace("?", r"\?")):
        parse(entry, NAMES)  # type: ignore[arg-type]


def test_a_baseline_is_a_number_of_one_seed() -> None:
    assert expression('a["val/loss"].final / 2', NAMES)
    for text, said in {
        "a.steps > 1": "a condition, expected a number",
        "median(a.steps)": "stand in claims only",
        "1 +": "not an expression",
    }.items():
        with pytest.raises(UsageError, match=said):
            expression(text, NAMES)
    with pytest.raises(UsageError, match="this number has a value for every lr and width"):
        expression("a.steps", GRID)


def test_every_word_has_a_form_that_can_be_said() -> None:
    """What the page of claims is made of is what the language takes."""
    filled = {
        "(e)": '(a["val/x"].final)',
        "AXIS=VALUE": "lr=1",
        "AXIS": "lr",
        "(CONDITION)": "(at(at(a.diverged, lr=1), width=32) > 0)",
        "(y, x)": "(a.steps, lr)",
    }
    filled |= {
        "(e,": '(a["val/x"].final,',
        "(a, b, ...)": "(a.steps, b.steps)",
        "ARM": "a",
        "EVENT": "late",
        "STEP": "3",
        "split/metric": "val/x",
    }
    for name, word in {**FUNCTIONS, **READINGS, **HAPPENINGS, **FACTS}.items():
        for form in word.form.split(" or "):
            text = form
            for mark, value in filled.items():
                text = text.replace(mark, value)
            names = Names(GRID.arms, {"lr": GRID.axes["lr"]}, GRID.events) if "width" not in text else GRID
            over = name in ("every", "median", "share")
            names = Names(GRID.arms, {}, GRID.events) if name == "median" else names
            claim = text if name == "every" else f"{text} > 1" if over else f"max({text} + 0 * lr, lr) > 1"
            assert condition(claim, names), form
