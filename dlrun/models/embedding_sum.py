"""Tokens as the sum of their embeddings, through hidden layers: a network that knows which tokens a row has, not where they stand.

Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", section 2 (neural bag of words,
deep averaging network); one embedding for both operands and a ReLU layer on their sum: Gromov 2023, "Grokking modular arithmetic".
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

from torch import Tensor, nn

from dlrun.nn.init import kaiming_
from dlrun.nn.layers import ACTIVATIONS, Readout, shape_text
from dlrun.ranges import Count


class EmbeddingSum(nn.Embedding):
    """Tokens [B, T] -> the sum of their embeddings [B, D]; weights so that the sum of T different ones has variance 1 an entry."""

    def __init__(self, vocab: int, features: int, tokens: int) -> None:
        super().__init__(vocab, features)
        nn.init.normal_(self.weight, std=1 / sqrt(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).sum(1)


def embedding_sum(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    features: Count,
    width: Count,
    depth: Count,
    activation: Literal["relu", "gelu", "silu", "tanh"],
    bias: bool,
) -> nn.Module:
    """Tokens [B, T] -> [B, *out_shape]; the order of a row's tokens changes nothing. ValueError for rows that are no tokens."""
    if vocab is None or len(in_shape) != 1:
        raise ValueError(f"embedding_sum takes rows of tokens; this dataset's rows are numbers, {shape_text(in_shape)}: take model=mlp")
    layers: list[nn.Module] = [EmbeddingSum(vocab, features, in_shape[0])]
    for number in range(depth):
        hidden = nn.Linear(width if number else features, width, bias=bias)
        kaiming_(hidden, activation)
        layers += [hidden, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, Readout(width, out_shape, bias=bias))
