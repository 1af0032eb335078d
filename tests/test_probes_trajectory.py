"""Trajectories: numbers of a series that is known, and those of a run as metrics.jsonl has it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import runs
from probed import probe

from dlrun.loading import load


class Known:
    """Evaluations every 10 steps; the level 7 is held at three of six and lost twice."""

    def series(self, metric: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        return (0, 10, 20, 30, 40, 50), (0.0, 7.0, 8.0, 6.0, 7.0, 2.0)


def found(**options: Any) -> dict[str, float]:
    known: Any = Known()
    return probe("trajectory", known, **options)


def test_a_known_series() -> None:
    whole = found(level=7)
    assert (whole["mean"], whole["share"], whole["lost"], whole["values"]) == (5.0, 0.5, 2, 6)
    assert whole["std"] == pytest.approx(math.sqrt(52 / 5)) and whole["jitter"] == pytest.approx(math.sqrt(80 / 10))
    late = found(level=7, after=0.6)
    assert (late["mean"], late["lost"], late["values"]) == (5.0, 1, 3) and late["share"] == pytest.approx(1 / 3)
    assert late["std"] == pytest.approx(math.sqrt(7)) and late["jitter"] == pytest.approx(math.sqrt(26 / 4))
    assert found(level=9)["lost"] == 0 == found(level=9)["share"]
    with pytest.raises(ValueError, match="has 1 value from step 47.5 on"):
        found(after=0.95)


def test_of_a_run_what_its_file_has(tmp_path: Path) -> None:
    path = runs.start(tmp_path, "train.steps=6", "train.eval_every=2")[0]
    values = [row["val/accuracy"] for row in runs.rows(path) if "val/accuracy" in row]
    numbers = probe("trajectory", load(path), level=0.0)
    assert numbers["mean"] == pytest.approx(sum(values) / 4) and numbers["values"] == 4 and numbers["share"] == 1
    with pytest.raises(ValueError, match=r"'val/acuracy' was not logged; metrics.jsonl has .*val/accuracy"):
        probe("trajectory", load(path), metric="val/acuracy")
