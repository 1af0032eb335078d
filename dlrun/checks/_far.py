"""Targets so far from where outputs start that the steps of the training do not lead there.

Unstandardised targets are no fault by themselves: a large enough rate, or enough steps, brings outputs to them. So a copy takes all the
steps that there will be, on one batch, which is the easiest there is; what counts is whether it gets as low as the mean of the targets.
"""

from __future__ import annotations

import math
import time

import torch

from dlrun.checks._frame import Finding, Subject
from dlrun.checks._probe import probe

FAR, LEFT = 3.0, 0.5
FEWEST, MOST = 50, 1000
SECONDS = 1.0
RULE = f"a first loss > {FAR:g} x that of the targets' mean, of which all steps on one batch leave > {LEFT:.0%}"


def too_far(subject: Subject) -> Finding | None:
    """The finding where a whole training on one batch ends above the loss of its mean target; None where it does not, or takes too long."""
    run, asked = subject.copy(), probe(subject)
    if asked is None or subject.kind != "regression" or asked.targets.mode != "numbers" or not FEWEST <= run.steps <= MOST:
        return None
    y = asked.targets.like(asked.out)
    if not bool(torch.isfinite(y).all()) or len(y) < 8:
        return None
    mean, first = asked.at(y.mean(0).expand_as(y).clone()), asked.at(asked.out)
    if not (math.isfinite(mean) and mean > 0 and first > FAR * mean):
        return None
    begun = time.thread_time()
    for _ in subject.fit(run, subject.raw, run.steps):
        if time.thread_time() - begun > max(SECONDS, subject.patience):
            return None
    last = subject.batch_loss(run, subject.prepared(run, subject.raw))
    if not math.isfinite(last) or last < max(mean, LEFT * first):
        return None
    numbers = {"first": first, "mean": mean, "last": last, "steps": run.steps, "targets": [float(y.min()), float(y.max())]}
    text = f"targets go from {float(y.min()):.4g} to {float(y.max()):.4g}, outputs start about {float(asked.out.mean()):.2g}"
    text += f": all {run.steps} steps on one batch take the loss from {first:.4g} to {last:.4g}, the targets' mean costs {mean:.4g}"
    cause = "targets are in their own unit, and steps of this size do not lead that far"
    return Finding("warning", text, cause, "standardise the targets: (y - mean) / deviation of train", numbers, RULE)
