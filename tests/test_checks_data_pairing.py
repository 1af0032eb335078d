"""Inputs and targets that do not belong together: put in another order, transformed apart, mixed by a view; and look-alikes that do."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from checks_data import DataSpec, Splits, asked, clouds, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun.checks._lengths import of_other_rows
from dlrun.checks._orders import orders
from dlrun.checks._views import mixed

MSE = ("loss=squared", "task.kind=regression", "optimizer=adam", "optimizer.lr=0.003", "train.steps=120", "train.batch_size=32")


@pytest.fixture(autouse=True)
def squared() -> None:
    plug("loss", "squared", lambda out, y: ((out - y) ** 2).mean())


def waves(rows: int = 640, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy and clean waves of 32 steps."""
    place = torch.linspace(0, 6, 32) * (1 + 2 * torch.rand(rows, 1, generator=draw(seed))) + 6 * torch.rand(
        rows, 1, generator=draw(seed + 1)
    )
    return place.sin() + 0.3 * torch.randn(rows, 32, generator=draw(seed + 2)), place.sin()


def of_waves(order: Tensor) -> Any:
    x, y = waves()
    held = waves(200, 7)
    return lambda: Splits((x, y[order]), held, held, spec=DataSpec((32,), (32,), "regression"))


def test_targets_in_another_order_are_put_back() -> None:
    for name, order in orders(640):
        if name.startswith(("sorted as text", "reversed", "step by step where inputs stand in blocks of 20")):
            finding = asked("label_permutation", of_waves(order), *MSE)
            assert finding.level == "warning" and "put in another order" in finding.message, name
    assert asked("label_permutation", of_waves(torch.arange(640)), *MSE).level != "warning"


def test_pairs_in_no_order_are_known_by_a_training() -> None:
    finding = asked("input_baseline", of_waves(torch.randperm(640, generator=draw(3))), *MSE)
    assert finding.level == "warning" and "fit no better than those of other rows" in finding.message
    assert asked("input_baseline", of_waves(torch.arange(640)), *MSE).level == "ok"


def test_a_number_a_row_may_be_noise() -> None:
    given = lambda: Splits(*((torch.randn(n, 8), torch.randn(n)) for n in (400, 200, 200)))  # noqa: E731
    assert asked("input_baseline", given, *MSE).level in ("ok", "info", "not_applicable")


def test_columns_sorted_one_by_one() -> None:
    x, y = clouds()
    finding = asked("label_permutation", (x, y), spoil=lambda cut: cut["train"].__setitem__(0, cut["train"][0].sort(0).values))
    assert finding.level == "warning"


def mesh(moved: int) -> Any:
    def part(rows: int, seed: int) -> dict[str, Any]:
        nodes = torch.randn(rows, 9, 4, generator=draw(seed))
        adj = (torch.rand(rows, 9, 9, generator=draw(seed + 1)) < 0.2).float()
        adj = ((adj + adj.transpose(1, 2)) > 0).float() * (1 - torch.eye(9))
        y = (adj @ nodes)[..., :1]
        return {"x": (nodes, adj.roll((moved, moved), (1, 2))), "y": y}

    return lambda: Splits(part(300, 1), part(100, 3), part(100, 5), spec=DataSpec((9, 4), (9, 1), "graph"))


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: Any) -> Tensor:
        return self.own(x[0]) + x[1] @ self.near(x[0])  # type: ignore[no-any-return]


def test_edges_that_count_nodes_from_one() -> None:
    plug("model", "around", lambda: Around())
    words = ("model=around", "loss=squared", "task.kind=graph")
    finding = asked("label_permutation", mesh(1), *words)
    assert finding.level == "warning" and "edges' nodes put one place back" in finding.message
    assert asked("label_permutation", mesh(0), *words).level != "warning"


class Cells(torch.utils.data.Dataset[Any]):
    """Bright shapes and their masks, flipped together or each for itself."""

    def __init__(self, rows: int, seed: int, how: str) -> None:
        g = draw(seed)
        self.mask = torch.zeros(rows, 16, 16)
        for mask in self.mask:
            row, column = torch.randint(0, 9, (2,), generator=g).tolist()
            mask[row : row + 7, column : column + 4] = 1
        self.x, self.how = (self.mask + 0.2 * torch.randn(rows, 16, 16, generator=g))[:, None], how

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        x, y = self.x[index], self.mask[index].long()
        if self.how == "moved":
            by = random.randrange(8)
            return x.roll(by, -1), y.roll(random.randrange(8), -1)
        if self.how:
            one, two = random.random() < 0.5, random.random() < 0.5
            two = one if self.how == "together" else two
            x, y = (x.flip(-1) if one else x), (y.flip(-1) if two else y)
        return x, y


@pytest.mark.parametrize(("how", "level"), [("apart", "warning"), ("moved", "warning"), ("together", "none"), ("", "none")])
def test_masks_that_are_transformed_apart(how: str, level: str) -> None:
    plug("model", "pixels", lambda: nn.Conv2d(1, 2, 3, padding=1))
    plug("loss", "of_pixels", lambda out, y: nn.functional.cross_entropy(out, y))
    given = lambda: Splits(Cells(120, 1, how), Cells(60, 2, ""), Cells(60, 3, ""))  # noqa: E731
    finding = asked("augmentation_keeps_label", given, "model=pixels", "loss=of_pixels", "task.kind=classification")
    assert (finding.level == "warning") == (level == "warning")
    assert level != "warning" or "the target fits its picture far better" in finding.message


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ((7, 20, 3), (7, 3, 20), "certain"),
        ((7, 30, 3), (7, 3, 30), "exchanged"),
        ((7, 24, 24, 3), (7, 3, 24, 24), "exchanged"),
        ((20, 7, 6), (7, 20, 6), "certain"),
        ((7, 10, 12), (7, 4, 10, 3), "certain"),
        ((7, 4, 10, 3), (7, 10, 12), "certain"),
        ((7, 4, 16, 3), (7, 16, 12), "merged"),
        ((7, 10, 12), (7, 10, 4, 3), ""),
        ((7, 10, 4, 3), (7, 10, 12), ""),
        ((7, 3, 8, 8), (7, 192), ""),
        ((7, 10, 12), (70, 12), ""),
        ((7, 16, 4, 4), (7, 16, 16), ""),
        ((7, 12, 8), (7, 4, 24), ""),
    ],
)
def test_views_that_mix_axes(old: tuple[int, ...], new: tuple[int, ...], how: str) -> None:
    assert mixed(old, new) == how


class Turns(nn.Module):
    """Convolution along the steps of [B, 30, 3]; how the axes are exchanged is the question."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv1d(3, 8, 5, padding=2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 3, 30) if self.how == "view" else x.transpose(1, 2)
        out: Tensor = self.head(self.conv(x).relu().mean(2))
        return out


def test_steps_viewed_as_channels_by_the_network() -> None:
    x, y = clouds()
    series = x[:, :1, None] + torch.randn(900, 30, 3, generator=draw(1))
    for how, level in (("view", "warning"), ("transpose", "not_applicable")):
        plug("model", "turns", _turns(how))
        assert asked("layout", (series, y), "model=turns", "task.kind=classification").level == level


def _turns(how: str) -> Any:
    return lambda: Turns(how)


def test_lengths_of_other_rows() -> None:
    lengths = torch.randint(3, 20, (200,), generator=draw(1))
    ids = torch.randint(1, 50, (200, 20), generator=draw(2)).masked_fill(torch.arange(20) >= lengths[:, None], 0)
    assert of_other_rows({"ids": ids, "length": lengths}) is None
    found = of_other_rows({"ids": ids[lengths.argsort()], "length": lengths})
    assert found is not None and found[0] == "x.length"


class Faces(torch.utils.data.Dataset[Any]):
    """A bright spot, where it is or how large; mirrored in training, and `where` with it or not."""

    def __init__(self, rows: int, seed: int, how: str) -> None:
        place = torch.rand(rows, 2, generator=draw(seed)) * 8 + 4
        size = torch.rand(rows, generator=draw(seed + 1)) + 1 if how == "size" else torch.full((rows,), 1.5)
        row, column = torch.arange(16)[None, :, None], torch.arange(16)[None, None]
        away = (row - place[:, 0, None, None]) ** 2 + (column - place[:, 1, None, None]) ** 2
        self.x, self.how = torch.exp(-away / (2 * size**2)[:, None, None])[:, None], how
        self.y = size[:, None] if how == "size" else place / 8 - 1

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        x, y = self.x[index], self.y[index].clone()
        if self.how and random.random() < 0.5:
            x = x.flip(-1)
            y[-1:] = 15 / 8 - 2 - y[-1:] if self.how == "both" else y[-1:]
        return x, y


@pytest.mark.parametrize(("how", "loud"), [("picture", True), ("both", False), ("size", False)])
def test_places_in_mirrored_pictures(how: str, loud: bool) -> None:
    given = lambda: Splits(Faces(300, 1, how), Faces(200, 3, "size" if how == "size" else ""), Faces(50, 5, how))  # noqa: E731
    finding = asked("augmentation_keeps_label", given, "loss=squared", "task.kind=regression")
    assert (finding.level == "warning") == loud


def test_noisy_labels_that_are_learned_by_heart_in_the_end() -> None:
    def part(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(rows, 20, generator=draw(seed))
        y = (x[:, 0] > 0).long()
        return x, torch.where(torch.rand(rows, generator=draw(seed + 1)) < 0.35, 1 - y, y)

    given = lambda: Splits(part(900, 1), part(300, 3), part(300, 5))  # noqa: E731
    words = ("task.kind=classification", "optimizer=adam", "optimizer.lr=0.003", "train.steps=300", "train.batch_size=32")
    assert asked("input_baseline", given, *words).level in ("ok", "info")


class Stacks(nn.Module):
    """Four steps of four numbers at a time, as one step of sixteen."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.head = nn.GRU(16, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.steps(x.reshape(len(x), 4, 16))[0][:, -1])
        return out


def test_steps_stacked_on_purpose() -> None:
    x, y = clouds()
    plug("model", "stacks", lambda: Stacks())
    series = x[:, :1, None] + torch.randn(900, 16, 4, generator=draw(1))
    assert asked("layout", (series, y), "model=stacks", "task.kind=classification").level == "not_applicable"
