"""Muon: momentum, orthogonalised, for the hidden matrices of a network; AdamW inside for everything else.

The update of a matrix is its momentum with every singular value set to about 1, so that no direction dominates: steepest descent in the
spectral norm. That is no measure for embeddings (rows are looked up), for readouts, biases and norms: AdamW steps these.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon; scale
`match_rms_adamw`: Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4. Names and numbers: torch.optim.Muon; AdamW: see adamw.
"""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.adamw import adamw as plain_adamw

from dlrun.functional.newton_schulz import orthogonalised
from dlrun.nn.fused import FUSED, FusedAdam, served
from dlrun.nn.stepper import checked, decayed, gradients
from dlrun.ranges import Count, Decay, NonNegative, Positive


class Muon(FusedAdam):
    """Groups with `ns_steps` hold matrices for Muon, the others are AdamW's."""

    def _loaded(self, group: dict[str, Any]) -> dict[str, Any]:
        return group if "ns_steps" in group else super()._loaded(group)

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if "ns_steps" in group:
            self._orthogonal(group, parameters)
        elif served("adamw", parameters[0].device.type, parameters[0].dtype):
            super()._update(group, parameters)
        else:
            self._plain(group, parameters)

    def _orthogonal(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        found, momentum, lr = gradients(parameters), group["momentum"], group["lr"]
        buffers = self._states(parameters, "momentum_buffer")
        torch._foreach_lerp_(buffers, found, 1 - momentum)
        updates = torch._foreach_lerp(found, buffers, momentum) if group["nesterov"] else buffers
        dtype = torch.bfloat16 if group["ns_dtype"] == "bfloat16" else None
        steps, coefficients, eps = group["ns_steps"], tuple(group["ns_coefficients"]), group["eps"]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            flat = update.reshape(len(update), -1)
            turned = orthogonalised(flat, steps=steps, coefficients=coefficients, eps=eps, dtype=dtype)
            parameter.add_(turned.reshape(parameter.shape), alpha=-lr * scale(group["adjust_lr_fn"], *flat.shape))

    def _plain(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self.state[parameter] or self._begin(parameter, amsgrad=False) for parameter in parameters]
        columns = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]
        beta1, beta2 = group["betas"]
        known = {"amsgrad": False, "maximize": False, "beta1": beta1, "beta2": beta2}
        known |= {name: group[name] for name in ("lr", "weight_decay", "eps")}
        plain_adamw(parameters, gradients(parameters), columns[0], columns[1], [], columns[2], foreach=False, **known)


def scale(kind: str, rows: int, columns: int) -> float:
    """What a matrix's rate is multiplied by: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), the size of AdamW's steps."""
    return 0.2 * sqrt(max(rows, columns)) if kind == "match_rms_adamw" else sqrt(max(1.0, rows / columns))


def muon(
    named_parameters: list[tuple[str, Parameter]],
    hidden: Collection[str] | None = None,
    *,
    lr: NonNegative,
    momentum: Decay,
    nesterov: bool,
    weight_decay: NonNegative,
    ns_steps: Count,
    ns_coefficients: tuple[float, float, float],
    ns_dtype: Literal["bfloat16", "parameter"],
    eps: Positive,
    adjust_lr_fn: Literal["original", "match_rms_adamw"],
    adamw_lr: NonNegative,
    adamw_betas: tuple[Decay, Decay],
    adamw_eps: Positive,
    adamw_weight_decay: NonNegative,
) -> Optimizer:
    """torch.optim.Muon's arguments and numbers on the matrices named in `hidden` (None: all), torch.optim.AdamW's on the rest.

    What is hidden is found by the builder: weights of linear, convolutional (flattened to rows of one output channel) and recurrent layers,
    without embeddings and the readout. An optimizer that says what it `owns` takes every matrix in it. Which went where is printed.
    A step moves a matrix by lr x scale in spectral norm and shrinks it by lr x weight_decay.
    """
    named = checked("muon", named_parameters)
    mine = [(name, p) for name, p in named if (p.dim() >= 2 if hidden is None else name in hidden)]
    rest = [(name, p) for name, p in named if all(name != other for other, _ in mine)]
    own: dict[str, Any] = {
        "lr": lr,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "ns_steps": ns_steps,
        "eps": eps,
    }
    own |= {"ns_coefficients": tuple(ns_coefficients), "ns_dtype": ns_dtype, "adjust_lr_fn": adjust_lr_fn}
    other: dict[str, Any] = {"lr": adamw_lr, "betas": tuple(adamw_betas), "eps": adamw_eps, "amsgrad": False, "capturable": False}
    other |= {**FUSED, "decoupled_weight_decay": True}
    groups = [{"params": mine, **own}] if mine else []
    made = Muon(groups + [{**other, **group} for group in decayed(rest, adamw_weight_decay, "matrices")], {})
    made.note = shares(mine, rest)
    return made


def shares(mine: list[tuple[str, Tensor]], rest: list[tuple[str, Tensor]]) -> str:
    """Which parameters are Muon's and which AdamW's, in words: matrices by name, vectors by number."""
    matrices, vectors = [name for name, p in rest if p.dim() >= 2], sum(p.dim() < 2 for _, p in rest)
    other = [*([listed(matrices)] if matrices else []), *([f"{vectors} vector{'s' * (vectors != 1)}"] if vectors else [])]
    first = f"Muon steps {listed([name for name, _ in mine])}" if mine else "no hidden matrix for Muon"
    return f"{first}; AdamW steps {' and '.join(other)}" if other else first


def listed(names: list[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
