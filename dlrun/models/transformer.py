"""Transformer over tokens: a decoder with `causal`, an encoder without. The defaults are pre-norm blocks and learned positions.

Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.2-3.5; pre-norm: Xiong et al. 2020, "On Layer Normalization in the
Transformer Architecture", figure 1b; scaled residual branches and layout: Radford et al. 2019 (GPT-2), section 2.3; segments, the norm
after the embeddings and reading the first token: Devlin et al. 2019 (BERT), section 3; rotary positions: Su et al. 2021 (RoFormer), eq. 34.
B batch, T tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dlrun.nn.attention import Block, Design, Rotary, sinusoids
from dlrun.nn.init import READOUT_GAIN
from dlrun.nn.layers import Readout, shape_text
from dlrun.nn.sequence import last_of, mean_of, unpacked
from dlrun.ranges import Count, Fraction, Index, Positive

SEGMENTS = 2
"""Sentence A and sentence B."""


class Embedding(nn.Module):
    """What the blocks start from beside the tokens themselves: sinusoidal positions and segments, both [T or B, T, D]."""

    waves: Tensor | None

    def __init__(self, positions: int, width: int, std: float, waves: bool, separator: int | None) -> None:
        super().__init__()
        self.separator = separator
        # Scaled to the size of learned positions: sinusoids have a mean square of 1/2.
        self.register_buffer("waves", sinusoids(positions, width) * (std / sqrt(0.5)) if waves else None, persistent=False)
        if separator is not None:
            self.segments = nn.Embedding(SEGMENTS, width)
            nn.init.normal_(self.segments.weight, std=std)

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        if self.waves is not None:
            hidden = hidden + self.waves[: tokens.shape[1]]
        if self.separator is not None:
            ends = (tokens == self.separator).long()
            hidden = hidden + self.segments((ends.cumsum(1) - ends).clamp(max=SEGMENTS - 1))  # a separator ends its own segment
        return hidden


class Transformer(nn.Module):
    """Tokens [B, T], or (tokens, mask), -> [B, T, V]; with `pool`, [B, *out_shape] from one position or their mean."""

    takes_mask = True

    def __init__(
        self, vocab: int, length: int, out_shape: tuple[int, ...], pool: str, design: Design, depth: int, positions: str,
        separator: int | None, tied: bool, readout_bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        width = design.width
        self.pool, self.causal, self.length = pool, design.causal, length
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(length, width) if positions == "learned" else None
        # Tied, the table is also the readout and starts as small as one; the input is scaled up again (section 3.4).
        self.scale = sqrt(width) if tied else 1.0
        std = READOUT_GAIN if tied else sqrt(0.5)
        nn.init.normal_(self.tokens.weight, std=std / self.scale)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=std)
        plain = positions != "sinusoidal" and separator is None
        self.embedding = None if plain else Embedding(length, width, std, positions == "sinusoidal", separator)
        self.drop = nn.Dropout(design.dropout)
        rotary = Rotary(length, width // design.heads) if positions == "rotary" else None
        self.blocks = nn.Sequential(*(Block(design, rotary) for _ in range(depth)))
        self.norm, self.norm_first = nn.LayerNorm(width), design.norm_first
        self.readout = Readout(width, out_shape)
        if not readout_bias:
            self.readout.register_parameter("bias", None)
        if tied:
            self.readout.weight = self.tokens.weight

    def forward(self, x: Any) -> Tensor:
        tokens, mask = unpacked("transformer", x)
        T = tokens.shape[1]
        if self.length < T:
            raise ValueError(f"transformer: a sequence of {T} tokens, positions for {self.length}")
        hidden = self.tokens(tokens) * self.scale
        if self.positions is not None:
            hidden = hidden + self.positions(torch.arange(T, device=tokens.device))
        if self.embedding is not None:
            hidden = self.embedding(hidden, tokens)
        hidden = self.drop(hidden if self.norm_first else self.norm(hidden))
        for block in self.blocks:
            hidden = block(hidden, mask)
        out: Tensor = self.readout(self._pooled(self.norm(hidden) if self.norm_first else hidden, mask))
        return out

    def _pooled(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        if self.pool == "mean":
            return mean_of(hidden, mask)
        if self.pool == "last":
            return last_of(hidden, mask)
        return hidden[:, 0] if self.pool == "first" else hidden


def transformer(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    width: Count,
    depth: Index,
    heads: Count,
    causal: bool,
    dropout: Fraction,
    tied: bool,
    mlp_ratio: Positive,
    activation: Literal["relu", "gelu", "silu"],
    norm_first: bool,
    positions: Literal["learned", "sinusoidal", "rotary", "none"],
    pool: Literal["first", "last", "mean"] | None,
    separator: Index | None,
    readout_bias: bool,
) -> nn.Module:
    """Tokens [B, T] -> logits [B, T, V] for out_shape (T, V), or [B, *out_shape] read at one position or from their mean.

    Called with a pair (tokens, mask [B, T], true at real tokens) padding is neither looked at nor pooled. Raises ValueError where rows are
    not tokens, `heads` does not divide `width`, or an option cannot be.
    """
    if vocab is None or len(in_shape) != 1:
        raise ValueError(
            f"transformer takes tokens, a sequence of integers from a vocabulary; this dataset's rows are {shape_text(in_shape)}"
            f"{' without a vocabulary' if vocab is None else ''}"
        )
    pooled = len(out_shape) < 2
    if not pooled and out_shape[0] != in_shape[0]:
        raise ValueError(f"transformer gives one output a position; found rows of {in_shape[0]} tokens and outputs {shape_text(out_shape)}")
    final = out_shape if pooled else out_shape[1:]
    if tied and final != (vocab,):
        raise ValueError(f"tied=true needs one logit for each of {vocab} tokens; outputs are {shape_text(out_shape)}: say tied=false")
    if pool is not None and not pooled:
        raise ValueError(f"pool={pool} has no effect where there is one output a position: say pool=null")
    _refuse(width, heads, causal, positions, pool, separator, vocab)
    # 2 x depth branches add up to a variance of about 1; post-norm brings every sum back to 1 by itself.
    branch = 1 / sqrt(2 * max(depth, 1)) if norm_first else 1.0
    design = Design(width, heads, causal, dropout, branch, round(mlp_ratio * width), activation, norm_first)
    read = (pool or ("last" if causal else "mean")) if pooled else ""
    return Transformer(vocab, in_shape[0], final, read, design, depth, positions, separator, tied, readout_bias)


def _refuse(width: int, heads: int, causal: bool, positions: str, pool: str | None, separator: int | None, vocab: int) -> None:
    """ValueError for options that do not go together."""
    if width % heads:
        raise ValueError(f"heads must divide width; found heads={heads}, width={width}")
    if positions == "rotary" and width // heads % 2:
        raise ValueError(f"positions=rotary turns pairs of features: width / heads must be even; found {width // heads}")
    if positions == "sinusoidal" and width % 2:
        raise ValueError(f"positions=sinusoidal has sines and cosines: width must be even; found width={width}")
    if pool == "first" and causal:
        raise ValueError("pool=first of a causal transformer sees the first token alone: say causal=false, or pool=last or mean")
    if separator is not None and separator >= vocab:
        raise ValueError(f"separator={separator} is no token: there are {vocab}, from 0")
