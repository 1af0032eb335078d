"""Network of sines for signals over coordinates (images, sounds, fields): each layer is sin(omega (W x + b)).

Source: Sitzmann, Martel, Bergman, Lindell, Wetzstein 2020, "Implicit Neural Representations with Periodic Activation Functions", section
3.2 and supplement 1: the first activations follow the arcsine law and the next arguments of the sines are standard normal, whatever the
width; deeper ones stay near it (their standard deviation ends at 0.893). Biases of later layers start at zero, as that law assumes; the
authors' code draws them.
"""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor, nn

from dlrun.nn.layers import Flatten, Readout
from dlrun.ranges import Count, Positive


class Sine(nn.Linear):
    """[..., inputs] -> [..., outputs] = sin(omega (W x + b)).

    The first layer draws W from U(-1/n, 1/n) and b from U(-1/sqrt(n), 1/sqrt(n)), n its inputs, so that coordinates in [-1, 1] span many
    periods; later ones W from U(-c, c), c = sqrt(6/n) / omega.
    """

    def __init__(self, inputs: int, outputs: int, omega: float, first: bool) -> None:
        super().__init__(inputs, outputs)
        self.omega, self.first = omega, first
        bound = 1 / inputs if first else sqrt(6 / inputs) / omega
        nn.init.uniform_(self.weight, -bound, bound)
        offset = 1 / sqrt(inputs) if first else 0.0
        nn.init.uniform_(self.bias, -offset, offset)

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            return torch.sin(self.omega * super().forward(x))
        # Phases of tens of radians do not survive the 8 bits of bfloat16: this layer stays in single precision under autocast.
        with torch.autocast(x.device.type, enabled=False):
            return torch.sin(self.omega * super().forward(x.to(self.weight.dtype)))


def siren(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    *,
    width: Count,
    depth: Count,
    omega_0: Positive,
    omega: Positive,
) -> nn.Module:
    """Coordinates [B, *in_shape] in [-1, 1] -> [B, *out_shape] through `depth` layers of sines and a linear one; rows are flattened.

    Rows of many features that are no coordinates (digits as vectors) want omega_0 and omega about 1: at 30 any small change of such a row
    is a new signal, and the network learns the training rows by heart and nothing else.
    """
    features, layers = prod(in_shape), [Flatten()]
    for number in range(depth):
        layers.append(Sine(features, width, omega if number else omega_0, first=number == 0))  # type: ignore[arg-type]
        features = width
    readout = Readout(features, out_shape)
    bound = sqrt(6 / features) / omega
    nn.init.uniform_(readout.weight, -bound, bound)
    return nn.Sequential(*layers, readout)
