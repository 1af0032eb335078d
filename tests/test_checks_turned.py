"""Pictures, boards and series that are mirrored or turned as they are read: answers that go with them, or stay, or should have gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks_data import asked, draw
from checks_found import parts  # noqa: F401 (parts is a fixture)
from torch import Tensor
from torch.utils.data import Dataset

from dlrun import Splits

SIDE = 12


class Rows(Dataset[Any]):
    """Half of the readings go through `change`."""

    def __init__(self, x: Tensor, y: Tensor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None) -> None:
        self.x, self.y, self.change = x, y, change

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.x[index], self.y[index]
        return self.change(x, y) if self.change and torch.rand(()) < 0.5 else (x, y)


def said(x: Tensor, y: Tensor, change: Any, kind: str) -> Any:
    rest = Rows(x[600:], y[600:], None)
    loss = ("loss=cross_entropy",) if kind == "classification" else ("loss=mse",)
    return asked("augmentation_keeps_label", lambda: Splits(Rows(x[:600], y[:600], change), rest, rest), *loss, f"task.kind={kind}")


def boards() -> tuple[Tensor, Tensor]:
    """Where I am and where I want to go [900, 2, 6, 6]; the step there: up, down, left, right."""
    me, goal = (torch.randint(6, (900, 2), generator=draw(seed)) for seed in (1, 2))
    x = torch.zeros(900, 2, 6, 6)
    for plane, place in enumerate((me, goal)):
        x[torch.arange(900), plane, place[:, 0], place[:, 1]] = 1
    way = goal - me
    sideways = way[:, 1].abs() > way[:, 0].abs()
    return x, torch.where(sideways, 2 + (way[:, 1] > 0).long(), (way[:, 0] > 0).long())


MOVES: dict[str, tuple[Any, bool]] = {
    "mirrored_alone": (lambda x, y: (x.flip(-1), y), True),
    "mirrored_both": (lambda x, y: (x.flip(-1), torch.tensor([0, 1, 3, 2])[y]), False),
    "turned_alone": (lambda x, y: (x.rot90(int(torch.randint(1, 4, ())), (1, 2)), y), True),
    "turned_both": (lambda x, y: (x.rot90(1, (1, 2)), torch.tensor([2, 3, 1, 0])[y]), False),
    "noisy": (lambda x, y: (x + 0.1 * torch.randn_like(x), y), False),
}


@pytest.mark.parametrize("case", MOVES)
def test_moves_on_boards(case: str) -> None:
    change, loud = MOVES[case]
    finding = said(*boards(), change, "classification")
    assert (finding.level == "warning") == loud, finding
    assert not loud or "class" in finding.message


def stones() -> tuple[Tensor, Tensor]:
    """Stones of two players [900, 2, 4, 4]; one of the free cells, to play at: where most neighbours are mine."""
    stones = torch.rand(900, 1, 4, 4, generator=draw(7))
    x = torch.cat(((stones < 0.3).float(), (stones > 0.7).float()), 1)
    near = torch.nn.functional.avg_pool2d(x[:, :1], 3, 1, 1) + 0.01 * torch.rand(900, 1, 4, 4, generator=draw(8))
    return x, (near - 9 * x.sum(1, keepdim=True)).flatten(1).argmax(1)


CELLS = torch.arange(16).reshape(4, 4)
PLAYS: dict[str, tuple[Any, bool]] = {
    "alone": (lambda x, y: (x.flip(-1), y), True),
    "both": (lambda x, y: (x.flip(-1), CELLS.flip(-1).flatten()[y]), False),
    "turned_alone": (lambda x, y: (x.rot90(1, (1, 2)), y), True),
    "turned_both": (lambda x, y: (x.rot90(1, (1, 2)), CELLS.rot90(-1).flatten()[y]), False),
}


@pytest.mark.parametrize("case", PLAYS)
def test_cells_of_boards(case: str) -> None:
    change, loud = PLAYS[case]
    finding = said(*stones(), change, "classification")
    assert (finding.level == "warning") == loud, finding


def spots() -> tuple[Tensor, Tensor]:
    """Boxes of light [900, 1, 12, 12]: left, top, right, bottom."""
    middle, half = 0.3 + 0.4 * torch.rand(900, 2, generator=draw(3)), 0.1 + 0.15 * torch.rand(900, 2, generator=draw(4))
    at = (torch.arange(SIDE) + 0.5) / SIDE
    inside = (at[None, None] - middle[..., None]).abs() <= half[..., None]
    x = (inside[:, 1, :, None] & inside[:, 0, None, :]).float()[:, None] + 0.2 * torch.randn(900, 1, SIDE, SIDE, generator=draw(5))
    return x, torch.cat((middle - half, middle + half), 1)


def mirrored(y: Tensor, *order: int) -> Tensor:
    turned = y.clone()
    turned[0], turned[2] = 1 - y[order[0]], 1 - y[order[1]]
    return turned


BOXES: dict[str, tuple[Any, bool]] = {
    "alone": (lambda x, y: (x.flip(-1), y), True),
    "both": (lambda x, y: (x.flip(-1), mirrored(y, 2, 0)), False),
    "edges_not_exchanged": (lambda x, y: (x.flip(-1), mirrored(y, 0, 2)), True),
    "turned_alone": (lambda x, y: (x.rot90(1, (1, 2)), y), True),
    "turned_both": (lambda x, y: (x.rot90(1, (1, 2)), torch.stack((y[1], 1 - y[2], y[3], 1 - y[0]))), False),
}


@pytest.mark.parametrize("case", BOXES)
def test_boxes(case: str) -> None:
    change, loud = BOXES[case]
    finding = said(*spots(), change, "regression")
    assert (finding.level == "warning") == loud, finding


def test_sizes_stay_and_series_go() -> None:
    x, y = spots()
    assert said(x, (y[:, 2:] - y[:, :2]).prod(1, keepdim=True), lambda x, y: (x.flip(-1), y), "regression").level != "warning"
    rises = torch.arange(900) % 2
    slope = torch.linspace(-1, 1, 24) * (2 * rises - 1)[:, None] + 0.5 * torch.randn(900, 24, generator=draw(6))
    backwards = said(slope, rises, lambda x, y: (x.flip(-1), y), "classification")
    assert backwards.level == "warning" and "reversed" in backwards.message
    assert said(slope, rises, lambda x, y: (x.flip(-1), 1 - y), "classification").level != "warning"
