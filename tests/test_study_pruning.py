"""Successive halving: the rule is Optuna's, workers stop what lies behind, and what was given up is never taken for a result."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
import studies

from dlrun.errors import UsageError
from dlrun.study import results
from dlrun.study.asking import ask
from dlrun.study.decide import add_seeds, candidates, wanted_seeds
from dlrun.study.guide import Guide
from dlrun.study.ledger import Ledger
from dlrun.study.lint import objections
from dlrun.study.plan import Goal
from dlrun.study.preview import Preview, estimated
from dlrun.study.pruning import FACTOR, give_up, is_rung, judge, promoted
from dlrun.study.record import trials_of
from dlrun.study.space import Space, read_words
from dlrun.study.view import headline

GOAL = Goal("val/accuracy", "max")


# -- the rule


def test_rungs_are_evaluations_1_3_9() -> None:
    assert [step for step in range(0, 300, 5) if is_rung(step, 5)] == [5, 15, 45, 135]
    assert [step for step in range(30) if is_rung(step, 1)] == [1, 3, 9, 27]
    assert not is_rung(7, 5)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_rule_is_that_of_optunas_pruner(direction: str) -> None:
    """Forty runs one after another, evaluated every 5 steps: each is stopped where Optuna's pruner stops it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=5, reduction_factor=FACTOR)
    study = optuna.create_study(direction=f"{direction}imize", pruner=pruner)
    draw, rungs, stops = random.Random(1), dict[int, list[float]](), list[int | None]()
    for _ in range(40):
        trial, mine, theirs = study.ask(), None, None
        for step in range(5, 100, 5):
            value = draw.random()
            trial.report(value, step)
            theirs = step if theirs is None and trial.should_prune() else theirs
            if is_rung(step, 5) and mine is None:
                mine = None if promoted(value, rungs.setdefault(step, []), direction) else step
                rungs[step].append(value)
            if mine or theirs:
                break
        assert mine == theirs
        study.tell(trial, state=optuna.trial.TrialState.PRUNED) if mine else study.tell(trial, 0.0)
        stops.append(mine)
    assert {5, 15, 45} <= set(stops)


def read_in(ledger: Ledger, values: list[float], step: int = 5) -> list[str | None]:
    """Jobs that come to a rung one after another, and what each is told there."""
    said = []
    for value in values:
        job = ledger.take("a", 60)
        assert job and ledger.read(job.id, job.attempt, step, value)
        said.append(judge(ledger, job, step, value, 5, "max"))
    return said


def test_a_job_is_judged_by_those_of_its_own_seed(tmp_path: Path) -> None:
    ledger = studies.ledger(tmp_path, studies.cells(2, seeds=2))
    assert read_in(ledger, [0.9, 0.1, 0.5, 0.2]) == [None, None, "pruned", None], "cell 0: seeds 0 and 1; cell 1: seeds 0 and 1"
    assert judge(ledger, ledger_job(ledger), 0, 0.0, 5, "max") is None, "before training nobody lies behind"


def ledger_job(ledger: Ledger) -> Any:
    ledger.add([*studies.cells(3, seeds=2)])
    return ledger.take("a", 60)


def test_a_cell_is_given_up_with_all_its_seeds(tmp_path: Path) -> None:
    ledger = studies.ledger(tmp_path, studies.cells(1, seeds=3))
    first, second = ledger.take("a", 60), ledger.take("b", 60)
    assert first and second
    ledger.finish(first.id, first.attempt, 0.3, {"goal": ["val/accuracy", "max"]}, "pruned")
    give_up(ledger, 0)
    assert [job["state"] for job in ledger.jobs()] == ["pruned", "running", "pruned"]
    assert judge(ledger, second, 10, 1.0, 5, "max") == "pruned", "however good, at its next evaluation"


# -- in a run

CURVE = ("train.steps=60", "train.eval_every=10", "seed=0", "optimizer=sgd", "optimizer.lr=0.5,1e-6,1e-5,1e-4")


def test_runs_that_lie_behind_stop_at_a_rung_and_are_no_results(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "s", *CURVE, prune=10, goal=("val/loss", "min"))
    jobs = study.work()
    assert [job["state"] for job in jobs] == ["finished", "pruned", "pruned", "pruned"]
    assert [job["summary"]["step"] for job in jobs] == [60, 10, 10, 10]
    found = results.table(study.ledger, study.folder, Goal("val/loss", "min"), 0.0)
    assert found["best"] == 0 and [cell["value"] for cell in found["cells"][1:]] == [None] * 3
    assert [cell["last"] for cell in found["cells"][1:]] == [[10, pytest.approx(job["value"])] for job in jobs[1:]]
    _, _, rows = results.lines(found)
    assert rows[0][1] == 0 and all("pruned at" in str(row) and "step 10" in str(row) for row in rows[1:])
    trials = trials_of(Space((), read_words(["optimizer.lr=0.5,1e-6,1e-5,1e-4"]).axes), study.ledger)
    assert [trial.state for trial in trials] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert trials[1].value == jobs[1]["value"] == trials[1].steps[10]


def test_a_worker_that_dies_after_giving_up_does_not_train_on(tmp_path: Path) -> None:
    """The run's summary says `pruned`, the ledger does not know yet."""
    study = studies.Study(tmp_path / "s", *CURVE, prune=10, goal=("val/loss", "min"))
    job = study.ledger.take("me", 60)
    assert job
    study.worker.do(job)
    second = study.ledger.take("gone", 60)
    assert second
    outcome = study.worker.trainer.train(second, study.stop, lambda step, value: "pruned" if step else None)
    assert isinstance(outcome, dict) and outcome["reason"] == "pruned" and outcome["step"] == 10
    study.ledger.died("gone", "killed", own_fault=False)
    jobs = study.work()
    assert jobs[1]["state"] == "pruned" and jobs[1]["summary"]["step"] == 10 and jobs[1]["attempt"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train.eval_every=0",), "say train.eval_every="),
        (("train.steps=100", "train.eval_every=100"), "evaluated only at their end"),
        (("train.steps=50,200", "train.eval_every=60"), "of 50 steps"),
        (("train.eval_every=5,10",), "train.eval_every varies"),
    ],
)
def test_runs_that_cannot_be_compared_on_their_way_are_refused(words: tuple[str, ...], said: str) -> None:
    base = [word for word in studies.MOONS if "steps" not in word]
    asked = ask([*base, "optimizer.lr=0.1,0.2", *words], {"prune": "halving"})
    with pytest.raises(UsageError, match=said):
        Guide(asked)


# -- seeds where they decide


def document(values: dict[int, list[float]], ties: list[int], best: int = 0) -> dict[str, Any]:
    cells = [
        {
            "number": n,
            "value": sum(v) / len(v),
            "interval": [0, 1] if len(v) > 1 else None,
            "seeds": list(range(len(v))),
            "params": {"lr": n},
        }
        for n, v in values.items()
    ]
    return {"cells": cells, "best": best, "ties": ties, "goal": "val/accuracy:max", "failures": []}


def test_only_cells_that_cannot_be_told_apart_get_seeds() -> None:
    found = document({0: [0.9] * 3, 1: [0.8] * 3, 2: [0.2] * 3}, ties=[1])
    assert candidates(found) == [0, 1] and wanted_seeds(found, 9) == {0: [3], 1: [3]}
    assert wanted_seeds(found, 3) == {}, "the maximum is reached"
    assert wanted_seeds(document({0: [0.9] * 3, 1: [0.8] * 3}, ties=[]), 9) == {}, "decided"


def test_with_one_seed_the_best_four_get_two_more() -> None:
    found = document({n: [1 - n / 10] for n in range(6)}, ties=[])
    assert wanted_seeds(found, 9) == {n: [1, 2] for n in range(4)}


def test_a_candidate_that_lags_gets_the_seeds_the_others_have() -> None:
    assert wanted_seeds(document({0: [0.9] * 4, 1: [0.9] * 2}, ties=[1]), 9) == {1: [2, 3]}


def test_an_added_seed_is_the_frozen_config_but_for_the_seed(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "s", "seed=0,1", "optimizer.lr=0.1,0.2")
    study.work()
    assert add_seeds(study.ledger, study.folder, {1: [2]}) == 1
    jobs = study.work()
    assert [(job["cell"], job["seed"], job["state"]) for job in jobs if job["cell"]] == [(1, n, "finished") for n in range(3)]
    old, new = ((study.run(1, seed) / "config.yaml").read_text().splitlines() for seed in (1, 2))
    assert [(a, b) for a, b in zip(old, new, strict=True) if a != b] == [("seed: 1", "seed: 2")]
    assert not add_seeds(study.ledger, study.folder, {1: [2]}), "once"


# -- objections and previews


def tried(key: str, words: str, values: dict[float, float], ties: list[int] | None = None, failures: list[Any] | None = None) -> list[str]:
    cells = [{"number": n, "value": v, "params": {key: k}} for n, (k, v) in enumerate(values.items())]
    best = max(cells, key=lambda cell: cell["value"])["number"]
    found = {"cells": cells, "best": best, "ties": ties or [], "goal": "val/accuracy:max", "failures": failures or []}
    return objections(found, Space((), read_words([f"{key}={words}"]).axes))


def test_an_optimum_at_an_edge_is_objected_to() -> None:
    listed = "0.001,0.01,0.1"
    assert "optimizer.lr=0.1, the best, is at the upper end" in tried("optimizer.lr", listed, {0.001: 0.1, 0.01: 0.2, 0.1: 0.3})[0]
    assert "lower end" in tried("model.width", "8,16,32", {8: 0.3, 16: 0.2, 32: 0.1})[0]
    assert tried("optimizer.lr", listed, {0.001: 0.1, 0.01: 0.3, 0.1: 0.05}) == []
    assert tried("model.width", "8,16,32", {8: 0.3, 16: 0.2, 32: 0.1}, ties=[1]) == [], "an inner one may be the best"
    assert tried("model.width", "8,16,32", {8: 0.1, 16: 0.2, 32: 0.3}, ties=[1]) == []
    assert "upper end" in tried("model.x", "interval(0,1)", {0.1: 0.1, 0.5: 0.2, 0.97: 0.3})[0]
    assert tried("model.x", "tag(log,interval(1e-4,1))", {0.001: 0.1, 0.5: 0.3, 0.7: 0.1}) == []
    assert tried("model.depth", "1,2,3", {1: 0.3, 2: 0.2, 3: 0.1}) == [], "nothing is below 1"


def test_a_learning_rate_that_never_was_too_large_is_objected_to() -> None:
    values = {0.001: 0.1, 0.01: 0.3, 0.1: 0.28, 1.0: 0.29}
    assert "no optimizer.lr was too large" in tried("optimizer.lr", "0.001,0.01,0.1,1.0", values)[0]
    assert tried("optimizer.lr", "0.001,0.01,0.1,1.0", {**values, 1.0: 0.05}) == []
    assert tried("optimizer.lr", "0.001,0.01,0.1,1.0", values, failures=[{"class": "non_finite"}]) == []
    assert tried("model.width", "1,2,3,4", {1: 0.1, 2: 0.3, 3: 0.28, 4: 0.29}) == []


def test_a_study_is_estimated_from_a_run() -> None:
    found = estimated(2.0, 0, 1000, 8, {0: 100, 1: 300}, workers=2, first=1.0)
    assert (found.run_seconds, found.seconds, found.bytes) == (4.0, 1.0 + 4.0 * 8 / 2, 8000.0)
    assert estimated(2.0, 0, 1, 3, {}, workers=8).seconds == 2.0, "more workers than runs"


def test_a_preview_waits_for_a_warm_run_or_judges_a_long_one_by_its_steps(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "00000-s0"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 0}\n{"step": 50}\n')
    row = {"cell": 0, "seed": 0, "state": "running", "began": 100.0, "ended": None}
    waiting = {**row, "cell": 1, "state": "waiting", "began": None}
    preview = Preview(tmp_path, 1)
    assert preview.look([row, waiting], 105.0, 4, {0: 200}) is None, "too early to tell"
    assert "4 runs of about 1:20 on 1 worker: 5:20" in str(preview.look([row, waiting], 120.0, 4, {0: 200}))
    assert preview.look([row, waiting], 130.0, 4, {0: 200}) is None, "once"
    cold = {**row, "state": "finished", "ended": 103.0}
    warm = {**cold, "cell": 1, "began": 103.0, "ended": 104.0}
    quick = Preview(tmp_path, 1)
    assert quick.look([cold, waiting], 103.0, 4, {}) is None
    (tmp_path / "runs" / "00001-s0").mkdir()
    assert "4 runs of about 1.0 s on 1 worker: 6.0 s" in str(quick.look([cold, warm, waiting], 104.0, 4, {}))
    assert str(quick.compared([cold, warm])).startswith("2 runs instead of 4 took 4.0 s (predicted 6.0 s)")
    later = Preview(tmp_path, 1, since=200.0)
    third, fourth = {**cold, "cell": 2, "began": 201.0, "ended": 203.0}, {**cold, "cell": 3, "began": 203.0, "ended": 204.0}
    (tmp_path / "runs" / "00003-s0").mkdir()
    assert "2 runs of about 1.0 s on 1 worker: 3.0 s" in str(later.look([cold, warm, third, fourth, waiting], 204.0, 4, {}))
    assert str(later.compared([cold, warm, third, fourth])).startswith("took 3.0 s (predicted 3.0 s)"), "not the pause before"


def test_a_preview_of_runs_that_are_given_up_says_what_these_take(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / "runs" / f"{number:05d}-s0").mkdir(parents=True)
    took = [3.0, 0.5, 1.5, 0.5, 1.5, 1.0, 1.0]
    rows = [
        {"cell": n, "seed": 0, "state": "pruned", "began": 100 + sum(took[:n]), "ended": 100 + sum(took[: n + 1])} for n in range(len(took))
    ]
    waiting = {**rows[0], "cell": 9, "state": "waiting", "began": None, "ended": None}
    preview = Preview(tmp_path, 1)
    assert preview.look([*rows[:5], waiting], 107.0, 20, {}) is None, "a whole one may come yet"
    assert "20 runs of about 1.0 s on 1 worker: 22 s" in str(preview.look([*rows[:6], waiting], 108.0, 20, {}))
    whole = {**rows[2], "state": "finished", "ended": rows[2]["began"] + 4.0}
    assert "20 runs of about 4.0 s" in str(Preview(tmp_path, 1).look([*rows[:2], whole, waiting], 108.0, 20, {})), "a whole one is better"


def test_what_is_written_is_corrected_by_what_cells_with_the_same_parts_wrote(tmp_path: Path) -> None:
    kinds = {0: "mlp", 1: "mlp", 2: "cnn", 3: "cnn", 4: "mlp", 5: "cnn"}
    rows = []
    for cell, size in enumerate([1000, 1000, 7000, 9000, 1000, 7000]):
        (tmp_path / "runs" / f"{cell:05d}-s0").mkdir(parents=True)
        (tmp_path / "runs" / f"{cell:05d}-s0" / "weights").write_bytes(bytes(size))
        rows.append({"cell": cell, "seed": 0, "state": "finished", "began": 100.0 + cell, "ended": 101.0 + cell})
    left = [{**row, "state": "waiting", "began": None, "ended": None} for row in [*rows, *({**row, "seed": 1} for row in rows)]]
    preview = Preview(tmp_path, 1)
    assert preview.correct([*rows[:2], *left[2:]], 13, lambda: kinds) is None, "nothing was said yet"
    assert "13 kB in all" in str(preview.look([*rows[:2], *left[2:]], 102.0, 13, {}))
    assert preview.correct([*rows[:3], *left[3:]], 13, lambda: kinds) is None, "too few more"
    said = preview.correct([*rows[:4], *left[4:]], 13, lambda: kinds)
    # the four, a cnn of 8000 and an mlp; again with the other seed; one of a cell not entered yet
    assert said == f"preview: {(2 * (1 + 1 + 7 + 9 + 1 + 8) + 4.5):.3g} kB in all, by the 4 runs done"
    assert preview.correct([*rows, *left[6:]], 13, lambda: kinds) is None, "too few more"
    assert "(predicted 58.5 kB)" in str(preview.compared(rows))


def test_a_search_counts_the_runs_to_come_and_names_no_time_where_there_is_no_end() -> None:
    rows = [{"cell": n, "seed": 0, "state": "finished", "began": 10.0 * n, "ended": 10.0 * n + 10, "value": 0.5} for n in range(2)]
    assert headline(rows, None, 20.0, 6) == "2/6 runs finished · 0 running · 40 s left"
    assert headline(rows, None, 20.0, 0) == "2 runs finished · 0 running"
    assert headline(rows, None, 20.0) == "2/2 runs finished · 0 running"
