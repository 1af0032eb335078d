"""A run's directory as training leaves it, and what tests of its copies ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dlrun.sinks.background import Background

SECRET = "s3cr3t-0f-nobody"
OPTIONS: dict[str, Any] = {"mode": "offline", "project": "dlrun", "entity": None, "group": None, "name": None, "notes": None}
OPTIONS |= {"tags": ["a"], "log_model": False, "given": [], "id": None, "dir": None, "silent": False}
CONFIG = """seed: 0
key: ${oc.env:MY_TOKEN}
experiment: tiny
tags: []
train: {steps: 9}
log:
  wandb: {mode: null, tags: [a], log_model: false}
"""


def clean_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without an account, no W&B variables, a secret in the environment."""
    (tmp_path / "home").mkdir()
    for name in [name for name in os.environ if name.startswith(("WANDB_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MY_TOKEN", SECRET)


def new_run(directory: Path) -> Path:
    """A run that has just begun."""
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "metrics.jsonl").touch()
    return directory


def row(step: int, shift: float = 0.0) -> dict[str, Any]:
    """The row of a step: NaN at step 3, an evaluation every fifth."""
    values: dict[str, Any] = {"step": step, "time": step / 100, "train/loss": 1 / (step + 1) + shift}
    return values | ({"train/loss": "nan"} if step == 3 else {}) | ({"val/accuracy": 0.5} if step % 5 == 0 else {})


def write(run: Path, steps: range, shift: float = 0.0) -> None:
    """Log these steps."""
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row(step, shift)) + "\n" for step in steps)


def cut(run: Path, rows: int) -> None:
    """A resume takes the run back to its first `rows` rows."""
    kept = (run / "metrics.jsonl").read_text().splitlines(keepends=True)[:rows]
    (run / "metrics.jsonl").write_text("".join(kept))


def finish(run: Path, step: int, status: str = "finished") -> None:
    """The summary of a run that has ended."""
    facts = {"status": status, "step": step, "best": {"step": 5, "metric": "val/accuracy", "value": 0.5}, "events": {"memorised": 4}}
    (run / "summary.json").write_text(json.dumps(facts))
    (run / "events.jsonl").write_text(f'{{"event": "started", "step": 0}}\n{{"event": "{status}", "step": {step}}}\n')


PATIENCE = 120.0
"""Seconds waited for what another process does: it is niced, and a busy machine takes its time."""


def wait_for(what: Any, seconds: float = PATIENCE) -> None:
    """Until `what()` holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def noted(run: Path) -> dict[str, Any]:
    """wandb.json."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((run / "wandb.json").read_text()))
    return {}


def kill(background: Background) -> None:
    """The feeder dies."""
    assert background.pid is not None
    os.kill(background.pid, signal.SIGKILL)


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in which NaN equals NaN."""
    return [{name: "nan" if value == "NaN" or value != value else value for name, value in row.items()} for row in rows]


def accumulated(run: Path) -> Any:
    """The run's TensorBoard folder as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found
