"""One network, one loss, any data: what a user's own dataset, model and loss need to be trained together.

Source: Vapnik 1999, "An overview of statistical learning theory", section I (learning from examples with a loss).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import reference, units, unwrap
from dlrun.functional.masks import counts_targets, network_input
from dlrun.task import LossTask
from dlrun.types import DataSpec, Metric, Networks, NetworkShape

LOSSES = {"classification": "cross_entropy", "binary": "bce", "regression": "mse", "language_model": "cross_entropy"}
METRICS = {
    "classification": ("accuracy", "worst_recall"),
    "binary": ("accuracy", "worst_recall"),
    "regression": ("mae", "r2"),
    "language_model": ("accuracy", "perplexity"),
}
OF_TORCH: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.BCEWithLogitsLoss, nn.BCELoss), "binary"),
    ((nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss), "regression"),
    ((nn.CrossEntropyLoss, nn.NLLLoss), "classification"),
    ((nn.TripletMarginLoss, nn.CosineEmbeddingLoss), "contrastive"),
)
"""torch's own classes of losses and the kind that goes with them; other losses say their `kind` themselves."""


def kind_of_loss(criterion: Any) -> str | None:
    """The kind that a loss goes with: the one it says, or that of torch's class; None where neither tells."""
    loss, _ = unwrap(criterion)
    said = getattr(loss, "kind", None)
    return said if isinstance(said, str) else next((kind for types, kind in OF_TORCH if isinstance(loss, types)), None)


def infer(spec: DataSpec, criterion: Any) -> str:
    """The kind of learning: as the data says, unless a loss of another known kind was chosen for data of a basic kind."""
    of_data = spec.kind if spec.kind != "other" else "classification" if spec.classes else "other"
    of_loss = kind_of_loss(criterion)
    if of_loss is None or (of_loss == "classification" and of_data == "language_model"):
        return of_data
    return of_loss if of_data in (*LOSSES, "other") else of_data


def of_targets(kind: str, spec: DataSpec) -> str:
    """The kind whose usual loss and metrics go with `kind`: for graphs, that of their targets."""
    if kind != "graph":
        return kind
    return spec.kind if spec.kind in LOSSES else "classification" if spec.classes else "regression"


def mask_of(batch: Batch) -> Tensor | None:
    """Which targets count; None where all do."""
    mask = batch.get("mask")
    return mask if counts_targets(mask, batch.get("y")) else None


def unmasked(out: Any, y: Any, mask: Tensor | None) -> tuple[Any, Any]:
    """(out, y) where `mask` is true, [M, ...] each; as they are without one. Raises UsageError for outputs that have no such axes."""
    if mask is None:
        return out, y
    if not isinstance(out, Tensor) or out.shape[: mask.dim()] != mask.shape:
        found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UsageError(f"task supervised: mask {list(mask.shape)} says which outputs count, the network gives {found}")
    return out[mask], y[mask]


class supervised(LossTask):
    """The network is called as net(x) with x as the dataset gives it (a tensor, tuple or dict); the loss gets its output whole.

    Where a batch holds `mask` (bool, [B] or [B, N ...]: the first axes of y), only targets whose mask is true count: loss and metrics get
    those of outputs and targets, [M, ...] each, and padding changes no number. A mask of steps of x, where a target is not one a step, goes
    to a network that takes it (`functional/masks.py`).

    `kind` says what is learned, which decides the default loss and metrics and what checks apply; null: inferred from data and loss.
    `scores`: what outputs for classes and labels are, so that metrics read them rightly; null: as the loss takes them (`dlrun/scoring.py`).
    After `bind`, `kind` holds the answer and `kind_inferred` whether it was inferred.
    """

    def __init__(
        self,
        *,
        kind: Literal[
            "classification",
            "binary",
            "regression",
            "language_model",
            "sequence",
            "vae",
            "diffusion",
            "contrastive",
            "graph",
            "gan",
            "other",
        ]
        | None,
        scores: Literal["logits", "probabilities"] | None,
    ) -> None:
        self.kind_inferred = kind is None
        self._given, self.scores = kind, scores

    @property
    def kind(self) -> str:
        """What is learned; before `bind`, as far as the option says it."""
        return self._kind if hasattr(self, "_kind") else self._given or "other"

    def bind(self, spec: DataSpec, criterion: Any, metrics: Mapping[str, Metric]) -> None:
        """Also settles the kind. Raises UsageError where no loss was chosen and the kind has no usual one."""
        super().bind(spec, criterion, metrics)
        self._kind = self._given or infer(spec, criterion)
        if criterion is None:
            raise UsageError(f"task supervised of kind {self._kind} has no usual loss: say loss=NAME (or task.kind={'|'.join(LOSSES)})")

    def default_loss(self, spec: DataSpec) -> str | None:
        """By kind: cross_entropy, bce or mse, graphs by what their targets are; None for the others."""
        return LOSSES.get(of_targets(self._given or infer(spec, None), spec))

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """By kind: accuracy and worst recall, mean absolute error and R2, or accuracy and perplexity.

        Before `bind` the chosen loss is unknown and the kind is what the data say.
        """
        return METRICS.get(of_targets(self._given or infer(spec, getattr(self, "criterion", None)), spec), ())

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """One network; where the kind differs from what the targets look like (0/1 integers with bce), its output follows the kind."""
        shape = spec.out_shape
        if spec.kind == "classification" and (self.kind == "regression" or (self.kind == "binary" and shape == (2,))):
            shape = ()
        elif spec.kind == "binary" and self.kind == "classification" and shape == ():
            shape = (2,)
        return {"model": NetworkShape(spec.in_shape, shape)}

    def outputs(self, nets: Networks, batch: Batch) -> Any:
        """net(x), or net((x, mask)). Raises UsageError where a batch has no x, or a mask that is neither the targets' nor the network's."""
        if "x" not in batch:
            raise UsageError(f"task supervised reads x (and y) from a batch; this dataset gives {', '.join(batch)}: name them x and y")
        return nets.model(network_input(nets.model, batch, "supervised"))

    def loss(self, outputs: Any, batch: Batch) -> Tensor | tuple[Tensor, Mapping[str, Tensor]]:
        """loss(out, y), or (loss, terms) if it gives both; y is None where the dataset has none."""
        return self.criterion(*unmasked(outputs, batch.get("y"), mask_of(batch)))  # type: ignore[no-any-return]

    def compared(self, outputs: Any, batch: Batch) -> tuple[Any, Any, int]:
        """What `mask` leaves of outputs and targets, where there is one; each that is left is a row of its own."""
        logits, y, rows = super().compared(outputs, batch)
        mask = mask_of(batch)
        return (logits, y, rows) if mask is None else (*unmasked(logits, y, mask), int(mask.sum()))

    def count(self, batch: Batch) -> Tensor | float:
        """What the loss says it is a mean over, else rows; for targets that are sequences of classes, those that are not masked (-100)."""
        y, mask = batch.get("y"), mask_of(batch)
        said = units(self.criterion, y if mask is None else batch["y"][mask])
        if said is not None:
            return said
        if mask is not None:
            return mask.sum()
        if isinstance(y, Tensor) and y.dim() > 1 and not y.is_floating_point():
            return (y != -100).sum()
        return float(len(batch))

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """ln C, ln 2 or ln V where the loss says so; None for others."""
        return reference(self.criterion, "initial", spec)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """What the loss says; None for a loss of the user's own."""
        return reference(self.criterion, "floor", spec)
