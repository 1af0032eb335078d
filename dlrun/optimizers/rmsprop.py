"""RMSprop: the gradient divided by the root of the running mean of its square.

Source: Tieleman, Hinton 2012, "Lecture 6.5: rmsprop", Coursera Neural Networks for Machine Learning; centered form and momentum: Graves
2013, "Generating Sequences With Recurrent Neural Networks", eqs. 38-41.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.stepper import FLAGS, Stepper, checked, gradients
from dlrun.ranges import Decay, NonNegative, Positive


class RMSprop(Stepper):
    """v <- alpha v + (1 - alpha) g^2, then w <- w - lr g / (sqrt(v) + eps), in torch's order of operations."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        self._counted(parameters)
        found, alpha = gradients(parameters, group["weight_decay"]), group["alpha"]
        squares = self._states(parameters, "square_avg")
        torch._foreach_mul_(squares, alpha)
        torch._foreach_addcmul_(squares, found, found, value=1 - alpha)
        if group["centered"]:  # the variance: the mean square less the squared mean
            means = self._states(parameters, "grad_avg")
            torch._foreach_lerp_(means, found, 1 - alpha)
            roots = torch._foreach_addcmul(squares, means, means, value=-1)
            torch._foreach_sqrt_(roots)
        else:
            roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        if group["momentum"]:
            buffers = self._states(parameters, "momentum_buffer")
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, found, roots)
            torch._foreach_add_(parameters, buffers, alpha=-group["lr"])
        else:
            torch._foreach_addcdiv_(parameters, found, roots, value=-group["lr"])


def rmsprop(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    alpha: Decay,
    eps: Positive,
    weight_decay: NonNegative,
    momentum: Decay,
    centered: bool,
) -> Optimizer:
    """torch.optim.RMSprop's arguments and numbers; `weight_decay` is L2 added to the gradient."""
    options = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay}
    return RMSprop([{"params": checked("rmsprop", named_parameters)}], {**options, **FLAGS, "capturable": False})
