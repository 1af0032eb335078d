"""Transformer over tokens: pre-norm blocks, learned positions; a decoder with `causal`, an encoder without.

Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.2-3.4; pre-norm: Xiong et al. 2020, "On Layer Normalization in the
Transformer Architecture", figure 1b; scaled residual branches and layout: Radford et al. 2019 (GPT-2), section 2.3.
B batch, T tokens, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.nn.init import READOUT_GAIN, kaiming_
from dlrun.nn.layers import Readout, shape_text
from dlrun.ranges import Count, Fraction


class Attention(nn.Module):
    """Multi-head self-attention [B, T, D] -> [B, T, D] (section 3.2)."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float, branch: float) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        kaiming_(self.qkv, "linear")
        kaiming_(self.out, "linear", branch)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # each [B, H, T, D/H]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, dropout_p=self.dropout if self.training else 0.0)
        mixed: Tensor = self.out(out.transpose(1, 2).reshape(B, T, D))
        return mixed


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), the mlp four times as wide (section 3.3)."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float, branch: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal, dropout, branch)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        kaiming_(self.up, "gelu")
        kaiming_(self.down, "linear", branch)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x)))
        out: Tensor = x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))
        return out


class Transformer(nn.Module):
    """Tokens [B, T] -> [B, T, V]; with `pool`, [B, *out_shape] from the last position (causal) or the mean over positions."""

    def __init__(
        self, vocab: int, positions: int, out_shape: tuple[int, ...], pool: bool, width: int, depth: int, heads: int, causal: bool,
        dropout: float, tied: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pool, self.causal = pool, causal
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(positions, width)
        # Tied, the table is also the readout and starts as small as one; the input is scaled up again (section 3.4).
        self.scale = sqrt(width) if tied else 1.0
        nn.init.normal_(self.tokens.weight, std=READOUT_GAIN / sqrt(width) if tied else sqrt(0.5))
        nn.init.normal_(self.positions.weight, std=READOUT_GAIN if tied else sqrt(0.5))
        self.drop = nn.Dropout(dropout)
        branch = 1 / sqrt(2 * depth)  # 2 x depth branches add up to a variance of about 1
        self.blocks = nn.Sequential(*(Block(width, heads, causal, dropout, branch) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(width, out_shape)
        if tied:
            self.readout.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        T, most = x.shape[1], self.positions.num_embeddings
        if most < T:
            raise ValueError(f"transformer: a sequence of {T} tokens, positions for {most}")
        hidden = self.tokens(x) * self.scale + self.positions(torch.arange(T, device=x.device))
        hidden = self.norm(self.blocks(self.drop(hidden)))
        if self.pool:
            hidden = hidden[:, -1] if self.causal else hidden.mean(1)
        out: Tensor = self.readout(hidden)
        return out


def transformer(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    width: Count,
    depth: Count,
    heads: Count,
    causal: bool,
    dropout: Fraction,
    tied: bool,
) -> nn.Module:
    """Tokens [B, T] -> logits [B, T, V] for out_shape (T, V), or [B, C] for out_shape (C,) read at the last (causal) or mean position.

    Raises ValueError where rows are not tokens, `heads` does not divide `width`, or `tied` cannot be.
    """
    if vocab is None or len(in_shape) != 1:
        raise ValueError(
            f"transformer takes tokens, a sequence of integers from a vocabulary; this dataset's rows are {shape_text(in_shape)}"
            f"{' without a vocabulary' if vocab is None else ''}"
        )
    if width % heads:
        raise ValueError(f"heads must divide width; found heads={heads}, width={width}")
    pool = len(out_shape) < 2
    if not pool and out_shape[0] != in_shape[0]:
        raise ValueError(f"transformer gives one output a position; found rows of {in_shape[0]} tokens and outputs {shape_text(out_shape)}")
    final = out_shape if pool else out_shape[1:]
    if tied and final != (vocab,):
        raise ValueError(f"tied=true needs one logit for each of {vocab} tokens; outputs are {shape_text(out_shape)}: say tied=false")
    return Transformer(vocab, in_shape[0], final, pool, width, depth, heads, causal, dropout, tied)
