"""Sanity checks: one file a check, `check(subject) -> Finding`. They work on copies and change nothing of the training they look at.

Findings come in causal order (data -> outputs -> loss -> gradient -> update -> learning): the first one above info is the likely root.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

from dlrun.checks._finding import LEVELS, LOUD, Finding
from dlrun.checks._folding import fold, in_order
from dlrun.checks._frame import Subject
from dlrun.checks._moments import known
from dlrun.checks._present import Line, before_training, during_training, on_request, verdict
from dlrun.data.items import generators_kept
from dlrun.run import Run

__all__ = [
    "LOUD",
    "Finding",
    "Subject",
    "during_training",
    "kind_line",
    "known",
    "lines_before_training",
    "lines_on_request",
    "run_checks",
    "verdict",
]

MOMENTS = {"fast": ("fast",), "check": ("fast", "check"), "deep": ("fast", "check", "deep")}
"""Which checks run: `fast` before every training, `check` on request, `deep` with --deep."""

PATIENCE = {"fast": (0.3, math.inf), "check": (5.0, 18.0), "deep": (20.0, 110.0)}
"""Seconds for a check that could go on for long, and for all; those that come when these are used up are not run, which is said."""


def run_checks(run: Run, level: str, *, folded: bool = True) -> list[Finding]:
    """The findings of every check of `level` on a built run, in causal order; unless not `folded`, consequences stand under their root."""
    parts = known(MOMENTS[level])
    subject = Subject(run, *PATIENCE[level])
    findings = []
    with generators_kept():
        for name in in_order(parts):
            begun = time.perf_counter()
            finding = subject.judge(name, parts[name])
            finding.seconds = time.perf_counter() - begun
            findings.append(finding)
    if folded:
        fold(findings, parts)
    if level != "fast" and (facts := subject.expects.unread()):
        text = f"declared, but no check that applies here reads it: {', '.join(f'expects.{fact}' for fact in facts)}"
        findings.append(Finding("info", text, check="expects"))
    return findings


def worst(findings: Sequence[Finding]) -> str:
    """The highest level among `findings`."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")


def lines_before_training(findings: Sequence[Finding], width: int | None) -> Iterator[Line]:
    """(text, style) lines for the start of a training; `width` is that of the terminal, None where there is none."""
    return before_training(findings, {name: getattr(part, "shown", False) for name, part in known(MOMENTS["fast"]).items()}, width)


def lines_on_request(findings: Sequence[Finding], width: int | None) -> Iterator[Line]:
    """(text, style) lines for `dlrun check`."""
    return on_request(findings, {name: getattr(part, "stage", "learning") for name, part in known(MOMENTS["deep"]).items()}, width)


def kind_line(run: Run) -> str | None:
    """What is learned, where nobody said it and it was inferred; else None."""
    if not getattr(run.task, "kind_inferred", False):
        return None
    return f"task.kind is not said: read as {Subject(run).kind} from data, loss and outputs"
