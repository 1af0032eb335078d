"""What tables of n-grams counted in one text cost on another, smoothed by Witten and Bell's rule. In nats a token.

Source: Witten, Bell 1991, "The Zero-Frequency Problem", method C; in the form of Chen, Goodman 1998, "An Empirical Study of Smoothing
Techniques for Language Modeling", section 2.4, eq. 16-17: with c the tokens before, N counts and D(c) how many different ones follow c,
p_n(y | c) = (N(c, y) + D(c) p_(n-1)(y | c without its first)) / (N(c) + D(c)), down to p_0 = 1 / V. R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rows = tuple[Array, Array]


def held_out(train: Rows, test: Rows, most: int, vocab: int) -> list[float]:
    """[unigram, bigram, ... `most`-gram]: mean over the tokens y of `test` of -ln p_n(y | the n - 1 tokens of x up to there).

    Rows are x, y int64 [R, T] with T alike; y < 0 is not counted. Contexts end at a row's start, as they do for a network: the first tokens
    of a row have shorter ones.
    """
    wanted = test[1] >= 0
    rows = len(train[0])
    chance = np.full(test[1].shape, 1 / vocab)
    found = []
    for start, context in _contexts(np.concatenate((train[0], test[0])), most):
        seen = train[1][:, start:] >= 0
        y = np.concatenate((train[1], test[1]))[:, start:].clip(min=0)
        gram = np.unique(context * vocab + y, return_inverse=True)[1].reshape(context.shape)
        grams = np.bincount(gram[:rows][seen], minlength=gram.max() + 1)
        tokens = np.bincount(context[:rows][seen], minlength=context.max() + 1)
        first = np.unique(gram[:rows][seen], return_index=True)[1]
        kinds = np.bincount(context[:rows][seen][first], minlength=context.max() + 1)
        here, there = context[rows:], gram[rows:]
        known = tokens[here] > 0
        smooth = (grams[there] + kinds[here] * chance[:, start:]) / np.where(known, tokens[here] + kinds[here], 1)
        chance[:, start:] = np.where(known, smooth, chance[:, start:])
        found.append(float(-np.log(chance[wanted]).mean()))
    return found


def _contexts(x: Array, most: int) -> Iterator[tuple[int, Array]]:
    """For n = 1 .. `most`: the first position with n - 1 tokens up to it, and from there on a number for these [R, T - start]."""
    size = int(x.max()) + 1
    context = np.zeros_like(x)
    yield 0, context
    for start in range(min(most - 1, x.shape[1])):
        context = context if not start else context[:, 1:]
        wider = context * size + x[:, : x.shape[1] - start]
        context = np.unique(wider, return_inverse=True)[1].reshape(wider.shape)
        yield start, context
