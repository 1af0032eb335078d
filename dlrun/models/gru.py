"""Gated recurrent units, for tokens, sequences of numbers and images read row by row.

Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", section 2.3, eq. 5-8, in the form of torch.nn.GRU
(the reset gate acts after the recurrent product).
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from dlrun.nn.recurrent import Form, recurrent
from dlrun.ranges import Count, Fraction


def gru(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    width: Count,
    depth: Count,
    dropout: Fraction,
    bidirectional: bool,
    pool: Literal["last", "mean", "none"] | None,
) -> nn.Module:
    """Tokens [B, T], numbers [B, T] or [B, T, F], images [B, C, H, W] -> [B, *out_shape], or one output a step [B, T, ...].

    A layer has 3 (H F + H H + 2 H) parameters. A pair (rows, mask [B, T]) leaves padding out. Raises ValueError for other rows.
    """
    return recurrent("gru", nn.GRU, in_shape, out_shape, vocab, Form(width, depth, dropout, bidirectional, pool))
