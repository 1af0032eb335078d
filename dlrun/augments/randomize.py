"""Domain randomisation: brightness, contrast, gamma, size, place, background and noise of every image drawn from ranges.

Source: J. Tobin, R. Fong, A. Ray, J. Schneider, W. Zaremba, P. Abbeel, Domain Randomization for Transferring Deep Neural Networks from
Simulation to the Real World, 2017, section III.A (ranges of lighting, camera, background and noise, drawn anew for every image).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.augments._images import images, label_stays, resample
from dlrun.augments._ranges import always, drawn, ordered, per_row
from dlrun.batch import Batch
from dlrun.noise import Noise

Pair = tuple[float, float]


def randomize(
    batch: Batch,
    noise: Noise,
    *,
    scale: tuple[float, float],
    translation: tuple[float, float],
    background: tuple[float, float],
    gamma: tuple[float, float],
    contrast: tuple[float, float],
    brightness: tuple[float, float],
    noise_std: tuple[float, float],
) -> Batch:
    """x [B, ..., H, W] -> the same shape; each range [lo, hi] gives every row a value of its own, applied in the order of the options.

    [1, 1] for a factor and [0, 0] for the others leave x as it is, bit for bit. Contrast and gamma act on each channel about values of its
    own, so that they are the same before and after a normalisation by channel; brightness, background and noise_std are in units of x.
    """
    x = label_stays(batch, "randomize", images(batch, "randomize"))
    for option, pair in (("translation", translation), ("background", background), ("brightness", brightness)):
        ordered("randomize", option, pair)
    ordered("randomize", "scale", scale, above=0)
    ordered("randomize", "gamma", gamma, above=0)
    ordered("randomize", "contrast", contrast, least=0)
    ordered("randomize", "noise_std", noise_std, least=0)
    x = _placed(x, noise, scale, translation, background)
    if not always(gamma, 1):
        x = _bent(x, per_row(drawn(noise, "gamma", len(x), gamma), x))
    if not always(contrast, 1):
        middle = x.mean((-2, -1), keepdim=True)
        x = middle + per_row(drawn(noise, "contrast", len(x), contrast), x) * (x - middle)
    if not always(brightness, 0):
        x = x + per_row(drawn(noise, "brightness", len(x), brightness), x)
    if not always(noise_std, 0):
        std = per_row(drawn(noise, "noise_std", len(x), noise_std), x)
        x = x + std * torch.randn(x.shape, generator=noise.generator("noise", x.device), device=x.device, dtype=x.dtype)
    return batch.replace(x=x)


def _placed(x: Tensor, noise: Noise, scale: Pair, translation: Pair, background: Pair) -> Tensor:
    """x larger by a factor of `scale`, moved by `translation` of its height and width, on a background of one value a row."""
    if always(scale, 1) and always(translation, 0):
        return x
    rows, (height, width) = len(x), x.shape[-2:]
    factor = drawn(noise, "scale", rows, scale)
    right, down = drawn(noise, "right", rows, translation) * width, drawn(noise, "down", rows, translation) * height
    matrix = torch.eye(2, dtype=torch.float64) / factor[:, None, None]
    moved = -torch.stack((right, down), 1) / factor[:, None]
    outside = per_row(drawn(noise, "background", rows, background), x)
    return resample(x - outside, matrix, moved, "zero") + outside


def _bent(x: Tensor, gamma: Tensor) -> Tensor:
    """x with its pixels p -> p^gamma, where p is 0 at the darkest and 1 at the brightest pixel of each channel, which stay as they are."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    width = high - low
    share = (x - low) / torch.where(width > 0, width, 1)
    return low + width * share.clamp(0, 1) ** gamma
