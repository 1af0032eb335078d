"""Adam: steps scaled by running means of the gradient and of its square; weight decay, if any, is added to the gradient.

Source: Kingma, Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1; AMSGrad: Reddi et al. 2018, algorithm 2.
"""

from __future__ import annotations

from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.fused import build
from dlrun.ranges import Decay, NonNegative, Positive


def adam(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
    amsgrad: bool,
) -> Optimizer:
    """torch.optim.Adam's arguments and numbers; `weight_decay` is L2 added to the gradient (use adamw for the decoupled form)."""
    group = {"params": list(named_parameters)}
    return build("adam", [group], lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
