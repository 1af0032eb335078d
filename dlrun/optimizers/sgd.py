"""Stochastic gradient descent with momentum (Polyak's or Nesterov's form) and weight decay.

Source: Sutskever, Martens, Dahl, Hinton 2013, "On the importance of initialization and momentum in deep learning", eqs. 1-4,
in torch's form, where the learning rate multiplies the velocity.
"""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.fused import build
from dlrun.ranges import Decay, Fraction, NonNegative


def sgd(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    momentum: Decay,
    dampening: Fraction,
    weight_decay: NonNegative,
    nesterov: bool,
) -> Optimizer:
    """torch.optim.SGD's arguments and numbers. Raises ValueError for nesterov without momentum or with dampening."""
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(f"nesterov needs momentum > 0 and dampening 0; found momentum={momentum:g}, dampening={dampening:g}")
    group = {"params": list(named_parameters)}
    return build("sgd", [group], lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
