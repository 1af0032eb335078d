"""What came out of a study: the JSON of the contract, the table, results.csv.

A cell's value is the mean over its seeds of the goal's metric after the last step, with a 95 % t-interval; a cell with a failed seed has
none, for a mean over the seeds that survived would be another number. Cells are compared with the best one seed by seed.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.functional.student import interval
from dlrun.rundir import write_atomic
from dlrun.sinks.terminal import number
from dlrun.study.ledger import DONE, Ledger
from dlrun.study.plan import Goal

ORDER = ("running", "waiting", "failed", "pruned", "finished")
"""The state of a cell is the first of these that one of its jobs is in."""
MOST_ROWS = 30


def run_of(folder: Path, job: Mapping[str, Any]) -> str:
    """The run directory of a job: where its worker had it, which may be another machine's path."""
    known = (job.get("summary") or {}).get("run_dir")
    return str(known or os.path.normpath(folder / (job.get("place") or f"runs/{job['cell']:05d}-s{job['seed']}")))


def state_of(states: Sequence[str]) -> str:
    """A cell's state, from those of its jobs."""
    if "waiting" in states and any(state in DONE for state in states):
        return "running"  # begun, and between two seeds
    return next((state for state in ORDER if state in states), "waiting")


def goal_of(jobs: Sequence[Mapping[str, Any]], asked: Goal | None) -> Goal | None:
    """What was chosen by: the goal asked for, else the metric that chooses `best` in the runs; None where they differ, or none is done."""
    found = {tuple(job["summary"]["goal"]) for job in jobs if job["summary"]}
    return asked or (Goal(*found.pop()) if len(found) == 1 else None)


def table(ledger: Ledger, folder: Path, asked: Goal | None, seconds: float) -> dict[str, Any]:
    """The document of `dlrun sweep --json`; beside the contract's keys `goal`, `failures`, a cell's `source`, and `last` where pruned."""
    jobs = ledger.jobs()
    by_cell: dict[int, list[dict[str, Any]]] = {}
    for job in jobs:
        by_cell.setdefault(job["cell"], []).append(job)
    readings = ledger.readings() if any(job["state"] == "pruned" for job in jobs) else {}
    rows = [_cell(cell, by_cell.get(cell["number"], []), folder, readings) for cell in ledger.cells()]
    goal = goal_of(jobs, asked)
    values = {number: _values(found) for number, found in by_cell.items()}
    best = _best(rows, goal)
    return {
        "study": ledger.study,
        "goal": f"{goal.metric}:{goal.direction}" if goal else None,
        "cells": rows,
        "best": best,
        "ties": [] if best is None else _ties(rows, values, best),
        "failures": [_failure(job, folder) for job in jobs if job["state"] == "failed"],
        "seconds": seconds,
    }


def means(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over seeds at every step that all of them have."""
    shared = set(curves[0]).intersection(*curves[1:]) if curves else set()
    return {step: math.fsum(curve[step] for curve in curves) / len(curves) for step in sorted(shared)}


def _cell(cell: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], folder: Path, readings: Mapping[int, Any]) -> dict[str, Any]:
    state = state_of([job["state"] for job in jobs])
    values = list(_values(jobs).values()) if state == "finished" else []
    return {
        "number": cell["number"],
        "state": state,
        "params": cell["params"],
        "seeds": [job["seed"] for job in jobs],
        "value": math.fsum(values) / len(values) if values else None,
        "last": _last([dict(readings[job["id"]]) for job in jobs if job["id"] in readings]) if state == "pruned" else None,
        "interval": list(found) if (found := interval(values)) else None,
        "runs": [run_of(folder, job) for job in jobs if job["attempt"] > 0],
        "source": cell["source"],
    }


def _last(curves: Sequence[Mapping[int, float]]) -> list[float] | None:
    """[step, mean over the seeds begun] at the last step they share."""
    found = means(curves)
    return [max(found), found[max(found)]] if found else None


def _values(jobs: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Value by seed of what is finished."""
    return {job["seed"]: job["value"] for job in jobs if job["state"] == "finished"}


def _best(rows: Sequence[Mapping[str, Any]], goal: Goal | None) -> int | None:
    """The cell with the best mean; of equal ones the first."""
    have = [row for row in rows if row["value"] is not None]
    if goal is None or not have:
        return None
    return int((max if goal.direction == "max" else min)(have, key=lambda row: row["value"])["number"])


def _ties(rows: Sequence[Mapping[str, Any]], values: Mapping[int, Mapping[int, float]], best: int) -> list[int]:
    """Cells that cannot be told from the best: the interval of the differences, seed by seed, holds 0. With one seed: equal values."""
    found = []
    for row in rows:
        other = row["number"]
        if other == best or row["value"] is None:
            continue
        differences = [values[best][seed] - values[other][seed] for seed in values[best].keys() & values[other].keys()]
        span = interval(differences)
        if (span and span[0] <= 0 <= span[1]) or (span is None and differences == [0.0]):
            found.append(other)
    return found


def _failure(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    names = ("cell", "seed", "reason", "log")
    return {name: job[name] for name in names} | {"class": job["failure"], "run": run_of(folder, job)}


def lines(found: Mapping[str, Any], most: int = MOST_ROWS) -> tuple[str, list[str], list[list[Any]]]:
    """Title, columns and rows of the table: the best first; `*` the best, `=` what cannot be told from it."""
    cells = sorted(found["cells"], key=lambda cell: _rank(cell, found["goal"]))
    keys = list(dict.fromkeys(key for cell in cells for key in cell["params"]))
    seeds = any(cell["interval"] for cell in cells)
    marks = dict.fromkeys(found["ties"], "=") | ({found["best"]: "*"} if seeds else {})  # one seed crowns nobody
    rows = [
        [
            marks.get(cell["number"], ""),
            cell["number"],
            *(_text(cell["params"].get(key, "")) for key in keys),
            _outcome(cell),
            *([_half(cell)] if seeds else []),
        ]
        for cell in cells[:most]
    ]
    metric = str(found["goal"] or "value").partition(":")[0]
    return f"study {found['study']}", ["", "cell", *keys, metric, *(["± 95 %"] if seeds else [])], rows


def remarks(found: Mapping[str, Any]) -> list[str]:
    """What is to be said below the table."""
    cells, said = found["cells"], []
    if len(cells) > MOST_ROWS:
        said.append(f"and {len(cells) - MOST_ROWS} more cells in results.csv")
    if found["ties"]:
        said.append(f"= cannot be told from the best with these seeds: {', '.join(f'cell {number}' for number in found['ties'][:20])}")
    if found["best"] is not None and all(len(cell["seeds"]) == 1 for cell in cells):
        said.append("one seed a cell: no intervals, and the best may be luck; seed=range(5) tells more")
    if found["goal"] is None and any(job["state"] == "finished" for job in cells):
        said.append("these cells choose their best by different metrics: name one with --goal val/METRIC:max")
    return said


def _rank(cell: Mapping[str, Any], goal: str | None) -> tuple[bool, float, int]:
    value = cell["value"]
    sign = -1.0 if str(goal).endswith(":max") else 1.0
    return value is None, sign * value if value is not None else 0.0, cell["number"]


def _outcome(cell: Mapping[str, Any]) -> str:
    """Its value, or its state; of what was given up also the value it had then."""
    if cell["value"] is not None:
        return number(cell["value"])
    return f"{cell['state']} at {number(cell['last'][1])}, step {cell['last'][0]}" if cell["last"] else str(cell["state"])


def _half(cell: Mapping[str, Any]) -> str:
    return number((cell["interval"][1] - cell["interval"][0]) / 2, 2) if cell["interval"] else ""


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_csv(ledger: Ledger, folder: Path) -> None:
    """results.csv: one row a job, with every parameter and every last metric."""
    cells = {cell["number"]: cell for cell in ledger.cells()}
    jobs = ledger.jobs()
    keys = list(dict.fromkeys(key for cell in cells.values() for key in cell["params"]))
    metrics = list(dict.fromkeys(key for job in jobs for key in (job["summary"] or {}).get("metrics", {})))
    head = ["cell", "seed", "state", *keys, "value", *metrics]
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow([*head, "attempts", "steps", "seconds", "weights_sha256", "failure", "reason", "run"])
    for job in jobs:
        summary = job["summary"] or {}
        params, last = cells[job["cell"]]["params"], summary.get("metrics", {})
        row = [job["cell"], job["seed"], job["state"], *(params.get(key, "") for key in keys), job["value"]]
        row += [last.get(key, "") for key in metrics]
        row += [job["attempt"], summary.get("step"), summary.get("seconds"), summary.get("weights_sha256")]
        sheet.writerow([*row, job["failure"], job["reason"], run_of(folder, job)])
    write_atomic(folder / "results.csv", text.getvalue())
