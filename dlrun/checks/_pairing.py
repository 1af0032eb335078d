"""What simple models find of targets of any form in the inputs: many numbers a row, or a target for each position (step, node, pixel).

Targets of many numbers are taken along their largest directions. Positions are compared within their row, and with other rows' there, so
that what a row has in common with its targets (all of them are high), or all rows with each other, is no merit. Tokens and classes count as
yes or no for each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlrun.checks._frame import Rows, Subject
from dlrun.checks._inputs import JUDGED, features, is_integer, parts, sample, told
from dlrun.checks._trial import once
from dlrun.functional.relation import Relation, within

DIRECTIONS, WORDS, PLACES, LEAST = 8, 256, 16, 100
WITHOUT = ("gan", "diffusion", "contrastive")


@once
def simple(subject: Subject) -> dict[str, Relation]:
    """By what was compared (`rows`, `positions`) the relation of inputs and targets in train; {} where targets have no such form."""
    if subject.kind in WITHOUT or subject.loss_task is None or subject.run.task.couples_rows:
        return {}
    rows = sample(subject, "train", JUDGED)
    y = rows.y.detach().cpu() if isinstance(rows.y, Tensor) else None
    if y is None or len(rows) < LEAST or not y.numel() or (y.is_floating_point() and not bool(y.isfinite().all())):
        return {}
    if "train" in told(subject):
        return {"rows": told(subject)["train"]}
    found = {"rows": by_rows(rows, y), "positions": by_positions(rows, y)}
    return {name: relation for name, relation in found.items() if relation is not None}


def by_rows(rows: Rows, y: Tensor) -> Relation | None:
    """Rows as a whole; None where inputs or targets are no numbers."""
    x = features(rows)
    target = directions(y)
    return None if x is None or target is None else within(x, target, None)


def directions(y: Tensor) -> Tensor | None:
    """Targets [N, ...] along their largest directions, [N, up to 8]; None of targets that do not vary."""
    flat = y.reshape(len(y), -1)
    flat = _codes(flat).flatten(1) if is_integer(y) and y.dim() == 1 else flat.float()
    flat = flat - flat.mean(0)
    flat = flat[:, flat.abs().amax(0) > 0]
    if not flat.shape[1]:
        return None
    if flat.shape[1] <= DIRECTIONS:
        return flat
    return torch.as_tensor(torch.svd_lowrank(flat, DIRECTIONS, niter=2)[0])


def by_positions(rows: Rows, y: Tensor) -> Relation | None:
    """Positions within their rows; None where inputs have none that are those of the targets."""
    pair = _aligned(rows.x, y)
    if pair is None:
        return None
    x, y = pair
    x, y = (_alone(part).flatten(0, 1) for part in (x, y))
    x, y = x[:, x.abs().amax(0) > 0], y[:, y.abs().amax(0) > 0]
    return within(x, y, None) if x.shape[1] and y.shape[1] else None


def _alone(values: Tensor) -> Tensor:
    """[N, P, F] without what all rows have at a position, and what a row has at all positions."""
    values = values - values.mean(0)
    return values - values.mean(1, keepdim=True)


def _aligned(given: Any, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Inputs [N, P, F] and targets [N, P, K] of some positions; None where none belong to each other."""
    generator = torch.Generator().manual_seed(0)
    for leaf in parts(given).values():
        leaf = leaf.detach().cpu()
        if leaf.dim() == 4 and y.dim() in (3, 4) and leaf.shape[-2:] == y.shape[-2:]:
            x, target = leaf.flatten(2).transpose(1, 2), y.reshape(len(y), -1, y.shape[-2] * y.shape[-1]).transpose(1, 2)
        elif leaf.dim() in (2, 3) and 2 <= y.dim() <= 3 and leaf.shape[1] == y.shape[1] > 2 and not (leaf.dim() == 3 and _square(leaf)):
            x, target = leaf.reshape(*leaf.shape[:2], -1), y.reshape(*y.shape[:2], -1)
        else:
            continue
        place = torch.randperm(x.shape[1], generator=generator)[:PLACES]
        one, two = _coded(x[:, place]), _coded(target[:, place])
        if one is not None and two is not None and bool(one.isfinite().all()):
            return one, two
    return None


def _square(leaf: Tensor) -> bool:
    return leaf.shape[1] == leaf.shape[2]


def _coded(values: Tensor) -> Tensor | None:
    """[N, P, F] as floats, classes and tokens as yes or no; None of too many."""
    if not is_integer(values) or values.shape[2] > 1:
        return values.float()
    codes = _codes(values[..., 0])
    return codes if codes.shape[-1] else None


def _codes(values: Tensor) -> Tensor:
    """Whole numbers as yes or no for each of at most 256 values, [..., K]; K = 0 where there are more. What is below 0 does not count."""
    top = int(values.max()) + 1
    if top > WORDS or top < 2:
        return torch.zeros(*values.shape, 0)
    return one_hot(values.long().clamp(min=0), top).float() * (values >= 0).float()[..., None]
