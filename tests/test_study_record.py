"""Optuna's record of a study, on SQLite and PostgreSQL; and whole searched studies: gone on with, and killed at random moments."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import postgres_server
import pytest
import sqlalchemy
import studies

from dlrun.sinks.console import Console
from dlrun.study.asking import ask
from dlrun.study.engine import Means, run_study
from dlrun.study.guide import Guide
from dlrun.study.ledger import Failure, Ledger
from dlrun.study.plan import Goal
from dlrun.study.pool import Pool
from dlrun.study.record import Record
from dlrun.study.space import Space, read_words
from dlrun.study.tables import sqlite_url

GOAL = Goal("val/accuracy", "max")
WORDS = (*studies.MOONS, "optimizer.lr=tag(log,interval(1e-3,1))")
HAVE = postgres_server.binaries() is not None and importlib.util.find_spec("psycopg") is not None


# -- the record

SPACE = Space((), read_words(["optimizer.lr=interval(0,1)"]).axes)


def written(folder: Path) -> list[Any]:
    found = optuna.load_study(study_name="study", storage=sqlite_url(folder / "study.db"))
    return [(trial.number, trial.state.name, trial.value, trial.intermediate_values) for trial in found.trials]


def keep(ledger: Ledger, owner: str = "me") -> bool:
    record = Record(ledger, SPACE, GOAL, owner)
    try:
        return record.sync()
    finally:
        record.close()


def test_tables_that_another_driver_makes_at_the_same_time_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, turns = optuna.storages.RDBStorage.__init__, list[str]()

    def late(*words: Any, **named: Any) -> None:
        turns.append("")
        if len(turns) < 3:
            raise sqlalchemy.exc.OperationalError("CREATE TABLE studies", None, Exception("table studies already exists"))
        real(*words, **named)

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", late)
    monkeypatch.setattr("dlrun.study.record.TURN_SECONDS", 0.0)
    assert keep(studies.ledger(tmp_path, studies.cells(2))) and len(turns) == 3 and len(written(tmp_path)) == 2


def test_the_record_follows_the_ledger(tmp_path: Path) -> None:
    ledger = studies.ledger(tmp_path, studies.cells(4, seeds=2))
    for value in (0.5, 0.7):
        job = ledger.take("a", 60)
        assert job
        ledger.read(job.id, job.attempt, 10, value - 0.1)
        ledger.finish(job.id, job.attempt, value, {})
    job = ledger.take("a", 60)
    assert job and ledger.fail(job.id, job.attempt, Failure("non_finite", "why"))
    assert keep(ledger)
    first = written(tmp_path)
    assert first[0][:3] == (0, "COMPLETE", pytest.approx(0.6)) and first[0][3] == {10: pytest.approx(0.5)}
    assert [row[1] for row in first] == ["COMPLETE", "RUNNING", "WAITING", "WAITING"]
    while job := ledger.take("a", 60):
        ledger.finish(job.id, job.attempt, 0.9, {})
    assert keep(ledger) and keep(ledger)
    assert [row[1] for row in written(tmp_path)] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert ledger.retry(["non_finite"]) == 1
    job = ledger.take("a", 60)
    assert job and ledger.finish(job.id, job.attempt, 0.7, {}) and keep(ledger)
    assert written(tmp_path)[1][:3] == (1, "COMPLETE", pytest.approx(0.8))


def test_one_driver_writes_the_record_at_a_time(tmp_path: Path) -> None:
    ledger = studies.ledger(tmp_path, studies.cells(2))
    first, second = Record(ledger, SPACE, GOAL, "host/1/1"), Record(ledger, SPACE, GOAL, "host/2/2")
    assert first.sync() and not second.sync()
    first.close()
    assert second.sync() and [row[0] for row in written(tmp_path)] == [0, 1]
    second.close()


def test_a_record_that_others_write_into_is_left_alone(tmp_path: Path) -> None:
    ledger = studies.ledger(tmp_path, studies.cells(1))
    keep(ledger)
    optuna.load_study(study_name="study", storage=sqlite_url(tmp_path / "study.db")).enqueue_trial({})
    with pytest.raises(ValueError, match="holds 2 trials and the study has 1 cells"):
        keep(ledger)


@pytest.mark.skipif(not HAVE, reason="PostgreSQL (apt-get install postgresql) or psycopg is absent: the record there is NOT tested")
def test_the_record_stands_in_postgresql_too() -> None:
    server = postgres_server.Server()
    try:
        ledger = Ledger(server.make("record"), "study")
        ledger.open({}, "one")
        ledger.add(studies.cells(2))
        job = ledger.take("a", 60)
        assert job and ledger.read(job.id, job.attempt, 5, 0.25) and ledger.finish(job.id, job.attempt, 0.5, {}) and keep(ledger)
        storage = optuna.storages.RDBStorage(ledger.engine.url.render_as_string(hide_password=False))
        trials = optuna.load_study(study_name="study", storage=storage).trials
        storage.remove_session()
        storage.engine.dispose()
        ledger.close()
    finally:
        server.close()
    assert [(trial.number, trial.state.name, trial.value, trial.intermediate_values) for trial in trials] == [
        (0, "COMPLETE", 0.5, {5: 0.25}),
        (1, "WAITING", None, {}),
    ]


# -- whole studies


def study(folder: Path, trials: int, workers: int = 1, name: str = "tpe", words: tuple[str, ...] = WORDS) -> tuple[dict[str, Any], int]:
    asked = ask(words, {"search": name, "trials": str(trials), "goal": "val/accuracy:max"})
    means = Means(lease=3.0, guide=Guide(asked))
    pool = Pool(workers, 1)
    console = Console(stream=io.StringIO(), live=False)
    return run_study(asked.question, asked.cells, folder, None, None, console, means=means, pool=pool)


def told(found: dict[str, Any]) -> list[Any]:
    return [(cell["number"], cell["params"], cell["state"], cell["value"]) for cell in found["cells"]]


@pytest.mark.slow
def test_more_trials_go_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path) -> None:
    whole, code = study(tmp_path / "whole" / "s", 13)
    assert code == 0 and [cell["number"] for cell in whole["cells"]] == list(range(13))
    study(tmp_path / "parts" / "s", 4)
    parts, _ = study(tmp_path / "parts" / "s", 13)
    assert told(parts) == told(whole)
    fewer, _ = study(tmp_path / "parts" / "s", 5)
    assert told(fewer) == told(whole), "none is taken away"


DRIVER = """
import sys
from pathlib import Path
from dlrun.sinks.console import Console
from dlrun.study import guide
from dlrun.study.asking import ask
from dlrun.study.engine import Means, run_study
from dlrun.study.pool import Pool
guide.RECORD_AFTER = guide.RECORD_EVERY = 0.1
asked = ask(sys.argv[2:], {"search": "tpe", "trials": "24", "goal": "val/accuracy:max"})
means = Means(lease=3.0, guide=guide.Guide(asked))
found, code = run_study(asked.question, asked.cells, Path(sys.argv[1]), None, None, Console(), means=means, pool=Pool(2, 1))
sys.exit(code)
"""


@pytest.mark.slow
def test_drivers_and_workers_killed_at_random_leave_no_gap_and_no_double(tmp_path: Path) -> None:
    folder, draw = tmp_path / "wild", random.Random(0)
    command = [
        sys.executable,
        "-c",
        DRIVER,
        str(folder),
        *(word for word in WORDS if "steps" not in word),
        "train.steps=100",
        "train.checkpoint_every=20",
    ]
    kills, deadline = 0, time.monotonic() + 300
    while time.monotonic() < deadline:
        with open(tmp_path / "said.txt", "a") as said:
            processes = [subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True) for _ in range(1 + kills % 2)]
        time.sleep(draw.uniform(2.0, 6.0))
        if kills >= 6:
            assert [process.wait(200) for process in processes] == [0] * len(processes), (tmp_path / "said.txt").read_text()[-3000:]
            break
        for owner in Ledger(sqlite_url(folder / "study.db"), "wild").owners() if draw.random() < 0.5 else ():
            os.kill(int(owner.split("/")[1]), signal.SIGKILL)
        for process in processes:
            process.kill()
            process.wait()
        kills += 1
    assert_whole(folder, 24)


def assert_whole(folder: Path, count: int) -> None:
    """Every number once, every run finished once, and the record says the same."""
    ledger = Ledger(sqlite_url(folder / "study.db"), "wild")
    assert [cell["number"] for cell in ledger.cells()] == list(range(count))
    assert [(job["cell"], job["state"]) for job in ledger.jobs()] == [(number, "finished") for number in range(count)]
    done = [attempt for attempt in ledger.attempts() if attempt["outcome"] == "finished"]
    assert len(done) == count
    for run in (folder / "runs").iterdir():
        assert (run / "events.jsonl").read_text().count('"event": "finished"') == 1
    record = Record(ledger, ask(WORDS, {"search": "tpe", "trials": "24"}).space, GOAL, "me")
    assert record.sync()
    record.close()
    trials = optuna.load_study(study_name="wild", storage=sqlite_url(folder / "study.db")).trials
    assert [(trial.number, trial.state.name) for trial in trials] == [(number, "COMPLETE") for number in range(count)]
    assert [json.dumps(trial.params["optimizer.lr"]) for trial in trials] == [
        json.dumps(cell["params"]["optimizer.lr"]) for cell in ledger.cells()
    ]
    assert [trial.value for trial in trials] == [job["value"] for job in ledger.jobs()]
