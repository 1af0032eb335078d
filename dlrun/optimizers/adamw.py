"""AdamW: Adam with weight decay taken out of the gradient, so that it shrinks every decayed weight by the same share.

Source: Loshchilov, Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
"""

from __future__ import annotations

from typing import Literal

from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.fused import build
from dlrun.nn.stepper import decayed
from dlrun.ranges import Decay, NonNegative, Positive


def adamw(
    named_parameters: list[tuple[str, Parameter]],
    *,
    lr: NonNegative,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
    amsgrad: bool,
    decay: Literal["matrices", "all"],
) -> Optimizer:
    """torch.optim.AdamW's arguments and numbers; a step shrinks a decayed weight by lr x weight_decay.

    `decay: matrices` decays parameters with two or more axes only: shrinking biases and the scales of norms limits no complexity
    and pulls norms to zero. `all` is torch's behaviour.
    """
    options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
    return build("adamw", decayed(named_parameters, weight_decay, decay), **options)
