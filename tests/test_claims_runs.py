"""A run directory as evidence: what a real one says, and one line for whatever is hostile or damaged."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import socket
import time
from pathlib import Path

import hostile
import pytest
import runs

from dlrun.claims.evidence import RunEvidence, Series, read_run
from dlrun.claims.reading import MOST_BYTES
from dlrun.config.dump import dump
from dlrun.errors import AnswerNo, MissingError

CLAIMS = ['a["val/loss"].final < 9', {"claim": "a.steps >= 4", "source": "a page"}]
CONFIG = {"train": {"steps": 4}, "claims": CLAIMS, "arms": {"a": {}}}
SUMMARY = {"status": "finished", "reason": None, "step": 4, "seconds": 1.5, "events": {"done": 2}, "parameters": 12, "metrics": {}}
ROWS = [
    {"step": 0, "time": 0.0, "val/loss": 3},
    {"step": 2, "time": 0.1, "train/loss": 2.5, "train/x": "nan"},
    {"step": 4, "time": 0.2, "train/loss": "inf", "val/loss": 1.25, "train/x": "-inf"},
]


def write(folder: Path) -> Path:
    """A run as dlrun writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump(CONFIG))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "run")


def refused(folder: Path) -> str:
    """The one line with which a run is refused, or that none was needed."""
    began = time.process_time()
    try:
        assert isinstance(read_run(folder), RunEvidence)
        line = "read"
    except MissingError as error:
        assert len(error.lines) == 1
        line = error.lines[0]
    assert line.isprintable() and len(line) < 1000, line
    assert time.process_time() - began < 4
    return line


def test_a_run_says_what_is_in_its_files(folder: Path) -> None:
    found = read_run(folder)
    assert (found.path, found.status, found.step, found.steps, found.seconds) == (str(folder), "finished", 4, 4, 1.5)
    assert (found.parameters, found.diverged, found.reason, found.events) == (12, False, "", {"done": 2})
    assert found.claims == ('a["val/loss"].final < 9', "a.steps >= 4")
    assert found.series["val/loss"] == Series((0, 4), (3.0, 1.25))
    assert found.series["train/loss"] == Series((2, 4), (2.5, math.inf))
    assert math.isnan(found.series["train/x"].values[0]) and found.series["train/x"].values[1] == -math.inf
    assert sorted(found.series) == ["train/loss", "train/x", "val/loss"], "step and time are no metrics"


def test_a_run_that_dlrun_trained_is_read_whole(tmp_path: Path) -> None:
    words = (
        "train.steps=6",
        "train.eval_every=3",
        "train.log_every=2",
        "model.width=8",
        'events={soon: "train/accuracy >= 0"}',
        "arms={a: {}}",
    )
    path, summary, code = runs.start(tmp_path, *words, "claims=['a.steps >= 4']")
    found = read_run(path)
    assert code == 0
    assert (found.status, found.step, found.steps, found.diverged) == ("finished", 6, 6, False)
    assert (found.events, found.claims) == ({"soon": 1}, ("a.steps >= 4",))
    assert found.parameters == summary["parameters"] > 0
    assert found.series["val/accuracy"].steps == (0, 3, 6)
    assert found.series["train/loss"].steps == (1, 2, 4, 6)
    assert {name: of.values[-1] for name, of in found.series.items()} == summary["metrics"]


def test_a_run_that_stopped_on_a_value_that_is_not_finite_has_diverged(tmp_path: Path) -> None:
    words = ("train.steps=200", "optimizer=sgd", "optimizer.lr=1e30", "train.clip_norm=null", "model.width=8", "train.epochs=null")
    with pytest.raises(AnswerNo, match="non-finite"):
        runs.start(tmp_path, *words)
    found = read_run(tmp_path / "run")
    assert (found.status, found.diverged) == ("failed", True)
    assert found.reason.startswith("non-finite")
    assert found.step < found.steps == 200


def test_a_run_told_epochs_has_made_the_steps_it_made(folder: Path) -> None:
    (folder / "config.yaml").write_text(dump({"train": {"steps": None, "epochs": 2.0}}))
    assert (read_run(folder).steps, read_run(folder).claims) == (4, ())


def test_a_line_cut_short_at_the_end_is_left_out_and_one_in_between_is_damage(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 6, "val/lo')
    assert read_run(folder).series["val/loss"].steps == (0, 4)
    path.write_bytes(whole[:60] + b"\n" + whole)
    assert "metrics.jsonl:2: " in refused(folder)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"step": 4}, "step 4 after 4"),
        ({"step": 3}, "step 3 after 4"),
        ({"step": 5.0}, "step 5.0 after 4"),
        ({"step": True}, "step True after 4"),
        ({"step": 2**60}, "steps are integers that increase"),
        ({"val/loss": 3}, "step None after 4"),
        ({"step": 5, "val/loss": None}, "val/loss is None: expected a number"),
        ({"step": 5, "val/loss": True}, "val/loss is True"),
        ({"step": 5, "val/loss": "3"}, "val/loss is '3'"),
        ({"step": 5, "val/loss": [1]}, "val/loss is [1]"),
        ({"step": 5, "val/loss": 10**400}, "expected a number"),
        ([1], "no JSON object"),
    ],
)
def test_rows_of_another_form_are_damage(folder: Path, row: object, said: str) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    assert said in refused(folder)
    assert "metrics.jsonl:4" in refused(folder)


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "metrics.jsonl"])
def test_files_that_are_no_plain_files_are_refused(folder: Path, name: str, tmp_path: Path) -> None:
    path, kept = folder / name, (folder / name).read_bytes()
    path.unlink()
    assert name in refused(folder), "gone"
    (tmp_path / "elsewhere").write_bytes(kept)
    path.symlink_to(tmp_path / "elsewhere")
    assert name in refused(folder), "a link"
    path.unlink()
    os.mkfifo(path)
    assert name in refused(folder), "a pipe"
    path.unlink()
    path.mkdir()
    assert name in refused(folder), "a folder"
    path.rmdir()
    here = os.getcwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
            assert name in refused(folder), "a socket"
    finally:
        os.chdir(here)
    path.unlink()
    path.write_bytes(b"")
    os.truncate(path, MOST_BYTES + 1)
    assert "larger" in refused(folder)
    assert (tmp_path / "elsewhere").read_bytes() == kept


def test_a_folder_that_is_none(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", folder / "summary.json", tmp_path):
        with pytest.raises(MissingError):
            read_run(path)


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "metrics.jsonl"])
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(folder: Path, name: str) -> None:
    for text in hostile.TEXTS.values():
        (folder / name).write_bytes(text)
        refused(folder)
        (folder / name).write_bytes(text + b"\n")
        refused(folder)


def test_forged_values_are_refused_in_one_line(tmp_path: Path) -> None:
    rng = random.Random(3)
    seen = {"read": 0, "refused": 0}
    for number in range(120):
        folder = write(tmp_path / str(number))
        name = rng.choice(["summary.json", "config.yaml", "metrics.jsonl"])
        if name == "summary.json":
            (folder / name).write_text(json.dumps(hostile.mutated(SUMMARY, rng)[0]))
        elif name == "config.yaml":
            odd = [value for value in hostile.ODD if value == value]
            (folder / name).write_text(json.dumps(hostile.mutated(CONFIG, rng, odd)[0]))
        else:
            rows = hostile.mutated(ROWS, rng)[0]
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        seen["read" if refused(folder) == "read" else "refused"] += 1
        shutil.rmtree(folder)
    assert min(seen.values()) > 10
