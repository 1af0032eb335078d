"""CutMix: a rectangle of each image is replaced by the same place of another one; the target is mixed by the share of pixels.

Source: S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo, CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features, 2019, eq. 1 and 2; here with a rectangle of its own for each row, and the share counted in pixels after the edges cut it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.augments._images import boxes, images, label_stays
from dlrun.augments._mixing import beta, mixable, mixed_targets, partners
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Fraction, Positive
from dlrun.registry import facts


@facts(mixes=True)
def cutmix(batch: Batch, noise: Noise, classes: int | None, *, alpha: Positive, p: Fraction) -> Batch:
    """x [B, ..., H, W] with, in about a share `p` of the rows, a rectangle taken from the partner's image; y mixed by pixels.

    The rectangle has sides H sqrt(1 - lam) and W sqrt(1 - lam), lam ~ Beta(alpha, alpha), its centre anywhere in the image. Partners are
    rows of the same micro-batch. Classes y [B] become probabilities [B, classes]; numbers mix linearly.
    """
    mixable(batch, "cutmix")
    x = label_stays(batch, "cutmix", images(batch, "cutmix"))
    inside = rectangles(noise, alpha, len(x), x.shape[-2], x.shape[-1])
    inside &= (torch.rand(len(x), generator=noise.generator("cutmix p")) < p)[:, None, None]
    own = 1 - inside.double().mean((1, 2))
    partner = partners(noise, "cutmix partner", len(x)).to(x.device)
    mask = inside.to(x.device).view(len(x), *[1] * (x.dim() - 3), *x.shape[-2:])
    mixed = batch.replace(x=torch.where(mask, x.index_select(0, partner), x))
    return mixed_targets(mixed, partner, own, classes, "cutmix")


def rectangles(noise: Noise, alpha: float, rows: int, height: int, width: int) -> Tensor:
    """bool [rows, height, width]: true inside each row's rectangle, cut off at the edges of the image."""
    side = (1 - beta(noise, "cutmix", alpha, rows)).sqrt()
    return boxes(noise.generator("cutmix place"), (side * height).long(), (side * width).long(), height, width)
