"""Noise that was drawn once for all rows: what an input has more than its target (a denoiser's) is one and the same pattern of noise.

A network then learns the pattern by heart and takes it off; of other noise it knows nothing. Inputs are their targets, times one number,
and what is left of all rows is one row, times a number each. A mean picture that was taken off leaves one row as well, but a smooth one, or
one that is the mean of the targets.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._frame import Subject
from dlrun.checks._inputs import parts, sample

ROWS, LEAST, WIDTH, MOST = 64, 16, 32, 4096
ONE, SIZE, ROUGH, MEAN = 1e-6, 1e-2, 0.7, 0.8
"""Share of the rest's square that is not one row; its least size beside targets; least difference of neighbours beside any two; correlation
with the mean of targets above which it may be that mean."""


def one_grain(subject: Subject) -> float | None:
    """The size of the pattern beside the targets, where inputs of train are their targets and one pattern of noise; else None."""
    if subject.kind in ("gan", "contrastive", "diffusion"):
        return None
    rows = sample(subject, "train", ROWS)
    pairs = product(parts(rows.x).values(), leaves(rows.y if rows.y is not None else ()))
    fit = [(x.detach().cpu(), y.detach().cpu()) for x, y in pairs if _comparable(x, y)]
    return next((found for x, y in fit if (found := _pattern(x, y)) is not None), None)


def _comparable(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.is_floating_point() and y.is_floating_point() and len(x) >= LEAST and x[0].numel() >= WIDTH


def _pattern(x: Tensor, y: Tensor) -> float | None:
    """The same of one tensor of inputs and one of targets, [N, ..., L]; neighbours lie along the last axis."""
    one, two = (part.double().reshape(len(part), -1, part.shape[-1])[:, : max(MOST // part.shape[-1], 1)] for part in (x, y))
    flat, target = one.flatten(1), two.flatten(1)
    middle = target - target.mean(0)
    if float(middle.abs().max()) == 0 or not bool(flat.isfinite().all() and target.isfinite().all()):
        return None
    fitted = float(((flat - flat.mean(0)) * middle).sum() / middle.square().sum())
    for scale in (1.0, fitted):
        rest = flat - scale * target
        share = torch.linalg.svd(rest, full_matrices=False)
        energy = share.S.square()
        if 0 < float(energy.sum()) and float(energy[1:].sum()) <= ONE * float(energy.sum()):
            return _size(rest, target, share.Vh[0].reshape(one.shape[1:]), abs(scale))
    return None


def _size(rest: Tensor, target: Tensor, pattern: Tensor, scale: float) -> float | None:
    """The size of what inputs have more than targets, all of it one `pattern`, where that is rough and not the mean of the targets."""
    size = float(rest.square().mean().sqrt() / (scale * target.std()).clamp(min=1e-12))
    spread = pattern - pattern.mean()
    rough = float((pattern[:, 1:] - pattern[:, :-1]).square().mean() / (2 * spread.square().mean()).clamp(min=1e-24))
    mean = target.mean(0) - target.mean()
    like = float((mean * spread.flatten()).sum() / (mean.norm() * spread.norm()).clamp(min=1e-12))
    return size if size > SIZE and rough > ROUGH and abs(like) < MEAN else None
