"""Language model: the next token from those before it, by cross-entropy in nats a token.

Source: Bengio, Ducharme, Vincent, Jauvin 2003, "A Neural Probabilistic Language Model", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import is_plain, reference, units
from dlrun.functional.sampling import continuation
from dlrun.functional.tokens import spell
from dlrun.noise import Noise
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, double

SHOWN_ROWS, SHOWN_TOKENS, PROMPT_CHARACTERS = 2, 100, 90


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

    def of_loss(self, loss: Tensor | float, count: Tensor | float) -> Mapping[str, Mean]:
        """Perplexity, where the loss is the plain cross-entropy whose exponential it is: not computed twice, a vocabulary may be large."""
        if type(self).loss is not LossTask.loss or not is_plain(self.criterion):
            return {}
        own = {
            name: m.function for name, m in self.metrics.items() if str(getattr(m.function, "__module__", "")).startswith("dlrun.metrics.")
        }
        known = {name: getattr(function, "of_nats", None) for name, function in own.items()}
        return {name: Mean(double(loss) * double(count), count, finish) for name, finish in known.items() if finish is not None}

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """ln V nats a token; None where the loss does not say."""
        return reference(self.criterion, "initial", spec)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """0: a text can be learned by heart as far as its contexts differ; None where the loss does not say."""
        return reference(self.criterion, "floor", spec)

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """How the network goes on from the first rows, drawn and by the likeliest token; nothing where tokens stand for no text."""
        if not self.spec.tokens:
            return {}
        prompts = batch["x"][:SHOWN_ROWS]
        found = {
            way: continuation(lambda x: self.logits(nets.model(x)), prompts, SHOWN_TOKENS, temperature).tolist()
            for way, temperature in (("drawn at temperature 1", 1.0), ("the likeliest token each time", 0.0))
        }
        lines = []
        for row, prompt in enumerate(prompts.tolist()):
            lines.append(f"after    {self._line(prompt)[-PROMPT_CHARACTERS:]}")
            lines += [f"{way}:\n  {self._line(tokens[row])}" for way, tokens in found.items()]
            lines.append("")
        return {"continuation": Look("text", lines[:-1], f"the network goes on from {SHOWN_ROWS} rows by {SHOWN_TOKENS} tokens")}

    def _line(self, tokens: list[int]) -> str:
        """The text of tokens on one line."""
        return spell(self.spec.tokens, tokens).replace("\n", "\u21b5")
