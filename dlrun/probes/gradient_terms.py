"""Gradients of the terms of a loss: how long each is, and whether they pull the weights in the same direction.

Source: Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", section 2.2 (cosine of two tasks' gradients, difference of their
lengths); Chen et al. 2018, "GradNorm", section 3.1 (norms of each task's gradient).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.probes._double import every_derivative, gradient, trainable
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import double


class Pull(NamedTuple):
    """Gradients of one objective over the units it is a mean over: of the whole loss and of each of its terms."""

    label: str
    units: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


def gradient_terms(run: Trained, *, split: Literal["train", "val", "test"], rows: Count | None) -> dict[str, float]:
    """norm_loss and norm_<term>, lengths of the gradients of the loss and of the terms it is logged with, over the weights it updates;
    cosine_<a>_<b> of every two terms (NaN where one is 0); weight_<term>, with which the terms' gradients add up to that of the loss (least
    squares), and unexplained, the share of its length that they leave out.

    Terms count as they are logged, before any weight. A task of several objectives has the numbers of each behind <network>_; none is
    stepped. Networks are in eval mode. Raises ValueError where no objective has terms.
    """
    sums: dict[str, Pull] = {}
    for batch in run.prepared(split, rows):
        for pull in _pulls(run, batch):
            sums[pull.label] = _added(sums.get(pull.label), pull)
    if not any(pull.terms for pull in sums.values()):
        raise ValueError("this task's loss has no terms to compare: a task gives them beside it, loss, {name: term}")
    numbers: dict[str, float] = {}
    for pull in sums.values():
        numbers |= {f"{pull.label}{name}": value for name, value in _numbers(pull).items()}
    return numbers


def _pulls(run: Trained, batch: Batch) -> Iterator[Pull]:
    """The gradients of every objective of a prepared batch, times its count."""
    labels: Counter[str] = Counter()
    with every_derivative():
        for objective in run.task.objectives(run.nets, batch):
            weights = trainable(run, objective.update)
            label = "" if set(objective.update) == set(run.networks) else f"{'_'.join(objective.update)}_"
            labels[label] += 1
            count = double(objective.count).cpu()
            of_terms = {name: gradient(term, weights).double().cpu() * count for name, term in objective.terms.items()}
            nth = f"{label}{labels[label]}_" if labels[label] > 1 else label
            yield Pull(nth, count, gradient(objective.loss, weights).double().cpu() * count, of_terms)


def _added(before: Pull | None, pull: Pull) -> Pull:
    if before is None:
        return pull
    terms = {name: before.terms[name] + term for name, term in pull.terms.items()}
    return Pull(pull.label, before.units + pull.units, before.loss + pull.loss, terms)


def _numbers(pull: Pull) -> dict[str, float]:
    """Lengths, cosines and weights of the summed gradients of one objective."""
    loss, terms = pull.loss / pull.units, {name: term / pull.units for name, term in pull.terms.items()}
    numbers = {"norm_loss": float(loss.norm()), **{f"norm_{name}": float(term.norm()) for name, term in terms.items()}}
    for a, b in combinations(terms, 2):
        lengths = terms[a].norm() * terms[b].norm()
        numbers[f"cosine_{a}_{b}"] = float(terms[a] @ terms[b] / lengths) if lengths else float("nan")
    pulling = {name: term for name, term in terms.items() if term.norm()}
    if pulling and loss.norm():
        matrix = torch.stack(list(pulling.values()), 1)
        weights = torch.linalg.lstsq(matrix, loss[:, None], driver="gelsd").solution[:, 0]
        numbers |= {f"weight_{name}": float(weight) for name, weight in zip(pulling, weights)}
        numbers["unexplained"] = float((loss - matrix @ weights).norm() / loss.norm())
    return numbers
