"""Which runs are there: equal resolved config, and the data they were trained on are today's.

A config is compared as the text that dlrun writes, without the keys that say what is judged and how it is told: a claim that is reworded
does not make a finished run another run (whether the run counts for that claim is the judge's matter).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrun.config.composing import Config
from dlrun.config.dump import dump
from dlrun.errors import MissingError
from dlrun.plain_files import read_plain
from dlrun.rundir import read_json, read_manifest, safe_name

ASIDE = {"arms", "axes", "tune", "seeds", "events", "measures", "claims", "baseline", "figure", "cost", "recorded", "source", "tags"}
ASIDE |= {"log", "probes", "checks", "checks_on_error"}
"""Root keys without a say in what is trained: what is asked of the runs, where it is told, and what looks on."""
LARGEST_CONFIG = 1 << 20
START = re.compile(r"^  from: .*$", re.MULTILINE)
LATER = ("  replica: 0\n", "  n: null\n", "  label_noise: 0.0\n")
"""Lines of keys that runs of earlier versions have not, at the value under which they change nothing."""


def likeness(text: str) -> str:
    """What of a config.yaml says what is trained. The run it starts from is compared by its folder (`started_from`)."""
    kept, wanted = [], True
    for line in text.splitlines(keepends=True):
        if line[:1] not in (" ", "-", "\n", "#"):
            wanted = line.partition(":")[0] not in ASIDE
            start = line.startswith("start:")
        if wanted and line not in LATER:
            kept.append("  from: RUN\n" if start and START.match(line.rstrip("\n")) else line)
    return "".join(kept)


@dataclass(frozen=True)
class Found:
    """A run directory with the summary it has so far."""

    path: Path
    text: str
    summary: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be trained: it finished, or ended for good on a non-finite value."""
        return self.summary.get("status") == "finished" or self.diverged

    @property
    def diverged(self) -> bool:
        """Whether a non-finite value stopped it."""
        return self.summary.get("status") == "failed" and str(self.summary.get("reason")).startswith("non-finite")


class Store:
    """The runs of one experiment below `root`, by likeness; each folder is read once. `empty`: none of those that lie there counts."""

    def __init__(self, root: Path, experiment: str, *, empty: bool = False) -> None:
        self.folder = root / safe_name(experiment)
        self._found: dict[str, list[Found]] = {}
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False))
        except OSError:
            names = []
        for name in [] if empty else names:
            self.add(self.folder / name)

    def add(self, path: Path) -> None:
        """Know the run at `path`; a folder that holds none is passed over."""
        try:
            text = read_plain(path / "config.yaml", LARGEST_CONFIG).decode("utf-8")
            summary = read_json(path / "summary.json") if (path / "summary.json").is_file() else {}
        except (OSError, MissingError, UnicodeDecodeError):
            return
        self._found.setdefault(likeness(text), []).append(Found(path, text, summary))

    def finished(self, config: Config, start: str | None) -> list[Found]:
        """Finished runs of this config that began with the weights of the run `start`, the newest first; their data are not compared."""
        found = self._found.get(likeness(dump(config.saved)), [])
        return [each for each in reversed(found) if each.finished and started_from(each.path, start)]

    def begun(self, config: Config) -> Found | None:
        """A run of this very config that was begun and not finished, to go on with.

        Where a process still has it (a worker whose driver was killed saves before it goes), whoever goes on waits for it.
        """
        text = dump(config.saved)
        found = self._found.get(likeness(text), [])
        return next((each for each in reversed(found) if not each.finished and each.text == text), None)


def started_from(path: Path, start: str | None) -> bool:
    """Whether the run at `path` took its weights from the run `start` (None: from nowhere)."""
    try:
        facts = read_manifest(path).get("start")
    except MissingError:
        return False
    if start is None or not isinstance(facts, dict):
        return start is None and not facts
    origin = Path(str(facts.get("path"))).parent.parent
    return os.path.realpath(origin) == os.path.realpath(start)


def fingerprint(path: Path) -> str | None:
    """The sum of the data a run was trained on."""
    try:
        found = read_manifest(path)["data"].get("fingerprint")
    except MissingError:
        return None
    return found if isinstance(found, str) else None


class Today:
    """The fingerprints of the data as they are now, each made once; making one loads torch and the data."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, config: Config) -> str:
        tree = config.resolved
        key = json.dumps(tree["dataset"], sort_keys=True, default=str)
        if key not in self._known:
            import torch

            from dlrun.build import build_data

            data = build_data(tree, int(tree["seed"]), torch.device("cpu"))
            self._known[key] = data.fingerprint
            data.close()
        return self._known[key]


def new_place(root: Path, experiment: str, name: str, taken: set[Path]) -> Path:
    """A folder for a run that nobody has: `<experiment>/<time>-<name>`, -2, -3 ...; it is made when the run begins."""
    base = root / safe_name(experiment) / safe_name(f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    for number in range(1, 10_000):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if path not in taken and not path.exists():
            taken.add(path)
            return path
    raise MissingError(f"{base} and 9,999 numbered ones exist already")
