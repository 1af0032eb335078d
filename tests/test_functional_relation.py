"""What simple models find of labels, groups of rows, equal and near rows."""

from __future__ import annotations

import pytest
import torch

from dlrun.functional.groups import groups
from dlrun.functional.nearest import first_of, nearest, projection, row_sums
from dlrun.functional.relation import within


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("what", ["line", "circle", "product"])
def test_relations_of_several_forms_are_found(what: str) -> None:
    x = torch.randn(512, 4, generator=draw())
    y = {"line": x[:, 0] + x[:, 1], "circle": x[:, 0] ** 2 + x[:, 1] ** 2 - 1.4, "product": x[:, 0] * x[:, 1]}[what] > 0
    found = within(x, y.long(), 2)
    assert found.clear() and 0.3 < found.strength <= 1


def test_chance_stays_chance_whatever_the_classes_shares() -> None:
    for seed in range(20):
        x = torch.randn(400, 10, generator=draw(seed))
        y = torch.multinomial(torch.tensor([0.9, 0.08, 0.02]), 400, replacement=True, generator=draw(seed + 50))
        assert not within(x, y, 3).clear() and abs(within(x, y, 3).strength) < 0.3
        assert not within(x, torch.randn(400, 1, generator=draw(seed + 90)), None).clear()


def test_a_number_that_is_a_line_has_strength_one() -> None:
    x = torch.randn(400, 6, generator=draw())
    assert within(x, x[:, :1] * 3 - 7, None).strength > 0.99


def test_groups_are_clear_where_there_are_some() -> None:
    y = torch.arange(400) % 4
    x = torch.randn(4, 6, generator=draw(1))[y] * 4 + 0.5 * torch.randn(400, 6, generator=draw(2))
    clear, by_chance, of = groups(x, 4)
    assert clear > by_chance + 0.3
    assert all(len(of[y == k].unique()) == 1 for k in range(4)) and len(of.unique()) == 4
    clear, by_chance, _ = groups(torch.randn(400, 6, generator=draw(3)), 4)
    assert clear < by_chance + 0.1


def test_sums_of_rows_are_equal_where_rows_are() -> None:
    x = torch.randint(0, 9, (50, 3, 4), generator=draw())
    x[30] = x[7]
    sums = row_sums([x, torch.zeros(50)])
    assert sums[30] == sums[7] and first_of(sums)[sums[30]] == 7 and len(set(sums)) == len(x.flatten(1).unique(dim=0))


def test_nearest_is_that_of_all_distances_and_projections_keep_them() -> None:
    rows, queries = torch.randn(700, 20, generator=draw(1)), torch.randn(600, 20, generator=draw(2))
    square, at = nearest(queries, rows)
    every = torch.cdist(queries, rows)
    assert torch.equal(at, every.argmin(1)) and torch.allclose(square.sqrt(), every.amin(1), atol=1e-3)
    assert projection(32) is None
    matrix = projection(500)
    assert matrix is not None
    far = torch.randn(200, 500, generator=draw(4))
    ratio = (far @ matrix).norm(dim=1) / far.norm(dim=1)
    assert 0.95 < float(ratio.mean()) < 1.05 and float(ratio.min()) > 0.5
