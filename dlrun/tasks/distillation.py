"""Distillation: a student learns from the softened class probabilities of a teacher that was trained before, and from labels.

Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", section 2: soft targets q_i = softmax(v / T)_i, both
objectives added with weights, the soft one multiplied by T^2 so that its gradient keeps its size when T changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.ranges import Fraction, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Networks, NetworkShape, Objective

HOW = "say start={from: RUN, networks: {teacher: model}, freeze: ['teacher.*']}"


class distillation(LossTask):
    """x [B, *in_shape], y [B] in 0..C-1; student and teacher give logits [B, C]. The teacher comes from another run (`start`), frozen.

    The loss is (1 - soft) x the configured one of the labels + soft x T^2 x KL(softmax(teacher / T) || softmax(student / T)), in nats, a
    mean over rows. With soft 0 the teacher has no say, with 1 labels have none. Metrics are the student's. Through its teacher a student
    also learns of the rows that the teacher was trained on.
    """

    slots = MappingProxyType({"model": ("student", "teacher")})
    kind = "classification"

    def __init__(self, *, temperature: Positive, soft: Fraction) -> None:
        self.temperature, self.soft = temperature, soft

    def default_loss(self, spec: DataSpec) -> str | None:
        """Cross-entropy."""
        return "cross_entropy"

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Accuracy, which chooses `best`, and the worst class's recall."""
        return ("accuracy", "worst_recall")

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """Both: a row to one logit a class. Raises UsageError for data without classes."""
        if not spec.classes or spec.vocab is not None:
            raise UsageError(f"task distillation needs classes, one a row; this data has none (kind {spec.kind})")
        shape = NetworkShape(spec.in_shape, (spec.classes,))
        return {"student": shape, "teacher": shape}

    def start(self, nets: Networks) -> None:
        """The teacher answers as in evaluation, whatever mode the loop sets. Raises UsageError where it would be trained too."""
        if any(p.requires_grad for p in nets.teacher.parameters()):
            raise UsageError(f"task distillation: the teacher is not frozen, it would learn from its student: {HOW}")
        nets.teacher.register_forward_pre_hook(_answers_as_evaluated)

    def outputs(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (student, teacher) [B, C] each, without gradients of the teacher."""
        with torch.no_grad():
            taught = nets.teacher(batch["x"])
        return nets.student(batch["x"]), taught

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """One objective, which updates the student."""
        outputs = self.outputs(nets, batch)
        loss, terms = self.loss(outputs, batch)
        yield Objective(loss, ("student",), self.count(batch), terms, outputs)

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The weighted sum, and its terms: `hard` as the configured loss gives it, `soft` with its T^2."""
        student, teacher = outputs
        hard = self.criterion(student, batch["y"])
        ours, theirs = (student / self.temperature).log_softmax(-1), (teacher / self.temperature).log_softmax(-1)
        soft = self.temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1).mean()
        return (1 - self.soft) * hard + self.soft * soft, {"hard": hard, "soft": soft}


def _answers_as_evaluated(module: nn.Module, inputs: Any) -> None:
    """Without dropout, and with the batch norm statistics of the teacher's own training."""
    module.eval()
