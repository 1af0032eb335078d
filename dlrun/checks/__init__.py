"""Sanity checks: one file a check, `check(subject) -> Finding`. They work on copies and change nothing of the training they look at.

Findings come in causal order (data -> outputs -> loss -> gradient -> update -> learning): the first one above info is the likely root.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dlrun import registry
from dlrun.checks._frame import STAGES, Finding, Subject
from dlrun.data.items import generators_kept
from dlrun.run import Run

__all__ = ["Finding", "Subject", "run_checks"]

MOMENTS = {"fast": ("fast",), "check": ("fast", "check"), "deep": ("fast", "check", "deep")}
"""Which checks run: `fast` before every training, `check` on request, `deep` with --deep."""


def run_checks(run: Run, level: str) -> list[Finding]:
    """The findings of every check of `level` on a built run, in causal order."""
    parts = [(name, registry.get("check", name)) for name in registry.names("check")]
    chosen = [(name, part) for name, part in parts if getattr(part, "moment", "check") in MOMENTS[level]]
    chosen.sort(key=lambda pair: (STAGES.index(getattr(pair[1], "stage", "learning")), pair[0]))
    subject = Subject(run, patience=0.3 if level == "fast" else 5.0)
    findings = []
    with generators_kept():
        for name, part in chosen:
            begun = time.perf_counter()
            finding = subject.judge(name, part)
            finding.seconds = time.perf_counter() - begun
            if finding.level == "error" and getattr(part, "stage", "") == "data" and not subject.broken:
                subject.broken = f"what {name} found comes first"
            findings.append(finding)
    return findings


def worst(findings: Sequence[Finding]) -> str:
    """The highest level among `findings`."""
    order = ("not_applicable", "ok", "info", "warning", "error")
    return max((finding.level for finding in findings), key=order.index, default="ok")
