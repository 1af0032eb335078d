"""Blocks of attention and MLP that networks over tokens and over patches share, and what tells them where a position is.

Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.2, 3.3 and 3.5; pre-norm: Xiong et al. 2020, "On Layer Normalization in
the Transformer Architecture", figure 1b; rotary positions: Su et al. 2021, "RoFormer", section 3.2.2, eq. 34.
B batch, T positions, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.nn.init import kaiming_
from dlrun.nn.layers import ACTIVATIONS

BASE = 10_000.0
"""Wavelengths of sinusoidal and rotary positions go from 2 pi to 10,000 x 2 pi positions (section 3.5)."""


def wave_angles(positions: int, width: int) -> Tensor:
    """[positions, width / 2]: position times frequency in radians, frequencies falling geometrically from 1 to about 1 / BASE."""
    frequencies = BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return (torch.arange(positions, dtype=torch.float64)[:, None] * frequencies).float()


def sinusoids(positions: int, width: int) -> Tensor:
    """[positions, width]: sine at even and cosine at odd features (section 3.5); a mean square of 1/2. `width` is even."""
    angles = wave_angles(positions, width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


class Rotary(nn.Module):
    """Turns pairs of features by an angle that grows with the position: [B, H, T, d] -> same; products depend on distances alone."""

    cos: Tensor
    sin: Tensor

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        angles = wave_angles(positions, width)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[-2]
        cos, sin, even, odd = self.cos[:T], self.sin[:T], x[..., ::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


@dataclass(frozen=True)
class Design:
    """What the blocks of one network have in common; `branch` scales the initial weights at the end of each residual branch."""

    width: int
    heads: int
    causal: bool = False
    dropout: float = 0.0
    branch: float = 1.0
    hidden: int = 0
    activation: str = "gelu"
    norm_first: bool = True
    eps: float = 1e-5


class Attention(nn.Module):
    """Multi-head self-attention [B, T, D] -> [B, T, D] (section 3.2); `seen` [B, T] is false where a position is padding."""

    def __init__(self, design: Design, rotary: Rotary | None = None) -> None:
        super().__init__()
        width = design.width
        self.heads, self.causal, self.dropout = design.heads, design.causal, design.dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        kaiming_(self.qkv, "linear")
        kaiming_(self.out, "linear", design.branch)
        self.rotary = rotary

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # each [B, H, T, D/H]
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        dropout = self.dropout if self.training else 0.0
        if seen is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, dropout_p=dropout)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._visible(seen), dropout_p=dropout)
        mixed: Tensor = self.out(out.transpose(1, 2).reshape(B, T, D))
        return mixed

    def _visible(self, seen: Tensor) -> Tensor:
        """[B, 1, T or 1, T]: whether a query may look at a key."""
        keys = seen[:, None, None, :]
        if not self.causal:
            return keys
        T = seen.shape[1]
        return keys & torch.ones(T, T, dtype=torch.bool, device=seen.device).tril()


class Block(nn.Module):
    """Pre-norm: x + attention(norm(x)), then x + mlp(norm(x)). Post-norm: norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, design: Design, rotary: Rotary | None = None) -> None:
        super().__init__()
        width, hidden = design.width, design.hidden or 4 * design.width
        self.norm1, self.norm2 = nn.LayerNorm(width, design.eps), nn.LayerNorm(width, design.eps)
        self.attention = Attention(design, rotary)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        kaiming_(self.up, design.activation)
        kaiming_(self.down, "linear", design.branch)
        self.drop = nn.Dropout(design.dropout)
        self.act, self.norm_first = ACTIVATIONS[design.activation](), design.norm_first

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        if self.norm_first:
            x = x + self.drop(self.attention(self.norm1(x), seen))
            return x + self._mlp(self.norm2(x))
        x = self.norm1(x + self.drop(self.attention(x, seen)))
        out: Tensor = self.norm2(x + self._mlp(x))
        return out

    def _mlp(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.down(self.act(self.up(x))))
        return out
