"""What outputs for classes or labels stand for, and how metrics that read logits get them: the loss decides what is a logit.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", eq. 4.59 (the logit is the inverse of the sigmoid) and 4.62 (the logarithm
of a probability goes through a softmax as it is).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dlrun.functional.classes import form

LEAST = -100.0
"""Least logarithm of a probability, as in torch's binary_cross_entropy: a sure mistake costs 100 nats, not infinity."""


@dataclass(frozen=True)
class Scores:
    """`logits`; `probabilities` (in [0, 1]); `numbers` near the targets (a squared error); `margins`, whose sign alone means something.

    `signed`: labels are -1 and 1 instead of 0 and 1.
    """

    name: Literal["logits", "probabilities", "numbers", "margins"] = "logits"
    signed: bool = False

    def logits(self, out: Tensor, y: Tensor, kind: str | None) -> Tensor:
        """Outputs as logits: above 0 for class 1, the largest for the class named; a softmax or sigmoid gives the probabilities back.

        Numbers outside [0, 1] keep their side of one half and lie beyond every probability. Raises ValueError as `form`.
        """
        if self.name in ("logits", "margins"):
            return out
        if form(out, y, kind) != "labels":
            return out.double().log().clamp(min=LEAST) if self.name == "probabilities" else out
        p = out.double()
        if self.name == "numbers":
            return p if self.signed else p - 0.5
        return p.log().clamp(min=LEAST) - torch.log1p(-p).clamp(min=LEAST)

    def targets(self, y: Tensor) -> Tensor:
        """Labels of 0 and 1."""
        return (y + 1) / 2 if self.signed and y.is_floating_point() else (y + 1) // 2 if self.signed else y

    def outputs(self, logits: Tensor, y: Tensor, kind: str | None) -> Tensor:
        """The inverse of `logits`: what a network would have to give, so that baselines can be read like it."""
        if self.name in ("logits", "margins"):
            return logits
        if form(logits, y, kind) != "labels":
            return logits.softmax(-1)
        return 2 * logits.sigmoid() - 1 if self.signed and self.name == "numbers" else logits.sigmoid()
