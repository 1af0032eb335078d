"""Long short-term memory, for tokens, sequences of numbers and images read row by row.

Source: Hochreiter, Schmidhuber 1997, "Long Short-Term Memory", section 4; forget gates and their bias: Gers, Schmidhuber, Cummins 2000,
"Learning to Forget", section 3; a bias of 1: Jozefowicz, Zaremba, Sutskever 2015, "An Empirical Exploration of Recurrent Network
Architectures", section 2.2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from dlrun.nn.recurrent import Form, recurrent
from dlrun.ranges import Count, Fraction


@torch.no_grad()
def _remember(layer: nn.Module, width: int, bias: float) -> None:
    """Set the sum of both biases of the forget gates, the second of torch's four, to `bias`."""
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_"):
            parameter[width : 2 * width] = bias if name.startswith("bias_ih") else 0.0


def lstm(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    vocab: int | None,
    *,
    width: Count,
    depth: Count,
    dropout: Fraction,
    bidirectional: bool,
    pool: Literal["last", "mean", "none"] | None,
    forget_bias: float | None,
) -> nn.Module:
    """Tokens [B, T], numbers [B, T] or [B, T, F], images [B, C, H, W] -> [B, *out_shape], or one output a step [B, T, ...].

    A layer has 4 (H F + H H + 2 H) parameters. A pair (rows, mask [B, T]) leaves padding out. Raises ValueError for other rows.
    """
    network = recurrent("lstm", nn.LSTM, in_shape, out_shape, vocab, Form(width, depth, dropout, bidirectional, pool))
    if forget_bias is not None:
        for layer in network.layers:
            _remember(layer, width, forget_bias)
    return network
