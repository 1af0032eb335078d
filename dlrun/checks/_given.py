"""What counts is what is asked for: not the places whose answer stands in the input, nor those that were only filled up.

A loss with a mask counts some places and leaves out others. Where it counts just those whose target the network is given at the same place,
and leaves out those that are missing there, or counts where all targets are one number and leaves out where they vary, the mask is the
wrong way round. Nothing is known of the mask itself: places that count are those at which the loss has a slope.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._finding import Finding
from dlrun.checks._forms import Form
from dlrun.checks._probe import Probe

LEAST, SHARE, VALUES = 16, 0.05, 8
GIVEN, MISSING = 0.999, 0.5
RULE = f"targets that count do not all stand in x at their place (share, or r2, > {GIVEN}) while others do not (< {MISSING})"


def upside_down(asked: Probe, shape: Form) -> Finding | None:
    """The finding where the loss counts what is given, or what fills up, and leaves out the rest."""
    if asked.kind in ("contrastive", "gan") or not asked.steady or len(asked.out) != len(asked.batch):
        return None
    counts = _counted(asked, shape)
    if counts is None:
        return None
    for target in _readings(asked.batch.get("y", ()), counts.shape):
        found = _beside(asked, counts, target)
        if found is not None:
            return found
    return None


def _counted(asked: Probe, shape: Form) -> Tensor | None:
    """Where the loss pulls, as [B, ...] without an axis of classes; None where that is everywhere, hardly anywhere, or cannot be told."""
    pulled = torch.zeros_like(asked.out, dtype=torch.bool)
    scale = max(float(asked.out.std()), 0.1) if asked.out.numel() > 1 else 1.0
    for name in ("one", "two", "three"):
        noise = asked.noise(name)
        try:
            pulled |= asked.slope(asked.out + scale * noise if shape.name == "free" else shape.of(noise)) != 0
        except Exception:
            return None
    if asked.targets.mode == "classes":
        layout = asked.targets.layouts[0]
        assert asked.targets.value is not None
        pulled = layout.flat(pulled).any(-1).reshape(asked.targets.value.shape)
    pulled = pulled.reshape(len(pulled), *(size for size in pulled.shape[1:] if size != 1))
    share = float(pulled.float().mean())
    few = min(int(pulled.sum()), int((~pulled).sum())) < LEAST
    return None if pulled.dim() < 2 or few or not SHARE < share < 1 - SHARE else pulled


def _readings(value: Any, shape: torch.Size) -> Iterator[Tensor]:
    """Tensors of this shape among the leaves of `value`: whole ones, and slices of those with an axis more (the last, or the second)."""
    for leaf in leaves(value):
        if leaf.dtype == torch.bool:
            continue
        if leaf.shape == shape:
            yield leaf
        elif leaf.numel() == shape.numel() and leaf.dim() == len(shape) + 1 and len(leaf) == shape[0]:
            yield leaf.reshape(shape)
        elif leaf.dim() == len(shape) + 1 and leaf.shape[:-1] == shape and leaf.shape[-1] <= 64:
            yield from leaf.unbind(-1)
        elif leaf.dim() == len(shape) + 1 and (leaf.shape[0], *leaf.shape[2:]) == tuple(shape) and leaf.shape[1] <= 64:
            yield from leaf.unbind(1)
        elif leaf.dim() == len(shape) and (leaf.shape[0], *leaf.shape[2:]) == (shape[0], *shape[2:]) and shape[1] < leaf.shape[1] <= 64:
            yield from (leaf.narrow(1, start, shape[1]) for start in range(leaf.shape[1] - shape[1] + 1))


def _beside(asked: Probe, counts: Tensor, target: Tensor) -> Finding | None:
    """The verdict on one reading of the targets."""
    known = torch.isfinite(target) if target.is_floating_point() else target >= 0
    inside, outside = target[counts & known], target[~counts & known]
    least = VALUES if target.is_floating_point() else 3
    if len(outside) < LEAST or len(inside) < LEAST or len(outside.unique()) < least:
        return None
    numbers: dict[str, Any] = {"counted": float(counts.float().mean())}
    if asked.targets.mode != "classes" and len(inside.unique()) == 1 and not bool((counts == counts[:1]).all()):
        share = float((outside == inside[0]).float().mean())
        others = len(outside.unique())
        text = f"all {len(inside)} places that count have the target {float(inside[0]):g}, those that do not have {others} others"
        if share < 0.1:
            return Finding("error", text, "the mask is inverted: padding counts, content does not", "negate the mask", numbers, RULE)
    if len(inside.unique()) < least:
        return None
    for entry in _readings(asked.batch.get("x", ()), counts.shape):
        if entry.dtype != target.dtype:
            continue
        given, missing = (_told(entry[where & known], target[where & known]) for where in (counts, ~counts))
        numbers |= {"given_of_counted": given, "given_of_others": missing}
        if given >= GIVEN and missing < MISSING:
            text = f"{given:.0%} of the targets that count stand in x at their own place, of those that do not count {missing:.0%}"
            cause = "the mask is the wrong way round: the loss asks for what the network is given, and not for what is missing"
            return Finding("error", text, cause, "negate the mask", numbers, RULE)
    return None


def _told(entry: Tensor, target: Tensor) -> float:
    """How far targets can be read off an entry: share of equal tokens, r2 of numbers (the input may be scaled)."""
    if not target.is_floating_point():
        return float((entry == target).float().mean())
    one, two = entry.double() - entry.double().mean(), target.double() - target.double().mean()
    size = float(one.norm() * two.norm())
    return (float(one @ two) / size) ** 2 if size > 0 else 0.0
