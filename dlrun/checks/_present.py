"""Findings for people: what is wrong first, in full; then one line a check. Wraps to the terminal's width, plain lines elsewhere."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlrun.checks._finding import LOUD, Finding
from dlrun.sinks.terminal import clean, number

MARKS = {"ok": "ok", "info": "note", "warning": "warning", "error": "ERROR", "not_applicable": "n/a"}
STYLES = {"ok": "", "info": "", "warning": "warning", "error": "error", "not_applicable": "dim"}
MOST_NUMBERS, MOST_ITEMS = 8, 6
Line = tuple[str, str]
"""(text, style)"""


def in_full(finding: Finding, findings: Sequence[Finding], width: int | None) -> Iterator[Line]:
    """A finding with its cause, next step, numbers, threshold and recipe, and the checks that saw the same fault."""
    yield from _wrapped(f"check {finding.check}: {MARKS[finding.level]}: ", finding.message, width, STYLES[finding.level], hang=4)
    same = [other.check for other in findings if other.follows == finding.check]
    facts = {
        "likely cause": finding.cause,
        "next": finding.next,
        "numbers": numbers_text(finding.numbers),
        "rule": finding.threshold,
        "recipe": finding.recipe,
        "seen again by": ", ".join(same),
    }
    for name, text in facts.items():
        if text:
            yield from _wrapped(f"    {name}: ", text, width, "" if name in ("likely cause", "next") else "dim", hang=8)


def numbers_text(numbers: Mapping[str, Any]) -> str:
    """The numbers of a finding that one line can hold."""
    texts = []
    for key, value in numbers.items():
        flat = isinstance(value, (list, tuple)) and not any(isinstance(item, (Mapping, list, tuple)) for item in value)
        if flat and 0 < len(value) <= MOST_ITEMS:
            value = ", ".join(number(item) for item in value)
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and value):
            texts.append(f"{key} {number(value)}")
    more = len(texts) - MOST_NUMBERS
    return "; ".join(texts[:MOST_NUMBERS]) + (f"; {more} more with --json" if more > 0 else "")


def before_training(findings: Sequence[Finding], shown: Mapping[str, bool], width: int | None) -> Iterator[Line]:
    """What is said before each training: all that is loud, notes, the few verdicts always worth a look, and how many the others are."""
    for finding in findings:
        if finding.level in LOUD:
            yield from in_full(finding, findings, width)
    for finding in findings:
        if finding.level == "info" or (finding.level == "ok" and shown.get(finding.check)):
            yield from _wrapped(f"check {finding.check}: {MARKS[finding.level]}: ", finding.message, width, STYLES[finding.level], hang=4)
    yield f"checks: {_counts(findings)} in {_seconds(findings):.1f} s (dlrun check says more)", "dim"


def during_training(finding: Finding, step: int, width: int | None) -> Iterator[Line]:
    """What a check saw at `step` of a training."""
    if finding.level in LOUD:
        yield from in_full(replace(finding, check=f"{finding.check} at step {step}"), (), width)
    else:
        head = f"check {finding.check} at step {step}: {MARKS[finding.level]}: "
        yield from _wrapped(head, finding.message, width, STYLES[finding.level], hang=4)


def on_request(findings: Sequence[Finding], stages: Mapping[str, str], width: int | None) -> Iterator[Line]:
    """What `dlrun check` prints: all that is loud in full, a table of the other verdicts, and what does not apply and why."""
    for finding in findings:
        if finding.level in LOUD:
            yield from in_full(finding, findings, width)
    quiet = [finding for finding in findings if finding.level in ("ok", "info")]
    names = max((len(finding.check) for finding in quiet), default=0)
    stage = ""
    for finding in quiet:
        mine = stages.get(finding.check, "")
        head = f"{mine if mine != stage else '':<9}{MARKS[finding.level]:<5}{finding.check:<{names}}  "
        stage = mine
        yield from _wrapped(head, finding.message, width, STYLES[finding.level], hang=min(len(head), 38))
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.level == "not_applicable":
            reasons.setdefault(finding.message, []).append(finding.check)
    for reason, checks in reasons.items():
        yield from _wrapped("not applicable: ", f"{', '.join(checks)}: {reason}", width, "dim", hang=4)


def verdict(findings: Sequence[Finding], seconds: float) -> Line:
    """The last line: sound or not, what to mend first, how many checks in how many seconds."""
    loud = [finding for finding in findings if finding.level in LOUD]
    took = f"{len(findings)} checks in {seconds:.1f} s"
    if not loud:
        return f"sound as far as these checks see: {took}", "good"
    if any(finding.level == "error" for finding in loud):
        return f"not sound, begin with {loud[0].check}: {took}", "error"
    return f"no error, {len(loud)} warning{'s' * (len(loud) > 1)}, begin with {loud[0].check}: {took}", "warning"


def _wrapped(head: str, text: str, width: int | None, style: str, hang: int) -> Iterator[Line]:
    whole = clean(head) + clean(text)
    if width is None or len(whole) < width:
        yield whole, style
        return
    for line in textwrap.wrap(whole, max(width - 1, 40), subsequent_indent=" " * hang, break_on_hyphens=False, drop_whitespace=True):
        yield line, style


def _counts(findings: Sequence[Finding]) -> str:
    words = {"error": "with an error", "warning": "with a warning", "info": "with a note", "ok": "ok", "not_applicable": "do not apply"}
    levels = Counter(finding.level for finding in findings)
    return ", ".join(f"{levels[level]} {word}" for level, word in words.items() if levels[level])


def _seconds(findings: Sequence[Finding]) -> float:
    return sum(finding.seconds for finding in findings)
