"""From x as the network gets it back to pictures: de-normalised where the statistics are known, else stretched, and which is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrun.data import Data
from dlrun.sinks.paint import Array, as_array
from dlrun.sinks.terminal import clip, number

LEAST_SIDE = 4


def are_images(x: Any) -> bool:
    """Whether x [B, C, H, W] (C = 1 or 3) or [B, H, W] can be shown as pictures."""
    if not isinstance(x, Tensor) or x.dim() not in (3, 4) or (x.dim() == 4 and x.shape[1] not in (1, 3)):
        return False
    return min(x.shape[-2:]) >= LEAST_SIDE and (x.dim() == 4 or x.is_floating_point())


class Pixels:
    """`show(x)` gives pictures [H, W, C] in 0..1; `words` says what black and white are.

    uint8 data come back exactly: x std + mean. Of other data nobody knows what black was: the range of `reference` is stretched to 0..1.
    """

    def __init__(self, data: Data, reference: Tensor) -> None:
        self._scale: Array | float
        self._zero: Array | float
        raw = data.raw("train").take(torch.arange(1, device=data.raw("train").device))["x"]
        if raw.dtype == torch.uint8:
            spec = data.spec
            self._scale, self._zero = (_channels(spec.std), _channels(spec.mean)) if spec.mean and spec.std else (1.0, 0.0)
            self.words = "pixels as in the data, 0 black, 255 white"
            return
        finite = reference[reference.isfinite()]
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
        width = high - low if high > low else 1.0
        self._scale, self._zero = 1 / width, -low / width
        self.words = f"black is {number(low, 3)}, white {number(high, 3)}: least and largest x here"

    def show(self, x: Tensor) -> list[Array]:
        """Pictures of x [B, C, H, W] or [B, H, W]; what lies outside black and white is cut off, what is not finite is black."""
        array = as_array(x)
        array = array[:, None] if array.ndim == 3 else array
        return [np.clip(np.nan_to_num(row.transpose(1, 2, 0) * self._scale + self._zero), 0, 1) for row in array]


def _channels(values: Sequence[float]) -> Array:
    return np.asarray(values, dtype=np.float64)


def label(y: Any, names: Sequence[str]) -> str:
    """One row's target in a few characters: a class's name, a mixture's two largest shares, a number; "" for anything larger."""
    if not isinstance(y, Tensor):
        return ""
    if y.dim() == 1 and y.is_floating_point() and 2 <= len(y) and bool((y >= 0).all()) and abs(float(y.sum()) - 1) < 1e-3:
        shares = sorted(((float(share), i) for i, share in enumerate(y.tolist()) if share > 0), reverse=True)
        if shares[0][0] >= 1:
            return _name(shares[0][1], names)
        said = [f"{_name(i, names)} {share:.2f}" if 0.005 <= share < 0.995 else f"{_name(i, names)} {share:.4f}" for share, i in shares[:2]]
        return "\n".join(said) + (" …" if len(shares) > 2 else "")
    if y.dim() == 0:
        return number(float(y), 3) if y.is_floating_point() else _name(int(y), names)
    return ""


def _name(index: int, names: Sequence[str]) -> str:
    return clip(str(names[index]), 12) if 0 <= index < len(names) else str(index)
