"""Pairs of embeddings with a label: what the loss does with the pairs of each label, and whether the inputs say the same.

A loss of pairs draws those of one label together and pushes those of the other apart. Pairs of a label that are neither drawn nor pushed,
wherever the embeddings are, have a label that the loss does not know (0 where -1 is wanted). And pairs that are drawn together should be
the ones whose inputs lie nearer to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._finding import Finding
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._probe import Probe, put

MOST_LABELS, LEAST, CERTAIN, FEW, ALL, ONE_WAY = 8, 4, 6.0, 512, 0.9, 0.95
RULE = "pairs of every label are drawn together or pushed apart somewhere; those drawn together do not lie farther apart"


def pairs_by_label(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where pairs of one label cost nothing, or are drawn together though the others are alike."""
    y = asked.batch.get("y")
    if asked.kind == "gan" or not isinstance(y, Tensor) or y.numel() != len(asked.batch) or not asked.steady:
        return None
    y = y.reshape(-1)
    labels = y.unique().tolist()
    if not 2 <= len(labels) <= MOST_LABELS or asked.targets.mode != "none" or not all(value == round(value) for value in labels):
        return None
    try:
        ways = [way for way in _ways(asked) if way is not None]
    except Exception:  # the loss takes no made-up embeddings
        return None
    if not ways:
        return None
    drawn = torch.stack(ways)
    pulled = (drawn != 0).any(0)
    numbers: dict[str, Any] = {"labels": labels, "counted": [float(pulled[y == value].float().mean()) for value in labels]}
    for value in (label for label in labels if label >= 0):
        if int((y == value).sum()) >= LEAST and not bool(pulled[y == value].any()) and float(pulled[y != value].float().mean()) > ALL:
            text = f"pairs of label {value:g} ({int((y == value).sum())} of {len(y)} rows) cost nothing, wherever their embeddings are: "
            text += "they are neither drawn together nor pushed apart"
            cause = "the loss wants labels of -1 and 1 (cosine, ranking and hinge losses of torch) and gets 0 and 1"
            return Finding("error", text, cause, "give it 2 * y - 1", numbers, RULE)
    return _exchanged(subject, drawn, y, labels, numbers)


def _ways(asked: Probe) -> Iterator[Tensor | None]:
    """[B]: by how much a loss draws the two of each pair together (above 0) or pushes them apart, at several made-up embeddings."""
    for number, (size, apart) in enumerate((size, apart) for apart in (0.02, 0.5, 2.0) for size in (0.5, 3.0)):
        one = asked.noise(f"pair {number}")
        if asked.out.dim() == 3 and asked.out.shape[1] == 2:
            z = size * (one[:, :1] + apart * torch.cat([one[:, 1:], -one[:, 1:]], 1))
            slope = asked.slope(z)
            yield ((slope[:, 0] - slope[:, 1]) * (z[:, 0] - z[:, 1])).sum(1)
            continue
        two = next((t for t in tensors(asked.outputs) if t is not asked.out and t.shape == asked.out.shape), None)
        if two is None or asked.out.dim() != 2 or asked.out.shape[1] < 2:
            return
        way = size * apart * asked.noise(f"way {number}")
        yield _drawn(asked, two, size * one + way, size * one - way)


def _drawn(asked: Probe, two: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    with torch.enable_grad():
        live = [t.detach().clone().requires_grad_() for t in (first, second)]
        loss = asked.of(put(put(asked.outputs, asked.out, live[0] * 1.0), two, live[1] * 1.0))
        slopes = torch.autograd.grad(loss, live, allow_unused=True) if loss.requires_grad else (None, None)
    if slopes[0] is None or slopes[1] is None:
        return None
    drawn: Tensor = ((slopes[0] - slopes[1]) * (first - second)).sum(1)
    return drawn


def _exchanged(subject: Subject, drawn: Tensor, y: Tensor, labels: list[float], numbers: dict[str, Any]) -> Finding | None:
    """The finding where the pairs drawn together are those whose inputs lie farther apart."""
    if len(labels) != 2:
        return None
    signs = [drawn[:, y == value].flatten() for value in labels]
    shares = [float((part[part != 0] > 0).float().mean()) if bool((part != 0).any()) else 0.5 for part in signs]
    if not (max(shares) > ONE_WAY and min(shares) < 1 - ONE_WAY):
        return None
    near, far = (labels[shares.index(pick(shares))] for pick in (max, min))
    rows = subject.rows("train", FEW)
    gap, known = _apart(rows.x), rows.y
    if gap is None or not isinstance(known, Tensor) or known.numel() != len(gap):
        return None
    one, two = (gap[known.reshape(-1).cpu() == value] for value in (near, far))
    if min(len(one), len(two)) < 30:
        return None
    sure = float((one.mean() - two.mean()) / (one.var() / len(one) + two.var() / len(two)).sqrt().clamp(min=1e-12))
    numbers |= {"apart": [float(one.mean()), float(two.mean())], "errors": sure}
    if sure < CERTAIN:
        return None
    text = f"the loss draws pairs of label {near:g} together, whose inputs lie farther apart ({float(one.mean()):.3g}) than those of label "
    text += f"{far:g} ({float(two.mean()):.3g}), which it pushes apart"
    cause = "the two terms of the loss, or the labels, are exchanged: 1 means alike in one place and different in another"
    return Finding("error", text, cause, "print a pair of each label, and which term of the loss it comes to", numbers, RULE)


def _apart(x: Any) -> Tensor | None:
    """[B]: how far the two inputs of each pair lie apart; None where x is not two of one form."""
    found = [leaf.detach().cpu() for leaf in leaves(x)]
    if len(found) == 1 and found[0].dim() >= 3 and found[0].shape[1] == 2:
        found = [found[0][:, 0], found[0][:, 1]]
    if len(found) != 2 or found[0].shape != found[1].shape or not all(leaf.is_floating_point() for leaf in found):
        return None
    gap: Tensor = (found[0] - found[1]).double().flatten(1).norm(dim=1)
    return gap
