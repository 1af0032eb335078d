"""What expressions come to on made-up runs: known values of every construct, and what stands where there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from claiming import DIVERGED, GRID, grid, run, seed

from dlrun.claims import tree
from dlrun.claims.conditions import Margin, condition
from dlrun.claims.evaluating import Evaluator, evaluate
from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.grid import Gap, Grid, combined
from dlrun.claims.language import condition as read_condition
from dlrun.claims.names import Names

CURVE = [0.5, 2.0, 1.0, 4.0, 3.0]  # at steps 0, 10, 20, 30, 40
ONE = seed(
    measures={"barrier": 0.25, "mid/point": 3.0, "odd": math.nan},
    a=run({"val/x": CURVE, "val/loss": [9, 3]}, events={"early": 20, "late": 300}, step=400, steps=400),
    b=run({"val/x": [1.0, math.nan, math.inf]}, events={"early": 0}, seconds=5.0),
)
VALUES = {
    'a["val/x"].final': 3.0,
    'a["val/x"].first': 0.5,
    'a["val/x"].max': 4.0,
    'a["val/x"].min': 0.5,
    'a["val/x"].at(10)': 2.0,
    'a["val/x"].at(19.9)': 2.0,
    'a["val/x"].at(a.early.step)': 1.0,
    'a["val/x"].at(400)': 3.0,
    'a["val/x"].mean(0)': 2.1,
    'a["val/x"].mean(15)': 8 / 3,
    'a["val/x"].mean(40)': 3.0,
    'b["val/x"].first': 1.0,
    'b["val/x"].at(5)': 1.0,
    "a.late.step / a.early.step": 15.0,
    "a.late.happened - b.late.happened": 1.0,
    "a.steps": 400.0,
    "b.seconds / a.seconds": 2.0,
    "a.parameters": 1000.0,
    "a.diverged": 0.0,
    "barrier.barrier * 4": 1.0,
    'barrier["mid/point"]': 3.0,
    "2 + 3 * 4 - 6 / 3": 12.0,
    "2 ** 3 ** 2": 512.0,
    "-2 ** 2": -4.0,
    "(1 - 3) * -2": 4.0,
    "(-8) ** 3": -512.0,
    "abs(-3)": 3.0,
    "log(exp(2))": 2.0,
    "log2(8) + log10(1000)": 6.0,
    "sqrt(9)": 3.0,
    "min(3, 1, 2)": 1.0,
    "max(3, a.steps, 2)": 400.0,
}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_known_values(text: str, value: float) -> None:
    assert evaluate(text, ONE) == pytest.approx(value, rel=1e-12)


NONE = {
    'a["val/x"].at(401)': "a ends at step 400, asked for step 401",
    'a["val/x"].at(-1)': "val/x stands at steps 0 to 40, asked for step -1",
    'a["val/x"].mean(41)': "val/x stands at steps 0 to 40, asked for step 41",
    'a["val/y"].final': "a logs no val/y; it has val/loss, val/x; did you mean val/x?",
    'a["val/x"].at(b.late.step)': "b: late did not happen",
    "b.late.step": "b: late did not happen",
    'b["val/x"].final': "b: val/x is inf",
    'b["val/x"].max': "b: val/x is nan",
    'b["val/x"].at(10)': "b: val/x is nan",
    "barrier.odd": "barrier: odd is nan",
    "barrier.barier": "barrier has no barier; it has barrier, mid/point, odd; did you mean barrier?",
    "a.steps / b.early.step": "400 / 0 has no value",
    "log(b.early.step)": "log(0) has no value",
    "sqrt(0 - 1)": "sqrt(-1) has no value",
    "(0 - 8) ** 0.5": "-8 ** 0.5 has no value",
    "2 ** 2 ** 2 ** 99": "has no value",
    "exp(9999)": "exp(9999) has no value",
    "1e308 * 10": "has no finite value",
}


@pytest.mark.parametrize(("text", "said"), NONE.items())
def test_where_there_is_no_value_the_reason_is_told(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="has no|did not|is nan|is inf|asked for|logs no") as caught:
        evaluate(text, ONE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "missing", "said"),
    [
        (None, True, "a has no run"),
        (run(status="running", step=30), True, "a is running at step 30 of 100: run"),
        (run(status="failed", reason="KeyError: 'x'"), True, "a is failed at step 100 of 100 (KeyError: 'x')"),
        (run(status="stopped"), True, "a is stopped"),
        (run({"val/x": [1, 2]}, **DIVERGED), False, "a diverged at step 40"),
        (run(**DIVERGED), False, "a diverged at step 40"),
        (run({"val/x": []}), True, "a logs no val/x; it has val/x"),
    ],
)
def test_a_run_that_did_not_finish(arm: Any, missing: bool, said: str) -> None:
    cell = Evaluator(seed(a=arm)).number(tree.Read("a", "val/x", "final")).cells[()]
    assert isinstance(cell, Gap)
    assert cell.missing == missing
    assert said in cell.reason


def test_what_a_run_showed_until_it_diverged_counts() -> None:
    found = seed(a=run({"val/x": [5, 4, 3, 2]}, events={"early": 20}, **DIVERGED))
    assert evaluate('a["val/x"].first', found) == 5
    assert evaluate('a["val/x"].at(20)', found) == 3
    assert evaluate("a.early.step + a.early.happened + a.steps + a.diverged", found) == 20 + 1 + 40 + 1
    for text in ('a["val/x"].at(50)', 'a["val/x"].min', 'a["val/x"].max', 'a["val/x"].mean(0)', 'a["val/y"].final'):
        with pytest.raises(ValueError, match="diverged at step 40"):
            evaluate(text, found)


# -- axes

AXES = {"width": (32, 64, 128), "lr": (0.01, 0.1, 1.0, 10.0)}


def loss(width: int, lr: float) -> float:
    """Lowest at lr = 3.2 / width, for width 32 at the grid's 0.1, for 128 between."""
    return (math.log10(lr) - math.log10(3.2 / width)) ** 2 + 1 / width


SURFACE = grid(AXES, lambda width, lr: run({"val/loss": [9, loss(width, lr)], "val/acc": [0, 1 - loss(width, lr)]}, parameters=width * 10))
TABLE = np.array([[loss(width, lr) for lr in AXES["lr"]] for width in AXES["width"]])
OVER = {
    'min(min(a["val/loss"].final, lr), width)': TABLE.min(),
    'max(max(a["val/loss"].final, lr), width)': TABLE.max(),
    'mean(min(a["val/loss"].final, lr), width)': TABLE.min(1).mean(),
    'min(mean(a["val/loss"].final, width), lr)': TABLE.mean(0).min(),
    'at(a["val/loss"].final, lr=1, width=64)': TABLE[1, 2],
    'at(argmin(a["val/loss"].final, lr), width=32)': 0.1,
    'at(argmax(a["val/loss"].final, lr), width=32)': 10.0,
    'argmin(min(a["val/loss"].final, lr), width)': AXES["width"][int(TABLE.min(1).argmin())],
    'best_of(best_of(a["val/loss"].final, lr), width)': TABLE.min(),
    'best_of(best_of(a["val/acc"].final, lr), width)': (1 - TABLE).max(),
    'best_of(best_of(-a["val/loss"].final, lr), width)': (-TABLE).max(),
    'best_of(best_of(1 / a["val/loss"].final, lr), width)': (1 / TABLE).max(),
    "max(width * 2 - 6, width)": 250.0,
    'max(max(a["val/loss"].final * lr - width, width), lr)': (TABLE * np.array(AXES["lr"]) - np.array(AXES["width"])[:, None]).max(),
    'slope(log(min(a["val/loss"].final, lr)), log(width))': np.polyfit(np.log(AXES["width"]), np.log(TABLE.min(1)), 1)[0],
    'at(slope(a["val/loss"].final, width), lr=10)': np.polyfit(AXES["width"], TABLE[:, 3], 1)[0],
    "slope(min(a.parameters, lr), width)": 10.0,
}


@pytest.mark.parametrize(("text", "value"), OVER.items())
def test_known_values_over_axes(text: str, value: float) -> None:
    assert evaluate(text, SURFACE) == pytest.approx(float(value), rel=1e-9)


def one_axis(values: list[Any], axis: tuple[Any, ...] = (1.0, 2.0, 4.0, 8.0), metric: str = "val/loss") -> SeedEvidence:
    """Runs along lr that end in these values; None: diverged, "": not there."""
    runs = {at: run(**DIVERGED) if value is None else None if value == "" else run({metric: [value]}) for at, value in zip(axis, values)}
    return grid({"lr": axis}, runs.__getitem__)


def test_ties_within_one_percent_are_the_geometric_mean() -> None:
    read = 'argmin(a["val/loss"].final, lr)'
    assert evaluate(read, one_axis([3, 1, 1.009, 2])) == pytest.approx(math.sqrt(8))
    assert evaluate(read, one_axis([3, 1, 1.011, 2])) == 2
    assert evaluate(read, one_axis([1, 1, 1, 1])) == pytest.approx(64 ** (1 / 4))
    assert evaluate(read, one_axis([0, 0, 1e-9, 2])) == pytest.approx(math.sqrt(2)), "1 % of 0 is 0"
    assert evaluate(read, one_axis([-1.0, -1.005, 0, 2])) == pytest.approx(math.sqrt(2)), "of its size, whatever its sign"
    assert evaluate(read, one_axis([1, 1, 2, 3], (-2, 4, 5, 6))) == 1, "values that are not all positive have an arithmetic mean"
    assert evaluate(read, one_axis([1, 1, 2, 3], (0, 4, 5, 6))) == 2
    assert evaluate('argmax(a["val/acc"].final, lr)', one_axis([0.5, 0.9, 0.905, 0.1], metric="val/acc")) == pytest.approx(math.sqrt(8))


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ('argmin(a["val/loss"].final, lr)', [3, 2, None, None], 2),
        ('min(a["val/loss"].final, lr)', [3, 2, None, None], 2),
        ('best_of(a["val/loss"].final, lr)', [None, 2, math.nan, 5], 2),
        ('argmin(a["val/loss"].final, lr)', [3, math.inf, 2.5, None], 4),
        ('max(a["val/loss"].final, lr)', [3, 2, 1, None], "diverged"),
        ('argmax(a["val/loss"].final, lr)', [3, 2, 1, None], "diverged"),
        ('min(-a["val/loss"].final, lr)', [3, 2, 1, None], "diverged"),
        ('mean(a["val/loss"].final, lr)', [3, 2, 1, None], "diverged"),
        ('slope(a["val/loss"].final, lr)', [3, 2, 1, None], "diverged"),
        ('min(a["val/loss"].final, lr)', [None] * 4, "diverged"),
        ('min(abs(a["val/loss"].final - 1), lr)', [3, 2, 1, None], "diverged"),
        ('argmin(abs(a["val/loss"].final - 1), lr)', [3, 2, 1, None], 4),
        ('argmin(a["val/loss"].final, lr)', [3, "", 1, 1], "no run"),
        ('min(a["val/loss"].final, lr)', [3, "", None, 1], "no run"),
        ('at(a["val/loss"].final, lr=4)', [None, "", 7, 1], 7),
    ],
)
def test_a_point_that_diverged_is_the_worst_and_one_that_is_missing_is_unknown(text: str, values: list[Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            evaluate(text, one_axis(values))
    else:
        assert evaluate(text, one_axis(values)) == expected


def test_an_event_that_did_not_happen_at_one_point_is_the_latest() -> None:
    runs = {1.0: run(events={"late": 30}), 2.0: run(), 4.0: run(events={"late": 20}), 8.0: run()}
    found = grid({"lr": tuple(runs)}, runs.__getitem__)
    assert evaluate("min(a.late.step, lr)", found) == 20
    assert evaluate("argmin(a.late.step, lr)", found) == 4
    with pytest.raises(ValueError, match=r"a \(lr=2.0\): late did not happen"):
        evaluate("max(a.late.step, lr)", found)


def test_grids_of_other_axes_are_combined_by_name() -> None:
    sizes = {"x": 2, "y": 3}
    column, row = Grid(("x",), {(0,): 1.0, (1,): 2.0}), Grid(("y",), {(0,): 10.0, (1,): 20.0, (2,): 30.0})
    both = combined(sum, [row, column], sizes, "+")
    assert both.axes == ("x", "y"), "in the order of the experiment"
    assert [both.cells[place] for place in sorted(both.cells)] == [11, 21, 31, 12, 22, 32]


# -- conditions


def margin(text: str, found: SeedEvidence = ONE) -> Any:
    """The margin of a condition on one seed."""
    names = Names(tuple(found.arms), found.axes, ("early", "late"), tuple(found.measures))
    return condition(read_condition(text, names), Evaluator(found))


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("a.steps >= 300", 100, True),
        ("a.steps <= 300", -100, False),
        ("a.steps >= 400", 0, True),
        ("a.steps > 400", 0, False),
        ("a.steps < 400", 0, False),
        ("300 < a.steps <= 450", 50, True),
        ("390 <= a.steps < 400", 0, False),
        ("a.steps >= 400 and a.steps <= 500", 0, True),
        ("a.steps >= 400 and a.steps > 400", 0, False),
        ("a.steps >= 400 or a.steps > 400", 0, True),
        ("a.steps > 390 or a.steps > 500", 10, True),
        ("not a.steps >= 390", -10, False),
        ("not a.steps >= 400", 0, False),
        ("not a.steps > 400", 0, True),
        ("not (a.steps > 300 and a.steps > 390)", -10, False),
        ("a.late.happened", 0.5, True),
        ("b.late.happened", -0.5, False),
        ("not b.late.happened and not a.diverged", 0.5, True),
        ("b.late.happened or a.late.step >= 290", 10, True),
        ("not b.late.happened or b.late.step > 3", 0.5, True),
        ("0.3 - 0.2 >= 0.1 + 0 * a.steps", 0, True),
        ("0.1 + 0.2 > 0.3 + 0 * a.steps", 0, False),
        ("0.95 - 0.9 >= 0.05 + 0 * a.steps", 0, True),
    ],
)
def test_margins(text: str, value: float, met: bool) -> None:
    found = margin(text)
    assert isinstance(found, Margin)
    assert found.value == pytest.approx(value)
    assert found.met is met


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("b.late.step > 3", False),
        ("not b.late.step > 3", False),
        ("b.late.step > 3 and a.steps > 3", False),
        ("b.late.step > 3 or a.steps > 500", False),
        ('a["val/x"].at(401) > 3 or a.steps > 3', True),
        ('b.late.step > 3 and a["val/x"].at(401) > 3', True),
        ("a.steps / b.early.step > 3", True),
    ],
)
def test_conditions_without_a_margin(text: str, missing: bool) -> None:
    found = margin(text)
    assert isinstance(found, Gap)
    assert found.missing is missing


def test_a_grid_is_read_point_by_point() -> None:
    """Claims over two arms and axes with steps that differ from point to point."""
    axes = {"width": (1, 2)}
    one = grid(axes, lambda width: run({"val/x": [0, 10, 20, 30]}, events={"late": 10 * width}))
    names = Names(("a",), axes, ("late",))
    node = read_condition('max(a["val/x"].at(a.late.step + 10), width) >= 30', names)
    assert condition(node, Evaluator(one)) == Margin(0, 0)
    assert GRID.axes["width"] == (32, 64, 128)
