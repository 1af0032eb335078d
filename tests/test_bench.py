"""How scripts/bench judges: both sides in turn, the median of the pairs, the first unit. Nothing is timed here."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest
from architecture_rules import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))
import measure
from measure import Promise, compare, results

FAST, CHEAP = Promise("P", 0.97, 0.99, at_least=True), Promise("P", 2, 1.3, at_least=False)


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    values = {"a": iter([100.0, 2.0, 3.0, 8.0]), "b": iter([1.0, 2.0, 2.0, 2.0])}

    def side(name: str) -> measure.Sample:
        order.append(name)
        return {"s": next(values[name])}

    (found,) = compare(FAST, "a / b", (lambda: side("a"), lambda: side("b")), 3)
    assert order == ["a", "b"] * 4
    assert found.ratios == (1.0, 1.5, 4.0) and (found.ratio, found.ours, found.theirs) == (1.5, 3.0, 2.0)


@pytest.mark.parametrize(
    ("promise", "ratio", "verdict"),
    [
        (FAST, 0.99, "aim"),
        (FAST, 0.98, "floor"),
        (FAST, 0.96, "missed"),
        (CHEAP, 1.3, "aim"),
        (CHEAP, 1.9, "floor"),
        (CHEAP, 2.1, "missed"),
    ],
)
def test_a_verdict_is_the_promises(promise: Promise, ratio: float, verdict: str) -> None:
    judged, shown = results(promise, "", [({"cpu": ratio, "wall": 9.0}, {"cpu": 1.0, "wall": 1.0})])
    assert (judged.unit, judged.verdict, shown.verdict) == ("cpu", verdict, "-")


def test_a_command_that_ends_otherwise_than_expected_is_no_measurement() -> None:
    with pytest.raises(SystemExit, match="exited with 3, not 0"):
        measure.milliseconds([measure.PYTHON, "-c", "raise SystemExit(3)"])


def test_the_plain_script_of_a_study_asks_for_the_data_as_the_reader_wants_it() -> None:
    """It calls the reader by itself, without the options' defaults: a new option would be found out by a failing measurement only."""
    from dlrun.datasets.fashion_mnist import fashion_mnist

    tree = ast.parse((Path(measure.__file__).parent / "plain_study.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "fashion_mnist"]
    wanted = {name for name, option in inspect.signature(fashion_mnist).parameters.items() if option.kind is option.KEYWORD_ONLY}
    assert [{keyword.arg for keyword in call.keywords} for call in calls] == [wanted]
