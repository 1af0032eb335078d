"""Alignment and uniformity of embeddings on the unit sphere: how near pairs lie, and how evenly all rows are spread.

Source: Wang, Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere",
section 4.1, eq. for L_align and L_uniform (the log of the mean Gaussian potential of all pairs).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from math import log
from typing import Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.contrast import alignment, stacked, unit
from dlrun.functional.criteria import unwrap
from dlrun.noise import Noise
from dlrun.probes._features import flat, reader
from dlrun.probes._rows import loss_task
from dlrun.ranges import Count, Positive
from dlrun.trained import Trained

CHUNK = 1024
Embed = Callable[[Batch], Tensor]


@torch.no_grad()
def alignment_uniformity(
    run: Trained,
    noise: Noise,
    *,
    pairs: Literal["views", "classes"] | None,
    read: Literal["features", "outputs"],
    network: str | None,
    layer: str | None,
    pool: Literal["flatten", "mean"],
    alpha: Positive,
    t: Positive,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> dict[str, float]:
    """alignment, mean distance^alpha of the two embeddings of a pair, in 0 .. 2^alpha; uniformity, ln mean exp(-t distance^2) over all
    pairs of different rows, <= 0 and 0 where all is one point; rows, features.

    Pairs are the two views of a row that a contrastive task makes, or two rows of one class drawn at random. Raises ValueError where there
    are neither, or fewer than two rows.
    """
    kind = getattr(run.task, "kind", None)
    pairs = pairs or ("views" if kind == "contrastive" else "classes")
    with reader(run, network, layer) if read == "features" else nullcontext() as features:
        if pairs == "views":
            views = _views(run, lambda batch: flat(features(batch), pool), split, rows) if features else _outputs(run, split, rows)
            together = torch.cat(views)
        else:
            z, y = _rows(run, lambda batch: flat(features(batch) if features else _own(run, batch), pool), split, rows)
            views, together = (z,), _of_one_class(z, y, noise.generator("pairs"))
    if len(views[0]) < 2 or not len(together):
        raise ValueError("needs two rows at least, of one class where pairs are rows of a class")
    return {
        "alignment": float(alignment(together, alpha).mean()),
        "uniformity": sum(uniformity(view, t) for view in views) / len(views),
        "rows": len(views[0]),
        "features": views[0].shape[1],
    }


def uniformity(z: Tensor, t: float) -> float:
    """ln of the mean of exp(-t distance^2) over pairs of different rows of z [N, D] on the unit sphere."""
    total = 0.0
    for low in range(0, len(z), CHUNK):
        squares = (2 - 2 * z[low : low + CHUNK] @ z.T).clamp(min=0)
        total += float((-t * squares).exp().sum())
    return log((total - len(z)) / (len(z) * (len(z) - 1)))  # less the N pairs of a row with itself, which count 1 each


def _views(run: Trained, embed: Embed, split: str, rows: int | None) -> tuple[Tensor, ...]:
    """Embeddings of both views of each row, as the task prepares them."""
    first, second = [], []
    for batch in run.prepared(split, rows):
        if "x2" not in batch:
            raise ValueError("pairs=views needs a task that makes two views of a row (x and x2): say pairs=classes, or read=outputs")
        first.append(embed(batch))
        second.append(embed(batch.replace(x=batch["x2"])))
    return tuple(unit(torch.cat(side).cpu().double()) for side in (first, second))


def _outputs(run: Trained, split: str, rows: int | None) -> tuple[Tensor, ...]:
    """What the loss gets of both views, of a task or network that makes them."""
    task = loss_task(run)
    order = unwrap(task.criterion)[1].get("views", "stacked")
    found = [stacked("the probe", task.outputs(run.nets, batch), batch.get("y"), order).chunk(2) for batch in run.prepared(split, rows)]
    return tuple(unit(torch.cat([views[side] for views in found]).cpu().double()) for side in (0, 1))


def _rows(run: Trained, embed: Embed, split: str, rows: int | None) -> tuple[Tensor, Tensor]:
    """Embeddings [N, D] of rows as they are, and their classes [N]."""
    found, classes = [], []
    for batch in run.batches(split, rows):
        y = batch.get("y")
        if not isinstance(y, Tensor) or y.dim() != 1 or y.is_floating_point():
            raise ValueError("pairs=classes needs a class for every row, y of whole numbers")
        found.append(embed(batch).cpu().double())
        classes.append(y.cpu())
    return unit(torch.cat(found)), torch.cat(classes)


def _own(run: Trained, batch: Batch) -> Tensor:
    """The logits of a task with one loss."""
    task = loss_task(run)
    return task.logits(task.outputs(run.nets, batch))


def _of_one_class(z: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Pairs of rows of one class [2 P, D], first ones before second ones: each row with the next of a random order."""
    first, second = [], []
    for label in y.unique():
        rows = (y == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if len(rows) > 1:
            first.append(rows)
            second.append(rows.roll(-1))
    return z[torch.cat(first + second)] if first else z[:0]
