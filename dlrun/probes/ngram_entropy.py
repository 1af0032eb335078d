"""What n-grams of the text cost: tables counted on train, read on held-out tokens, the baselines of a language model on its own data.

Source: Shannon 1951, "Prediction and Entropy of Printed English", eq. 1; smoothing: see `dlrun/functional/ngrams.py`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from dlrun.functional.ngrams import Rows, held_out
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import Look


def ngram_entropy(run: Trained, *, most: Count, split: Literal["val", "test"]) -> tuple[dict[str, float], dict[str, Look]]:
    """cross_entropy_n, n = 1 (unigram) .. `most`, in nats a token of `split`, tables from all of train; best, the least of them; tokens.

    The network is not asked: it is the run's data that is measured, in the rows and on the tokens that the network is judged on.
    Raises ValueError for data that are no tokens.
    """
    vocab = run.spec.vocab
    if vocab is None:
        raise ValueError("needs tokens of a vocabulary; this data has none")
    train, test = _rows(run, "train"), _rows(run, split)
    values = held_out(train, test, most, vocab)
    numbers = {f"cross_entropy_{order}": nats for order, nats in enumerate(values, 1)}
    look = Look(
        "lines", {"n-grams": [float("nan"), *values], "xlabel": "n", "ylabel": f"nats a token, {split}"}, "n-grams counted on train"
    )
    return {**numbers, "best": min(values), "tokens": int((test[1] >= 0).sum())}, {"ngram_entropy": look}


def _rows(run: Trained, split: str) -> Rows:
    """Tokens x and those that follow, both int64 [R, T]."""
    found = [(batch["x"], batch.get("y")) for batch in run.prepared(split)]
    if any(not isinstance(y, Tensor) or y.shape != x.shape or y.is_floating_point() for x, y in found):
        raise ValueError("needs rows of tokens x [B, T] and the token y [B, T] that follows each")
    x, y = (np.concatenate([np.asarray(pair[side].cpu(), np.int64) for pair in found]) for side in (0, 1))
    return x, y
