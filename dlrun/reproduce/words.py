"""What is said of a judged claim in one line: its seeds, its numbers with intervals, why, and how many seeds more would decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlrun.functional.student import interval
from dlrun.sinks.terminal import number


def counted(claim: Mapping[str, Any]) -> str:
    """`5 of 5 seeds`, `3 of 5 seeds, 1 unknown`."""
    met = [one["met"] for one in claim["per_seed"]]
    unknown = f", {met.count(None)} unknown" if None in met else ""
    return f"{met.count(True)} of {len(met)} seeds{unknown}"


def sides(claim: Mapping[str, Any]) -> str:
    """`14.2 (95 %: 12.1 to 16.3) against 10`: means over seeds of either side of a plain comparison; "" for another condition."""
    found = [[one.get(side) for one in claim["per_seed"]] for side in ("left", "right")]
    if not all(values and all(_is_number(value) for value in values) for values in found):
        return ""
    return " against ".join(mean_words(values) for values in found)


def mean_words(values: Sequence[float]) -> str:
    """`14.2 (95 %: 12.1 to 16.3)`."""
    values = [float(value) for value in values]
    span = interval(values)
    inside = f" (95 %: {short(span[0])} to {short(span[1])})" if span and span[0] < span[1] else ""
    return short(math.fsum(values) / len(values)) + inside


def short(value: float) -> str:
    """A number; whole ones without decimals."""
    return number(int(value) if value.is_integer() and abs(value) < 1e15 else value)


def span_words(span: Sequence[float]) -> str:
    """`2.1 to 6.3`."""
    return f"{short(float(span[0]))} to {short(float(span[1]))}"


def number_or_dash(value: Any) -> str:
    """A number, short; `-` for none."""
    return short(float(value)) if isinstance(value, (int, float)) else "-"


def commit_words(facts: Mapping[str, Any]) -> str:
    """A commit, and whether something in the checkout was changed since."""
    return f"{facts.get('commit')}{' with changes' if facts.get('dirty') else ''}"


def more(claim: Mapping[str, Any]) -> str:
    """How many seeds would decide."""
    count = claim["more_seeds"]
    return f"{count} more seed{'s' * (count != 1)} would probably decide" if count else ""


def claim_words(claim: Mapping[str, Any]) -> str:
    """All of it."""
    count = "" if claim["reason"].startswith(counted(claim)) else counted(claim)
    return "; ".join(filter(None, [count, sides(claim), claim["reason"], more(claim)]))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
