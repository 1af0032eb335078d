"""`wandb.json` in the run's directory: the W&B run's id and where it is filed, its local folders, and how far they and the upload reach."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlrun.errors import MissingError
from dlrun.plain_files import fresh, read_plain
from dlrun.sinks.tail import Rows, summary_of
from dlrun.sinks.wandb_options import VARIABLES

Row = dict[str, Any]
MOST_BYTES = 1 << 20
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class State:
    """What is known of a run's copy from one process to the next. Written by one process at a time, atomically."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            values = json.loads(read_plain(directory / "wandb.json", MOST_BYTES))
        except (OSError, ValueError, RecursionError, MissingError):
            values = {}
        self.values: Row = values if isinstance(values, dict) and _is_id(values.get("id")) else {}

    def save(self, **changes: Any) -> None:
        """Take up changes and write all."""
        self.values |= changes
        part = self._directory / "wandb.json.part"
        with open(fresh(part), "w", encoding="utf-8") as file:
            file.write(json.dumps(self.values, indent=1) + "\n")
        part.replace(self._directory / "wandb.json")

    def identify(self, options: Mapping[str, Any]) -> None:
        """Settle id and place: what the config says now, else what the run began with, else what the environment said."""
        if "id" not in self.values:
            self.values |= {"id": options["id"] or new_id(), "id_given": bool(options["id"])}
        for key in VARIABLES:
            if key in options["given"] or key not in self.values:
                self.values[key] = options[key]

    def renew(self) -> None:
        """Another id: nothing of this run is under it."""
        self.values |= {"id": new_id(), "id_given": False, "online": False, "uploaded": None, "artifacts": []}

    def last_step(self, home: str | None) -> int:
        """The last step in local files: as noted where they were closed, else read from them (a kill leaves the note behind or ahead)."""
        if self.values.get("complete", True):
            return int(self.values.get("step", -1))
        return max([-1, *(last_in(folder) for folder in self._folders(home))])

    def _folders(self, home: str | None) -> Iterator[Path]:
        """The noted local folders that lie where they may: in the run's directory or below `home` (WANDB_DIR)."""
        roots = [self._directory.resolve(), *([Path(home).expanduser().resolve()] if home else [])]
        for noted in self.values.get("folders", []):
            folder = (self._directory / str(noted)).resolve()
            if any(folder.is_relative_to(root) for root in roots):
                yield folder


def _is_id(text: Any) -> bool:
    """Whether `text` can be an id that stands in names of folders."""
    return isinstance(text, str) and 0 < len(text) <= 128 and text.isprintable() and text[0] != "." and not set(text) & set("/\\*[]")


def new_id() -> str:
    """An id as W&B makes them."""
    return "".join(secrets.choice(ALPHABET) for _ in range(8))


def extent(directory: Path, server: str, models: bool | str) -> Row:
    """What an upload of the run as it stands would hold, to know again whether it was done."""
    summary = summary_of(directory)
    metrics = directory / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    return {"bytes": size, "status": summary.get("status"), "step": summary.get("step"), "server": server, "log_model": models}


def row_at(directory: Path, step: int) -> Row:
    """The row of `step` in metrics.jsonl, {} where there is none."""
    return next((row for rows in Rows(directory, step - 1).read() for row in rows if row["step"] == step), {})


def last_in(folder: Path) -> int:
    """The last step that a local run's file holds, -1 where there is none; reads it with W&B's own tool."""
    command = [sys.executable, "-P", "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and '"history"' in line]
    steps = [int(record["history"]["step"]["num"]) for record in records if record.get("type") == "history"]
    return max(steps, default=-1)
