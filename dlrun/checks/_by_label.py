"""Which rows a loss over embeddings draws together and which it drives apart, beside what labels and inputs say.

Asked of the loss alone, at made-up embeddings. Rows of one class are to come together more than rows of two; pairs that a label joins, or a
triplet's second, should look more alike in the data than those that are driven apart. A convention turned over (1 for equal, 1 for
different; 0 and 1 for -1 and 1), positives and negatives exchanged: no shape tells.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._embeddings import slopes_at
from dlrun.checks._frame import Finding, Subject
from dlrun.checks._probe import Probe

ROWS, LEAST = 1024, 6
SURE, APART = 6.0, 0.3
RULE = f"pairs that are drawn together are no further apart in the data than others (t < {SURE:g})"
SPREADS = (0.05, 0.3, 1.0, 3.0)


def by_label(subject: Subject, asked: Probe, outs: list[Tensor]) -> Finding | None:
    """The finding where the loss joins what does not belong together; `outs`: embeddings, a row each."""
    rows = len(asked.batch)
    outs = [t for t in outs if len(t) == rows and t.shape[1] > 1]
    y = asked.batch.get("y")
    label = y if isinstance(y, Tensor) and y.dim() == 1 and len(y) == rows else None
    try:
        if len(outs) == 1 and label is not None and not label.is_floating_point():
            return _of_classes(asked, outs, label)
        if len(outs) == 2 and label is not None and len(label.unique()) == 2:
            return _of_pairs(subject, asked, outs, label)
        if len(outs) == 3:
            return _of_triplets(subject, asked, outs)
    except Exception:  # a loss that takes no made-up embeddings
        return None
    return None


def _of_classes(asked: Probe, outs: list[Tensor], y: Tensor) -> Finding | None:
    """Embeddings at right angles: the slope at one says of each other how much it draws."""
    rows = len(y)
    axes = torch.eye(rows, max(rows, outs[0].shape[1])).to(outs[0])
    slopes = slopes_at(asked, outs, [axes])
    if slopes is None or rows > 512:
        return None
    drawn = -slopes[0] @ axes.T
    other = ~torch.eye(rows, dtype=torch.bool, device=drawn.device)
    same = (y[:, None] == y[None]) & other
    one, two = drawn[same], drawn[other & ~same]
    if min(len(one), len(two)) < LEAST or _sure(two, one) < SURE:
        return None
    numbers: dict[str, Any] = {"same_class": float(one.mean()), "others": float(two.mean())}
    text = f"rows of different classes are drawn together ({float(two.mean()):+.2g}), rows of one class less ({float(one.mean()):+.2g})"
    cause = "positives and negatives are exchanged (a mask negated, max for min), or the sign is wrong"
    return Finding("error", text, cause, "print for a row which others the loss takes for positives", numbers, RULE)


def _of_pairs(subject: Subject, asked: Probe, outs: list[Tensor], y: Tensor) -> Finding | None:
    """Pairs whose label says whether they belong together."""
    low, high = y.unique().tolist()
    if min(int((y == low).sum()), int((y == high).sum())) < LEAST:
        return None
    pulls = torch.stack([_together(asked, outs, 0, 1, number) for number in range(len(SPREADS))])
    counted = (pulls != 0).any(0)
    for value, other in ((low, high), (high, low)):
        if not bool(counted[y == value].any()) and bool(counted[y == other].any()):
            text = f"pairs with the label {value:g} do not count: the loss has no slope there, however far apart their embeddings are"
            cause = f"the loss knows other labels (-1 and 1, not {low:g} and {high:g})"
            return Finding("error", text, cause, "2 * y - 1, or the labels that the loss names", {"labels": [low, high]}, RULE)
    joins = {value: float(pulls[:, y == value].sign().mean()) for value in (low, high)}
    joined, parted = (high, low) if joins[high] > joins[low] else (low, high)
    if joins[joined] < 0.5 or joins[parted] > 0:
        return None
    rows = subject.rows("train", ROWS)
    far = _distances(rows.x, 0, 1)
    if far is None or not isinstance(rows.y, Tensor) or len(rows.y) != len(far):
        return None
    labels = rows.y.reshape(-1).to(far.device)
    t = _sure(far[labels == joined], far[labels == parted])
    if t < SURE:
        return None
    text = f"the loss draws together pairs with the label {joined:g}, whose inputs lie further apart than those with {parted:g} (t {t:.0f})"
    cause = "the labels mean the opposite of what the loss takes them for (1 for equal, or 1 for different)"
    return Finding("warning", text, cause, f"use {parted + joined:g} - y, and look at a few pairs", {"t": t}, RULE)


def _of_triplets(subject: Subject, asked: Probe, outs: list[Tensor]) -> Finding | None:
    """Three embeddings a row: the first is drawn to one of the others, and driven away from the other one."""
    to = [float(torch.stack([_together(asked, outs, 0, k, n) for n in range(len(SPREADS))]).sign().mean()) for k in (1, 2)]
    if max(to) < 0.3 or min(to) > 0:
        return None
    near = 1 if to[0] > to[1] else 2
    x = subject.rows("train", ROWS).x
    one, two = _distances(x, 0, near), _distances(x, 0, 3 - near)
    if one is None or two is None:
        return None
    paired = one - two
    t = float(paired.mean() / paired.std().clamp(min=1e-12)) * math.sqrt(len(paired))
    if t < SURE or float(paired.mean()) < APART * float(paired.std()):
        return None
    text = f"the loss draws input 1 to input {near + 1} and away from input {4 - near}, which is more like it in the data (t {t:.0f})"
    cause = "positive and negative are exchanged, in the loss or in the data"
    return Finding("warning", text, cause, "loss(anchor, positive, negative): look at a few triplets", {"t": t}, RULE)


def _together(asked: Probe, outs: list[Tensor], one: int, two: int, number: int) -> Tensor:
    """[B]: how much a step down the loss brings two embeddings of a row nearer, at made-up ones some way apart."""
    draw = torch.Generator().manual_seed(number)
    first = F.normalize(torch.randn(outs[0].shape, generator=draw), dim=1)
    made = [F.normalize(first + SPREADS[number] * torch.randn(t.shape, generator=draw) / t.shape[1] ** 0.5, dim=1).to(t) for t in outs]
    slopes = slopes_at(asked, outs, made)
    if slopes is None:
        return torch.zeros(len(first))
    apart = made[two] - made[one]
    return (-slopes[one] * apart).sum(1) + (slopes[two] * apart).sum(1)


def _distances(x: Any, one: int, two: int) -> Tensor | None:
    """[N]: how far two inputs of a row lie apart; None where they are no numbers of one shape."""
    known = [t for t in leaves(x) if t.dim() > 1]
    if len(known) <= max(one, two) or known[one].shape != known[two].shape or not known[one].is_floating_point():
        return None
    far: Tensor = (known[one] - known[two]).flatten(1).float().norm(dim=1)
    return far


def _sure(one: Tensor, two: Tensor) -> float:
    """How many standard errors the mean of `one` lies above that of `two`; 0 where they differ by little of their spread."""
    if min(len(one), len(two)) < LEAST:
        return 0.0
    one, two = one.double(), two.double()
    gap = float(one.mean() - two.mean())
    error = math.sqrt(float(one.var() / len(one) + two.var() / len(two)))
    spread = math.sqrt(0.5 * float(one.var() + two.var()))
    return 0.0 if gap <= APART * spread or gap <= 0 else gap / max(error, 1e-12 * abs(gap))
