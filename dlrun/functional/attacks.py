"""Moving rows within a small box against a loss: where a move may go, and the signed gradient steps that take it there.

Source: Goodfellow, Shlens, Szegedy 2015, "Explaining and Harnessing Adversarial Examples", section 4 (one step of size eps: FGSM);
Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1 (many small ones, each projected: PGD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Ball(NamedTuple):
    """Where an attack may go, in units of x as the network gets it: `eps` and a `step` a channel, ends of inputs `low`, `high` or None."""

    eps: Tensor
    step: Tensor
    low: Tensor | None
    high: Tensor | None

    def into(self, moved: Tensor, x: Tensor) -> Tensor:
        """The nearest point of `moved` within eps of x and within the inputs' range."""
        moved = torch.minimum(torch.maximum(moved, x - self.eps), x + self.eps)
        return moved if self.low is None else torch.minimum(torch.maximum(moved, self.low), self.high)  # type: ignore[arg-type]


def ball(
    x: Tensor, eps: float, step: float, bounds: Sequence[float] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Ball:
    """eps, step and bounds of inputs u in units of x = (u - mean) / std, each one number or one a channel. ValueError for odd bounds."""
    if bounds is not None and (len(bounds) != 2 or bounds[0] >= bounds[1]):
        raise ValueError(f"bounds={bounds}: expected [least, largest] of the inputs, in input units")
    mean, std = mean or (0.0,), std or (1.0,)
    axes = (len(std),) + (1,) * (x.dim() - 2) if len(std) > 1 else ()
    shift, scale = (torch.tensor(side, device=x.device, dtype=x.dtype).view(axes) for side in (mean, std))
    low, high = ((bound - shift) / scale for bound in bounds) if bounds is not None else (None, None)
    return Ball(eps / scale, step / scale, low, high)


def uphill(loss: Callable[[Tensor], Tensor], x: Tensor, begin: Tensor, box: Ball, steps: int) -> Tensor:
    """From `begin`, `steps` steps along the sign of the slope of loss(moved), each put back into the box about x; no gradients are kept."""
    moved = begin
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss(moved), moved)
        moved = box.into(moved.detach() + box.step * slope.sign(), x)
    return moved.detach()
