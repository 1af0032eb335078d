"""Area under the ROC curve: how likely a row of a class scores above a row of another; ties count one half.

Source: Hanley, McNeil 1982, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", section II; as rank
sum (Mann, Whitney 1947). Several classes: each against the rest, the plain mean, as scikit-learn's multi_class="ovr".
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.classes import form
from dlrun.registry import facts


@facts(
    best="max",
    whole=True,
    reads=("classes", "labels"),
    logits=True,
    undefined="it needs counted rows of two classes, and scores that are numbers",
)
def auc(out: Tensor, y: Tensor, kind: str | None = None) -> Tensor:
    """In [0, 1], 1/2 for guessing, over a whole split; out [N, C] logits with y [N] classes, or out [N, ...] with labels of 0 or 1.

    Scores are a label's logit, the difference of two logits, or log-probabilities of a softmax. The mean over classes (or labels) is over
    those that some counted rows have and some have not; NaN where there is none. Raises ValueError for targets that are shares.
    """
    scores, positive, counted = _one_against_rest(out.detach().double(), y, kind)
    areas = [_area(score[row], is_so[row]) for score, is_so, row in zip(scores, positive, counted, strict=True)]
    defined = [area for area in areas if area is not None]
    return torch.stack(defined).mean() if defined else torch.tensor(float("nan"))


def _one_against_rest(out: Tensor, y: Tensor, kind: str | None) -> tuple[Tensor, Tensor, Tensor]:
    """(score, whether it belongs, whether it counts), each [classes, N]."""
    found = form(out, y, kind)
    if found == "labels":
        columns = y.shape[-1] if y.dim() > 1 else 1
        sides = [side.reshape(-1, columns).T for side in (out, y)]
        if bool(((y > 0) & (y != 1)).any()):
            raise ValueError("auc needs targets of 0 or 1; found others, which have no two sides")
        return sides[0], sides[1] == 1, sides[1] >= 0
    if found == "shares":
        raise ValueError("auc needs one class a row; found shares of classes")
    logits, y = out.reshape(-1, out.shape[-1]), y.flatten()
    if logits.shape[1] == 2:
        scores = (logits[:, 1] - logits[:, 0])[None]
        return scores, (y == 1)[None], (y >= 0)[None]
    classes = torch.arange(logits.shape[1], device=y.device)[:, None]
    return logits.log_softmax(1).T, y == classes, (y >= 0).expand(len(classes), -1)


def _area(scores: Tensor, positive: Tensor) -> Tensor | None:
    """The area for scores [N], None where all rows are on one side; NaN where a score is."""
    above = positive.sum().double()
    below = len(positive) - above
    if not above or not below:
        return None
    if scores.isnan().any():
        return torch.tensor(float("nan"))
    _, place, count = scores.unique(return_inverse=True, return_counts=True)
    rank = count.cumsum(0).double() - (count - 1) / 2  # equal scores share the mean of their ranks
    area: Tensor = (rank[place][positive].sum() - above * (above + 1) / 2) / (above * below)
    return area.cpu()
