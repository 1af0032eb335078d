"""Negative log-likelihood of the targets in nats: cross-entropy without smoothing and weights, whatever the loss is.

Source: Gneiting, Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", section 3.1 (logarithmic score).
"""

from __future__ import annotations

from torch import Tensor

from dlrun.functional.classes import as_rows
from dlrun.registry import facts
from dlrun.types import Mean


@facts(best="min", soft=True, reads=("classes", "labels"), logits=True, probabilities=True, undefined="no target is counted")
def nll(out: Tensor, y: Tensor, kind: str | None = None) -> Mean:
    """Mean nats >= 0 over counted targets; shapes as in `accuracy`; of several labels a row each counts. Shares y_c weigh -ln p_c."""
    logits, true = as_rows(out, y, kind)
    log_p = logits.log_softmax(1)
    nats = -(true * log_p).sum() if true.dim() == 2 else -log_p.gather(1, true[:, None]).sum()
    return Mean(nats, float(len(true)))
