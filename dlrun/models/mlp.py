"""Multilayer perceptron on the flattened input, with Kaiming initialisation.

Source: Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors"; initialisation: He et al. 2015, eq. 10.
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import nn

from dlrun.nn.init import kaiming_
from dlrun.nn.layers import ACTIVATIONS, Flatten, Readout
from dlrun.ranges import Count, Fraction, Index

NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


def mlp(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    width: Count,
    depth: Index,
    activation: Literal["relu", "gelu", "silu", "tanh"],
    norm: Literal["none", "layer", "batch"],
    dropout: Fraction,
) -> nn.Module:
    """[B, *in_shape] -> [B, *out_shape] through `depth` hidden layers: linear, norm, activation, dropout. Depth 0 is the linear model."""
    layers: list[nn.Module] = [Flatten()]
    features = prod(in_shape)
    for _ in range(depth):
        hidden = nn.Linear(features, width)
        kaiming_(hidden, activation)
        layers.append(hidden)
        if norm != "none":
            layers.append(NORMS[norm](width))
        layers.append(ACTIVATIONS[activation]())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        features = width
    return nn.Sequential(*layers, Readout(features, out_shape))
