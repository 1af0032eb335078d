"""InfoNCE: cross-entropy of finding a row's other view by cosine similarity among the embeddings of the batch, in nats.

Source: van den Oord, Li, Vinyals 2018, "Representation Learning with Contrastive Predictive Coding", eq. 4; `all` is NT-Xent of Chen,
Kornblith, Norouzi, Hinton 2020, "A Simple Framework for Contrastive Learning of Visual Representations", eq. 1; `across`: Radford et al.
2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from dlrun.functional.contrast import nt_xent, stacked
from dlrun.ranges import Positive
from dlrun.registry import facts


@facts(couples_rows=True, kind="contrastive")
def info_nce(
    out: Any, y: Any, *, temperature: Positive, negatives: Literal["all", "across"], views: Literal["stacked", "alternating"]
) -> Tensor:
    """Mean nats over the 2B embeddings of out: [2B, D] ordered as `views` says, or a tuple of two [B, D]; y is not read.

    ln(2B - 1) (`across`: ln B) where all embeddings are alike, never below ln(1 + (2B - 2) exp(-2 / temperature)).
    Raises ValueError where `out` does not hold two views.
    """
    return nt_xent(stacked("info_nce", out, y, views), temperature, negatives)
