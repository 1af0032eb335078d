"""Searching a space: where cells lie, that nothing of a series depends on who asks or how often they died, and Optuna's record of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studies

from dlrun.errors import UsageError
from dlrun.study.adaptive import Asker
from dlrun.study.asking import ask
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Goal
from dlrun.study.record import Trial, trials_of
from dlrun.study.search import Search, at
from dlrun.study.space import read_words

GOAL = Goal("val/accuracy", "max")
MIXED = ("lr=tag(log,interval(1e-4,1))", "width=int(interval(2,9))", "act=relu,tanh,gelu")
LISTED = ("a=1,2,3", "b=x,y")


def search(name: str, words: tuple[str, ...] = MIXED, identity: str = "one") -> Search:
    return Search(read_words(words), name, identity, GOAL)


def value_of(params: dict[str, Any]) -> float:
    """The best is lr=0.01, width 5, tanh."""
    return -abs(math.log10(params["lr"] / 0.01)) - 0.2 * abs(params["width"] - 5) - (params["act"] != "tanh")


def series(found: Search, count: int) -> list[dict[str, Any]]:
    """The params of a one-worker study, every cell finished before the next is asked for."""
    trials: list[Trial] = []
    for number in range(count):
        points = found.next(number, trials)
        if points is None:
            break
        params = {key: value for point in points for key, value in point.values.items()}
        trials.append(Trial(number, params, "COMPLETE", value_of(params) if "act" in params else 0.0))
    return [trial.params for trial in trials]


# -- where cells lie


@pytest.mark.parametrize("name", ["random", "qmc", "tpe"])
def test_cells_lie_within_the_space_and_depend_on_the_question_alone(name: str) -> None:
    found = series(search(name), 16)
    assert all(1e-4 <= params["lr"] <= 1 and params["width"] in range(2, 10) for params in found)
    assert {params["act"] for params in found} == {"relu", "tanh", "gelu"}
    assert series(search(name), 16) == found and series(search(name, identity="two"), 16) != found


def test_a_driver_that_begins_in_the_middle_goes_on_as_one_that_never_stopped() -> None:
    """Nothing of a sampler lives between two questions."""
    whole = series(search("tpe"), 14)
    trials = [Trial(number, params, "COMPLETE", value_of(params)) for number, params in enumerate(whole[:13])]
    points = search("tpe").next(13, trials)
    assert points and {key: value for point in points for key, value in point.values.items()} == whole[13]


def test_tpe_finds_what_random_misses() -> None:
    late = {name: [value_of(params) for params in series(search(name), 60)[30:]] for name in ("tpe", "random")}
    assert sum(late["tpe"]) / 30 > sum(late["random"]) / 30 + 0.4


def test_the_quasi_random_points_fill_each_axis_evenly() -> None:
    """The first 16 of a scrambled Sobol sequence: one in each sixteenth of every axis."""
    found = series(search("qmc", ("lr=interval(0,16)", "x=interval(0,16)")), 16)
    for key in ("lr", "x"):
        assert sorted(int(params[key]) for params in found) == list(range(16))


def test_every_whole_number_gets_the_same_share() -> None:
    axis = read_words(["width=int(interval(2,9))"]).axes[0]
    counts = [at(axis, (i + 0.5) / 800).values["width"] for i in range(800)]
    assert [counts.count(number) for number in range(2, 10)] == [100] * 8
    logarithmic = read_words(["lr=tag(log,interval(1e-4,1))"]).axes[0]
    assert at(logarithmic, 0.5).values["lr"] == pytest.approx(1e-2)


@pytest.mark.parametrize("name", ["random", "tpe", "qmc"])
def test_a_space_of_lists_is_searched_without_repetition_until_all_is_tried(name: str) -> None:
    found = series(search(name, LISTED), 20)
    assert len(found) == 6 == len({repr(sorted(params.items())) for params in found})


def test_conditions_hold_in_what_is_suggested(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("space: {model: [mlp, linear], model.width: [8, 16]}\nwhen: {model.width: {model: mlp}}\nwords: [dataset=moons]\n")
    space = ask([f"sweep={file}"], {"search": "tpe", "trials": "9"}).space
    found = series(Search(space, "tpe", "one", GOAL), 9)
    assert all(("model.width" in params) == (params["model"] == "mlp") for params in found)
    assert len(found) == 3, "linear once, mlp in two widths"


# -- entering cells

WORDS = (*studies.MOONS, "optimizer.lr=tag(log,interval(1e-3,1))")


def asker(folder: Path, trials: int, words: tuple[str, ...] = WORDS, name: str = "random") -> tuple[Asker, Ledger, list[str]]:
    asked, said = ask(words, {"search": name, "trials": "50"}), list[str]()
    ledger = studies.ledger(folder)
    return Asker(Search(asked.space, name, "one", GOAL), asked.freezer, ledger, trials, lambda text, style: said.append(text)), ledger, said


def test_as_many_cells_wait_as_workers_are_idle(tmp_path: Path) -> None:
    found, ledger, _ = asker(tmp_path, 5)
    found.top_up(2, lambda cell: True)
    assert [job["state"] for job in ledger.jobs()] == ["waiting"] * 2
    found.top_up(2, lambda cell: True)
    assert len(ledger.jobs()) == 2
    for _ in range(9):
        job = ledger.take("a", 60)
        if job:
            ledger.finish(job.id, job.attempt, 0.5, {})
        found.top_up(1, lambda cell: True)
    assert found.over and [cell["number"] for cell in ledger.cells()] == list(range(5))


def test_two_drivers_that_ask_at_once_share_the_numbers(tmp_path: Path) -> None:
    """Both have seen the same trials when they suggest; the second to enter a number asks again."""
    first, ledger, _ = asker(tmp_path, 40)
    second, _, _ = asker(tmp_path, 40)
    stale = trials_of(first.search.space, ledger)
    first.top_up(1, lambda cell: True)
    points = second.search.next(0, stale)
    assert points is not None and ledger.add([second.freezer.cell(0, points)]) == 0
    second.top_up(3, lambda cell: True)
    assert [cell["number"] for cell in ledger.cells()] == [0, 1, 2] and len(ledger.jobs()) == 3


def test_values_that_do_not_go_together_are_a_failed_cell_and_no_end(tmp_path: Path) -> None:
    words = (*studies.MOONS, "train.batch_size=20,10", "train.accumulate=1,5,20")
    found, ledger, _ = asker(tmp_path, 6, words)
    found.top_up(9, lambda cell: True)
    rows = ledger.jobs()
    bad = [row for row in rows if row["state"] == "failed"]
    assert len(rows) == 6 and len(bad) == 1 and bad[0]["failure"] == "config" and "does not divide" in bad[0]["reason"]
    assert found.problem is None


def test_a_space_where_nothing_can_be_built_ends_at_the_second_cell(tmp_path: Path) -> None:
    found, ledger, _ = asker(tmp_path, 20)

    def refuse(*_: Any) -> Any:
        raise UsageError("no such thing")

    found.freezer = replace(found.freezer)
    found.freezer.cell = refuse  # type: ignore[method-assign]
    found.top_up(1, lambda cell: True)
    assert found.over and "2 cells in a row cannot be built (no such thing)" in str(found.problem)
    assert [job["failure"] for job in ledger.jobs()] == ["config"] * 2
