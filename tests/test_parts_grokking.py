"""The parts of experiment grokking: a table of sums without the leak that order would be, and a network to which order is nothing."""

from __future__ import annotations

import pytest
import torch
from parts import model, options

from dlrun.data import prepare
from dlrun.datasets.modular_addition import modular_addition
from dlrun.types import Splits


def table(**changed: object) -> Splits:
    return modular_addition(**options("dataset", "modular_addition", **{"p": 11, **changed}))


@pytest.mark.parametrize("ordered", [False, True])
def test_every_sum_is_in_one_split_and_right(ordered: bool) -> None:
    made = table(ordered=ordered)
    pairs = [{(int(a), int(b)) for a, b in x} for x, _ in (made.train, made.val, made.test)]
    assert sum(map(len, pairs)) == (121 if ordered else 66) == len(set().union(*pairs))
    assert len({(min(pair), max(pair)) for pair in pairs[0]}) == 40  # 0.6 of 66 unordered pairs
    for x, y in (made.train, made.val, made.test):
        assert torch.equal(y, (x[:, 0] + x[:, 1]) % 11) and y.dtype == torch.int64


def test_no_held_out_pair_is_in_train_the_other_way_round() -> None:
    made = table(ordered=True)
    unordered = [{(int(min(row)), int(max(row))) for row in x} for x, _ in (made.train, made.val, made.test)]
    assert not (unordered[0] & unordered[1] or unordered[0] & unordered[2] or unordered[1] & unordered[2])


def test_the_rule_of_the_split_is_recorded_and_another_seed_splits_otherwise() -> None:
    data = [
        prepare(table(seed=s), name="m", seed=0, dataset_seed=s, batch_size=8, accumulate=1, workers=0, device="cpu", augments=())
        for s in (0, 0, 1)
    ]
    assert "unordered pairs" in data[0].spec.split_rule and "0.6 of 66" in data[0].spec.split_rule
    assert data[0].fingerprint == data[1].fingerprint != data[2].fingerprint


def test_a_share_that_leaves_a_split_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves a split without any"):
        table(share=0.99)


def test_embeddings_are_added_so_that_order_is_nothing() -> None:
    net = model("embedding_sum", (2,), (11,), vocab=11)
    x = torch.cartesian_prod(torch.arange(11), torch.arange(11))
    assert torch.equal(net(x), net(x.flip(1)))
    embedding, hidden, _, readout = net
    by_hand = (embedding.weight[x[:, 0]] + embedding.weight[x[:, 1]]) @ hidden.weight.T + hidden.bias
    assert torch.allclose(net(x), by_hand.relu() @ readout.weight.T + readout.bias, atol=1e-6)


def test_a_sum_of_embeddings_begins_with_variance_one() -> None:
    first = model("embedding_sum", (4,), (5,), vocab=5000)[0]  # type: ignore[index]
    rows = first(torch.arange(4000).reshape(1000, 4))
    assert abs(float(rows.detach().var()) - 1) < 0.03
    assert model("embedding_sum", (4,), (5,), vocab=9, bias=False)[1].bias is None  # type: ignore[index]


def test_rows_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="takes rows of tokens"):
        model("embedding_sum", (2,), (3,))
