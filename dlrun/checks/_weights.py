"""Weights of classes, read off the loss: how strongly a target of each class is pulled up where all outputs are alike.

Weights are there to help rare classes (King and Zeng 2001, section 4): they fall as counts rise, by whatever law. Weights that rise in
proportion to the counts are the counts themselves, put where their inverse belongs. Only that proportion is said, for costs of mistakes
may be anything.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._forms import Form
from dlrun.checks._frame import Finding, Subject
from dlrun.checks._probe import Probe

UNEVEN, NEAR = 1.5, 0.15
"""Ratio of the most to the least frequent class from which weights say something; how near to 1 the exponent of counts has to be."""
RULE = f"weights of classes do not grow in proportion to their counts (exponent of the count outside {1 - NEAR:g} .. {1 + NEAR:g})"


def by_count(subject: Subject, asked: Probe, shape: Form) -> Finding | None:
    """The finding where the loss weighs classes by how frequent they are; None where it does not, or a sampler changes what is drawn."""
    if shape.name not in ("free", "logs") or not asked.steady or subject.run.data.order.sampler is not None:
        return None
    weights = _of_classes(asked, shape) if asked.targets.mode == "classes" else _of_labels(asked)
    if weights is None or float(weights.max()) < 1.2 * float(weights.min()):
        return None
    counts = _counts(subject, asked, len(weights))
    if counts is None or float(counts.max()) < UNEVEN * float(counts.min()):
        return None
    x, w = counts.double().log(), weights.double().log()
    x, w = x - x.mean(), w - w.mean()
    exponent = float(x @ w / x.square().sum())
    fits = float(x @ w) / math.sqrt(float(x.square().sum() * w.square().sum()))
    if abs(exponent - 1) > NEAR or fits < 0.99:
        return None
    numbers: dict[str, Any] = {"weights": weights.tolist()[:20], "counts": counts.tolist()[:20], "exponent": exponent}
    most, least = int(counts.argmax()), int(counts.argmin())
    text = (
        f"the loss weighs frequent classes more: class {most} ({int(counts[most])} rows) counts {float(weights[most] / weights[least]):.3g}"
    )
    text += f" times as much as class {least} ({int(counts[least])} rows)"
    cause = "counts stand where their inverse belongs: rare classes are now learned last, or not at all"
    return Finding("error", text, cause, "weigh by counts.sum() / (classes * counts), or pos_weight = negatives / positives", numbers, RULE)


def _of_classes(asked: Probe, shape: Form) -> Tensor | None:
    """The pull at the target's output by class [C]; None where some class was not asked after."""
    layout, y = asked.targets.layouts[0], asked.targets.value
    assert y is not None
    index, made = asked.targets.index(), None
    if y.numel() == len(y) and asked.targets.mask is None and bool((index >= 0).all()):
        index = torch.arange(len(y), device=y.device) % layout.classes
        made = index.to(y.dtype).reshape(y.shape)
    counted = (index >= 0) & (index < layout.classes)
    pull = -layout.flat(asked.slope(torch.zeros_like(asked.out), made, through=shape.of))
    own = pull.gather(1, index.clamp(0, layout.classes - 1)[:, None])[:, 0]
    rows = [own[counted & (index == c)] for c in range(layout.classes)]
    if any(len(row) == 0 for row in rows):
        return None
    weights = torch.stack([row.median() for row in rows])
    return weights if float(weights.min()) > 0 else None


def _of_labels(asked: Probe) -> Tensor | None:
    """[2]: how strongly a 0 and a 1 of the single label are pulled at; None where there are several labels, or none of one kind."""
    y = asked.targets.like(asked.out)
    if asked.targets.mode != "labels" or y.numel() != len(y) or asked.targets.mask is not None:
        return None
    pull = asked.slope(torch.zeros_like(asked.out)).abs().flatten()
    rows = [pull[y.flatten() == value] for value in (0, 1)]
    if any(len(row) == 0 for row in rows) or any(float(row.median()) <= 0 for row in rows):
        return None
    return torch.stack([row.median() for row in rows])


def _counts(subject: Subject, asked: Probe, classes: int) -> Tensor | None:
    """How often each class stands in train; None where that is not known, or one never does."""
    y = subject.run.data.targets("train")
    if y is None and subject.patience >= 1:
        y = subject.rows("train", 2048).y
    if not isinstance(y, Tensor) or y.dim() != (1 if asked.targets.value is None else asked.targets.value.dim()):
        return None
    flat = y.detach().cpu().flatten().long()
    counts = torch.bincount(flat[(flat >= 0) & (flat < classes)], minlength=classes)
    return counts if int(counts.min()) > 0 else None
