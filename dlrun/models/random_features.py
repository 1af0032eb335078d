"""One layer of random features and a readout, neither of which is trained by gradients: task `least_squares` computes the readout.

Source: Rahimi, Recht 2007, "Random Features for Large-Scale Kernel Machines"; with ReLU, directions uniform on the sphere and no biases:
Belkin, Hsu, Ma, Mandal 2019, "Reconciling modern machine-learning practice and the classical bias-variance trade-off", SI appendix.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from dlrun.nn.layers import ACTIVATIONS
from dlrun.ranges import Count


class RandomFeatures(nn.Module):
    """[B, *in_shape] -> [B, *out_shape]: readout(features(x)). No parameter wants a gradient; the readout begins at 0."""

    def __init__(self, inputs: int, count: int, out_shape: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.directions = nn.Linear(inputs, count, bias=False)
        with torch.no_grad():
            nn.init.normal_(self.directions.weight)
            self.directions.weight.div_(self.directions.weight.norm(dim=1, keepdim=True))
        self.activation = ACTIVATIONS[activation]()
        self.readout = nn.Linear(count, prod(out_shape), bias=False)
        nn.init.zeros_(self.readout.weight)
        self.out_shape = out_shape
        self.requires_grad_(False)

    def features(self, x: Tensor) -> Tensor:
        """[B, *in_shape] -> [B, features]."""
        found: Tensor = self.activation(self.directions(x.flatten(1)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[B, *in_shape] -> [B, *out_shape]."""
        found: Tensor = self.readout(self.features(x))
        return found.view(len(x), *self.out_shape)


def random_features(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, features: Count, activation: Literal["relu", "gelu", "silu", "tanh"]
) -> nn.Module:
    """Directions [features, inputs] of length 1, uniform on the sphere."""
    return RandomFeatures(prod(in_shape), features, out_shape, activation)
