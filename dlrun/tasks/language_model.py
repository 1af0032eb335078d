"""Language model: the next token from those before it, by cross-entropy in nats a token.

Source: Bengio, Ducharme, Vincent, Jauvin 2003, "A Neural Probabilistic Language Model", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import reference, units
from dlrun.noise import Noise
from dlrun.task import LossTask
from dlrun.types import DataSpec, Networks, NetworkShape


class language_model(LossTask):
    """x [B, T] tokens, y [B, T] the token after each (-100: not predicted); the network gives logits [B, T, V].

    Where a batch holds `mask` [B, T], positions whose mask is false are not predicted either.
    """

    kind = "language_model"

    def default_loss(self, spec: DataSpec) -> str | None:
        """Cross-entropy."""
        return "cross_entropy"

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Perplexity, which chooses `best`, accuracy, and bits per byte where the tokens say what text they stand for."""
        return ("perplexity", "accuracy", *(("bits_per_byte",) if spec.token_bytes else ()))

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """Tokens (T,) to logits (T, V). Raises UsageError for data without a vocabulary."""
        if spec.vocab is None or not spec.in_shape:
            raise UsageError(f"task language_model needs tokens and a vocabulary; found kind {spec.kind}, rows {spec.in_shape}")
        return {"model": NetworkShape(spec.in_shape, (*spec.in_shape, spec.vocab))}

    def start(self, nets: Networks) -> None:
        """Raises UsageError for a network that says of itself that a position sees later ones (`causal` is False): the next tokens."""
        if getattr(nets.model.module, "causal", True) is False:
            raise UsageError(
                "task language_model: this network sees the tokens it is to predict: "
                "say model.causal=true (transformer) or model.bidirectional=false (rnn, lstm, gru)"
            )

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Masked positions become -100 in y. Raises UsageError where a batch has no y."""
        if "y" not in batch:
            raise UsageError(f"task language_model reads tokens x and next tokens y from a batch; this dataset gives {', '.join(batch)}")
        if "mask" not in batch:
            return batch
        return batch.replace(y=torch.where(batch["mask"].bool(), batch["y"], -100))

    def count(self, batch: Batch) -> Tensor | float:
        """What the loss says it is a mean over (predicted tokens, weighed where it has weights), else predicted tokens."""
        said = units(self.criterion, batch["y"])
        return (batch["y"] != -100).sum() if said is None else said

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """ln V nats a token; None where the loss does not say."""
        return reference(self.criterion, "initial", spec)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """0: a text can be learned by heart as far as its contexts differ; None where the loss does not say."""
        return reference(self.criterion, "floor", spec)
