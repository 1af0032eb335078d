"""What a study says came out: means, intervals, the best and what cannot be told from it, exactly as the numbers allow."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import studies

from dlrun.functional.student import interval, quantile, tail
from dlrun.study import results
from dlrun.study.ledger import Failure, Ledger
from dlrun.study.plan import Goal

GOAL = Goal("val/accuracy", "max")
DOCUMENT = {"study", "cells", "best", "ties", "seconds"}
CELL = {"number", "state", "params", "seeds", "value", "interval", "runs"}


def study(folder: Path, values: list[list[float | str]]) -> Ledger:
    """A ledger whose cell i has these values, one a seed; a word instead is how its job failed."""
    found = studies.ledger(folder, studies.cells(len(values), seeds=len(values[0])))
    for value in (value for cell in values for value in cell):
        job = found.take("a", 60)
        assert job
        if isinstance(value, str):
            found.fail(job.id, job.attempt, Failure(value, "a reason", "", "last\nlines"))
        else:
            metrics = {"val/accuracy": value, "test/accuracy": 0.1}
            found.finish(job.id, job.attempt, value, {"goal": ["val/accuracy", "max"], "metrics": metrics, "step": 20, "seconds": 0.5})
    return found


def document(folder: Path, values: list[list[float | str]], goal: Goal | None = GOAL) -> dict[str, Any]:
    return results.table(study(folder, values), folder, goal, 1.5)


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, known in ((1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227), (1e6, 1.95997)):
        assert quantile(0.95, freedom) == pytest.approx(known, rel=1e-5)
    assert tail(0.0, 3) == pytest.approx(1.0) and tail(1.0, 1) == pytest.approx(0.5)
    assert interval([1.0]) is None and interval([2.0, 2.0]) == (2.0, 2.0)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), rel=1e-5)


def test_the_document_has_what_the_contract_names(tmp_path: Path) -> None:
    found = document(tmp_path, [[0.5, 0.6], [0.9, 0.8]])
    assert found.keys() >= DOCUMENT and all(cell.keys() >= CELL for cell in found["cells"])
    first = found["cells"][0]
    assert first["value"] == pytest.approx(0.55) and first["interval"] == pytest.approx(interval([0.5, 0.6]))
    assert first["seeds"] == [0, 1] and first["params"] == {"optimizer.lr": 0.0} and first["state"] == "finished"
    assert first["runs"] == [str(tmp_path / "runs" / f"00000-s{seed}") for seed in (0, 1)]
    assert (found["study"], found["best"], found["seconds"]) == ("study", 1, 1.5)


def test_ties_are_paired_over_seeds(tmp_path: Path) -> None:
    """Seeds differ more than cells do: cell 1 is behind by the same 0.01 on every seed, cell 2 by as much on average."""
    best = [0.70, 0.80, 0.90]
    found = document(tmp_path, [best, [value - 0.01 for value in best], [0.72, 0.77, 0.88]])
    assert (found["best"], found["ties"]) == (0, [2])


def test_the_smaller_value_is_better_where_it_is_to_be_small(tmp_path: Path) -> None:
    assert document(tmp_path, [[0.3], [0.1], [0.2]], Goal("val/loss", "min"))["best"] == 1


def test_one_seed_crowns_nobody(tmp_path: Path) -> None:
    found = document(tmp_path, [[0.5], [0.9], [0.9]])
    assert (found["best"], found["ties"]) == (1, [2]), "the same value is a tie; of others nothing is known"
    assert all(cell["interval"] is None for cell in found["cells"])
    _, columns, rows = results.lines(found)
    assert "± 95 %" not in columns and all(row[0] != "*" for row in rows)
    assert any("one seed" in text for text in results.remarks(found))


def test_a_cell_with_a_failed_seed_has_no_value(tmp_path: Path) -> None:
    """The mean of the seeds that survived would be another number, and this one would win."""
    found = document(tmp_path, [[0.5, 0.6], [0.99, "non_finite"]])
    assert [cell["state"] for cell in found["cells"]] == ["finished", "failed"]
    assert found["cells"][1]["value"] is None and found["best"] == 0
    (failure,) = found["failures"]
    assert (failure["class"], failure["seed"], failure["log"]) == ("non_finite", 1, "last\nlines")


def test_a_cell_in_the_middle_has_no_value_yet(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(2, seeds=2))
    job = found.take("a", 60)
    assert job and found.finish(job.id, 1, 0.5, {"goal": ["val/accuracy", "max"], "metrics": {}})
    rows = results.table(found, tmp_path, GOAL, 0.0)["cells"]
    assert [row["state"] for row in rows] == ["running", "waiting"] and rows[0]["value"] is None
    assert rows[0]["runs"] == [str(tmp_path / "runs" / "00000-s0")], "the second seed has no run yet"


def test_the_goal_nobody_named_is_that_of_the_runs(tmp_path: Path) -> None:
    assert document(tmp_path, [[0.5], [0.9]], None)["goal"] == "val/accuracy:max"


def test_cells_that_choose_by_different_metrics_are_not_compared(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(2))
    for metric in ("val/accuracy", "val/r2"):
        job = found.take("a", 60)
        assert job and found.finish(job.id, 1, 0.5, {"goal": [metric, "max"], "metrics": {}})
    document = results.table(found, tmp_path, None, 0.0)
    assert document["goal"] is None and document["best"] is None
    assert any("different metrics" in text for text in results.remarks(document))


def test_the_csv_has_a_row_a_job(tmp_path: Path) -> None:
    results.write_csv(study(tmp_path, [[0.5, 0.6], [0.9, "bug"]]), tmp_path)
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cell"], row["seed"], row["state"], row["value"]) for row in rows] == [
        ("0", "0", "finished", "0.5"), ("0", "1", "finished", "0.6"), ("1", "0", "finished", "0.9"), ("1", "1", "failed", "")
    ]  # fmt: skip
    assert rows[0]["val/accuracy"] == "0.5" and rows[3]["failure"] == "bug" and rows[2]["optimizer.lr"] == "0.1"


def test_two_drivers_may_write_a_file_at_once(tmp_path: Path) -> None:
    """Both end in the same moment: neither fails, the file is whole, nothing stays beside it."""
    from concurrent.futures import ThreadPoolExecutor

    from dlrun.rundir import write_atomic

    texts = [str(number) * 5000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: [write_atomic(tmp_path / "results.csv", text) for _ in range(20)], texts))
    assert (tmp_path / "results.csv").read_text() in texts and len(list(tmp_path.iterdir())) == 1
