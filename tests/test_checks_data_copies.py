"""Rows that were multiplied before the splits were cut, masks that overlap, and sets that repeat by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, clouds, draw, numbers, smooth
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits


def cut(x: Tensor, y: Tensor, seed: int = 6) -> Splits:
    """A quarter for val, by chance."""
    order = torch.randperm(len(x), generator=draw(seed))
    train, val = order[len(x) // 4 :], order[: len(x) // 4]
    return Splits((x[train], y[train]), (x[val], y[val]))


@pytest.mark.parametrize("data", [clouds, numbers])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_all_rows_multiplied_before_the_cut(data: Any, noise: float) -> None:
    x, y = (part[:300] for part in data())
    x, y = x.repeat(4, 1), y.repeat(4)
    finding = asked("split_leakage", lambda: cut(x + noise * torch.randn(x.shape, generator=draw(7)), y))
    assert finding.level == "warning" and "before the splits were cut" in finding.cause


def rare() -> tuple[Tensor, Tensor]:
    x, _ = clouds()
    y = (torch.arange(len(x)) % 9 == 0).long()
    return x + 2 * y[:, None], y


def test_rare_rows_multiplied_before_the_cut_and_after_it() -> None:
    x, y = rare()
    more = (y == 1).nonzero()[:, 0].repeat(7)
    finding = asked("split_leakage", lambda: cut(torch.cat((x, x[more])), torch.cat((y, y[more]))))
    assert finding.level == "warning" and "with equal targets" in finding.message
    late = (y[:600] == 1).nonzero()[:, 0].repeat(7)
    train = torch.cat((x[:600], x[late])), torch.cat((y[:600], y[late]))
    assert asked("split_leakage", lambda: Splits(train, (x[600:], y[600:]))).level in ("ok", "info")


def test_patterns_and_repeated_measurements_repeat_by_themselves() -> None:
    known = torch.randn(300, 8, generator=draw(1))
    which = torch.randint(300, (1200,), generator=draw(2))
    assert asked("split_leakage", lambda: cut(known[which], which % 4)).level == "info"
    measured = torch.randn(1200, generator=draw(3)) + known[torch.arange(1200) % 300, 0]
    assert asked("split_leakage", lambda: cut(known.repeat(4, 1), measured)).level == "info"


def test_tight_groups_that_are_the_classes_are_no_copies() -> None:
    y = torch.arange(600) % 60
    x = torch.randn(60, 8, generator=draw(1))[y] + 0.01 * torch.randn(600, 8, generator=draw(2))
    assert asked("split_leakage", lambda: cut(x, y)).level == "info"


@pytest.mark.parametrize("directions", [1, 2])
def test_a_dense_curve_or_plane_is_no_set_of_copies(directions: int) -> None:
    t = torch.rand(1500, directions, generator=draw(1)) * 6
    x = torch.cat([torch.sin(t * turns) for turns in (1, 2, 0.5, 0.3, 0.7)], 1)
    assert asked("split_leakage", lambda: cut(x, (t[:, 0] > 3).long())).level in ("ok", "info")


def test_copies_mirrored_before_the_cut() -> None:
    x, y = smooth()
    finding = asked("split_leakage", lambda: cut(torch.cat((x, x.flip(-1))), y.repeat(2)))
    assert finding.level == "warning" and "mirrored" in finding.message
    even = x + x.flip(-1)  # pictures that are their own mirror image
    assert asked("split_leakage", lambda: cut(even, y)).level in ("ok", "info")


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_split_by_chance(stride: int) -> None:
    series = torch.sin(torch.arange(2000.0) / 5) + 0.3 * torch.randn(2000, generator=draw(1))
    windows = series.unfold(0, 13, stride)
    x, y = windows[:, :12], windows[:, 12]
    finding = asked("split_leakage", lambda: cut(x, y))
    assert finding.level == "warning" and "windows were cut first" in finding.cause, finding
    late = len(x) * 3 // 4
    assert asked("split_leakage", lambda: Splits((x[:late], y[:late]), (x[late:], y[late:]))).level in ("ok", "info")


class node_wise(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head(x["adj"] @ x["nodes"])


def over_nodes(out: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out.transpose(1, 2), y, ignore_index=-100)


@pytest.mark.parametrize("held", ["mask", "target"])
@pytest.mark.parametrize("overlap", [0, 10])
def test_masks_of_one_graph(held: str, overlap: int) -> None:
    x = {"nodes": torch.randn(1, 40, 5, generator=draw(1)), "adj": torch.ones(1, 40, 40)}
    y = torch.randint(3, (1, 40), generator=draw(2))

    def split(low: int, high: int) -> dict[str, Any]:
        mask = torch.zeros(1, 40, dtype=torch.bool)
        mask[0, low:high] = True
        return {"x": x, "y": y, "mask": mask} if held == "mask" else {"x": x, "y": y.masked_fill(~mask, -100)}

    spec = DataSpec((40, 5), (40, 3), "graph", classes=3)
    plug("dataset", "papers", lambda: Splits(split(0, 20), split(20 - overlap, 40), spec=spec))
    plug("model", "node_wise", node_wise)
    plug("loss", "over_nodes", over_nodes)
    finding = judged("split_leakage", "dataset=papers", "task=supervised", "model=node_wise", "loss=over_nodes")
    assert (finding.level == "error") == bool(overlap), finding
    assert not overlap or f"{overlap} of 30 targets of val" in finding.message
