"""Elman's recurrent network: h' = f(W x + U h + b), for tokens, sequences of numbers and images read row by row.

Source: Elman 1990, "Finding Structure in Time", figure 2; rectified units: Le, Jaitly, Hinton 2015, "A Simple Way to Initialize Recurrent
Networks of Rectified Linear Units", section 2.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from dlrun.nn.recurrent import Form, recurrent
from dlrun.ranges import Count, Fraction


def rnn(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    width: Count,
    depth: Count,
    activation: Literal["tanh", "relu"],
    dropout: Fraction,
    bidirectional: bool,
    pool: Literal["last", "mean", "none"] | None,
) -> nn.Module:
    """Tokens [B, T], numbers [B, T] or [B, T, F], images [B, C, H, W] -> [B, *out_shape], or one output a step [B, T, ...].

    A layer has H F + H H + 2 H parameters. A pair (rows, mask [B, T]) leaves padding out. Raises ValueError for other rows.
    """
    cell = partial(nn.RNN, nonlinearity=activation)
    return recurrent("rnn", cell, in_shape, out_shape, vocab, Form(width, depth, dropout, bidirectional, pool))
