"""Pictures and their dense targets (masks, depths, clean versions) that were flipped, turned or moved apart.

A model of single pixels and their surroundings says roughly what the target of each pixel is. Where its picture of the target fits the
target far better once it is flipped, turned or moved, in many rows, the two did not go through the same transform. Mirrored shapes that
look alike fit both ways, which is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, one_hot

from dlrun.batch import Batch
from dlrun.checks._frame import Subject
from dlrun.checks._inputs import is_integer, parts, sample
from dlrun.data.sources import Items

ROWS, LEAST, SIDE, PIXELS, FEATURES, CLASSES = 48, 16, 32, 4096, 256, 16
FITS, BETTER, OFTEN, NEAR = 0.3, 0.2, 0.2, 2


@dataclass(frozen=True)
class Apart:
    """The share of rows whose target fits once it is moved `how`, out of `rows`; the median fit as they are, and moved."""

    share: float
    how: str
    rows: int
    here: float
    there: float
    split: str = "train"


def apart(subject: Subject) -> Apart | None:
    """What is found in rows of train as training gets them, where pictures and targets were transformed apart; else in val's; else None."""
    if subject.kind in ("gan", "diffusion", "contrastive") or subject.loss_task is None:
        return None
    known = _maps(sample(subject, "val" if "val" in subject.run.data.rows else "train", 2 * ROWS).batch)
    drawn = _drawn(subject) if known else None
    rows = _maps(drawn) if drawn is not None else None
    if not known or not rows or min(len(known[0]), len(rows[0])) < LEAST or known[1].shape[1] != rows[1].shape[1]:
        return None
    return _misfit(known, rows, "train") or (_misfit(rows, known, "val") if "val" in subject.run.data.rows else None)


def _misfit(known: tuple[Tensor, Tensor], rows: tuple[Tensor, Tensor], split: str) -> Apart | None:
    """What models of the pixels of `known` say of the targets of `rows` as they are, and moved."""
    said = _told(*known, rows[0])
    here = _fit(said, rows[1])
    best, how = here.clone(), ["" for _ in here]
    for name, moved in _ways(said, rows[1]):
        fit = _fit(moved, rows[1])
        for row in (fit > best + 1e-6).nonzero().flatten().tolist():
            how[row] = name
        best = torch.maximum(best, fit)
    away = (best > FITS) & (best - here > BETTER)
    share = float(away.float().mean())
    if share < OFTEN:
        return None
    names = [how[row] for row in away.nonzero().flatten().tolist()]
    usual = max(set(names), key=names.count)
    return Apart(share, usual, len(here), float(here[away].median()), float(best[away].median()), split)


def _drawn(subject: Subject) -> Batch | None:
    """Rows of train as training gets them: read under seeds of their own, augmented."""
    data = subject.run.data
    source = data.raw("train")
    if isinstance(source, Items):
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()[:ROWS]
        batch = data._batch(source.keyed([("together", row) for row in order]))
    else:
        batch = sample(subject, "train", ROWS).batch
    return data.augmented(batch, 0) if data.augments else batch


def _maps(batch: Batch) -> tuple[Tensor, Tensor] | None:
    """Pictures [N, C, H, W] and targets [N, K, H, W] as floats of at most 32 pixels a side; None where rows are no such pairs."""
    y = batch.get("y")
    pictures = [leaf.detach().cpu() for leaf in parts(batch.get("x")).values() if leaf.dim() == 4 and leaf.is_floating_point()]
    if not isinstance(y, Tensor) or len(pictures) != 1 or y.dim() not in (3, 4) or y.shape[-2:] != pictures[0].shape[-2:]:
        return None
    x, y = pictures[0].float(), y.detach().cpu()
    if min(x.shape[-2:]) < 8 or not bool(x.isfinite().all()):
        return None
    if y.dim() == 3 and is_integer(y):
        known = (y >= 0) & (y < CLASSES)
        y = one_hot(y.long().clamp(0, CLASSES - 1), CLASSES).movedim(-1, 1) * known[:, None]
    y = (y[:, None] if y.dim() == 3 else y).float()
    if not bool(y.isfinite().all()):
        return None
    if max(x.shape[-2:]) > SIDE:
        size = min(x.shape[-2], SIDE), min(x.shape[-1], SIDE)
        x, y = adaptive_avg_pool2d(x, size), adaptive_avg_pool2d(y, size)
    return x, y


def around(x: Tensor) -> Tensor:
    """[N, C, H, W] -> features of each pixel: itself, its surroundings, how rough these are."""
    mean = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat((x, mean, avg_pool2d((x - mean).abs(), 3, 1, 1, count_include_pad=False)), 1)


def _told(x: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """What ridge regression on random features of pixels of x says of the targets of `other`."""
    generator = torch.Generator().manual_seed(0)
    flat, target = around(x).movedim(1, -1).flatten(0, 2), y.movedim(1, -1).flatten(0, 2)
    mean, sd = flat.mean(0), flat.std(0).clamp(min=1e-6)
    mixed = torch.randn(flat.shape[1], FEATURES, generator=generator) / flat.shape[1] ** 0.5
    offset = torch.rand(FEATURES, generator=generator) * 2 - 1

    def lifted(values: Tensor) -> Tensor:
        plain = ((values - mean) / sd).clamp(-5, 5)
        return torch.cat((plain, (plain @ mixed + offset).relu(), torch.ones(len(plain), 1)), 1)

    some = torch.randperm(len(flat), generator=generator)[:PIXELS]
    table = lifted(flat[some])
    inner = table.T @ table
    weights = torch.linalg.solve(inner + 1e-3 * float(inner.trace()) / len(inner) * torch.eye(len(inner)), table.T @ target[some])
    rows, _, height, width = other.shape
    made: Tensor = lifted(around(other).movedim(1, -1).flatten(0, 2)) @ weights
    return made.reshape(rows, height, width, -1).movedim(-1, 1)


def _fit(said: Tensor, y: Tensor) -> Tensor:
    """[N]: correlation of two stacks of maps over all pixels and channels, each channel about its mean in the row."""
    one, two = ((part - part.mean((-1, -2), keepdim=True)).flatten(1) for part in (said, y))
    both: Tensor = (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1)).clamp(min=1e-9)
    return both


def _ways(said: Tensor, y: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "mirrored", said.flip(-1)
    yield "upside down", said.flip(-2)
    yield "turned by half", said.flip(-1, -2)
    if said.shape[-1] == said.shape[-2]:
        yield "turned by a quarter", said.rot90(1, (-2, -1))
        yield "turned by a quarter", said.rot90(3, (-2, -1))
    yield "moved", _shifted(said, y)


def _shifted(said: Tensor, y: Tensor) -> Tensor:
    """Each row moved, round the edges, to where it fits best; by less than two pixels it stays."""
    one, two = (torch.fft.rfft2(part - part.mean((-1, -2), keepdim=True)) for part in (said, y))
    height, width = said.shape[-2:]
    peak = torch.fft.irfft2(one.conj() * two, s=(height, width)).sum(1).flatten(1).argmax(1)
    found = []
    for row, place in enumerate(peak.tolist()):
        down, across = place // width, place % width
        far = max(min(down, height - down), min(across, width - across)) >= NEAR
        found.append(said[row].roll((down, across), (-2, -1)) if far else said[row])
    return torch.stack(found)
