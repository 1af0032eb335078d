"""A language with known entropies: exact numbers against brute force, closed forms and long samples."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch
from parts import model, options
from torch import nn

from dlrun import registry
from dlrun.datasets.grammar import chain, grammar
from dlrun.functional.markov import conditional_entropies, has_one_end, ngram_entropies, sample, stationary, window_entropy
from dlrun.types import Splits


def data(**changed: Any) -> Splits:
    return grammar(**options("dataset", "grammar", **changed))


def brute(table: np.ndarray[Any, Any], n: int, ahead: int = 60) -> float:
    """H(x_t | n - 1 before) by adding up the probabilities of every string of n tokens after a long run from a uniform start."""
    order, vocab = table.ndim - 1, table.shape[-1]
    belief = dict.fromkeys(itertools.product(range(vocab), repeat=order), 1 / vocab**order)
    for _ in range(ahead):
        after = dict.fromkeys(belief, 0.0)
        for context, share in belief.items():
            after[context] += share / 2
            for token in range(vocab):
                after[(*context, token)[1:]] += share / 2 * table[(*context, token)]
        belief = after
    strings: dict[tuple[int, ...], float] = {}
    for context, share in belief.items():
        for tail in itertools.product(range(vocab), repeat=n):
            whole, chance = [*context], share
            for token in tail:
                chance *= table[(*whole[-order:], token)]
                whole.append(token)
            strings[tail] = strings.get(tail, 0.0) + chance
    heads: dict[tuple[int, ...], float] = {}
    for tail, chance in strings.items():
        heads[tail[:-1]] = heads.get(tail[:-1], 0.0) + chance
    return -sum(chance * math.log(chance / heads[tail[:-1]]) for tail, chance in strings.items() if chance > 0)


@pytest.mark.parametrize("order", [1, 2])
def test_entropies_are_those_of_every_string_added_up(order: int) -> None:
    table = chain(order, 3, 2, 0)
    found = conditional_entropies(table, 4)
    assert found == pytest.approx([brute(table, n, 400) for n in range(1, 5)], abs=1e-9)


def test_closed_forms_of_chains_of_two_tokens() -> None:
    p, q = 0.1, 0.3
    table = np.array([[1 - p, p], [q, 1 - q]])
    h = lambda s: -s * math.log(s) - (1 - s) * math.log(1 - s)  # noqa: E731
    assert stationary(table) == pytest.approx([q / (p + q), p / (p + q)], abs=1e-13)
    rate = q / (p + q) * h(p) + p / (p + q) * h(q)
    assert conditional_entropies(table, 4) == pytest.approx([h(p / (p + q)), rate, rate, rate], abs=1e-12)
    ring = np.roll(np.eye(5), 1, axis=1)  # periodic: it comes round for ever, and its distribution is uniform all the same
    assert stationary(ring) == pytest.approx([0.2] * 5) and conditional_entropies(ring, 3) == pytest.approx([math.log(5), 0, 0], abs=1e-12)
    free = np.full((4, 4, 4), 0.25)
    assert conditional_entropies(free, 3) == pytest.approx([math.log(4)] * 3)


def test_more_context_never_raises_the_entropy_and_the_rate_is_that_of_the_rows_of_the_table() -> None:
    for seed, order in itertools.product(range(3), (1, 2, 3)):
        table = chain(order, 6, 3, seed)
        found = conditional_entropies(table, order + 4)
        assert all(before >= after - 1e-12 for before, after in itertools.pairwise(found)) and found[0] <= math.log(6)
        rows = -np.where(table > 0, table * np.log(np.where(table > 0, table, 1)), 0).sum(-1)
        assert found[order:] == pytest.approx([float((stationary(table) * rows).sum())] * 4, abs=1e-12)
        assert ((table > 0).sum(-1) == 3).all()


def test_a_long_sample_has_the_entropies_that_are_promised() -> None:
    table = chain(2, 8, 3, 0)
    tokens = sample(table, 2000, 1001, np.random.default_rng(1))
    assert ngram_entropies(tokens, 4) == pytest.approx(conditional_entropies(table, 4), abs=0.003)
    share = np.bincount(tokens[:, 0], minlength=8) / 2000  # rows begin in the stationary chain, not anywhere
    assert float(np.abs(share - stationary(table).sum(0)).max()) < 0.03


def test_ngrams_of_a_text_by_hand() -> None:
    text = np.array([0, 1, 0, 1, 0, 2])
    assert ngram_entropies(text, 2) == pytest.approx(
        [math.log(2) / 2 + math.log(3) / 3 + math.log(6) / 6, 3 / 5 * (math.log(3) - 2 / 3 * math.log(2))]
    )
    with pytest.raises(ValueError, match="no 7-grams"):
        ngram_entropies(text, 7)


def test_chains_without_one_stationary_distribution_are_refused() -> None:
    two = np.kron(np.eye(2), np.full((2, 2), 0.5))
    assert not has_one_end(two)
    with pytest.raises(ValueError, match="several sets"):
        stationary(two)
    leaky = two.copy()
    leaky[0] = [0.5, 0.4, 0.1, 0.0]  # a way out of the first pair, slow or not: all ends in the second
    assert stationary(leaky) == pytest.approx([0, 0, 0.5, 0.5])
    with pytest.raises(ValueError, match="adds up to 1"):
        stationary(np.ones((2, 2)))


def test_the_first_tokens_of_a_row_are_guessed_with_less_context() -> None:
    table = chain(2, 8, 3, 0)
    _, bigram, rate = conditional_entropies(table, 3)
    assert window_entropy(table, 5) == pytest.approx((bigram + 4 * rate) / 5) and window_entropy(table, 1) == pytest.approx(bigram)


def test_rows_are_the_same_for_a_seed_and_splits_share_none() -> None:
    one, again, other = data(n=400), data(n=400), data(n=400, seed=1)
    assert torch.equal(one.train["x"], again.train["x"]) and one.spec == again.spec and one.spec is not None
    assert not torch.equal(one.train["x"], other.train["x"])
    rows = [{row.numpy().tobytes() for row in split["x"]} for split in (one.train, one.val, one.test)]
    assert [len(found) for found in rows] == [400, 100, 100] and len(set.union(*rows)) == 600
    assert torch.equal(one.train["x"][:, 1:], one.train["y"][:, :-1])
    assert "least expected loss on rows of 64 tokens" in one.spec.notes[1] and len(one.spec.tokens) == 16
    assert data(vocab=70, order=1, n=8).spec.tokens[69] == "69 "  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"branching": 17}, "expected 2 to vocab, 16"),
        ({"branching": 1}, "expected 2 to vocab"),
        ({"order": 5}, "at most 4194304"),
        ({"context": 1}, "at least the chain's order, 2"),
        ({"n": 3}, "at least 4 rows"),
    ],
)
def test_what_cannot_be_is_said(changed: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**changed)


def test_a_network_that_sees_one_token_ends_at_the_bigram_entropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of logits is all that such a network can be: its loss on fresh rows ends at H(x_t | x_t-1), not at the entropy rate."""
    monkeypatch.setitem(registry.PLUGINS["model"], "table", lambda vocab: nn.Embedding(vocab, vocab))
    words = ("dataset=grammar", "dataset.n=4000", "task=language_model", "model=table", "optimizer.lr=0.1", "train.batch_size=256")
    _, summary, code = runs.start(tmp_path, *words, "schedule=linear", "train.steps=150", "train.eval_every=0")
    _, bigram, rate = conditional_entropies(chain(2, 16, 4, 0), 3)
    assert code == 0 and rate < bigram - 0.5
    assert bigram - 0.01 < summary["metrics"]["test/loss"] < bigram + 0.015


def test_a_transformer_without_blocks_sees_one_token() -> None:
    net = model("transformer", (5,), (5, 7), 7, depth=0, width=16)
    x = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 2, 0, 4]])
    out = net(x)
    assert torch.equal(out[0, [2, 4]], out[1, [2, 4]]) and not torch.equal(out[0, 0], out[1, 0])
