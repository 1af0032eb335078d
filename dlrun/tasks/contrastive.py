"""Contrastive learning: two augmented views of a row get embeddings that are near each other and far from those of other rows.

Source: Chen, Kornblith, Norouzi, Hinton 2020, "A Simple Framework for Contrastive Learning of Visual Representations", section 2.1;
alignment and uniformity: Wang, Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
Hypersphere", section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.contrast import alignment, gaussian_pairs, unit
from dlrun.noise import Noise
from dlrun.ranges import Count, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Whole

PAIRS = 16


def _log(total: Tensor, count: Tensor) -> float:
    return log(float(total / count)) if count and total > 0 else float("nan")


class contrastive(LossTask):
    """x [B, ...]; a second view `x2` where the dataset gives one, else x again. Every view goes through the configured augmentations;
    without any, and without x2, it gets Gaussian noise of standard deviation `noise`.

    The loss gets a tuple of both views' projections [B, projection], and the labels where there are any (`triplet` reads them, `info_nce`
    and `align_uniform` don't). Evaluation sees augmented views too: of equal ones there would be nothing to tell.
    """

    kind = "contrastive"
    couples_rows = True
    slots = MappingProxyType({"model": ("encoder", "head")})

    def __init__(self, augments: Sequence[Callable[[Batch, Noise], Batch]], *, features: Count, projection: Count, noise: Positive) -> None:
        self.augments, self.features, self.projection, self.noise = augments, features, projection, noise
        if not augments:
            self.note = (
                f"views differ by noise of {noise:g}, unless the data gives x2: no augmentation is named (augment.rotate=rotate ...)"
            )

    def default_loss(self, spec: DataSpec) -> str | None:
        """InfoNCE."""
        return "info_nce"

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """encoder: a row to features; head: features to a projection, which only the loss needs."""
        return {"encoder": NetworkShape(spec.in_shape, (self.features,)), "head": NetworkShape((self.features,), (self.projection,))}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """x and x2 become the two views. Raises UsageError where nothing can tell them apart."""
        if "x" not in batch:
            raise UsageError(f"task contrastive reads x (and x2) from a batch; this dataset gives {', '.join(batch)}")
        x = batch["x"]
        if not self.augments and "x2" not in batch and not (isinstance(x, Tensor) and x.is_floating_point()):
            raise UsageError(
                "task contrastive makes two views of floating-point rows by noise; of others give x2 beside x, or augmentations"
            )
        first = self._view(x, Noise(*noise.key, "first view"), "x2" in batch)
        return batch.replace(x=first, x2=self._view(batch["x2" if "x2" in batch else "x"], Noise(*noise.key, "second view"), "x2" in batch))

    def _view(self, x: Any, noise: Noise, paired: bool) -> Any:
        if not self.augments and not paired:
            return x + self.noise * torch.randn(x.shape, generator=noise.generator("views", x.device), device=x.device, dtype=x.dtype)
        view = Batch({"x": x.clone() if isinstance(x, Tensor) else x})
        for number, augment in enumerate(self.augments):
            view = augment(view, Noise(*noise.key, number))
        return view["x"]

    def outputs(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """Projections of both views, [B, projection] each; one forward, so that a batch norm sees both."""
        first, second = nets.head(nets.encoder(torch.cat((batch["x"], batch["x2"])))).chunk(2)
        return first, second

    def loss(self, outputs: Any, batch: Batch) -> Tensor | tuple[Tensor, Mapping[str, Tensor]]:
        """The criterion of both views and the labels, if there are any."""
        return self.criterion(outputs, batch.get("y"))  # type: ignore[no-any-return]

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Loss and configured metrics; alignment, uniformity and pair accuracy of the projections on the unit sphere.

        alignment: mean squared distance of the two views, 0..4; uniformity: ln mean exp(-2 distance^2) over pairs of rows of a batch, 0
        where all is one point; pair_accuracy: share of views whose nearest neighbour in the batch is the row's other view.
        """
        found = dict(super().evaluate(nets, batch))
        with torch.autocast(batch["x"].device.type, enabled=False):
            z = unit(torch.cat(self.outputs(nets, batch)))
            potentials = [gaussian_pairs(view).double() for view in z.chunk(2)]
            likeness = (z @ z.T).fill_diagonal_(-torch.inf)
        own = torch.arange(len(z), device=z.device).roll(len(batch))
        found["alignment"] = Mean(alignment(z).double().sum(), float(len(batch)))
        found["uniformity"] = Mean(sum(part.sum() for part in potentials), float(sum(part.numel() for part in potentials)), _log)
        found["pair_accuracy"] = Mean((likeness.argmax(1) == own).sum(), float(len(z)))
        return found

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Images: the two views of each row, side by side."""
        x = batch["x"]
        if not isinstance(x, Tensor) or x.dim() != 4:
            return {}
        return {"views": Look("images", torch.stack((x[:PAIRS], batch["x2"][:PAIRS]), 1).flatten(0, 1), "two views of each row")}
