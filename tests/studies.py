"""Small studies for tests: cells frozen from words, a ledger in a folder, a worker in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.signals import Stop
from dlrun.study.asking import ask, identity
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Cell, Job
from dlrun.study.setting import Setting
from dlrun.study.tables import sqlite_url
from dlrun.study.worker import Worker

MOONS = ("dataset=moons", "dataset.n=200", "model=mlp", "model.width=8", "train.steps=20", "checks=none", "device=cpu")


def cells(count: int, seeds: int = 1) -> list[Cell]:
    """Cells with a made-up config, for what never trains them."""
    return [
        Cell(n, {"optimizer.lr": 0.1 * n}, tuple(Job(n, seed, f"cell: {n}\nseed: {seed}\n", f"{n}-{seed}") for seed in range(seeds)))
        for n in range(count)
    ]


def ledger(folder: Path, new: list[Cell] | None = None, question: dict[str, Any] | None = None) -> Ledger:
    """The ledger in `folder`, with these cells."""
    found = Ledger(sqlite_url(folder / "study.db"), "study")
    found.open(question or {"space": "one"}, str(question or "one"))
    found.add(new or [])
    return found


class Study:
    """A real study in `folder`, whose jobs are trained in this process."""

    def __init__(self, folder: Path, *words: str, **setting: Any) -> None:
        named = {word.split("=")[0] for word in words}
        asked = ask([*(word for word in MOONS if word.split("=")[0] not in named), *words], {})
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.cells, self.question = folder, asked.cells, asked.question
        self.ledger = Ledger(sqlite_url(folder / "study.db"), folder.name)
        self.ledger.open({}, identity(asked.question))
        self.ledger.add(asked.cells)
        self.stop, self.said = Stop(), list[dict[str, Any]]()
        self.setting = Setting("", folder.name, str(folder), **{"owner": "me", **setting})
        self.worker = Worker(self.ledger, self.setting, self.stop, lambda event, **facts: self.said.append({"event": event, **facts}))

    def work(self) -> list[dict[str, Any]]:
        """Train what waits; the jobs as they are then."""
        self.worker.work()
        return self.ledger.jobs()

    def run(self, cell: int, seed: int = 0) -> Path:
        """Where a run lies."""
        return self.folder / "runs" / f"{cell:05d}-s{seed}"
