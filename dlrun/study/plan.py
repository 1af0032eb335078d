"""What a study is made of, as plain data: the question that was asked, its cells, and their jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What to choose by: a metric of `val` and its better direction, `max` or `min`."""

    metric: str
    direction: str

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.direction == "max" else one < other


@dataclass(frozen=True)
class Job:
    """One training: a cell with a seed. `text` is its frozen config.yaml, `sha256` the sum of that, `seals` its typed paths.

    `place` is its folder as seen from the study's, where it has one of its own; else `runs/<cell>-s<seed>`.
    """

    cell: int
    seed: int
    text: str
    sha256: str
    seals: dict[str, str] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True)
class Cell:
    """One point of the space, numbered from 0 for ever; `params` are the values that tell it from others, the seed left out."""

    number: int
    params: dict[str, Any]
    jobs: tuple[Job, ...]
    source: str = "grid"


@dataclass(frozen=True)
class Question:
    """What was asked. `space` describes the axes as plain data; `plugins` are (name, sha256); `trials` None where the space is a grid.

    Without a `goal` it is the metric that chooses `best` in each run (`dlrun.session.chooser`): the first one built says which.
    """

    words: tuple[str, ...]
    space: dict[str, Any]
    seeds: tuple[int, ...]
    goal: Goal | None
    search: str = "grid"
    trials: int | None = None
    timeout: float | None = None
    prune: str = "none"
    plugins: tuple[tuple[str, str], ...] = ()
