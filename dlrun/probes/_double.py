"""Derivatives of a run's loss by its weights: which weights, gradients as one vector, and kernels that can be derived twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlrun.trained import Trained


@contextmanager
def every_derivative() -> Iterator[None]:
    """With gradients, attention by plain matrix products: torch's fused kernels have no second derivative."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def trainable(run: Trained, networks: Collection[str] | None = None) -> list[nn.Parameter]:
    """Each trainable parameter once (tied ones too) of `networks`, or of all and the loss. Raises ValueError where there is none."""
    found = {
        id(parameter): parameter
        for name, module in run.modules.items()
        if networks is None or name in networks or name == "loss"
        for parameter in module.parameters()
        if parameter.requires_grad
    }
    if not found:
        raise ValueError(f"no weight of {', '.join(networks or run.modules)} is trained: there is no gradient")
    return list(found.values())


def gradient(loss: Tensor, weights: Sequence[Tensor], again: bool = False) -> Tensor:
    """The gradient of `loss` by all `weights`, one vector; 0 where it does not depend on them. `again`: it can be derived once more."""
    if not loss.requires_grad:
        return torch.zeros(sum(weight.numel() for weight in weights), dtype=weights[0].dtype, device=weights[0].device)
    parts = torch.autograd.grad(loss, weights, retain_graph=True, create_graph=again, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if part is None else part).flatten() for w, part in zip(weights, parts, strict=True)])
