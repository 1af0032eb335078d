"""From logits and targets to predicted and true classes, the same for every metric that compares them."""

from __future__ import annotations

from torch import Tensor


def decide(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(predicted, true) classes of equal shape; true classes below 0 are not to be counted.

    out [..., C] with integer y [...]: the largest logit. out [...] with y [...] of the same shape: a logit above 0 is class 1.
    out [B, C] with y [B, C] floating: both by their largest entry; y [B] between 0 and 1: the nearer.
    Raises ValueError where the shapes fit none of these.
    """
    if out.shape[:-1] == y.shape and out.dim() > 0:
        return out.argmax(-1), y
    if out.shape == y.shape:
        if out.dim() > 1 and out.shape[-1] > 1 and y.is_floating_point():
            return out.argmax(-1), y.argmax(-1)
        return (out > 0).to(y.dtype), (y.round() if y.is_floating_point() else y)
    raise ValueError(f"logits [..., C] go with classes [...], logits [B] with 0/1 targets [B]; found {list(out.shape)} and {list(y.shape)}")
