"""Multilayer perceptron whose matrices begin with all singular values equal, so that rows keep their size at any width.

Source: Yang, Simon, Bernstein 2023, "A Spectral Condition for Feature Learning", condition 1 (spectral norms of sqrt(d_out / d_in)); Large
et al. 2024, "Scalable Optimization in the Modular Norm", section 3 (linear atoms, no biases).
"""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor, nn

from dlrun.nn.layers import Flatten
from dlrun.ranges import Count, Index


class Orthogonal(nn.Linear):
    """[B, inputs] -> [B, *out_shape]; semi-orthogonal x sqrt(outputs / inputs), so that inputs of size 1 an entry give such outputs."""

    def __init__(self, inputs: int, out_shape: tuple[int, ...]) -> None:
        super().__init__(inputs, prod(out_shape), bias=False)
        self.out_shape = out_shape
        nn.init.orthogonal_(self.weight, gain=sqrt(prod(out_shape) / inputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reshape(len(x), *self.out_shape)


class ScaledReLU(nn.Module):
    """sqrt(2) relu(x): the second moment of symmetric inputs stays."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) * sqrt(2)


def orthogonal_mlp(in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, width: Count, depth: Index) -> nn.Module:
    """[B, *in_shape] -> [B, *out_shape] through `depth` hidden layers of `width` units, without biases."""
    layers: list[nn.Module] = [Flatten()]
    features = prod(in_shape)
    for _ in range(depth):
        layers += [Orthogonal(features, (width,)), ScaledReLU()]
        features = width
    return nn.Sequential(*layers, Orthogonal(features, out_shape))
