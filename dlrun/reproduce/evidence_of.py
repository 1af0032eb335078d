"""From the runs of an experiment to the evidence its claims are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlrun.claims.evidence import RunEvidence, SeedEvidence, Series, read_run
from dlrun.errors import MissingError, UsageError
from dlrun.events import parse
from dlrun.reproduce.leader import Runs
from dlrun.reproduce.sheet import Point, Sheet
from dlrun.reproduce.wanted import Wanted

Measured = dict[str, dict[Point, dict[str, float]]]


def evidence_of(sheet: Sheet, runs: Runs) -> list[SeedEvidence]:
    """One piece a seed. A run that is not there is None; a measure of such a run is left out, and so is one that cannot be made."""
    return [_seed(sheet, runs, seed) for seed in sheet.seeds]


def _seed(sheet: Sheet, runs: Runs, seed: int) -> SeedEvidence:
    paths: dict[str, dict[Point, Path | None]] = {arm: {} for arm in sheet.arms}
    for arm in sheet.arms:
        for point in sheet.points:
            state = runs.state[Wanted(sheet.name, arm, point, seed)]
            paths[arm][point] = state.path if state.done else None
    conditions = sheet.config.get("events") or {}
    arms = {arm: {point: None if path is None else _read(path, conditions) for point, path in at.items()} for arm, at in paths.items()}
    axes = {axis.name: axis.values for axis in sheet.axes}
    return SeedEvidence(seed, axes, arms, _measures(sheet, paths, arms, runs))


def _read(path: Path, conditions: Mapping[str, str]) -> RunEvidence | None:
    """The run; its events are those of today's conditions, which may be younger than the run."""
    try:
        found = read_run(path)
    except MissingError:
        return None
    return replace(found, events=events_in(found.series, conditions))


def events_in(series: Mapping[str, Series], conditions: Mapping[str, str]) -> dict[str, int]:
    """The first step at which each condition held."""
    found = {}
    for name, text in conditions.items():
        metric, compare, level = parse(name, text)
        at = series.get(metric, Series((), ()))
        step = next((step for step, value in zip(at.steps, at.values) if compare(value, level)), None)
        if step is not None:
            found[name] = step
    return found


def _measures(sheet: Sheet, paths: Mapping[str, Mapping[Point, Path | None]], arms: Mapping[str, Any], runs: Runs) -> Measured:
    """What the probes of `measures` say of the runs of one seed, point by point."""
    wanted: Mapping[str, Mapping[str, Any]] = sheet.config.get("measures") or {}
    found: Measured = {name: {} for name in wanted}
    for name, entry in wanted.items():
        names = [entry["runs"]] if isinstance(entry["runs"], str) else entry["runs"]
        for point in sheet.points:
            mine = [paths[arm][point] for arm in names]
            whole = [path for arm, path in zip(names, mine) if path and arms[arm][point]]
            if len(whole) < len(mine):
                continue
            if any(found_run.diverged for arm in names if (found_run := arms[arm][point])):
                found[name][point] = {}  # it counts against a claim, as the run itself does
                continue
            try:
                found[name][point] = _measure(entry, whole)
            except (MissingError, UsageError) as error:  # a probe that does not fit these runs says so in a line
                runs.lines.append(f"measure {name}: {error.lines[0]}")
    return found


def _measure(entry: Mapping[str, Any], paths: list[Path]) -> dict[str, float]:
    from dlrun.probing import measure

    return measure(entry, paths)
