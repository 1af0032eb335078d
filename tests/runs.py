"""Small runs in this process, for tests: train, make a run look killed at a step, resume it, compare."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from dlrun import checkpoint
from dlrun.config import compose
from dlrun.rundir import jsonable  # noqa: F401 (for tests that compare)
from dlrun.sinks.console import Console
from dlrun.train import resume, train

QUIET = ["log.wandb.mode=disabled", "checks=none", "device=cpu"]


def console() -> Console:
    """A console that writes to memory."""
    return Console(stream=io.StringIO(), live=False)


def start(folder: Path, *overrides: str, config_dir: Path | None = None) -> tuple[Path, dict[str, Any], int]:
    """Train in `folder`/run; returns (run directory, summary, exit code)."""
    named = {text.split("=")[0] for text in overrides}
    quiet = [text for text in QUIET if text.split("=")[0] not in named]
    config = compose([*quiet, *overrides, f"run_dir={folder / 'run'}"], config_dir=config_dir)
    with patch("dlrun.wrapup.draw_figures"):  # 1.5 s a run
        summary, code = train(config, console())
    return folder / "run", summary, code


def go_on(run: Path, *overrides: str) -> tuple[dict[str, Any], int, str]:
    """Resume `run` with every generator scrambled first; returns (summary, exit code, what was printed)."""
    scramble()
    screen = console()
    config = compose(list(overrides), from_file=run / "config.yaml")
    changed = dict(text.split("=", 1) for text in overrides)
    with patch("dlrun.wrapup.draw_figures"):
        summary, code = resume(run, config, changed, screen)
    return summary, code, screen._stream.getvalue()  # type: ignore[union-attr]


def scramble() -> None:
    """Leave the generators in a state no run would have."""
    random.seed()
    np.random.seed()
    torch.seed()
    torch.rand(7)


def kill_back_to(run: Path, step: int) -> None:
    """Make a finished run look like one that was killed after the checkpoint of `step`: newer ones gone, logs half written."""
    for other in checkpoint.steps(run):
        if other > step:
            shutil.rmtree(checkpoint.step_directory(run, other))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9999, "ti')
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": "running", "weights_sha256": None}))


def rows(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without their times, which differ from run to run."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]
