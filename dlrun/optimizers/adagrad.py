"""Adagrad: each weight's rate falls with the root of the sum of its squared gradients so far, so rare features keep large steps.

Source: Duchi, Hazan, Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", figure 1 (diagonal form).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.stepper import FLAGS, Stepper, checked, gradients
from dlrun.ranges import NonNegative, Positive


class Adagrad(Stepper):
    """s <- s + g^2, then w <- w - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps), in torch's order of operations."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        steps, lr = self._counted(parameters), group["lr"]
        found = gradients(parameters, group["weight_decay"])
        sums = self._states(parameters, "sum", group["initial_accumulator_value"])
        torch._foreach_addcmul_(sums, found, found, value=1)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, group["eps"])
        rates = [-lr / (1 + (float(step) - 1) * group["lr_decay"]) for step in steps] if group["lr_decay"] else [-lr] * len(steps)
        torch._foreach_addcdiv_(parameters, torch._foreach_mul(found, rates), roots)


def adagrad(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    lr_decay: NonNegative,
    weight_decay: NonNegative,
    initial_accumulator_value: NonNegative,
    eps: Positive,
) -> Optimizer:
    """torch.optim.Adagrad's arguments and numbers; `weight_decay` is L2 added to the gradient."""
    options: dict[str, Any] = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
    options |= {"initial_accumulator_value": initial_accumulator_value, **FLAGS, "fused": None}
    return Adagrad([{"params": checked("adagrad", named_parameters)}], options)
