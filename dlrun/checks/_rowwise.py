"""Tables whose rows were scaled each by itself, across columns of unlike units, so that the largest unit decides.

It is a fact: every row has mean 0 and sd 1 (or a norm of 1, or goes from 0 to 1). Spectra, pictures and embeddings are scaled so and are
right; there no column stands out, or neighbouring ones are alike. Of unlike units each column keeps to a place of its own, far from the
others and in no order, and what varies from row to row is what is left.
"""

from __future__ import annotations

from torch import Tensor

COLUMNS, LEAST, EXACT = (3, 40), 64, 1e-3
APART, ORDER = 0.6, 0.7


def scaled_by_row(x: Tensor) -> str:
    """What is the same for every row of a table [N, D] of unlike columns; "" where nothing is."""
    if x.dim() != 2 or not COLUMNS[0] <= x.shape[1] <= COLUMNS[1] or len(x) < LEAST or not bool(x.isfinite().all()):
        return ""
    x = x.double()
    mean, sd = x.mean(1), x.std(1, correction=0)
    norms, low, high = x.norm(dim=1), x.amin(1), x.amax(1)
    said = ""
    if _still(sd) and float(mean.abs().max()) < EXACT * float(sd.mean()):
        said = "every row has mean 0 and the same sd"
    elif _still(norms):
        said = "every row has the same norm"
    elif _still(high) and float(low.abs().max()) < EXACT * float(high.mean()):
        said = "every row goes from 0 to its largest value"
    return said if said and _unlike(x) else ""


def _still(values: Tensor) -> bool:
    """Whether positive numbers are all the same but for rounding."""
    return float(values.mean()) > 0 and float((values - values.mean()).abs().max()) < EXACT * float(values.mean())


def _unlike(x: Tensor) -> bool:
    """Whether columns lie further apart than rows differ, in no order along the table."""
    centres = x.mean(0)
    between = float(centres.var(correction=0))
    within = float(x.var(0, correction=0).mean())
    steps = float((centres[1:] - centres[:-1]).abs().mean())
    pairs = (centres[:, None] - centres[None]).abs()
    usual = float(pairs.sum()) / (len(centres) * (len(centres) - 1))
    return between > APART * (between + within) and steps > ORDER * usual
