"""Trains a job of a study in this process, in the folder that is its own whichever attempt: from the start or its newest checkpoint.

What a study does not need of a single run is left out (figures, the lines before training) or made once in a process (baselines).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.checkpoint import steps
from dlrun.config import compose
from dlrun.config.memory import unpacked
from dlrun.errors import MissingError
from dlrun.hosting import Host
from dlrun.rundir import read_json, write_atomic
from dlrun.session import chooser
from dlrun.signals import Stop
from dlrun.sinks.console import Console
from dlrun.study.fresh import Fresh
from dlrun.study.ledger import Failure, Taken
from dlrun.study.pruning import PRUNED
from dlrun.train import begin, build_run, resume

Goal = tuple[str, str]
Read = Callable[[int, float], str | None]
NO_GOAL = ("", "")


def place_of(folder: Path, job: Taken) -> Path:
    """Where the run of a job lies, whichever attempt. MissingError for a place outside the output root: a ledger is others' data."""
    if not job.place:
        return folder / "runs" / f"{job.cell:05d}-s{job.seed}"
    path = Path(os.path.normpath(folder.absolute() / job.place))
    if folder.absolute().parents[1] not in path.parents:
        raise MissingError(f"the ledger of {folder} names a run outside {folder.absolute().parents[1]}: it was not written by dlrun")
    return path


class Trainer:
    """What stays between the jobs of a process: the settings it began with, baselines by what they depend on, compositions."""

    def __init__(self, folder: Path, goal: Goal | None, config_dir: str | None, valued: bool = True, composed: Sequence[Any] = ()) -> None:
        self.folder, self.goal, self.config_dir, self.valued = folder, goal, config_dir, valued
        self.fresh, self._made, self._memory = Fresh(), dict[tuple[str, str], Any](), unpacked(composed)

    def train(self, job: Taken, stop: Stop, read: Read) -> dict[str, Any] | Failure:
        """The summary of the job's run with its `value`: trained, gone on with, or found finished. `read` gets intermediate values.

        A run that was stopped has no value; a failure is given where it ended without one, raised where it did not end.
        """
        self.fresh.again()
        path = place_of(self.folder, job)
        resumes = self._place(job, path)
        done = read_json(path / "summary.json") if resumes and (path / "summary.json").is_file() else {}
        if done.get("status") == "finished":  # its worker went away between the end of the run and saying so
            return self._ended({**done, "run_dir": str(path)}, self.goal or (self._choice(path) if self.valued else NO_GOAL))
        if done.get("status") == "stopped" and done.get("reason") == PRUNED:
            return {**done, "run_dir": str(path)}
        if stop.signal:
            return {"status": "interrupted"}
        summary, goal = self._run(job, path, stop, read, resumes)
        if summary.get("status", "running") == "running":  # ended by a KeyboardInterrupt, without saving
            return {"status": "interrupted"}
        if summary["status"] == "stopped" and summary["reason"] == "max_seconds":
            return Failure("config", f"stopped at train.max_seconds after step {summary['step']}: no value; a study needs whole runs")
        return self._ended(summary, goal) if summary["status"] == "finished" else summary

    def _ended(self, summary: Mapping[str, Any], goal: Goal) -> dict[str, Any] | Failure:
        return valued(summary, goal) if self.valued else {**summary, "value": None}

    def _run(self, job: Taken, path: Path, stop: Stop, read: Read, resumes: bool) -> tuple[dict[str, Any], Goal]:
        config = self._compose(path)
        run = None if resumes and self.goal else build_run(config, load_start=not resumes)
        goal = self.goal or chooser(run) if run else self.goal
        assert goal is not None
        host = Host(
            stop=stop,
            figures=False,
            once=self._once,
            tried=("update", "learning"),
            evaluated=lambda step, metrics: look(metrics, goal, step, read),
        )
        if not job.checked:
            host.unchecked = "left out: the fast checks run for the first cell with such parts"
        with open(os.devnull, "w") as nowhere:
            console = Console(stream=nowhere, live=False)
            if resumes or run is None:
                return resume(path, config, {}, console, None, host)[0], goal
            return begin(run, path, config, console, None, host)[0], goal

    def _choice(self, path: Path) -> Goal:
        """What chooses `best` in a run that is not built here."""
        return chooser(build_run(self._compose(path), load_start=False))

    def _compose(self, path: Path) -> Any:
        return compose([], config_dir=self.config_dir, from_file=path / "config.yaml", memory=self._memory)

    def _place(self, job: Taken, path: Path) -> bool:
        """Make the run's folder with its frozen config; True where a checkpoint of an earlier attempt lies in it."""
        path.mkdir(parents=True, exist_ok=True)
        config = path / "config.yaml"
        if config.is_file() and config.read_text("utf-8") != job.text:
            if steps(path):
                raise MissingError(f"{path} holds another run: its config.yaml is not the frozen one of cell {job.cell}, seed {job.seed}")
            config.unlink()
        if not config.is_file():
            write_atomic(config, job.text)
        if job.seals and not (path / "manifest.json").is_file():
            write_atomic(path / "manifest.json", json.dumps({"paths": job.seals}))
        return bool(steps(path))

    def _once(self, name: str, facts: str, make: Callable[[], Any]) -> Any:
        if (name, facts) not in self._made:
            self._made[name, facts] = make()
        return self._made[name, facts]


def look(metrics: Mapping[str, float], goal: Goal, step: int, read: Read) -> str | None:
    """Hand the goal's intermediate value on; what is not finite is no value."""
    value = metrics.get(goal[0])
    return read(step, float(value)) if value is not None and value == value and abs(value) != float("inf") else None


def valued(summary: Mapping[str, Any], goal: Goal) -> dict[str, Any] | Failure:
    """The summary of a whole run with the `value` of the goal's metric after the last step; a failure where there is no such number."""
    value = summary["metrics"].get(goal[0])
    if value is None:
        have = ", ".join(name for name in summary["metrics"] if not name.startswith(("test", "train")))
        return Failure("config", f"the goal {goal[0]} is not measured by this run; it has {have}", f"no {goal[0]}")
    if not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        return Failure("non_finite", f"{goal[0]} is {value} after the last step")
    return {**summary, "value": float(value), "goal": list(goal)}
