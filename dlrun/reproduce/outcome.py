"""The verdict on an experiment as the document of the contract, and as what a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dlrun.claims.evaluating import evaluate
from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.forms import names_of
from dlrun.claims.judge import conclude, judge
from dlrun.claims.language import Claim, parse
from dlrun.errors import MissingError
from dlrun.functional.student import interval
from dlrun.reproduce.leader import Runs
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.wanted import Choice, Wanted, judged
from dlrun.rundir import read_manifest
from dlrun.sinks.terminal import duration, number

CODES = {"reproduced": 0, "not_reproduced": 1, "undecided": 4}
NEUTRAL = ("output_root=", "device=", "log.", "train.threads=", "train.workers=", "checks=")
"""Overrides under which an experiment is still the one that is recorded."""


def claims_of(sheet: Sheet) -> list[Claim]:
    """Its claims. Raises UsageError."""
    names = names_of(sheet.config)
    return [parse(entry, names) for entry in sheet.config["claims"]]


def outcome(sheet: Sheet, runs: Runs, evidence: Sequence[SeedEvidence]) -> dict[str, Any]:
    """The document: the contract's keys, and what else there is to say.

    `seconds` (set by the caller) is what this call spent on it: the time its runs took, shared among the workers, and judging.
    """
    claims = claims_of(sheet)
    found = judge(claims, evidence, sheet.config)
    wanted = judged(sheet)
    return {
        "verdict": conclude(claims, found),
        "claims": [
            {**asdict(one), "source": one.source or sheet.config.get("source"), "control": claim.control}
            for claim, one in zip(claims, found)
        ],
        "baseline": baseline(sheet, evidence),
        "tuned": [_tuned(choice) for key, choice in runs.choices.items() if key[0] == sheet.name],
        "recorded": sheet.config.get("recorded") or "reproduced",
        "runs": [str(runs.state[each].path) for each in wanted if runs.state[each].done],
        "missing": {str(each): runs.state[each].lost or "not trained" for each in wanted if not runs.state[each].done},
        "commits": commits(runs, wanted),
        "changed": [word for word in sheet.words if not word.lstrip("+").startswith(NEUTRAL)],
        "cost": sheet.config.get("cost"),
        "figure": sheet.config.get("figure"),
        "seconds": 0.0,
    }


def baseline(sheet: Sheet, evidence: Sequence[SeedEvidence]) -> dict[str, Any] | None:
    """The experiment's own value beside that of its baseline: means over seeds and the lift with its 95 % interval."""
    entry = sheet.config.get("baseline")
    if not entry:
        return None
    ours, base = ([_value(entry[key], seed) for seed in evidence] for key in ("ours", "is"))
    lifts = [one - other for one, other in zip(ours, base)]
    if not lifts or not all(map(math.isfinite, lifts)):
        return {**entry, "lift": None, "interval": None}
    span = interval(lifts)
    means = {"ours_mean": sum(ours) / len(ours), "is_mean": sum(base) / len(base)}
    return {**entry, **means, "lift": sum(lifts) / len(lifts), "interval": list(span) if span else None}


def _value(text: Any, seed: SeedEvidence) -> float:
    if isinstance(text, (int, float)):
        return float(text)
    try:
        return float(evaluate(text, seed))
    except (MissingError, ArithmeticError, LookupError, ValueError):
        return math.nan


def _tuned(choice: Choice) -> dict[str, Any]:
    return {"arm": choice.arm, "point": dict(choice.point), "values": list(choice.values), "winner": choice.winner, "edge": choice.edge}


def commits(runs: Runs, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """Of which commit the checkouts were (dlrun's own and the folder's) when the judging runs were trained: their claims stood there."""
    found: dict[str, dict[str, Any]] = {}
    for each in wanted:
        path = runs.state[each].path
        try:
            git = read_manifest(path).get("git") if path and runs.state[each].done else None
        except MissingError:
            continue
        if isinstance(git, dict) and isinstance(facts := git.get("dlrun") or git.get("folder"), dict):
            found.setdefault(str(facts), facts)
    return list(found.values())


# -- for people


def lines(name: str, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(text, style) of what stands below the table of claims."""
    said: list[tuple[str, str]] = []
    base = found["baseline"]
    if base and base["lift"] is not None:
        span = f" (95 %: {number(base['interval'][0])} to {number(base['interval'][1])})" if base["interval"] else ""
        said.append(
            (f"over the baseline: {number(base['ours_mean'])} against {number(base['is_mean'])}, lift {number(base['lift'])}{span}", "")
        )
    for tuned in found["tuned"]:
        said.append((_tuned_line(tuned), "warning" if tuned["edge"] else ""))
    for run, why in list(found["missing"].items())[:10]:
        said.append((f"{run}: {why}", "error"))
    if found["changed"]:
        said.append((f"judged with {' '.join(found['changed'])}: not the experiment as it is recorded", "warning"))
    said.append((verdict_line(name, found), "good" if CODES[found["verdict"]] == 0 else "warning"))
    return said


def _tuned_line(tuned: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value} {number(mean)}" for value, mean in tuned["values"])
    where = " ".join(filter(None, [tuned["arm"], " ".join(f"{key}={value}" for key, value in tuned["point"].items())]))
    return f"tuned for {where}: {tuned['winner']} of {values}{'; at the edge of the grid' if tuned['edge'] else ''}"


def verdict_line(name: str, found: Mapping[str, Any]) -> str:
    """`grokking: reproduced, 2 of 2 claims met, 10 runs, 42 s`."""
    plain = [claim for claim in found["claims"] if not claim["control"]]
    met = sum(claim["verdict"] == "met" for claim in plain)
    recorded = f" (on record: {found['recorded'].replace('_', ' ')})" if found["recorded"] != "reproduced" else ""
    return (
        f"{name}: {found['verdict'].replace('_', ' ')}{recorded}, {met} of {len(plain)} claims met, "
        f"{len(found['runs'])} runs, {duration(found['seconds'])}"
    )


def table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the claims."""
    rows = []
    for claim in found["claims"]:
        span = claim["interval"]
        margin = f"{number(span[0])} to {number(span[1])}" if span else ""
        seeds = f"{sum(bool(one['met']) for one in claim['per_seed'])} of {len(claim['per_seed'])}"
        word = claim["verdict"].replace("_", " ") + (" (control)" if claim["control"] else "")
        rows.append([claim["claim"], word, seeds, margin, claim["reason"]])
    return ["claim", "verdict", "seeds", "margin", "why"], rows


def code(found: Mapping[str, Mapping[str, Any]]) -> int:
    """The exit code: 0 where every verdict is `reproduced` or the one on record, 1 where one contradicts, else 4."""
    codes = {0 if one["verdict"] == one["recorded"] and not one["changed"] else CODES[one["verdict"]] for one in found.values()}
    return next((each for each in (1, 4) if each in codes), 0)
