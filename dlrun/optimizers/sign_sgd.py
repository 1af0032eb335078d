"""Sign descent: every weight moves by the learning rate against the sign of its gradient, or of the gradient's running mean (Signum).

Steepest descent in the largest-entry norm.

Source: Bernstein, Wang, Azizzadenesheli, Anandkumar 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", algorithms 1 and 2;
steps in spectral norm: Yang, Simon, Bernstein 2023, "A Spectral Condition for Feature Learning", condition 1.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.functional.spectral import spectral_norm
from dlrun.nn.stepper import Stepper, checked, decayed, gradients
from dlrun.ranges import Decay, NonNegative, Positive

ITERATIONS = 10
"""Power iterations for a spectral norm: within a few percent, from below, for signs of gradients, which are of low rank."""


class SignSGD(Stepper):
    """m <- momentum m + (1 - momentum) g, then w <- (1 - lr weight_decay) w - lr sign(m)."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        means = gradients(parameters)
        if group["momentum"]:
            found, means = means, self._states(parameters, "momentum_buffer")
            torch._foreach_lerp_(means, found, 1 - group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        signs = list(torch._foreach_sign(means))
        if group.get("spectral"):
            signs = [sign * (group["spectral"] * unit(sign)) if sign.dim() == 2 else sign for sign in signs]
        torch._foreach_add_(parameters, signs, alpha=-group["lr"])


def unit(sign: Tensor) -> Tensor:
    """What a matrix of signs [R, C] is multiplied by so that its spectral norm is sqrt(R / C); 0 for zeros."""
    norm = spectral_norm(sign, ITERATIONS)
    return torch.where(norm > 0, sqrt(sign.shape[0] / sign.shape[1]) / norm, 0.0)


def sign_sgd(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    momentum: Decay,
    weight_decay: NonNegative,
    decay: Literal["matrices", "all"],
    spectral: Positive | None,
) -> Optimizer:
    """momentum 0 is signSGD (algorithm 1), above it Signum (algorithm 2); a weight whose gradient is exactly 0 stays.

    Decay is decoupled, as in algorithm 2 of the paper, on parameters with two or more axes only unless `decay` is all.
    With `spectral` a step moves a matrix [R, C] by lr x spectral x sqrt(R / C) in spectral norm, and others as ever.
    """
    options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay} | ({"spectral": spectral} if spectral else {})
    return SignSGD(decayed(checked("sign_sgd", named_parameters), weight_decay, decay), options)
