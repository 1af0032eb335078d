"""Sanity checks: one file a check, `check(subject) -> Finding`. They work on copies and change nothing of the training they look at.

Findings come in causal order (data -> outputs -> loss -> gradient -> update -> learning): the first one above info is the likely root.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dlrun import registry
from dlrun.checks._finding import LEVELS, Finding
from dlrun.checks._folding import fold, in_order
from dlrun.checks._frame import Subject
from dlrun.data.items import generators_kept
from dlrun.run import Run

__all__ = ["Finding", "Subject", "run_checks"]

MOMENTS = {"fast": ("fast",), "check": ("fast", "check"), "deep": ("fast", "check", "deep")}
"""Which checks run: `fast` before every training, `check` on request, `deep` with --deep."""


def run_checks(run: Run, level: str, *, folded: bool = True) -> list[Finding]:
    """The findings of every check of `level` on a built run, in causal order; unless not `folded`, consequences stand under their root."""
    known = {name: registry.get("check", name) for name in registry.names("check")}
    parts = {name: part for name, part in known.items() if getattr(part, "moment", "check") in MOMENTS[level]}
    subject = Subject(run, patience=0.3 if level == "fast" else 5.0)
    findings = []
    with generators_kept():
        for name in in_order(parts):
            begun = time.perf_counter()
            finding = subject.judge(name, parts[name])
            finding.seconds = time.perf_counter() - begun
            findings.append(finding)
    if folded:
        fold(findings, parts)
    return findings


def worst(findings: Sequence[Finding]) -> str:
    """The highest level among `findings`."""
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
