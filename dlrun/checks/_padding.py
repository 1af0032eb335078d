"""What fills up rows of different lengths must not tell them apart more than what was recorded: a mask that means the opposite.

A tail of equal values is taken for filler. It is filled with values of other steps, and the outputs' change is held against that by other
values in the recorded steps. A network may well read its filler (a mean over all steps does); only one that is all but deaf to the
recorded steps has its mask upside down. Recurrent networks forget early steps, and are not asked.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import leaves, map_leaves
from dlrun.checks._dependence import Dependence
from dlrun.checks._frame import Finding

DEAF = 0.02
FEW, LENGTHS = 2, 3
RULE = f"a recorded step moves the outputs by > {DEAF:g} of what a step of filler does"


def deaf(probe: Dependence) -> Finding | None:
    """The finding where filler moves the outputs and recorded steps hardly do."""
    parts = [part for module in probe.run.modules.values() for part in module.modules()]
    if any(isinstance(part, (nn.RNNBase, nn.RNNCellBase)) for part in parts):
        return None
    for leaf in leaves(probe.x):
        ends = lengths(leaf)
        if ends is None:
            continue
        steps = torch.arange(leaf.shape[1], device=leaf.device)[None]
        recorded = steps < ends[:, None]
        donor = leaf.gather(1, _wide(steps % ends[:, None], leaf))  # the tail begins anew with the row's own first steps
        other = leaf.roll(1, 0)
        other = other.gather(1, _wide(steps % ends.roll(1, 0)[:, None], leaf))
        by_filler = _moved(probe, leaf, torch.where(_wide(recorded, leaf), leaf, donor)) / float((~recorded).sum())
        by_steps = _moved(probe, leaf, torch.where(_wide(recorded, leaf), other, leaf)) / float(recorded.sum())
        if by_filler * float((~recorded).sum()) > probe.bound and by_steps < DEAF * by_filler:
            numbers: dict[str, Any] = {"by_filler": by_filler, "by_steps": by_steps, "filler": float((~recorded).float().mean())}
            text = f"what fills up rows behind their end moves the outputs, recorded steps hardly do ({by_steps / by_filler:.1%} as much)"
            cause = "a mask that means the opposite: True hides a step in key_padding_mask, and shows it in others"
            return Finding("warning", text, cause, "negate the mask, and print it beside a row", numbers, RULE)
    return None


def _wide(index: Tensor, leaf: Tensor) -> Tensor:
    """[B, T] spread over the further axes of `leaf`."""
    return index.reshape(*index.shape, *[1] * (leaf.dim() - 2)).expand_as(leaf)


def _moved(probe: Dependence, leaf: Tensor, new: Tensor) -> float:
    """The outputs' change, root mean square, with `new` in the place of `leaf`."""
    out = probe.out(probe.batch.replace(x=map_leaves(lambda t: new if t is leaf else t, probe.x)))
    pairs = [(a, b) for a, b in zip(probe.base, out) if a.shape == b.shape]
    squares: list[float] = [float((a - b).float().square().mean()) for a, b in pairs]
    return math.sqrt(sum(squares))


def lengths(leaf: Tensor) -> Tensor | None:
    """[B]: where the tail of equal values begins in each row; None where rows have none, or hardly different ones."""
    if leaf.dim() not in (2, 3) or leaf.dtype == torch.bool or leaf.shape[1] < 4 or (leaf.dim() == 2 and leaf.is_floating_point()):
        return None
    flat = leaf.reshape(*leaf.shape[:2], -1)
    filler = flat[:, -1].mode(0).values
    tail = (flat == filler).all(-1).flip(1).long().cumprod(1).sum(1)
    ends = leaf.shape[1] - tail
    enough = len(ends.unique()) >= LENGTHS and int((tail >= FEW).sum()) >= len(leaf) // 3 and int(ends.min()) >= FEW
    return ends if enough else None
