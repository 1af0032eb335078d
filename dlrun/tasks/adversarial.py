"""Adversarial training: a classifier is trained on rows moved against it, each by at most eps in every number of x.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2, eq. 2.1
(min over weights of the mean of the max over moves), solved by PGD from a random start; with one step: Goodfellow, Shlens, Szegedy 2015,
"Explaining and Harnessing Adversarial Examples", section 6, without its clean half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.attacks import Ball, ball, uphill
from dlrun.functional.criteria import reference, units
from dlrun.noise import Noise
from dlrun.ranges import Count, NonNegative, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Networks, NetworkShape, Objective


class adversarial(LossTask):
    """x [B, *in_shape] numbers, y [B] in 0..C-1; the network gives logits [B, C].

    Each step attacks its batch with the network as it then is, in training mode, and descends on the loss of what comes out. So metrics of
    train are of attacked rows, those of val and test of rows as they are: what attacks make of these says `dlrun probe RUN adversarial`.

    eps, step_size and bounds are in input units: of 0..1 for images whose dataset says how their bytes were standardised, else of x itself.
    """

    kind = "classification"
    turns = 1

    def __init__(
        self,
        *,
        eps: NonNegative,
        attack: Literal["fgsm", "pgd"],
        steps: Count,
        step_size: Positive | None,
        random_start: bool,
        bounds: list[float] | None,
    ) -> None:
        self.eps, self.steps, self.random_start, self.bounds = eps, 1 if attack == "fgsm" else steps, random_start, bounds
        self.step_size = step_size or (eps if attack == "fgsm" else 2.5 * eps / steps)

    def default_loss(self, spec: DataSpec) -> str | None:
        """Cross-entropy."""
        return "cross_entropy"

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Accuracy, which chooses `best` on rows as they are, and the worst class's recall."""
        return ("accuracy", "worst_recall")

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """`model`: a row to one logit a class. Raises UsageError for data without classes, or whose rows are no numbers."""
        if not spec.classes or spec.vocab is not None:
            raise UsageError(f"task adversarial needs rows of numbers with classes; this data is of kind {spec.kind}")
        return {"model": NetworkShape(spec.in_shape, (spec.classes,))}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Adds `push` like x, uniform in -1..1, where attacks begin in units of eps. UsageError where x is no tensor of numbers."""
        x = batch.get("x")
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError(f"task adversarial moves x, a tensor of numbers; this dataset gives {', '.join(batch)}")
        if not self.random_start:
            return batch
        drawn = torch.rand(x.shape, generator=noise.generator("push", x.device), device=x.device, dtype=x.dtype)
        return batch.replace(push=2 * drawn - 1)

    def box(self, x: Tensor) -> Ball:
        """Where x may be moved. Raises ValueError for odd bounds."""
        known = self.spec.mean is not None
        return ball(
            x, self.eps, self.step_size, [0.0, 1.0] if known and self.bounds is None else self.bounds, self.spec.mean, self.spec.std
        )

    def attacked(self, nets: Networks, batch: Batch) -> Tensor:
        """x moved uphill on the loss, without gradients."""
        x: Tensor = batch["x"]
        box = self.box(x)
        begin = box.into(x + batch["push"] * box.eps, x) if self.random_start else x
        return uphill(lambda moved: self.criterion(nets.model(moved), batch["y"]), x, begin, box, self.steps)

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """One objective: the loss of the attacked rows."""
        yield from super().objectives(nets, batch.replace(x=self.attacked(nets, batch)))

    def count(self, batch: Batch) -> Tensor | float:
        """What the loss says it is a mean over, else rows."""
        said: Any = units(self.criterion, batch["y"])
        return float(len(batch)) if said is None else said

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """ln C for cross-entropy; None where the loss does not say."""
        return reference(self.criterion, "initial", spec)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """0, or the entropy of the smoothed targets; None where the loss does not say."""
        return reference(self.criterion, "floor", spec)
