"""The commands as a user has them: whole processes, killed and interrupted for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dlrun import checkpoint

ROOT = Path(__file__).parents[1]
LONG = (
    "train.steps=1500",
    "train.checkpoint_every=100",
    "train.eval_every=0",
    "train.log_every=5",
    "model.dropout=0.2",
    "log.wandb.mode=disabled",
)


def dlrun(folder: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "dlrun", *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def done(folder: Path, *words: str, **more: Any) -> tuple[int, str, str]:
    process = dlrun(folder, *words, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())  # type: ignore[no-any-return]


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (run / "checkpoints").is_dir() or max(checkpoint.steps(run), default=0) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, _, err = done(folder, "train", *LONG, "run_dir=whole", "checks=none")
    assert code == 0, err
    return folder / "whole"


def test_r1_killed_twice_and_resumed_gives_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "run"
    first = dlrun(tmp_path, "train", *LONG, "run_dir=run")
    wait_for(run, 200, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = dlrun(tmp_path, "resume", "run")
    wait_for(run, 700, again)
    again.send_signal(signal.SIGKILL)
    again.communicate()
    code, out, err = done(tmp_path, "resume", "run")
    assert code == 0 and "resumed run at step" in out, err
    assert summary(run)["weights_sha256"] == summary(undisturbed)["weights_sha256"]
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, *range(5, 1501, 5)]
    assert done(tmp_path, "resume", "run")[0] == 0  # a finished run is left alone
    assert len((run / "metrics.jsonl").read_text().splitlines()) == len(steps)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_r2_a_signal_saves_and_says_how_to_go_on(number: int, code: int, tmp_path: Path, undisturbed: Path) -> None:
    process = dlrun(tmp_path, "train", *LONG, "run_dir=my run")
    wait_for(tmp_path / "my run", 100, process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "go on with: dlrun resume" in out.splitlines()[-1]
    code, out, err = done(tmp_path, "resume", "my run", "--json")
    assert code == 0, err
    assert json.loads(out)["weights_sha256"] == summary(undisturbed)["weights_sha256"]


def test_r5_a_second_resume_is_refused(tmp_path: Path) -> None:
    process = dlrun(tmp_path, "train", "train.steps=100000", "run_dir=run", "log.wandb.mode=disabled", "checks=none")
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "config.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    code, _, err = done(tmp_path, "resume", "run")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert code == 3 and f"process {process.pid}" in err


def test_wandb_offline_and_tensorboard_hold_the_same_numbers(tmp_path: Path) -> None:
    words = ("train.steps=12", "train.log_every=4", "run_dir=run", "log.tensorboard=true")
    code, _, err = done(tmp_path, "train", *words, env={"WANDB_API_KEY": "secret" * 7})
    assert code == 0, err
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    read = subprocess.run([Path(sys.executable).parent / "wandb", "leet", "inspect", str(file), "--json"], capture_output=True, text=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert str(row["step"]) in read.stdout
    assert "train/loss" in read.stdout
    assert not any(b"secretsecret" in path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_json_is_all_there_is_on_stdout(tmp_path: Path) -> None:
    code, out, _ = done(tmp_path, "train", "train.steps=5", "--json", "log.wandb.mode=disabled", "run_dir=run")
    assert code == 0 and json.loads(out)["status"] == "finished"
    code, out, _ = done(tmp_path, "eval", "run", "--json")
    assert code == 0 and json.loads(out)["metrics"]["test/accuracy"] == summary(tmp_path / "run")["metrics"]["test/accuracy"]
    code, out, _ = done(tmp_path, "check", "dataset=moons", "--json")
    document = json.loads(out)
    assert (
        code == 0
        and document["ok"]
        and {"check", "level", "message", "cause", "next", "numbers", "threshold"} <= set(document["findings"][0])
    )


@pytest.mark.parametrize("words", [("resume", "run", "optimizer.lr=1"), ("resume", "run", "seed=4"), ("resume", "run", "~augment.flip")])
def test_a_resumed_run_keeps_its_config(words: tuple[str, ...], tmp_path: Path) -> None:
    done(tmp_path, "train", "train.steps=2", "log.wandb.mode=disabled", "run_dir=run", "checks=none")
    code, _, err = done(tmp_path, *words)
    assert code == 2 and "a resumed run keeps it" in err


def test_more_steps_go_on_in_place(tmp_path: Path) -> None:
    done(tmp_path, "train", "train.steps=4", "log.wandb.mode=disabled", "run_dir=run", "checks=none")
    code, _, err = done(tmp_path, "resume", "run", "train.steps=8")
    assert code == 0 and summary(tmp_path / "run")["step"] == 8, err
    code, out, _ = done(tmp_path, "resume", "run")
    assert code == 0 and "finished at step 8" in out


def test_doctor(tmp_path: Path) -> None:
    code, out, err = done(tmp_path, "doctor", "--json")
    assert code == 0, err
    assert json.loads(out)["self_training"]["resumed_to_the_same_bits"] is True
    assert list(tmp_path.iterdir()) == []


def test_a_set_up_that_cannot_be_built_leaves_nothing(tmp_path: Path) -> None:
    code, _, err = done(tmp_path, "train", "model=transformer")
    assert code == 2 and err.startswith("error: model transformer:") and len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
