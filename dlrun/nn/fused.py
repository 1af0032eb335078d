"""SGD, Adam and AdamW through torch's fused kernels, without what importing torch's own optimizers costs (`nn/stepper.py`).

A step of `torch.optim` spends more time in Python than a small network's update takes. These classes have torch's state, groups and
numbers, bit for bit those of `torch.optim.X(fused=True)`. They lean on private parts of torch, the kernels `torch._fused_*_`. Where those
differ from what is expected, or do not serve a parameter, `build` takes torch's own class and says so in `note`.

Source: Sutskever et al. 2013 (SGD with momentum), Kingma, Ba 2015 (Adam, algorithm 1), Loshchilov, Hutter 2019 (AdamW, algorithm 2);
state and argument names: torch.optim.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dlrun.nn.stepper import FLAGS, Stepper

KERNELS = {
    "sgd": (
        "_fused_sgd_",
        "self grads momentum_buffer_list weight_decay momentum lr dampening nesterov maximize is_first_step grad_scale found_inf",
    ),
    "adam": (
        "_fused_adam_",
        "self grads exp_avgs exp_avg_sqs max_exp_avg_sqs state_steps lr beta1 beta2 weight_decay eps amsgrad maximize grad_scale found_inf",
    ),
}
KERNELS["adamw"] = ("_fused_adamw_", KERNELS["adam"][1])
"""Optimizer -> kernel and the arguments it is expected to have."""

DEVICES = ("cpu", "cuda")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Fused(Stepper):
    """What the fused optimizers share."""

    def _loaded(self, group: dict[str, Any]) -> dict[str, Any]:
        # Step counters stay on the device of their parameter only in groups that say "fused".
        return {**group, "fused": True}


class FusedAdam(Fused):
    """Adam, and AdamW where a group says `decoupled_weight_decay`."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self.state[parameter] or self._begin(parameter, group["amsgrad"]) for parameter in parameters]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        kernel(
            parameters,
            [parameter.grad for parameter in parameters],  # type: ignore[misc]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )

    def _begin(self, parameter: Tensor, amsgrad: bool) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if amsgrad else 2]:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


class FusedSGD(Fused):
    """SGD with momentum, dampening, Nesterov's form and weight decay."""

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if group["momentum"] == 0:
            self._kernel(group, parameters, [], first=False)
            return
        # A parameter whose first gradient comes late starts its buffer then, as in torch's unfused SGD.
        new = [parameter for parameter in parameters if "momentum_buffer" not in self.state[parameter]]
        old = [parameter for parameter in parameters if "momentum_buffer" in self.state[parameter]] if new else parameters
        for parameter in new:
            self.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.grad)  # type: ignore[arg-type]
        for some, first in ((new, True), (old, False)):
            if some:
                self._kernel(group, some, [self.state[parameter]["momentum_buffer"] for parameter in some], first)

    def _kernel(self, group: dict[str, Any], parameters: list[Tensor], buffers: list[Tensor], first: bool) -> None:
        torch._fused_sgd_(
            parameters,
            [parameter.grad for parameter in parameters],  # type: ignore[misc]
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=first,
        )


FUSED = {**FLAGS, "fused": True}
"""What torch's groups hold beside the options."""


def unserved(kind: str, parameters: Iterable[Tensor]) -> str:
    """Why the fused kernel of `kind` cannot be used for these parameters; empty where it can."""
    kernel, expected = KERNELS[kind]
    packet = getattr(torch.ops.aten, kernel, None)
    if packet is None or not hasattr(torch, kernel):
        return f"torch {torch.__version__} has no {kernel}"
    found = " ".join(argument.name for argument in packet.default._schema.arguments)
    if found != expected:
        return f"{kernel} of torch {torch.__version__} takes other arguments than expected"
    for parameter in parameters:
        if parameter.device.type not in DEVICES or parameter.dtype not in DTYPES:
            return f"{kernel} does not serve {str(parameter.dtype).removeprefix('torch.')} on {parameter.device.type}"
    return ""


@functools.lru_cache(maxsize=32)
def served(kind: str, device: str, dtype: torch.dtype) -> bool:
    """Whether the fused kernel of `kind` serves parameters of this dtype on this type of device."""
    return not unserved(kind, [torch.empty(0, device=device, dtype=dtype)])


def build(kind: str, groups: Sequence[dict[str, Any]], **options: Any) -> Optimizer:
    """An optimizer of `kind` (sgd, adam, adamw) over `groups`, as given to torch.optim, with torch's `options`.

    Fused where torch's kernels allow it, else torch's own class; `note` then says why. Raises ValueError for an empty list.
    """
    parameters = [parameter for group in groups for _, parameter in group["params"]]
    if not parameters:
        raise ValueError(f"optimizer {kind}: there is no trainable parameter to optimise")
    reason = unserved(kind, parameters)
    if reason:
        own = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
        plain: Any = own([dict(group) for group in groups], **options)
        plain.note = f"optimizer {kind}: not fused, torch.optim.{own.__name__} instead, for {reason}"
        return plain  # type: ignore[no-any-return]
    if kind == "sgd":
        return FusedSGD(groups, {**options, **FUSED})
    return FusedAdam(groups, {**options, **FUSED, "capturable": False, "decoupled_weight_decay": kind == "adamw"})
