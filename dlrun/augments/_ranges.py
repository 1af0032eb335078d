"""What augmentations with ranges share: a range [lo, hi] in order, and a value of its own from it for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.noise import Noise


def ordered(part: str, option: str, low_high: tuple[float, float], least: float | None = None, above: float | None = None) -> None:
    """Refuse a range whose ends are in the wrong order or not `>= least` (`> above`); ValueError in one line."""
    low, high = low_high
    if low > high:
        raise ValueError(f"augment {part}: {option} is [{low:g}, {high:g}]: expected [lo, hi] with lo <= hi")
    if (least is not None and low < least) or (above is not None and low <= above):
        limit = f">= {least:g}" if least is not None else f"> {above:g}"
        raise ValueError(f"augment {part}: {option} is [{low:g}, {high:g}]: expected numbers {limit}")


def always(low_high: tuple[float, float], value: float) -> bool:
    """Whether nothing but `value` can be drawn."""
    return low_high[0] == value == low_high[1]


def drawn(noise: Noise, use: str, rows: int, low_high: tuple[float, float]) -> Tensor:
    """float64 [rows] on the CPU, uniform in [lo, hi], from the stream `use`: no other draw shifts it."""
    low, high = low_high
    return low + (high - low) * torch.rand(rows, generator=noise.generator(use), dtype=torch.float64)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """`values` [B] on the device and in the dtype of `like` [B, ...], with axes of size 1 to fit it."""
    return values.to(like.device, like.dtype).view(-1, *[1] * (like.dim() - 1))
