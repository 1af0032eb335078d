"""Sharpness-aware minimisation: the step that SGD or AdamW would take with the gradient at the worst nearby point.

A step has two passes over its batch under the same noise: the first climbs from w to w + rho g / |g|, the second takes the gradient there
and steps from w. The norm |g| is over all parameters of this optimizer.

Source: Foret, Kleiner, Mobahi, Neyshabur 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", eqs. 2 and 3,
algorithm 1; `adaptive`: Kwon, Kim, Park, Choi 2021, "ASAM", section 3, elementwise.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dlrun.nn.fused import build
from dlrun.nn.stepper import checked, decayed, gradients
from dlrun.ranges import Decay, NonNegative, Positive

TINY = 1e-12
"""Added to the gradient's norm: where it is 0 there is no way up."""


class Sam:
    """Over an optimizer of torch's kind: every second `step` is its own, at the weights from before the first, which only climbs."""

    passes = 2
    """How often the loop runs a step's objectives and calls `step`."""

    param_groups: list[dict[str, Any]]
    _before: list[tuple[Tensor, Tensor]] | None = None

    def step(self, closure: Any = None) -> Any:
        """Climb, or, after that, go back and step."""
        if closure is not None:
            raise ValueError("optimizer sam takes no closure: call step after each of two backward passes")
        if self._before is None:
            self._before = self._climb()
            return None
        with torch.no_grad():
            for parameter, value in self._before:
                parameter.copy_(value)
        self._before = None
        return super().step()  # type: ignore[misc]

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it in a profiler scope and call the hooks twice

    @torch.no_grad()
    def _climb(self) -> list[tuple[Tensor, Tensor]]:
        """Move to the worst point; gives the parameters that moved, each with its value before."""
        rho, adaptive = self.param_groups[0]["rho"], self.param_groups[0]["adaptive"]
        live = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [(parameter, parameter.detach().clone()) for parameter in live]
        if not live:
            return before
        sizes = list(torch._foreach_abs(live)) if adaptive else []
        slopes = _times(gradients(live), sizes)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(slopes)))
        torch._foreach_add_(live, list(torch._foreach_mul(_times(slopes, sizes), rho / (norm + TINY))))
        return before


def _times(tensors: list[Tensor], sizes: list[Tensor]) -> list[Tensor]:
    return [tensor * size for tensor, size in zip(tensors, sizes, strict=True)] if sizes else tensors


def own_options(base: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of `base`: what is given, else its usual values. ValueError for one that belongs to the other base."""
    usual: dict[str, dict[str, Any]] = {
        "sgd": {"momentum": 0.9, "nesterov": False},
        "adamw": {"betas": (0.9, 0.999), "eps": 1e-8},
    }
    wrong = [name for name, value in given.items() if value is not None and name not in usual[base]]
    if wrong:
        raise ValueError(f"{wrong[0]} is no option of base={base}: leave it null, or say base={'adamw' if base == 'sgd' else 'sgd'}")
    return {name: value if given[name] is None else given[name] for name, value in usual[base].items()}


def sam(
    named_parameters: list[tuple[str, Parameter]],
    *,
    base: Literal["sgd", "adamw"],
    rho: Positive,
    adaptive: bool,
    lr: NonNegative,
    weight_decay: NonNegative,
    momentum: Decay | None,
    nesterov: bool | None,
    betas: tuple[Decay, Decay] | None,
    eps: Positive | None,
) -> Optimizer:
    """`rho` is how far the first pass climbs, in the 2-norm over all weights (`adaptive`: of the climb relative to each weight).

    A step costs two. The loss and metrics of a row are those at w; train/grad_norm and clipping are of the gradient that steps, the second.
    Buffers (running means of batch norm) change in the first pass only. Needs a task of one objective a step, and fp32 or bf16.
    """
    named = checked("sam", named_parameters)
    options = own_options(base, {"momentum": momentum, "nesterov": nesterov, "betas": betas, "eps": eps})
    options |= {"lr": lr, "weight_decay": weight_decay}
    if base == "sgd":
        if options["nesterov"] and not options["momentum"]:
            raise ValueError(f"nesterov needs momentum > 0; found momentum={options['momentum']:g}")
        groups: list[dict[str, Any]] = [{"params": named}]
        options |= {"dampening": 0.0}
    else:
        groups = decayed(named, weight_decay, "matrices")
        options |= {"betas": tuple(options["betas"]), "amsgrad": False}
    made: Any = build(base, [{**group, "rho": rho, "adaptive": adaptive} for group in groups], **options)
    made.__class__ = type(f"Sam{type(made).__name__}", (Sam, type(made)), {})  # fused, or torch's own class where that cannot be
    return made  # type: ignore[no-any-return]
