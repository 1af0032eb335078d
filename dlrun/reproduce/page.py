"""report.html of a reproduction: what is claimed and what came of it, seed by seed, the figures, arms, tuning, runs and cost, in one file.

Every word that people chose is escaped; there is no script in it, and it asks no network for anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.claims.evidence import SeedEvidence
from dlrun.reproduce.bands import events_of, spread_of
from dlrun.reproduce.outcome import verdict_line
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.words import claim_words, commit_words, mean_words, number_or_dash, span_words
from dlrun.rundir import write_atomic
from dlrun.sinks.markup import head, image, link, table, text_of
from dlrun.sinks.terminal import duration, number
from dlrun.study.space import text_of as value_text

NAME = "report.html"
STYLE = """
.met, .reproduced { color: #00704f } .not_met, .not_reproduced { color: #b34700 } .undecided { color: #666 }
.verdict { font-weight: bold } .claim { border-left: 4px solid #ddd; padding-left: .8rem; margin: 1.2rem 0 }
.claim.met { border-color: #00704f } .claim.not_met { border-color: #b34700 } .claim > * { color: #1a1a1a }
.claim .verdict.met { color: #00704f } .claim .verdict.not_met { color: #b34700 } .claim .verdict.undecided { color: #666 }
code { background: #f5f5f5; padding: .1rem .3rem; overflow-wrap: anywhere; white-space: pre-wrap }
.warning { color: #b34700; font-weight: bold } .quiet { color: #555 } summary { cursor: pointer }
"""


def write(sheet: Sheet, evidence: Sequence[SeedEvidence], found: Mapping[str, Any], figures: Sequence[Path], folder: Path) -> Path:
    """The page of an experiment in `folder`; links are relative to it. `found` is the verdict's document."""
    parts = [*head(f"{sheet.name}: {found['verdict'].replace('_', ' ')}", STYLE), *_top(sheet, found)]
    parts += [image(path) for path in figures]
    parts += ["<h2>Claims</h2>", *(_claim(claim, sheet.config.get("source")) for claim in found["claims"])]
    parts += [*_baseline(found), *_tuned(found), *_arms(sheet), *_events(sheet, evidence), *_measures(sheet, evidence)]
    parts += [*_cost(sheet, evidence, found), *_provenance(found), *_runs(sheet, evidence, found, folder), "</body></html>\n"]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / NAME, "\n".join(parts))
    return folder / NAME


def _top(sheet: Sheet, found: Mapping[str, Any]) -> Iterator[str]:
    verdict = found["verdict"]
    yield f'<h1>{text_of(sheet.name)}: <span class="verdict {verdict}">{text_of(verdict.replace("_", " "))}</span></h1>'
    yield f"<p>{text_of(verdict_line(sheet.name, found))}.</p>"
    if found["recorded"] != verdict:
        yield f'<p class="warning">On record is another verdict: {text_of(found["recorded"].replace("_", " "))}.</p>'
    if found["changed"]:
        words = text_of(" ".join(found["changed"]))
        yield f'<p class="warning">Judged with <code>{words}</code>: not the experiment as it is recorded.</p>'
    if source := sheet.config.get("source"):
        yield f"<p>Source: {text_of(source)}</p>"
    if tags := sheet.config.get("tags"):
        yield f'<p class="quiet">{text_of(", ".join(map(str, tags)))}</p>'


# -- claims


def _claim(claim: Mapping[str, Any], source: str | None) -> str:
    verdict = claim["verdict"]
    control = " (control: shows that the code works; no part of the verdict)" if claim.get("control") else ""
    said = [
        f'<span class="verdict {verdict}">{text_of(verdict.replace("_", " "))}</span>{control}<br><code>{text_of(claim["claim"])}</code>'
    ]
    if claim["source"] and claim["source"] != source:
        said.append(f'<span class="quiet">{text_of(claim["source"])}</span>')
    said.append(text_of(claim_words(claim)))
    if claim["interval"]:
        said.append(f"mean margin, one-sided 95 % bounds: {text_of(span_words(claim['interval']))}")
    return f'<div class="claim {verdict}"><p>{"<br>".join(said)}</p>{_seeds(claim["per_seed"])}</div>'


def _seeds(seeds: Sequence[Mapping[str, Any]]) -> str:
    """The claim's numbers seed by seed."""
    if not seeds:
        return ""
    sides = [side for side in ("left", "right") if any(one.get(side) is not None for one in seeds)]
    reasons = ["reason"] if any(one.get("reason") for one in seeds) else []
    words = {True: "met", False: "not met", None: "unknown"}
    rows = []
    for one in seeds:
        cells = [one["seed"], *(number_or_dash(one.get(side)) for side in sides), number_or_dash(one["margin"]), words[one["met"]]]
        rows.append([text_of(cell) for cell in [*cells, *(one.get("reason") or "" for _ in reasons)]])
    return table(["seed", *sides, "margin", "", *("why" for _ in reasons)], rows)


# -- what else there is to say


def _baseline(found: Mapping[str, Any]) -> Iterator[str]:
    base = found["baseline"]
    if not base:
        return
    yield "<h2>Over the baseline</h2>"
    if base["lift"] is None:
        yield '<p class="warning">The lift could not be worked out: a run it reads is missing, or diverged.</p>'
    else:
        span = f" (95 %: {span_words(base['interval'])})" if base["interval"] else ""
        lift = f"{number(base['ours_mean'])} against {number(base['is_mean'])}: lift {number(base['lift'])}{span}"
        yield f"<p>{text_of(lift)}</p>"
    yield f"<p>ours: <code>{text_of(base['ours'])}</code><br>baseline: <code>{text_of(base['is'])}</code></p>"


def _tuned(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["tuned"]:
        return
    yield "<h2>Tuning</h2><p>Means over the tuning seeds, which judge nothing; the same grid for every arm.</p>"
    columns = list(dict.fromkeys(value_text(value) for tuned in found["tuned"] for value, _ in tuned["values"]))
    rows = []
    for tuned in found["tuned"]:
        means = {value_text(value): mean for value, mean in tuned["values"]}
        best = value_text(tuned["winner"])
        cells = [f"<b>{number(means[name])}</b>" if name == best else number(means[name]) if name in means else "" for name in columns]
        edge = '<span class="warning">at the edge of the grid: the best may lie beyond it</span>' if tuned["edge"] else ""
        point = " ".join(f"{key}={value_text(value)}" for key, value in tuned["point"].items())
        rows.append([text_of(" ".join(filter(None, [tuned["arm"], point]))), *cells, text_of(best), edge])
    yield table(["arm", *columns, "taken", ""], rows)


def _arms(sheet: Sheet) -> Iterator[str]:
    arms = sheet.config.get("arms") or {}
    if arms:
        yield "<h2>Arms</h2>"
        yield table(["arm", "what it changes"], [[text_of(name), _changes(changed)] for name, changed in arms.items()])
    if sheet.axes:
        rows = [
            [text_of(axis.name), text_of(", ".join(axis.keys)), text_of(", ".join(map(value_text, axis.values)))] for axis in sheet.axes
        ]
        yield "<h2>Axes</h2>"
        yield table(["axis", "sets", "values"], rows)


def _changes(changed: Any) -> str:
    if not isinstance(changed, Mapping) or not changed:
        return "nothing"
    return "<br>".join(f"<code>{text_of(key)}={text_of(value_text(value))}</code>" for key, value in changed.items())


def _events(sheet: Sheet, evidence: Sequence[SeedEvidence]) -> Iterator[str]:
    events = sheet.config.get("events") or {}
    if not events:
        return
    found = events_of(evidence, tuple(events), sheet.arms)
    marks = {(mark.event, mark.arm): mark for mark in found.marks}
    rows = []
    for name, arm in itertools.product(events, sheet.arms):
        mark = marks.get((name, arm))
        if mark is None:
            cells = ["did not happen" if (name, arm) in found.never else "not known", "", ""]
        else:
            cells = [number(mark.median), f"{min(mark.steps)} to {max(mark.steps)}", f"{len(mark.steps)} of {mark.seeds}"]
        rows.append([text_of(cell) for cell in [name, events[name], arm, *cells]])
    yield "<h2>Events</h2>"
    yield table(["event", "condition", "arm", "median step", "range", "runs"], rows)


def _measures(sheet: Sheet, evidence: Sequence[SeedEvidence]) -> Iterator[str]:
    measures = sheet.config.get("measures") or {}
    rows = []
    for name, point in itertools.product(measures, sheet.points):
        found = [seed.measures.get(name, {}).get(point, {}) for seed in evidence]
        for number_name in dict.fromkeys(key for numbers in found for key in numbers):
            finite, lost = spread_of([float(numbers[number_name]) for numbers in found if number_name in numbers])
            at = " ".join(f"{key}={value_text(value)}" for key, value in point)
            count = f"{len(finite)} of {len(evidence)}" + (f", {lost} not finite" if lost else "")
            rows.append([text_of(cell) for cell in [name, at, number_name, mean_words(finite) if finite else "", count]])
    if measures:
        yield "<h2>Measures</h2>"
        yield table(["measure", "at", "number", "mean", "seeds"], rows)


def _cost(sheet: Sheet, evidence: Sequence[SeedEvidence], found: Mapping[str, Any]) -> Iterator[str]:
    runs = [run for seed in evidence for at in seed.arms.values() for run in at.values() if run is not None]
    said = [f"predicted for all of it: {duration(found['cost'])} on 2 cores"] if found["cost"] else ["no cost on record"]
    said.append(f"the {len(runs)} judging runs trained for {duration(sum(run.seconds for run in runs))} in all")
    said.append(f"this call took {duration(found['seconds'])}")
    yield f"<h2>Cost</h2><p>{text_of('; '.join(said))}.</p>"


def _provenance(found: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Provenance</h2>"
    yield "<p>A claim counts only on runs whose own config holds its very text: it was written down before they ran.</p>"
    commits = [text_of(commit_words(facts)) for facts in found["commits"]]
    where = ", ".join(f"<code>{commit}</code>" for commit in commits) or "not known: no run says its commit"
    yield f"<p>Commit of the code and the claims when the judging runs were trained: {where}.</p>"
    if len(commits) > 1:
        yield '<p class="warning">The judging runs are of several commits.</p>'


def _runs(sheet: Sheet, evidence: Sequence[SeedEvidence], found: Mapping[str, Any], folder: Path) -> Iterator[str]:
    axes = [axis.name for axis in sheet.axes]
    there = [(seed.seed, arm, point, run) for seed in evidence for arm, at in seed.arms.items() for point, run in at.items() if run]
    rows = []
    for seed_number, arm, point, run in there:
        words = [seed_number, arm, *(value_text(value) for _, value in point), "diverged" if run.diverged else run.status]
        rows.append([*map(text_of, [*words, run.step, duration(run.seconds), number(run.parameters)]), link(run.path, folder)])
    yield f"<h2>Runs</h2><details{' open' if len(rows) <= 60 else ''}><summary>{len(rows)} runs</summary>"
    yield table(["seed", "arm", *axes, "state", "steps", "time", "parameters", "run"], rows) + "</details>"
    if found["missing"]:
        yield '<h2>Not there</h2><ul class="warning">'
        yield from (f"<li>{text_of(name)}: {text_of(why)}</li>" for name, why in found["missing"].items())
        yield "</ul>"
