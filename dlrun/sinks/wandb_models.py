"""Checkpoints as W&B artifacts, where `log.wandb.log_model` asks for them: the final one, the best, or each as it is saved.

Offline nothing is staged (W&B would copy every checkpoint into the user's home): `dlrun sync` takes them from the run's directory.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlrun.errors import MissingError
from dlrun.plain_files import read_plain
from dlrun.sinks.tail import LARGEST_JSON

MANIFEST = "MANIFEST.json"
Row = dict[str, Any]
WAIT_SECONDS = 500


class Models:
    """The checkpoints of one run and which of them W&B has; `done` is the list of steps that are there."""

    def __init__(self, wandb: Any, run: Any, directory: Path, wanted: bool | str, done: Iterable[int]) -> None:
        self._wandb, self._run, self._directory, self.wanted = wandb, run, directory, wanted
        self.done = list(done)
        self._sent: list[tuple[int, Any]] = []

    def as_saved(self) -> None:
        """With `all`: send what was saved since the last call."""
        if self.wanted == "all":
            for step in self._there():
                self._send(step, [])

    def at_end(self, summary: Row, events: list[Row]) -> str:
        """Send what is wanted of the checkpoints that are there and wait for it; returns what there is to say, mostly nothing."""
        if not self.wanted:
            return ""
        there, best = self._there(), (summary.get("best") or {}).get("step")
        if not there:
            return " (log.wandb.log_model: there is no checkpoint)"
        wanted = {"all": there, "best": [best] if best in there else []}.get(str(self.wanted), there[-1:])
        note = "" if wanted else f" (log.wandb.log_model=best: no checkpoint of step {best})"
        for step in wanted:
            self._send(step, ["best"] if step == best else [])
        for step, artifact in self._sent:
            artifact.wait(WAIT_SECONDS)
            self.done = [*dict.fromkeys([*self.done, step])]
        saved = {event.get("step") for event in events if event.get("event") == "checkpoint"}
        gone = len(saved - set(self.done)) if self.wanted == "all" else 0
        return note + (f" (log.wandb.log_model=all: {gone} checkpoints were pruned before, see train.keep_last)" if gone else "")

    def _there(self) -> list[int]:
        names = [path.parent.name for path in (self._directory / "checkpoints").glob("step-*/MANIFEST.json")]
        return sorted(int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdigit())

    def _send(self, step: int, aliases: list[str]) -> None:
        """Hand one checkpoint over; its files are linked first, since training may prune it meanwhile.

        One that was sent before is sent for its `aliases` alone: W&B knows it by its digest and stores nothing twice.
        """
        again = step in self.done or any(step == known for known, _ in self._sent)
        if again and not aliases:
            return
        with tempfile.TemporaryDirectory(dir=self._directory / "wandb") as folder:
            copy = Path(folder) / "checkpoint"
            try:
                _take(self._directory / "checkpoints" / f"step-{step:08d}", copy)
            except (OSError, MissingError, ValueError, KeyError, TypeError, RecursionError):
                return  # pruned at this moment, or damaged: `at_end` counts it
            artifact = self._wandb.Artifact(f"model-{self._run.id}", type="model", metadata={"step": step})
            artifact.add_dir(str(copy))
            self._sent.append((step, self._run.log_artifact(artifact, aliases=[*([] if again else ["latest"]), f"step-{step}", *aliases])))


def _take(source: Path, target: Path) -> None:
    """Link what the checkpoint's manifest lists, and nothing else that lies there: no link leads a file of the user's into an upload."""
    names = list(json.loads(read_plain(source / MANIFEST, LARGEST_JSON))["files"])
    target.mkdir()
    for name in [MANIFEST, *names]:
        if Path(name).name != name or not stat.S_ISREG((source / name).lstat().st_mode):
            raise ValueError(f"{name!r} is no plain file of a checkpoint")
        _link(source / name, target / name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
