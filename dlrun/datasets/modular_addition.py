"""Addition modulo p as a table with missing entries: two numbers in, their sum modulo p out.

Source: Power et al. 2022, "Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets", section 2 (a share of all equations
is trained on, the others are held out).
"""

from __future__ import annotations

import numpy as np
import torch

from dlrun.ranges import Count, Decay, Seed
from dlrun.types import DataSpec, Splits


def modular_addition(*, p: Count, share: Decay, ordered: bool, seed: Seed) -> Splits:
    """x int64 [2], y int64, both in 0..p-1: (a, b) and (a + b) mod p. round(share x pairs) go to train, half the others to val and to test.

    Pairs are split without regard to order: a network that adds embeddings cannot tell (b, a) from (a, b), so with (a, b) in train the
    other way round would be no test. `ordered`: both ways are rows, in the same split; else only a <= b. Raises ValueError where a split
    would be empty.
    """
    a, b = np.triu_indices(p)
    train = round(share * len(a))
    held = (len(a) - train) // 2
    if train < 1 or held < 1:
        raise ValueError(f"p {p} gives {len(a)} unordered pairs: a share of {share:g} leaves a split without any")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(a))
    splits = []
    for chosen in np.split(order, (train, train + held)):
        pairs = np.stack((a[chosen], b[chosen]), axis=1)
        if ordered:
            pairs = np.concatenate((pairs, pairs[pairs[:, 0] != pairs[:, 1], ::-1]))
        x = torch.from_numpy(pairs.copy())
        splits.append((x, x.sum(1) % p))
    rows = " / ".join(str(len(y)) for _, y in splits)
    spec = DataSpec(
        in_shape=(2,),
        out_shape=(p,),
        kind="classification",
        classes=p,
        vocab=p,
        split_rule=f"unordered pairs, {share:g} of {len(a)} for training, drawn with dataset seed {seed}: {rows} rows",
        source="drawn",
    )
    return Splits(splits[0], splits[1], splits[2], spec)
