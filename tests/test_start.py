"""Runs that start from runs: weights are taken, never code or optimizer state; what is frozen stays; what does not fit is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs
import torch

from dlrun import checkpoint
from dlrun.config import compose
from dlrun.errors import MissingError, UsageError
from dlrun.train import build_run

BASE = ("train.steps=4", "train.checkpoint_every=2", "train.eval_every=0", "model.width=8", "train.keep_last=9")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.start(tmp_path_factory.mktemp("first"), *BASE)[0]


def built(first: Path, start: str, *overrides: str) -> Any:
    return build_run(compose([*runs.QUIET, *BASE, f"start={{from: {first}, {start}}}", "seed=5", *overrides]))


@pytest.mark.parametrize("step", [2, "last"])
def test_weights_are_those_of_the_step(first: Path, step: int | str) -> None:
    run = built(first, f"step: {step}")
    saved = checkpoint.read(checkpoint.step_directory(first, 4 if step == "last" else 2)).tensors["model"]
    assert all(torch.equal(value, saved[name]) for name, value in run.modules["model"].state_dict().items())
    assert any("starts from" in note and "6 of 6" in note for note in run.notes)


def test_frozen_weights_stay_and_are_in_no_optimizer(first: Path, tmp_path: Path) -> None:
    run, summary, code = runs.start(tmp_path, *BASE, f"start={{from: {first}, step: last, freeze: ['model.1.*']}}")
    assert code == 0
    before = checkpoint.read(checkpoint.step_directory(first, 4)).tensors["model"]
    after = checkpoint.read(checkpoint.step_directory(run, 4)).tensors["model"]
    assert torch.equal(before["1.weight"], after["1.weight"]) and torch.equal(before["1.bias"], after["1.bias"])
    assert not torch.equal(before["3.weight"], after["3.weight"])
    runs.kill_back_to(run, 2)
    again, code, _ = runs.go_on(run)
    assert code == 0 and again["weights_sha256"] == summary["weights_sha256"]


def test_resume_does_not_need_the_run_it_started_from(first: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(first, tmp_path / "gone")
    run, summary, _ = runs.start(tmp_path, *BASE, f"start={{from: {tmp_path / 'gone'}, step: last}}")
    shutil.rmtree(tmp_path / "gone")
    runs.kill_back_to(run, 2)
    assert runs.go_on(run)[0]["weights_sha256"] == summary["weights_sha256"]


@pytest.mark.parametrize(
    ("start", "overrides", "error", "fragment"),
    [
        ("freeze: ['model.layer9*']", (), UsageError, "matches no parameter"),
        ("networks: {model: teacher}", (), UsageError, "does not fit"),
        ("step: 3", (), MissingError, "no checkpoint of step 3; there are: 2, 4"),
        ("step: last", ("model.depth=3",), UsageError, "start.strict=false"),
    ],
)
def test_what_does_not_fit_is_one_line(first: Path, start: str, overrides: tuple[str, ...], error: type, fragment: str) -> None:
    with pytest.raises(error) as caught:
        built(first, start, *overrides)
    assert fragment in str(caught.value)


def test_not_strict_takes_what_fits_and_names_the_rest(first: Path) -> None:
    run = built(first, "step: last, strict: false", "model.depth=1")
    assert any("left as initialised or dropped" in note and "5." in note for note in run.notes)


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run directory"):
        built(tmp_path, "step: last")
