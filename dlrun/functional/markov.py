"""Entropies of languages: exact ones of a Markov chain, and those of the n-grams of a given text. All in nats a token.

Source: Shannon 1948, "A Mathematical Theory of Communication", sections 5-7 and theorem 5; Shannon 1951, "Prediction and Entropy of Printed
English", eq. 1 (F_n, the entropy of a token given the n - 1 before it).

A chain of order k over V tokens is a table [V, ..., V] of k + 1 axes: table[a, ..., b, x] is the probability of x after a ... b.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MOST_ROUNDS = 100_000
CLOSE = 1e-14
"""L1 change of the distribution in a round at which it is taken as stationary."""


def stationary(table: Array) -> Array:
    """The stationary distribution [V] * k over contexts, float64, of a chain that has exactly one; ValueError for any other.

    A chain that never leaves some set of contexts must have only one such set, or where it ends would hang on where it began.
    """
    contexts = _one_end(table)
    belief = contexts / contexts.sum()
    for _ in range(MOST_ROUNDS):
        # Half a step, half a pause: the limit is the same, and cycles die out.
        after = (belief + _advance(belief, table)) / 2
        change = float(np.abs(after - belief).sum())
        belief = after
        if change < CLOSE:
            found: Array = belief / belief.sum()
            return found
    raise ValueError(f"the chain mixes too slowly: still changing by {change:.1e} after {MOST_ROUNDS} rounds")


def has_one_end(table: Array) -> bool:
    """Whether every context leads into one and the same set that is never left again."""
    try:
        _one_end(table)
    except ValueError:
        return False
    return True


def conditional_entropies(table: Array, most: int) -> list[float]:
    """[H(x_t), H(x_t | x_t-1), ..., H(x_t | the `most` - 1 before)] of the stationary chain; from index k on it is the entropy rate."""
    order = table.ndim - 1
    joint = stationary(table)[..., None] * table
    blocks = [0.0]
    for length in range(1, order + 2):
        blocks.append(_entropy(joint.sum(axis=tuple(range(order + 1 - length)))))
    known = [after - before for before, after in zip(blocks, blocks[1:])]
    return (known + [known[-1]] * most)[:most]


def window_entropy(table: Array, context: int) -> float:
    """Least expected loss a token over rows of `context` + 1 tokens: the first prediction sees one token, the second two, and so on."""
    after = conditional_entropies(table, context + 1)[1:]
    return sum(after) / context


def sample(table: Array, rows: int, length: int, draw: np.random.Generator) -> Array:
    """Tokens int64 [rows, length], each row a stretch of the stationary chain of its own."""
    order, vocab = table.ndim - 1, table.shape[-1]
    if length < order:
        raise ValueError(f"a row of {length} tokens is shorter than the chain's order, {order}")
    steps = np.cumsum(table.reshape(-1, vocab), axis=1)
    steps[:, -1] = 1.0
    begin = np.cumsum(stationary(table).reshape(-1))
    context = np.searchsorted(begin / begin[-1], draw.random(rows), side="right").clip(max=len(begin) - 1)
    tokens = np.empty((rows, length), dtype=np.int64)
    for place in range(order):
        tokens[:, place] = context // vocab ** (order - 1 - place) % vocab
    for place in range(order, length):
        chosen = (steps[context] <= draw.random((rows, 1))).sum(axis=1)
        tokens[:, place] = chosen
        context = (context * vocab + chosen) % vocab**order
    return tokens


def ngram_entropies(tokens: Array, most: int) -> list[float]:
    """The same list for the n-grams that occur in `tokens`, integers [T] or rows [R, T]: what the best n-gram table fitted to them costs.

    Entry n - 1 is the mean over all n-grams of -ln(count of the n-gram / count of its first n - 1 tokens as such). Few tokens a context
    make it too low. ValueError where rows are shorter than `most`.
    """
    rows = np.atleast_2d(np.asarray(tokens)).astype(np.int64)
    if rows.shape[1] < most:
        raise ValueError(f"rows of {rows.shape[1]} tokens have no {most}-grams")
    width = rows.shape[1]
    context = np.zeros((rows.shape[0], width), dtype=np.int64)  # number of the context that ends before each token
    found = []
    for n in range(1, most + 1):
        here, pairs = context[:, n - 1 :], rows[:, n - 1 :]
        _, gram = np.unique(here * (rows.max() + 1) + pairs, return_inverse=True)
        gram = gram.reshape(here.shape)
        found.append(float(_entropy(np.bincount(gram.ravel())) - _entropy(np.bincount(np.unique(here, return_inverse=True)[1].ravel()))))
        context = np.zeros_like(context)
        context[:, n:] = gram[:, :-1]
    return found


def _advance(belief: Array, table: Array) -> Array:
    """The distribution over contexts one token later: the oldest token drops out."""
    after: Array = np.einsum("a...x,a...->...x", table, belief)
    return after


def _entropy(weights: Array) -> float:
    """Entropy in nats of weights, which need not add up to 1."""
    shares = weights[weights > 0] / weights.sum()
    return float(-(shares * np.log(shares)).sum())


def _one_end(table: Array) -> Array:
    """A mask [V] * k of the contexts that are never left for good; ValueError where there are several such sets."""
    order, steps = table.ndim - 1, table > 0
    if order < 1 or len(set(table.shape)) != 1 or not np.allclose(table.sum(-1), 1):
        raise ValueError(f"a chain is a table [V, ..., V] whose last axis adds up to 1; found shape {list(table.shape)}")
    start = 0
    while True:
        here = np.zeros(table.shape[:-1], dtype=bool)
        here.reshape(-1)[start] = True
        reached = _closure(here, lambda wide: np.asarray((steps & wide[..., None]).any(0)))
        back = _closure(here, lambda wide: np.asarray((steps & wide).any(-1)))
        gone = (reached & ~back).reshape(-1)
        if not gone.any():
            break
        start = int(gone.argmax())  # from there is no way back to where we stood: one step closer to the end
    if not back.all():
        raise ValueError("the chain has several sets of contexts that are never left: where it ends hangs on where it begins")
    ends: Array = reached.astype(np.float64)
    return ends


def _closure(here: Array, step: Callable[[Array], Array]) -> Array:
    """All that is reached from `here` in any number of steps."""
    while True:
        wider: Array = np.logical_or(here, step(here))
        if (wider == here).all():
            return here
        here = wider
