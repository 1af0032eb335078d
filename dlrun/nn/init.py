"""Initialisation: the variance of activations is kept through depth, biases start at zero, the readout starts small.

He, Zhang, Ren, Sun 2015, "Delving Deep into Rectifiers", section 2.2, eq. 10: a weight's standard deviation is gain / sqrt(fan_in).
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

GAINS = {"linear": 1.0, "relu": sqrt(2.0), "gelu": 1.4680, "silu": 1.5588, "tanh": 5.0 / 3.0}
"""Activation f -> gain g. For relu, gelu and silu the g with E[f(g z)^2] = 1 for standard normal z, so that a second moment of 1 goes in
and comes out (relu: half of it is cut away, hence 2); tanh is bounded and cannot keep it: the customary 5/3 holds it near 0.6."""

READOUT_GAIN = 0.1
"""Logits start with standard deviation 0.1, not 1: a classifier's first loss is then ln C + 0.1^2 / 2, so that a first loss which is off
points to a fault, and no step is spent on unlearning confidence that came from nowhere."""


@torch.no_grad()
def kaiming_(module: nn.Linear | nn.Conv1d | nn.Conv2d, activation: str = "relu", scale: float = 1.0) -> None:
    """Draw the weights from N(0, (scale x gain / sqrt(fan_in))^2) for the activation that follows; bias zero."""
    fan_in = module.weight[0].numel()
    module.weight.normal_(0.0, scale * GAINS[activation] / sqrt(fan_in))
    if module.bias is not None:
        module.bias.zero_()
