"""Mixup: every row becomes a weighted mean of itself and another one, and so does its target.

Source: H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018, eq. 1 and section 2; here with a
weight of its own for each row instead of one a batch.
"""

from __future__ import annotations

from dlrun.augments._mixing import beta, mixable, mixed_targets, partners
from dlrun.augments._ranges import per_row
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.ranges import Positive
from dlrun.registry import facts


@facts(mixes=True)
def mixup(batch: Batch, noise: Noise, classes: int | None, *, alpha: Positive) -> Batch:
    """x [B, ...] floating -> lam x + (1 - lam) x[partner], lam ~ Beta(alpha, alpha) for each row; y is mixed with the same lam.

    Partners are rows of the same micro-batch. Classes y [B] become probabilities [B, classes]; numbers mix linearly.
    """
    x = mixable(batch, "mixup")
    lam, partner = beta(noise, "mixup", alpha, len(x)), partners(noise, "mixup partner", len(x)).to(x.device)
    own = per_row(lam, x)
    mixed = batch.replace(x=own * x + (1 - own) * x.index_select(0, partner))
    return mixed_targets(mixed, partner, lam, classes, "mixup")
