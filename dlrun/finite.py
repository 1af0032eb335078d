"""Watch for non-finite losses, gradients and parameters. Not telemetry: every step is watched, the cost is a flag.

On a CPU a flag is read at once. On an accelerator reading one would stall the queue, so flags are kept there, or-ed, and read at logged
steps and before every checkpoint; the step they name is exact either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dlrun.errors import AnswerNo


class NonFinite(AnswerNo):
    """A value that is no number stopped the run at `step`; `what` says which value and where."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what
        super().__init__(f"non-finite {what} at step {step}")


def broken_parameter(modules: Mapping[str, nn.Module]) -> str | None:
    """The first parameter (or NaN in a buffer; an infinite mask is legal) that is not finite, as `network.key`."""
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            if not torch.isfinite(parameter).all():
                return f"{name}.{key}"
        for key, buffer in module.named_buffers():
            if buffer.is_floating_point() and torch.isnan(buffer).any():
                return f"{name}.{key}"
    return None


class Watch:
    """One run's flags."""

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._first: Tensor | None = None
        self._device = device

    def see(self, step: int, value: Tensor, what: str) -> Tensor | float:
        """Note `value` (a scalar: loss or gradient norm) of `step`; gives it back, as a number where reading it costs nothing."""
        if self._at_once:
            number: float = value.item()
            if not math.isfinite(number):
                raise NonFinite(step, what)
            return number
        if self._first is None:
            self._first = torch.full((), torch.inf, device=self._device)
        self._first = torch.minimum(self._first, torch.where(value.isfinite(), torch.inf, float(step)))
        return value

    def read(self) -> None:
        """Raise NonFinite if a flag was set; call where a wait for the device does not hurt."""
        if self._first is not None:
            first = float(self._first)
            if first != float("inf"):
                raise NonFinite(int(first), "loss or gradient")
