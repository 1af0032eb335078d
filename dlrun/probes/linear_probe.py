"""Linear probe: multinomial logistic regression on frozen features, fitted on train rows and scored on others.

Source: Alain, Bengio 2017, "Understanding intermediate layers using linear classifier probes", section 3; as the protocol for learned
representations: Chen et al. 2020 (SimCLR), section 4.2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from dlrun.probes._features import features
from dlrun.ranges import Count, Positive
from dlrun.trained import Trained

MOST_ITERATIONS = 5000


def linear_probe(
    run: Trained,
    *,
    network: str | None,
    layer: str | None,
    pool: Literal["flatten", "mean"],
    rows: Count | None,
    split: Literal["train", "val", "test"],
    l2: Positive,
) -> dict[str, float]:
    """accuracy, loss (nats) and worst_recall on `split`; train_accuracy, majority (share of the commonest train class), features, rows.

    Features are standardised with the mean and deviation of the train rows; constant ones are left out. `layer=input` probes x itself.
    Raises ValueError where there are no classes, or a class of `split` does not occur among the train rows.
    """
    x, y = features(run, "train", rows, network, layer, pool)
    held, truth = features(run, split, None, network, layer, pool)
    classes = y.unique()
    if not torch.isin(truth, classes).all():
        raise ValueError(f"split {split} has classes that do not occur among {len(y)} rows of train: say a larger rows=N")
    mean, std = x.mean(0), x.std(0, correction=0)
    moves = std > 1e-12 * (1 + mean.abs())
    x, held = ((side[:, moves] - mean[moves]) / std[moves] for side in (x, held))
    labels = torch.searchsorted(classes, y)
    weight, bias = fit(x, labels, len(classes), l2)
    logits, target = held @ weight + bias, torch.searchsorted(classes, truth)
    right = logits.argmax(1) == target
    common = torch.bincount(labels).argmax()
    return {
        "accuracy": float(right.double().mean()),
        "loss": float(F.cross_entropy(logits, target)),
        "worst_recall": min(float(right[target == c].double().mean()) for c in target.unique()),
        "train_accuracy": float(((x @ weight + bias).argmax(1) == labels).double().mean()),
        "majority": float((target == common).double().mean()),
        "features": int(moves.sum()),
        "rows": len(x),
    }


def fit(x: Tensor, y: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """(weight [D, C], bias [C]) that minimise mean cross-entropy + l2 / 2 |weight|^2 by L-BFGS; x [N, D] float64, y [N].

    Raises ValueError where it does not converge.
    """
    D = x.shape[1]
    truth = F.one_hot(y, classes).to(x.dtype)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.from_numpy(flat).view(D + 1, classes)
        weight, bias = both[:D], both[D]
        logits = x @ weight + bias
        loss = F.cross_entropy(logits, y) + l2 / 2 * weight.square().sum()
        error = (logits.softmax(1) - truth) / len(x)
        gradient = torch.cat((x.T @ error + l2 * weight, error.sum(0, keepdim=True)))
        return float(loss), gradient.flatten().numpy()

    options = {"maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS, "gtol": 1e-7, "ftol": 1e-13, "maxcor": 20}
    found = minimize(value, np.zeros((D + 1) * classes), jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:
        raise ValueError(
            f"logistic regression on {D} features did not converge in {MOST_ITERATIONS} iterations: say a larger l2 than {l2:g}"
        )
    both = torch.from_numpy(found.x).view(D + 1, classes)
    return both[:D], both[D]
