"""Evidence made by hand, for tests of figures, pages and tables of reproductions: sheets, seeds, runs whose every number is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlrun.claims.evidence import Point, RunEvidence, SeedEvidence, Series
from dlrun.claims.judge import conclude, judge
from dlrun.config.composing import Config
from dlrun.reproduce.outcome import claims_of
from dlrun.reproduce.sheet import Sheet, read_axis

Curve = Callable[[str, dict[str, Any], int, str], Sequence[float] | None]
"""(arm, point, seed, metric) -> values at the steps."""


def sheet(name: str, arms: Mapping[str, Any] | None = None, seeds: int = 5, **config: Any) -> Sheet:
    """A sheet with these root keys; `axes` as in YAML."""
    axes = tuple(read_axis(axis, values) for axis, values in (config.get("axes") or {}).items())
    tree = {"source": "Someone 2022, figure 1", "claims": [], "tags": ["paper"], "arms": dict(arms or {}), **config}
    return Sheet(name, Config(tree, tree), tuple(arms or {}) or ("run",), axes, None, tuple(range(seeds)))


def run(
    series: Mapping[str, Series],
    *,
    path: str = "outputs/x/run",
    events: Mapping[str, int] | None = None,
    diverged: bool = False,
    steps: int = 100,
    claims: Sequence[str] = (),
) -> RunEvidence:
    """A finished run, or one that diverged at `steps`."""
    status, reason = ("failed", "non-finite loss at step 7") if diverged else ("finished", "")
    return RunEvidence(path, status, steps, steps, series, events or {}, 12.5, 1234, diverged, tuple(claims), reason)


def evidence(sheet: Sheet, metrics: Sequence[str], steps: Sequence[int], curve: Curve, **more: Any) -> list[SeedEvidence]:
    """A seed's runs by `curve`; a curve that turns NaN makes a run that diverged, None one that is not there. `more`: events, measures."""
    return [_seed(sheet, seed, metrics, steps, curve, **more) for seed in sheet.seeds]


def _seed(
    sheet: Sheet,
    seed: int,
    metrics: Sequence[str],
    steps: Sequence[int],
    curve: Curve,
    events: Callable[[str, int], Mapping[str, int]] | None = None,
    measures: Callable[[str, dict[str, Any], int], Mapping[str, float]] | None = None,
) -> SeedEvidence:
    texts = [entry if isinstance(entry, str) else entry["claim"] for entry in sheet.config["claims"]]
    arms: dict[str, dict[Point, RunEvidence | None]] = {arm: {} for arm in sheet.arms}
    for arm in sheet.arms:
        for point in sheet.points:
            found = {metric: curve(arm, dict(point), seed, metric) for metric in metrics}
            if metrics and all(values is None for values in found.values()):
                arms[arm][point] = None
                continue
            series = {metric: _series(steps, values) for metric, values in found.items() if values is not None}
            diverged = any(math.isnan(value) for one in series.values() for value in one.values)
            path = f"outputs/{sheet.name}/20260101-000000-s{seed}-{arm}"
            arms[arm][point] = run(
                series,
                path=path,
                events=events(arm, seed) if events else {},
                diverged=diverged,
                steps=steps[-1] if steps else 0,
                claims=texts,
            )
    named = sheet.config.get("measures") or {}
    measured = {name: {point: dict(measures(name, dict(point), seed)) for point in sheet.points} for name in named} if measures else {}
    return SeedEvidence(seed, {axis.name: axis.values for axis in sheet.axes}, arms, measured)


def _series(steps: Sequence[int], values: Sequence[float]) -> Series:
    first = next((i for i, value in enumerate(values) if math.isnan(value)), len(values) - 1)
    return Series(tuple(steps[: first + 1]), tuple(float(value) for value in values[: first + 1]))


def document(sheet: Sheet, found: Sequence[SeedEvidence], **more: Any) -> dict[str, Any]:
    """What `dlrun reproduce` would write of it."""
    claims = claims_of(sheet)
    verdicts = judge(claims, found)
    runs = [one.path for seed in found for at in seed.arms.values() for one in at.values() if one]
    return {
        "verdict": conclude(claims, verdicts),
        "claims": [
            {**vars(one), "source": one.source or sheet.config["source"], "control": claim.control} for claim, one in zip(claims, verdicts)
        ],
        "baseline": None,
        "tuned": [],
        "recorded": "reproduced",
        "runs": runs,
        "missing": {},
        "commits": [{"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}],
        "changed": [],
        "cost": 150,
        "seconds": 42.0,
        **more,
    }


def noise(*key: Any) -> np.random.Generator:
    """Numbers that hang on the key alone."""
    return np.random.default_rng(sum(map(ord, repr(key))) * 7919 % 2**32)


def save_all(sheet: Sheet, found: Sequence[SeedEvidence], folder: Path, **more: Any) -> list[Path]:
    """The figures."""
    from dlrun.reproduce.figure import draw

    return draw(sheet, found, document(sheet, found, **more), folder)
