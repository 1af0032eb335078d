"""Hears ReLU, sigmoid and tanh of a forward as functions, whoever calls them: layers of torch, or a network's own forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
SQUASHES = {torch.sigmoid, Tensor.sigmoid, F.sigmoid, Tensor.sigmoid_, torch.tanh, Tensor.tanh, F.tanh, Tensor.tanh_}


@dataclass
class Heard:
    """One call of a function in forward, over all batches."""

    kind: str
    units: tuple[Tensor, ...] = ()
    """By reading of the axes (axis 1, the last one): whether each unit ever was above 0."""
    bound: float = 0.0
    values: int = 0

    @property
    def dead(self) -> float:
        """The share of units that never were above 0, by the reading that finds fewest."""
        return min((1 - float(fired.float().mean()) for fired in self.units), default=0.0)


class Functions(TorchFunctionMode):
    """What a forward calls, in order; `restart` before each further forward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Heard] = []
        self.at = 0

    def restart(self) -> None:
        """The next call is the first one of a forward again."""
        self.at = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **dict(kwargs or {}))
        if (func in RELUS or func in SQUASHES) and isinstance(out, Tensor) and out.dim() > 1:
            self._note("relu" if func in RELUS else "tanh" if "tanh" in func.__name__ else "sigmoid", out.detach())
        return out

    def _note(self, kind: str, out: Tensor) -> None:
        if self.at == len(self.calls):
            self.calls.append(Heard(kind))
        heard, self.at = self.calls[self.at], self.at + 1
        if kind == "relu":
            fired = tuple((out > 0).movedim(axis, -1).reshape(-1, out.shape[axis]).any(0) for axis in dict.fromkeys((1, out.dim() - 1)))
            same = len(heard.units) == len(fired) and all(a.shape == b.shape for a, b in zip(heard.units, fired, strict=True))
            heard.units = tuple(a | b for a, b in zip(heard.units, fired, strict=True)) if same else fired
        else:
            at_bound = (out.abs() > 0.999) if kind == "tanh" else (out < 1e-3) | (out > 1 - 1e-3)
            heard.bound, heard.values = heard.bound + float(at_bound.sum()), heard.values + out.numel()
