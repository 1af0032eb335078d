"""Lion: the sign of a momentum that looks ahead. Every weight moves by the learning rate, whatever the size of its gradient.

Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", program 1 and algorithm 2.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.stepper import Stepper, checked, decayed, gradients
from dlrun.ranges import Decay, NonNegative


class Lion(Stepper):
    """w <- (1 - lr weight_decay) w - lr sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        found, means = gradients(parameters), self._states(parameters, "exp_avg")
        ahead, kept = group["betas"]
        moves = torch._foreach_lerp(means, found, 1 - ahead)
        torch._foreach_sign_(moves)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, moves, alpha=-group["lr"])
        torch._foreach_lerp_(means, found, 1 - kept)


def lion(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    betas: tuple[Decay, Decay],
    weight_decay: NonNegative,
    decay: Literal["matrices", "all"],
) -> Optimizer:
    """Each weight moves by lr in a step; decay is decoupled, on parameters with two or more axes only unless `decay` is all.

    Against AdamW a rate 3 to 10 times smaller and a weight_decay larger by as much do the same (section 5 of the paper).
    """
    options = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}
    return Lion(decayed(checked("lion", named_parameters), weight_decay, decay), options)
