"""A synthetic language whose entropies are known exactly: a stationary Markov chain with few successors a context.

Source: Shannon 1948, "A Mathematical Theory of Communication", sections 2-5 (languages as Markov chains, approximations of order n).
"""

from __future__ import annotations

import numpy as np
import torch

from dlrun.functional.markov import Array, conditional_entropies, has_one_end, sample, window_entropy
from dlrun.ranges import Count, Seed
from dlrun.types import DataSpec, Splits

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MOST_ENTRIES = 2**22
TRIES = 100
NAMES = ("unigram", "bigram", "trigram")


def chain(order: int, vocab: int, branching: int, seed: int) -> Array:
    """The table [V] * (k + 1) of the language: each context has `branching` successors, drawn without replacement, whose probabilities are
    uniform on the simplex. Drawn again until there is one set of contexts that is never left and every token occurs in it.
    """
    if branching > vocab or (branching < 2 and vocab > 1):
        raise ValueError(f"branching is {branching}: expected 2 to vocab, {vocab} successors of a context")
    if vocab ** (order + 1) > MOST_ENTRIES:
        raise ValueError(f"vocab {vocab} to the power order + 1 is {vocab ** (order + 1)} entries of the table: at most {MOST_ENTRIES}")
    draw = np.random.Generator(np.random.PCG64(seed))
    contexts = vocab**order
    for _ in range(TRIES):
        table = np.zeros((contexts, vocab))
        successors = draw.random((contexts, vocab)).argpartition(branching - 1, axis=1)[:, :branching]
        np.put_along_axis(table, successors, draw.dirichlet(np.ones(branching), contexts), axis=1)
        whole = table.reshape((vocab,) * (order + 1))
        if (table.max(axis=0) > 0).all() and has_one_end(whole):
            return whole
    raise ValueError(f"none of {TRIES} tables with seed {seed} is one language: raise branching, {branching}")


def _entropies(table: Array, context: int) -> str:
    order = table.ndim - 1
    known = conditional_entropies(table, order + 1)
    named = [f"{NAMES[n] if n < len(NAMES) else f'{n + 1}-gram'} {nats:.4f}" for n, nats in enumerate(known)]
    least = window_entropy(table, context)
    return (
        f"data: entropies in nats a token: {', '.join(named)} = entropy rate; least expected loss on rows of {context} tokens {least:.4f}"
    )


def grammar(*, order: Count, vocab: Count, branching: Count, context: Count, n: Count, seed: Seed) -> Splits:
    """x, y int64 [context]: y is x one token on. n train rows, a quarter as many in val and in test, each a stretch of the chain.

    `spec.notes` holds H(x_t), H(x_t | x_t-1) ... up to the entropy rate, computed from the stationary distribution, and what the best
    network can expect on rows of this length: its first tokens are guessed with less than a whole context. `chain` and
    `dlrun/functional/markov.py` give the same numbers to programs. Raises ValueError where no such language exists.
    """
    if context < order:
        raise ValueError(f"context is {context}: expected at least the chain's order, {order}")
    if n < 4:
        raise ValueError(f"n is {n}: expected at least 4 rows, a quarter as many go to val and to test")
    table = chain(order, vocab, branching, seed)
    draws = np.random.SeedSequence(seed, spawn_key=(1,)).spawn(3)
    splits = []
    for rows, source in zip((n, n // 4, n // 4), draws):
        tokens = torch.from_numpy(sample(table, rows, context + 1, np.random.Generator(np.random.PCG64(source))))
        splits.append({"x": tokens[:, :-1].contiguous(), "y": tokens[:, 1:].contiguous()})
    spec = DataSpec(
        in_shape=(context,),
        out_shape=(context, vocab),
        kind="language_model",
        vocab=vocab,
        tokens=tuple(LETTERS[:vocab]) if vocab <= len(LETTERS) else tuple(f"{number} " for number in range(vocab)),
        split_rule=f"{n} / {n // 4} / {n // 4} rows, each drawn anew from the chain with dataset seed {seed}",
        source="drawn",
        notes=(f"data: a Markov chain of order {order} over {vocab} tokens, {branching} successors a context", _entropies(table, context)),
    )
    return Splits(splits[0], splits[1], splits[2], spec)
