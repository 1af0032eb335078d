"""Exponential moving average of the weights (Polyak & Juditsky 1992): after each step `ema = decay * ema + (1 - decay) * weight`.

Parameters are averaged, buffers are copied (averaging a counter or a running variance twice means nothing).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copies of networks; `modules` are ordinary networks to evaluate."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self._live = dict(modules)
        self.modules = {name: copy.deepcopy(module).requires_grad_(False) for name, module in modules.items()}
        self._pairs = self._collect()

    def _collect(self) -> tuple[list[Tensor], list[Tensor]]:
        averaged: list[Tensor] = []
        live: list[Tensor] = []
        for name, module in self._live.items():
            averaged += list(self.modules[name].parameters())
            live += list(module.parameters())  # not their .data: a change of memory format puts another tensor there
        return averaged, live

    def update(self) -> None:
        """Once a step, after the weights changed."""
        averaged, live = self._pairs
        if averaged:
            with torch.no_grad():
                torch._foreach_lerp_(averaged, live, 1 - self.decay)

    def copy_buffers(self) -> None:
        """Before the averaged networks are used or saved."""
        for name, module in self._live.items():
            for mine, theirs in zip(self.modules[name].buffers(), module.buffers(), strict=True):
                mine.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """Every entry as `network.key`."""
        self.copy_buffers()
        return {f"{name}.{key}": value for name, module in self.modules.items() for key, value in module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave; every entry must be there."""
        for name, module in self.modules.items():
            module.load_state_dict({key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")})
