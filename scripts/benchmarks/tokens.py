"""A plugin for the benchmarks: random tokens to predict the next of, as in bare_transformer.py."""

from __future__ import annotations

import torch

from dlrun import DataSpec, Splits, register


@register.dataset
def random_tokens(*, rows: int = 4096, tokens: int = 64, vocab: int = 256) -> Splits:
    """`rows` rows x [tokens], y [tokens] one further; a few for val."""
    drawn = torch.randint(0, vocab, (rows + 64, tokens + 1), generator=torch.Generator().manual_seed(0))
    x, y = drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()
    spec = DataSpec(in_shape=(tokens,), out_shape=(tokens, vocab), kind="language_model", vocab=vocab)
    return Splits({"x": x[:rows], "y": y[:rows]}, {"x": x[rows:], "y": y[rows:]}, spec=spec)
