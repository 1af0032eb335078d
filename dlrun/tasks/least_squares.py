"""Least squares in closed form: the readout of a network of fixed features is computed from the rows of a step, the least of all solutions.

Source: Hastie, Montanari, Rosset, Tibshirani 2022, "Surprises in High-Dimensional Ridgeless Least Squares Interpolation", section 2.1,
eqs. 2 and 3 (the minimum-norm solution as the limit of ridge regression); one-hot targets: Belkin et al. 2019, SI appendix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.ranges import NonNegative
from dlrun.task import LossTask
from dlrun.types import DataSpec, Networks, NetworkShape, Objective


class least_squares(LossTask):
    """x [B, *in_shape], y [B] classes (fitted as one-hot rows) or numbers [B, ...]; nothing is trained by gradients.

    After a step the readout is the W that minimises |features W - targets|^2 + ridge |W|^2 over the rows of that step, without ridge the
    smallest of those that minimise it. So it wants one step of all rows: train.batch_size=full, train.steps=1. The network is one with
    `features(x)` [B, P] and a linear `readout` without bias, as model random_features is. The loss is the mean squared error of an entry.
    """

    slots = MappingProxyType({"loss": None})
    kind = "regression"
    turns = 0
    note = "task least_squares fits the rows of each step alone, in closed form: train.batch_size=full train.steps=1 fits all of train"

    def __init__(self, *, ridge: NonNegative) -> None:
        self.ridge = ridge

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Accuracy of the largest output where there are classes."""
        return ("accuracy",) if spec.classes else ()

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """`model`: a row to one number a class, or to the shape of y. Raises UsageError for tokens."""
        if spec.vocab is not None:
            raise UsageError("task least_squares fits rows of numbers; this data has tokens")
        return {"model": NetworkShape(spec.in_shape, (spec.classes,) if spec.classes else spec.out_shape)}

    def start(self, nets: Networks) -> None:
        """Raises UsageError for a network without features and a linear readout."""
        model = nets.model.module
        readout = getattr(model, "readout", None)
        if not callable(getattr(model, "features", None)) or not isinstance(readout, torch.nn.Linear) or readout.bias is not None:
            raise UsageError(
                "task least_squares needs a network of fixed features with a linear readout without bias: say model=random_features"
            )

    def targets(self, batch: Batch) -> Tensor:
        """What is fitted, [B, ...] as the outputs are: one-hot rows for classes, else y."""
        y: Tensor = batch["y"]
        return F.one_hot(y.long(), self.spec.classes).float() if self.spec.classes else y.float()

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """None."""
        return iter(())

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The mean squared error over rows and entries."""
        return F.mse_loss(outputs, self.targets(batch))

    @torch.no_grad()
    def after_step(self, nets: Networks, batches: Sequence[Batch]) -> None:
        """Computes the readout, in float64 on the CPU."""
        model: Any = nets.model.module
        features = torch.cat([model.features(batch["x"]) for batch in batches])
        targets = torch.cat([self.targets(batch) for batch in batches])
        model.readout.weight.copy_(smallest(features.cpu().double(), targets.view(len(targets), -1).cpu().double(), self.ridge).T)


def smallest(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """W [P, C] of least norm among those that minimise |features W - targets|^2 + ridge |W|^2; values below rounding count as 0."""
    u, s, v = torch.linalg.svd(features, full_matrices=False)
    kept = s > torch.finfo(s.dtype).eps * max(features.shape) * s[0]
    found: Tensor = v.T @ (torch.where(kept, s / (s.square() + ridge).clamp(min=torch.finfo(s.dtype).tiny), 0.0)[:, None] * (u.T @ targets))
    return found
