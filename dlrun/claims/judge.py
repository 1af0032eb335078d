"""Whether claims hold, over seeds: an interval of the margin, or what a claim says of its seeds itself (`every`, `median`, `share`).

Source: one-sided 95 % bounds of a mean, Student 1908; where some seeds have no margin, the sign test: with k of n seeds meeting a claim the
upper bound of Clopper and Pearson 1934 for the share that meets it is below 1/2 exactly if P(X <= k) < 5 % for X ~ Binomial(n, 1/2).
A seed without a run is never left out: which runs are missing may depend on what they would have shown. Imports no torch.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dlrun.claims import tree
from dlrun.claims.across import over_seeds_verdict, per_seed_condition
from dlrun.claims.conditions import Margin, Outcome, condition, sides
from dlrun.claims.evaluating import Evaluator
from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.grid import Gap
from dlrun.claims.language import Claim
from dlrun.claims.names import defined
from dlrun.functional.student import interval, quantile

Verdict = Literal["met", "not_met", "undecided"]
ONE_SIDED = 0.95
BOTH = 2 * ONE_SIDED - 1
"""The level of the two-sided interval whose ends are the one-sided bounds."""
USUAL_SEEDS, MOST_SEEDS, MOST_SIGNS = 5, 1000, 200


@dataclass(frozen=True)
class Judged:
    """A claim and what its seeds say of it.

    `per_seed`: {"seed", "margin" (None where there is none), "met": True, False or None, "left", "right" (of a plain comparison)} and
    "reason" where there is no margin.
    """

    claim: str
    verdict: Verdict
    per_seed: list[dict[str, Any]]
    interval: list[float] | None  # one-sided 95 % bounds of the mean margin
    reason: str
    more_seeds: int | None  # further seeds that would decide it, if they are like these
    source: str | None


@dataclass(frozen=True)
class Finding:
    """A verdict and why."""

    verdict: Verdict
    reason: str
    interval: list[float] | None = None
    more: int | None = field(default=None)


def judge(claims: Sequence[Claim], seeds: Sequence[SeedEvidence], config: Mapping[str, Any] | None = None) -> list[Judged]:
    """Each claim's verdict on the runs of `seeds`, in the order of `claims`.

    With the experiment's `config` the events and measures a claim names have to mean what they meant when the runs were made.
    """
    today = None if config is None else defined(config)
    return [_judged(claim, seeds, today) for claim in claims]


def conclude(claims: Sequence[Claim], judged: Sequence[Judged]) -> Literal["reproduced", "not_reproduced", "undecided"]:
    """The experiment's verdict: every claim is met; or one is not, while every control is; else it is undecided."""
    own = [found.verdict for claim, found in zip(claims, judged, strict=True) if not claim.control]
    controls = [found.verdict for claim, found in zip(claims, judged, strict=True) if claim.control]
    if own and all(verdict == "met" for verdict in own):
        return "reproduced"
    failed = "not_met" in own and all(verdict == "met" for verdict in controls)
    return "not_reproduced" if failed else "undecided"


def _judged(claim: Claim, seeds: Sequence[SeedEvidence], today: Mapping[str, str] | None) -> Judged:
    shown = per_seed_condition(claim.tree)
    outcomes = [condition(shown, Evaluator(seed)) if shown else None for seed in seeds]
    entries = [_entry(shown, seed, outcome) for seed, outcome in zip(seeds, outcomes, strict=True)]
    found = _found(claim, seeds, today, [outcome for outcome in outcomes if outcome is not None])
    return Judged(claim.text, found.verdict, entries, found.interval, found.reason, found.more, claim.source)


def _entry(shown: tree.Node | None, seed: SeedEvidence, outcome: Outcome | None) -> dict[str, Any]:
    """What a seed says, as JSON has it."""
    entry: dict[str, Any] = {"seed": seed.seed, "margin": None, "met": None}
    if isinstance(outcome, Gap):
        return entry | {"met": None if outcome.missing else False, "reason": outcome.reason}
    if outcome is not None:
        entry |= {"margin": outcome.value, "met": outcome.met}
    if isinstance(shown, tree.Compare) and len(shown.parts) == 2 and outcome is not None:
        left, right = sides(shown, Evaluator(seed))
        entry |= {"left": left, "right": right}
    return entry


def _found(claim: Claim, seeds: Sequence[SeedEvidence], today: Mapping[str, str] | None, outcomes: Sequence[Outcome]) -> Finding:
    if not seeds:
        return Finding("undecided", "no seed has run")
    changed = _changed(claim, seeds, today)
    if changed:
        first = max(seed.seed for seed in seeds) + 1
        others = ",".join(str(first + place) for place in range(len(seeds)))
        return Finding("undecided", f"{changed} had run: judge it on others, seeds=[{others}]")
    if tree.over_seeds(claim.tree):
        verdict, reason = over_seeds_verdict(claim.tree, seeds)
        return Finding(verdict, reason)
    gaps = [(seed.seed, outcome) for seed, outcome in zip(seeds, outcomes, strict=True) if isinstance(outcome, Gap)]
    missing = [f"seed {seed}: {gap.reason}" for seed, gap in gaps if gap.missing]
    if missing:
        more = f" (and {len(missing) - 1} more seeds)" if len(missing) > 1 else ""
        return Finding("undecided", missing[0] + more)
    margins = [outcome for outcome in outcomes if isinstance(outcome, Margin)]
    if gaps:
        return _with_failures(len(seeds), sum(margin.met for margin in margins), f"seed {gaps[0][0]}: {gaps[0][1].reason}", len(gaps))
    return _by_interval(margins)


def _changed(claim: Claim, seeds: Sequence[SeedEvidence], today: Mapping[str, str] | None) -> str:
    """What was changed after which seed: the claim, where a run that it reads does not hold it in its own config, or what it names."""
    nodes = list(tree.walk(claim.tree))
    measured = any(isinstance(node, tree.Measured) for node in nodes)
    arms = {node.arm for node in nodes if isinstance(node, (tree.Read, tree.Event, tree.Fact))}
    named = [f"events.{node.event}" for node in nodes if isinstance(node, tree.Event)]
    named += [f"measures.{node.measure}" for node in nodes if isinstance(node, tree.Measured)]
    for seed in seeds:
        runs = [run for arm in seed.arms if measured or arm in arms for run in seed.arms[arm].values() if run is not None]
        if any(claim.text not in run.claims for run in runs):
            return f"the claim was changed after seed {seed.seed}"
        other = next((name for name in named for run in runs if today is not None and run.defined.get(name) != today.get(name)), None)
        if other is not None:
            return f"{other}, which the claim reads, was changed after seed {seed.seed}"
    return ""


def below_half(met: int, seeds: int) -> bool:
    """Whether so few seeds meet a claim that, with 95 % confidence, less than half of all would."""
    return math.fsum(math.comb(seeds, k) / 2**seeds for k in range(met + 1)) < 1 - ONE_SIDED


def _with_failures(seeds: int, met: int, first: str, failures: int) -> Finding:
    """Some seeds have no margin: a mean of the others would be another number. The share that meets it decides, against the claim only."""
    said = f"{failures} of {seeds} seeds {'has' if failures == 1 else 'have'} no margin and count as not met ({first})"
    if below_half(met, seeds):
        return Finding("not_met", f"{said}; {met} of {seeds} meet it: less than half would (95 %)")
    later = range(seeds + 1, seeds + MOST_SIGNS if 2 * met < seeds else 0)
    more = next((count - seeds for count in later if below_half(round(met * count / seeds), count)), None)
    advice = "" if more else "; no more seeds make it met: share(...) >= 0.5 asks how often it holds"
    return Finding("undecided", f"{said}; {met} of {seeds} meet it: that does not decide it" + advice, more=more)


def _by_interval(margins: Sequence[Margin]) -> Finding:
    """The one-sided bounds of the mean margin against 0."""
    scale = max((math.frexp(margin.value)[1] for margin in margins if margin.value), default=0)
    values = [math.ldexp(margin.value, -scale) for margin in margins]  # squares of very large ones would overflow, of tiny ones be 0
    strict = any(margin.strict for margin in margins)
    span = interval(values, BOTH)
    if span is None:
        return Finding("undecided", "one seed has no interval: run more, or say every(...)", more=USUAL_SEEDS - 1)
    low, high = span
    mean = math.fsum(value / len(values) for value in values)
    bounds = [number for number in (_scaled(low, scale), _scaled(high, scale)) if math.isfinite(number)]
    shown = bounds if len(bounds) == 2 else None
    seeds = f"(95 %, {len(values)} seeds)"
    said = f"mean margin {_scaled(mean, scale):.4g}"
    if low > 0 or (low == 0 and not strict):
        return Finding("met", f"{said}, at least {_scaled(low, scale):.4g} {seeds}", shown)
    if high < 0 or (low == high and not margins[0].met):
        return Finding("not_met", f"{said}, at most {_scaled(high, scale):.4g} {seeds}", shown)
    between = f"between {_scaled(low, scale):.4g} and {_scaled(high, scale):.4g}"
    return Finding("undecided", f"{said}, {between}: 0 is not ruled out {seeds}", shown, _more(mean, values))


def _scaled(value: float, exponent: int) -> float:
    """value x 2**exponent, infinite where that is too large."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _more(mean: float, values: Sequence[float]) -> int | None:
    """Further seeds after which 0 lies outside the interval, if mean and spread stay as they are; None where that takes very many."""
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))

    def decided(count: int) -> bool:
        return spread * quantile(BOTH, count - 1) < abs(mean) * math.sqrt(count)

    found = bisect_left(range(len(values) + 1, MOST_SEEDS + 1), True, key=decided)  # more seeds narrow it: once decided, always
    return found + 1 if found + len(values) < MOST_SEEDS else None
