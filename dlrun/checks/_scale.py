"""The factor by which a cross-entropy multiplies its logits: 1 over its temperature."""

from __future__ import annotations

import torch

from dlrun.checks._forms import last_called
from dlrun.checks._frame import Subject, gap, largest
from dlrun.checks._probe import Probe, probe
from dlrun.checks._pull import hot, refusal

USUAL = 3.0
"""Factors up to this are not looked into."""


def factor_on_logits(subject: Subject) -> tuple[float | None, bool]:
    """How much steeper the loss is at outputs that are all alike than cross-entropy is, None where it is none; whether it needs to be:

    outputs that do not grow with the last layer's weights are cosines, which need a factor of 10 to 100.
    """
    asked = probe(subject)
    spec = subject.run.data.spec
    if asked is None or refusal(asked, spec.classes or spec.vocab) is not None:
        return None, False
    layout = asked.targets.layouts[0]
    slope = asked.slope(torch.zeros_like(asked.out))
    factor = -float((slope * hot(asked.targets, layout)).sum()) / (1 - 1 / layout.classes)
    return (factor, factor > USUAL and _cosines(subject, asked)) if factor > 0 else (None, False)


def _cosines(subject: Subject, asked: Probe) -> bool:
    """Whether twice the weights of the last layer give the same outputs."""
    run = subject.copy()
    module = last_called(subject, run, asked.batch)
    if module is None:
        return False
    before = subject.outputs(run, asked.batch, training=False)
    with torch.no_grad():
        for p in module.parameters(recurse=False):
            p.mul_(2)
    return gap(before, subject.outputs(run, asked.batch, training=False)) < 0.05 * largest(before)
