"""Labels numbered otherwise in one split, numbers laid out by reshape, nodes in another order than their edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, clouds, draw, numbers
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits

Cut = dict[str, list[Any]]


def weak(classes: int = 5) -> tuple[Tensor, Tensor]:
    """Classes that simple models tell only a little."""
    y = torch.randint(classes, (900,), generator=draw(1))
    x = torch.randn(900, 8, generator=draw(2))
    x[torch.arange(900), y] += 1.5
    return x, y


@pytest.mark.parametrize("order", [[3, 0, 4, 1, 2], [0, 1, 3, 2, 4], [1, 2, 3, 4, 0]])
def test_classes_numbered_anew_in_val(order: list[int]) -> None:
    def anew(cut: Cut) -> None:
        cut["val"][1] = torch.tensor(order)[cut["val"][1]]

    finding = asked("split_label_shift", weak(), spoil=anew)
    moved = next(place for place, new in enumerate(order) if place != new)
    assert finding.level == "warning" and f"{moved} -> {order[moved]}" in finding.message, finding
    assert asked("split_label_shift", weak()).level in ("ok", "info")


def test_classes_that_are_told_badly_or_moved_by_a_shift_are_no_new_numbers() -> None:
    x, y = weak()
    noisy = torch.where(torch.rand(900, generator=draw(3)) < 0.7, torch.randint(5, (900,), generator=draw(4)), y)
    assert asked("split_label_shift", (x, noisy)).level in ("ok", "info")

    def later(cut: Cut) -> None:
        cut["val"][0] = cut["val"][0] + torch.linspace(0, 3, 8)

    assert asked("split_label_shift", (x, y), spoil=later).level in ("ok", "info")


def test_columns_of_labels_in_another_order_in_val() -> None:
    x, _ = numbers()
    y = (x @ torch.randn(8, 5, generator=draw(5)) > torch.linspace(-1, 1, 5)).float()

    def anew(cut: Cut) -> None:
        cut["val"][1] = cut["val"][1][:, [1, 0, 2, 4, 3]]

    finding = asked("split_label_shift", (x, y), "task.kind=binary", "loss=bce", spoil=anew)
    assert finding.level == "warning" and "columns of labels" in finding.cause
    assert asked("split_label_shift", (x, y), "task.kind=binary", "loss=bce").level in ("ok", "info")


def test_numbers_made_by_reshape_instead_of_transposed() -> None:
    x = torch.randn(900, 6, generator=draw(4))
    y = torch.stack((x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]), 1)

    def cut(turn: Any, what: str) -> Any:
        pairs = [[x[part], y[part]] for part in (slice(None, 600), slice(600, 900))]
        for pair in pairs:
            pair[what == "targets"] = turn(pair[what == "targets"])
        return lambda: Splits(*(tuple(pair) for pair in pairs))

    for what in ("targets", "inputs"):
        finding = asked("label_permutation", cut(lambda t: t.T.reshape(t.shape), what))
        assert finding.level == "warning" and f"with {what} read as" in finding.message, finding
    assert asked("label_permutation", cut(lambda t: t, "targets")).level == "ok"


class of_graphs(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head((x["adj"] @ x["nodes"] * x["nodes"]).sum(1))


def graphs(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random graphs of 8 nodes of 4 kinds; class: more edges than usual between kinds 0 and 1."""
    nodes = torch.eye(4)[torch.randint(4, (count, 8), generator=draw(seed))]
    adj = (torch.rand(count, 8, 8, generator=draw(seed + 1)) < 0.3).float().triu(1)
    adj = adj + adj.transpose(1, 2)
    return nodes, adj, ((adj @ nodes)[:, :, 0] * nodes[:, :, 1]).sum(1).gt(1).long()


def by_degree(nodes: Tensor, adj: Tensor) -> Tensor:
    return nodes.gather(1, adj.sum(2).argsort(1, descending=True)[:, :, None].expand_as(nodes))


@pytest.mark.parametrize("spoilt", ["nodes", "late", ""])
def test_graphs(spoilt: str) -> None:
    def split(count: int, seed: int) -> dict[str, Any]:
        nodes, adj, y = graphs(count, seed)
        nodes = by_degree(nodes, adj) if spoilt == "nodes" else nodes
        return {"x": {"nodes": nodes, "adj": adj}, "y": y.roll(1) if spoilt == "late" else y}

    spec = DataSpec((8, 4), (2,), "graph", classes=2)
    plug("dataset", "molecules", lambda: Splits(split(900, 1), split(300, 3), spec=spec))
    plug("model", "of_graphs", of_graphs)
    finding = judged("label_permutation", "dataset=molecules", "task=supervised", "model=of_graphs", "loss=cross_entropy")
    said = {"nodes": "nodes were sorted", "late": "one row off", "": ""}[spoilt]
    assert finding.level == ("warning" if spoilt else "ok") and said in finding.cause, finding


def test_a_series_with_one_class_each() -> None:
    x, y = clouds()
    spec = DataSpec((8, 1), (4,), "sequence", classes=4)
    late = y.roll(1)

    def cut(labels: Tensor) -> Any:
        return lambda: Splits((x[:600, :, None], labels[:600]), (x[600:, :, None], labels[600:]), spec=spec)

    assert asked("label_permutation", cut(late), "loss=cross_entropy").level == "warning"
    assert asked("label_permutation", cut(y), "loss=cross_entropy").level == "ok"
