"""What a worker is told: which study, where it lies, and what the command line named. Imports nothing, so that workers start first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """Which study a worker works for. `plugins` are the names typed, `pins` the sums they had when the study was asked.

    `stay`: more jobs may come when none is open. `prune`: steps between evaluations, where runs that lie behind are given up; else 0.
    `valued`: a run is compared by the goal's metric, and failed without one; else it is done when it has finished.
    `composed`: what Hydra made of parts (`config.memory`), so that workers need not.
    """

    storage: str
    study: str
    folder: str
    owner: str
    lease: float = 30.0
    goal: tuple[str, str] | None = None
    plugins: tuple[str, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    config_dir: str | None = None
    command: tuple[str, ...] = ()
    stay: bool = False
    prune: int = 0
    valued: bool = True
    composed: tuple[Any, ...] = ()


def told(facts: dict[str, Any]) -> Setting:
    """A setting from its JSON."""
    tupled: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return Setting(**tupled | {"pins": tuple((name, sha256) for name, sha256 in facts["pins"])})
