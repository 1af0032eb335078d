"""The copy for Weights & Biases: an offline run inside the run's directory, or a live one where `log.wandb.mode=online`.

What cannot go online (no key, no network) is recorded offline and can be uploaded with `wandb sync`. A resumed run goes on under the same
id in a further offline file, after the last step that the earlier files hold. Source: W&B's Python reference, `init` and `Settings`.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dlrun.sinks.terminal import clean

Row = dict[str, Any]
INIT_SECONDS = 12.0
FINISH_SECONDS = 45.0
"""For the last upload; less than the feeder's own limit, so that W&B can still say what is missing."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class WandbCopy:
    """Writes rows to one W&B run. `wandb.json` in the run's directory keeps its id, mode, offline folders and last step."""

    name, folder = "W&B", "wandb"

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        import wandb

        self._wandb: Any = wandb
        self._options = dict(kinds["wandb"])
        self._job: Row = {}
        self._directory = Path()
        self._note = ""
        self._run: Any = None
        self._state: Row = {}

    def open(self, job: Row) -> int:
        """Start the W&B run; returns the last step that earlier offline files of it hold (-1: none)."""
        self._job, self._directory = job, Path(job["run_dir"])
        self._state = _read(self._directory / "wandb.json")
        last = self._last_step()
        self._state.setdefault("id", os.environ.get("WANDB_RUN_ID") or "".join(secrets.choice(ALPHABET) for _ in range(8)))
        if job["step"]:
            self._state["resumed_at"] = [*self._state.get("resumed_at", []), job["step"]]
        self._run = self._begin()
        folder = os.path.relpath(Path(self._run.settings.sync_dir), self._directory)
        self._state["folders"] = [*self._state.get("folders", []), folder]
        self._save(last, complete=False)
        return last

    def add(self, rows: list[Row]) -> None:
        """Log rows at their steps."""
        for row in rows:
            self._run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
        self._save(rows[-1]["step"], complete=False)

    def close(self, summary: Row, events: list[Row], figures: list[Path]) -> str:
        """Log figures and the model, set the summary, end the run."""
        step = self._state["step"]
        images = {f"figures/{path.stem}": self._wandb.Image(str(path)) for path in figures}
        if images:
            self._run.log(images, step=max(step, 0))
        self._run.summary.update(at_end(summary, events))
        if self._options.get("log_model"):
            self._log_model(step)
        online, url = self._options["mode"] == "online", self._run.url
        self._run.finish(exit_code=0 if summary.get("status") in ("finished", "stopped", "interrupted") else 1)
        self._save(step, complete=True)
        if online:
            return f"W&B: {url}"
        folders = self._state["folders"]
        files = short(self._directory / folders[-1]) if len(folders) == 1 else f"{short(self._directory)}/wandb/offline-run-*"
        return f"W&B: offline run{'s' if len(folders) > 1 else ''} in {files}; upload with: wandb sync {files}{self._note}"

    def _begin(self) -> Any:
        """Start online where asked for and possible, else offline."""
        if self._options["mode"] == "online":
            try:
                return self._init("online")
            except Exception as error:
                reason = clean(str(error).strip().split("\n")[0][:200])
                self._note = f" (log.wandb.mode=online did not work: {reason})"
                self._options["mode"] = "offline"
                self._wandb.teardown()  # else its service holds the run's id
        return self._init("offline")

    def _init(self, mode: str) -> Any:
        options, given = self._options, os.environ
        settings = self._wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            save_code=False,
            disable_git=True,
            x_disable_stats=True,
            x_save_requirements=False,
            symlink=False,
            program="dlrun",
            init_timeout=float(given.get("WANDB_INIT_TIMEOUT") or INIT_SECONDS),
            finish_timeout=FINISH_SECONDS,
        )
        return self._wandb.init(
            mode=mode,
            dir=str(self._directory),
            id=self._state["id"],
            project=options.get("project") or given.get("WANDB_PROJECT") or "dlrun",
            entity=options.get("entity"),
            group=options.get("group"),
            name=options.get("name") or given.get("WANDB_NAME") or clean(self._job["name"]),
            tags=options.get("tags") or None,
            notes=options.get("notes"),
            config=saved_config(Path(self._job["config"])),
            resume="allow" if mode == "online" else None,
            settings=settings,
        )

    def _last_step(self) -> int:
        """The last step in earlier files: as noted where they were closed, else read from them (a kill leaves the note behind or ahead)."""
        if self._state.get("complete", True):
            return int(self._state.get("step", -1))
        return max([-1, *(last_in(self._directory / folder) for folder in self._state.get("folders", []))])

    def _save(self, step: int, complete: bool) -> None:
        self._state |= {"mode": self._options["mode"], "step": step, "complete": complete}
        part = self._directory / "wandb.json.part"
        part.write_text(json.dumps(self._state, indent=1) + "\n")
        part.replace(self._directory / "wandb.json")

    def _log_model(self, step: int) -> None:
        """The newest checkpoint as an artifact: safetensors and JSON."""
        checkpoints = sorted((self._directory / "checkpoints").glob("step-*/MANIFEST.json"))
        if not checkpoints:
            self._note += " (log.wandb.log_model: there is no checkpoint)"
            return
        artifact = self._wandb.Artifact(f"model-{self._state['id']}", type="model", metadata={"step": step})
        artifact.add_dir(str(checkpoints[-1].parent))
        self._run.log_artifact(artifact)


def at_end(summary: Row, events: list[Row]) -> Row:
    """What W&B's summary shows beside the last values: best, status, speed, hash, the last step of each kind of event."""
    chosen = ("status", "reason", "seconds", "steps_per_second", "parameters", "weights_sha256")
    values = {name: summary[name] for name in chosen if summary.get(name) is not None}
    best = summary.get("best") or {}
    values |= {f"best/{name}": value for name, value in best.items()}
    values |= {f"events/{event['event']}": event.get("step") for event in events if "event" in event}
    return values | {f"events/{name}": step for name, step in (summary.get("events") or {}).items()}


def saved_config(path: Path) -> Row:
    """The saved config as plain JSON values: secrets in it are unresolved, and stay so."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(json.loads(json.dumps(config, default=str)))


def short(path: Path) -> str:
    """`path` from the current folder where it lies below it, as a shell takes it."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def last_in(folder: Path) -> int:
    """The last step that an offline run's file holds, -1 where there is none; reads it with W&B's own tool."""
    command = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and '"history"' in line]
    steps = [int(record["history"]["step"]["num"]) for record in records if record.get("type") == "history"]
    return max(steps, default=-1)


def _read(path: Path) -> Row:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
