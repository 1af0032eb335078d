"""Classification: one of C classes for each row, by cross-entropy.

Source: Goodfellow, Bengio, Courville 2016, "Deep Learning", section 6.2.2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import reference, units, unwrap
from dlrun.functional.masks import counts_targets, network_input
from dlrun.task import LossTask
from dlrun.types import DataSpec, Metric, Networks, NetworkShape


class classification(LossTask):
    """x [B, *in_shape], y [B] in 0..C-1 (-100: not counted); the network gives logits [B, C]."""

    kind = "classification"

    def bind(self, spec: DataSpec, criterion: Any, metrics: Mapping[str, Metric]) -> None:
        """Raises UsageError for a loss that says it is for another kind of learning: its outputs would not be logits of classes."""
        kind = getattr(unwrap(criterion)[0], "kind", None)
        if isinstance(kind, str) and kind != "classification":
            raise UsageError(f"task classification: this loss is for kind {kind}; say task=supervised, or loss=cross_entropy")
        super().bind(spec, criterion, metrics)

    def default_loss(self, spec: DataSpec) -> str | None:
        """Cross-entropy."""
        return "cross_entropy"

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Accuracy, which chooses `best`, and the worst class's recall, which accuracy can hide."""
        return ("accuracy", "worst_recall")

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """`model`: a row to one logit a class. Raises UsageError for data without classes."""
        if not spec.classes:
            fitting = "language_model" if spec.kind == "language_model" else "supervised"
            raise UsageError(f"task classification needs classes, this data has none (kind {spec.kind}): say task={fitting}")
        return {"model": NetworkShape(spec.in_shape, (spec.classes,))}

    def outputs(self, nets: Networks, batch: Batch) -> Any:
        """net(x), or net((x, mask)) where a mask says which steps of x there are. UsageError for another mask, or no x."""
        if "x" not in batch:
            raise UsageError(f"task classification reads x and y from a batch; this dataset gives {', '.join(batch)}: name them x and y")
        if counts_targets(batch.get("mask"), batch.get("y")):
            raise UsageError("task classification counts every target (-100 in y: not counted): say task=supervised, which reads mask")
        return nets.model(network_input(nets.model, batch, "classification"))

    def count(self, batch: Batch) -> Tensor | float:
        """What the loss says it is a mean over (counted rows, weighed by class where it has weights), else rows."""
        said = units(self.criterion, batch["y"])
        return float(len(batch)) if said is None else said

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """ln C for cross-entropy; None where the loss does not say."""
        return reference(self.criterion, "initial", spec)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """0, or the entropy of the smoothed targets; None where the loss does not say."""
        return reference(self.criterion, "floor", spec)
