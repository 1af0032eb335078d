"""A linear map of the flattened input: logistic or least-squares regression, the baseline every network has to beat.

Source: Bishop 2006, "Pattern Recognition and Machine Learning", sections 3.1 and 4.3.
"""

from __future__ import annotations

from math import prod

from torch import nn

from dlrun.nn.layers import Flatten, Readout


def linear(in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, bias: bool) -> nn.Module:
    """[B, *in_shape] -> [B, *out_shape]; D = product of in_shape gives (D + 1) x product of out_shape parameters."""
    readout = Readout(prod(in_shape), out_shape)
    if not bias:
        readout.register_parameter("bias", None)
    return nn.Sequential(Flatten(), readout)
