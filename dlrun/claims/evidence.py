"""What the runs of an experiment show, as plain data: the one thing claims are judged on.

A seed's evidence is a run for every arm at every point of the axes, and what its measures say there. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Point = tuple[tuple[str, Any], ...]
"""((axis, value), ...) in the order of `axes`; () without axes."""


@dataclass(frozen=True)
class Series:
    """A metric over training: `values[i]` was found at `steps[i]`; steps increase, values may be NaN or infinite."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class RunEvidence:
    """One run: its state, how far it came (`step`) of what was asked (`steps`), its metrics, the first step of each event."""

    path: str
    status: str  # running, finished, stopped, interrupted or failed
    step: int  # the last step trained
    steps: int  # how many it was to train
    series: Mapping[str, Series]  # by metric: "test/accuracy"
    events: Mapping[str, int]  # by name, of those that happened
    seconds: float
    parameters: int
    diverged: bool  # stopped on a non-finite value
    claims: tuple[str, ...]  # texts of the claims in its own config.yaml
    reason: str = ""  # why it ended, where it did not finish
    defined: Mapping[str, str] = field(default_factory=dict)  # what its own config.yaml means by events.NAME and measures.NAME


@dataclass(frozen=True)
class SeedEvidence:
    """All that was run with one seed.

    A run that is not there is None, its measures are left out. A measure of a run that diverged is {}: no number, for a known reason.
    """

    seed: int
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    arms: Mapping[str, Mapping[Point, RunEvidence | None]] = field(default_factory=dict)
    measures: Mapping[str, Mapping[Point, Mapping[str, float]]] = field(default_factory=dict)


def read_run(path: str | os.PathLike[str]) -> RunEvidence:
    """The evidence in a run directory: metrics.jsonl, summary.json and config.yaml, as data.

    Raises MissingError, in one line, where the run is not one of dlrun's, or damaged. Anybody may have written it: links are not followed
    and sizes are bounded.
    """
    from dlrun.claims.reading import read

    return read(os.fspath(path))
