"""Promises R2 to R6 and R9, each broken on purpose: signals, damaged checkpoints, full disks, two processes, non-finite values, checks."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import runs
import torch
from safetensors.torch import load_file, save_file

from dlrun import checkpoint, registry
from dlrun.errors import AnswerNo, MissingError
from dlrun.rundir import RunDir
from dlrun.session import Session

BASE = (
    "train.steps=6",
    "train.checkpoint_every=2",
    "train.eval_every=0",
    "train.log_every=1",
    "model.width=8",
    "train.keep_last=9",
    "train.ema=0.9",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run, summary, code = runs.start(tmp_path_factory.mktemp("whole"), *BASE)
    assert code == 0
    return run, summary


@pytest.fixture
def run(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A run killed after step 6's checkpoint: steps 2, 4 and 6 are there."""
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    return copy


def reseal(path: Path) -> None:
    """Make the manifest fit the files again, as a careful forger would."""
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    del manifest["sha256"]
    for name, facts in manifest["files"].items():
        facts.update(sha256=checkpoint._digest(path / name), bytes=os.path.getsize(path / name))
    (path / checkpoint.MANIFEST).write_text(json.dumps(checkpoint._sealed(manifest)))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "flipped": flip,
    "absent": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", "MANIFEST.json"])
def test_r3_damage_is_found_named_and_passed_over(name: str, damage: str, run: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    bad = checkpoint.step_directory(run, 6)
    DAMAGE[damage](bad / name)
    found, passed = checkpoint.newest(run)
    assert found.step == 4
    assert len(passed) == 1 and str(bad) in passed[0] and name in passed[0]


def test_r3_resume_goes_on_from_the_one_before(run: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    flip(checkpoint.step_directory(run, 6) / "model.safetensors")
    summary, code, printed = runs.go_on(run)
    assert code == 0 and summary["weights_sha256"] == finished[1]["weights_sha256"]
    assert "passed over" in printed and "step-00000006" in printed


def test_r3_none_whole_is_an_error_not_a_new_start(run: Path) -> None:
    for step in checkpoint.steps(run):
        flip(checkpoint.step_directory(run, step) / "state.json")
    with pytest.raises(MissingError) as caught:
        runs.go_on(run)
    assert caught.value.code == 3 and sum("step-" in line for line in caught.value.lines) == 3


def entries(run: Path) -> list[tuple[str, str]]:
    """(file, entry) of everything a checkpoint holds: each tensor, and each leaf of state.json as a path."""
    path = checkpoint.step_directory(run, 4)
    found = [(file.name, key) for file in path.glob("*.safetensors") for key in load_file(file)]
    state = json.loads((path / "state.json").read_text())
    return found + [("state.json", key) for key in state] + [("state.json", f"session/{key}") for key in state["session"]]


def drop(path: Path, name: str, entry: str) -> None:
    if name == "state.json":
        state = json.loads((path / name).read_text())
        *above, last = entry.split("/")
        del (state[above[0]] if above else state)[last]
        (path / name).write_text(json.dumps(state))
        return
    tensors = load_file(path / name)
    del tensors[entry]
    save_file(tensors, path / name)


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_r3_each_entry_dropped_is_refused_by_name(stride: int, finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Even with sums that fit again: the manifest lists the names, and what is restored must be complete."""
    every = entries(finished[0])
    assert len(every) > 20
    for number, (name, entry) in enumerate(every[::stride]):
        copy = tmp_path / str(number)
        shutil.copytree(finished[0], copy)
        for step in (2, 6):
            shutil.rmtree(checkpoint.step_directory(copy, step))
        path = checkpoint.step_directory(copy, 4)
        drop(path, name, entry)
        reseal(path)
        with pytest.raises(MissingError) as caught:
            runs.go_on(copy)
        assert entry.split("/")[-1] in str(caught.value), (name, entry, str(caught.value))
        shutil.rmtree(copy)


def at_step(step: int, do: Any) -> Any:
    """Patch the session so that `do()` happens after `step`."""
    original = Session.after_step

    def after(self: Session, done: int) -> bool:
        if done == step:
            do()
        return original(self, done)

    return patch.object(Session, "after_step", after)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_r2_signals_save_first(number: int, code: int, tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    with at_step(3, lambda: os.kill(os.getpid(), number)):
        run, summary, exit_code = runs.start(tmp_path, *BASE)
    assert exit_code == code and summary["status"] == "interrupted" and summary["step"] == 3
    assert checkpoint.steps(run)[-1] == 3
    again, exit_code, _ = runs.go_on(run)
    assert exit_code == 0 and again["weights_sha256"] == finished[1]["weights_sha256"]
    assert runs.rows(run) == runs.rows(finished[0])


def test_r2_max_seconds(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    run, summary, code = runs.start(tmp_path, *BASE, "train.max_seconds=1e-6")
    assert code == 75 and summary["status"] == "stopped" and summary["reason"] == "max_seconds" and summary["step"] == 1
    again, code, _ = runs.go_on(run, "train.max_seconds=1000")
    assert code == 0 and again["weights_sha256"] == finished[1]["weights_sha256"]


def test_r4_a_full_disk_is_one_line_and_the_checkpoint_before_stays_whole(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with at_step(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limit[1]))), pytest.raises(MissingError) as caught:
            runs.start(tmp_path, *BASE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.code == 3 and len(caught.value.lines) == 1
    assert "step 2 is whole" in caught.value.lines[0] and os.strerror(errno.EFBIG) in caught.value.lines[0]
    assert checkpoint.newest(tmp_path / "run")[0].step == 2


def test_r4_an_output_that_vanishes_is_one_line(tmp_path: Path) -> None:
    with at_step(3, lambda: shutil.rmtree(tmp_path / "run")), pytest.raises(MissingError) as caught:
        runs.start(tmp_path, *BASE)
    assert caught.value.code == 3 and len(caught.value.lines) == 1 and str(tmp_path / "run") in caught.value.lines[0]


def test_r5_a_second_process_is_refused_and_told_who_holds_the_run(run: Path) -> None:
    first = RunDir(run)
    with pytest.raises(MissingError, match=f"in use by process {os.getpid()}"):
        RunDir(run)
    first.close()
    RunDir(run).close()


def poisoned(step: int, where: str) -> Any:
    """A loss that is fine until its `step`-th training call, then NaN itself or in its gradient."""
    calls = [0]

    def poisoned_loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(out, y)
        if out.requires_grad:
            calls[0] += 1
            if calls[0] >= step:
                return loss * float("nan") if where == "loss" else loss + 0.0 * (out - out.detach()).abs().sum().sqrt()
        return loss

    return poisoned_loss


@pytest.mark.parametrize("clip", ["1.0", "null"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_r6_a_non_finite_value_stops_the_run(where: str, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["loss"], "poisoned_loss", poisoned(4, where))
    with pytest.raises(AnswerNo) as caught:
        runs.start(tmp_path, *BASE, "loss=poisoned_loss", f"train.clip_norm={clip}")
    run = tmp_path / "run"
    assert caught.value.code == 1 and caught.value.lines[0].startswith("step 4:")
    if where == "gradient":
        assert "model." in caught.value.lines[0]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed" and "non-finite" in summary["reason"]
    assert list((run / "replay").glob("step-*.safetensors"))
    for step in checkpoint.steps(run):
        for named in checkpoint.read(checkpoint.step_directory(run, step)).tensors.values():
            assert all(torch.isfinite(tensor).all() for tensor in named.values())
    best = summary["best"]
    assert best is None or best["value"] == best["value"]


def test_r9_checks_change_no_bit(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    _, checked, code = runs.start(tmp_path, *BASE, "checks=fast")
    assert code == 0 and checked["weights_sha256"] == finished[1]["weights_sha256"]
