"""The copies of a study's runs: W&B gets them when the study is done, so that nothing of it stands in a run's way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any


def mode_of(config: Any) -> str:
    """`log.wandb.mode` as a training would take it, the environment's included."""
    from dlrun.sinks.wandb_options import wandb_options

    return str(wandb_options(config.saved, config.resolved, os.environ)[0]["mode"])


def announced(config: Any, study: str | None, place: str) -> list[str]:
    """What is said beforehand of copies that a config asks for: workers write none while they train.

    `study`: whose runs they are, None for an experiment's; `place`: the folder they will lie in.
    """
    mode, said = mode_of(config), []
    if mode == "online":
        said.append(f"W&B gets the runs when all are done, as group {_group(config, study)}")
    elif mode == "offline":
        said.append(f"W&B: nothing is written while a study runs; afterwards: dlrun sync {quote(place)}/*")
    if config.resolved["log"]["tensorboard"]:
        said.append("log.tensorboard has no effect in a study: metrics.jsonl of each run has it all")
    return said


def _group(config: Any, study: str | None) -> str:
    from dlrun.sinks.wandb_options import wandb_options

    return str(wandb_options(config.saved, config.resolved, os.environ, study)[0]["group"])


def runs_of(found: Mapping[str, Any]) -> list[str]:
    """The runs of a study's document that have ended."""
    return [run for cell in found["cells"] for run in cell["runs"] if (Path(run) / "summary.json").is_file()]


def upload(config: Any, runs: Sequence[str], study: str | None, rest: str, console: Any) -> None:
    """Upload what W&B does not have of runs. Nothing that happens here changes what the command ends with.

    `study`: whose runs they are, None for an experiment's; `rest`: what `dlrun sync` is told where some are left.
    """
    if mode_of(config) != "online" or not runs:
        return
    from dlrun.cli.sync import synced

    console.line(f"W&B: {len(runs)} runs as group {_group(config, study)}, one after another; Ctrl-C leaves the rest to dlrun sync")
    failed, rows = dict[str, int](), 0
    try:
        for result in synced(runs, {}):
            for note in result.get("notes", ()):
                console.line(f"{result['run']}: {note}")
            rows += result.get("rows", 0)
            if not result["ok"]:
                failed[result["message"]] = failed.get(result["message"], 0) + 1
    except KeyboardInterrupt:
        failed["interrupted"] = 1
    for message, count in list(failed.items())[:3]:
        console.line(
            f"W&B: {count} of {len(runs)} runs not uploaded: {message}" if message != "interrupted" else "W&B: interrupted", "warning"
        )
    if failed:
        console.line(f"W&B gets the rest with: dlrun sync {quote(rest)}/*")
    else:
        console.line(f"W&B: has all {len(runs)} runs; {rows} rows sent")
