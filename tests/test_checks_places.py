"""Outputs that show other places of the input than their own, and noise that was drawn once for all pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import Splits

SIDE = 16


def discs(rows: int, seed: int) -> Tensor:
    place, size = 3 + 9 * torch.rand(rows, 2, 1, 1, generator=draw(seed)), 2 + 2 * torch.rand(rows, 1, 1, generator=draw(seed + 1))
    row, column = torch.arange(SIDE)[:, None], torch.arange(SIDE)[None]
    return (((row - place[:, 0]) ** 2 + (column - place[:, 1]) ** 2).sqrt() < size).float()[:, None]


ENDS: dict[str, tuple[int, Any, bool]] = {
    "shuffled": (2, lambda z: F.pixel_shuffle(z, 2), False),
    "by_hand": (2, lambda z: z.view(-1, 1, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(-1, 1, SIDE, SIDE), False),
    "reshaped": (2, lambda z: z.reshape(-1, 1, SIDE, SIDE), True),
    "permuted": (2, lambda z: z.view(-1, 2, 2, 8, 8).permute(0, 1, 3, 2, 4).reshape(-1, 1, SIDE, SIDE), True),
    "transposed": (1, lambda z: z[:, :1].transpose(2, 3), True),
    "as_it_is": (1, lambda z: z[:, :1], False),
    "from_everywhere": (1, lambda z: z[:, :1].flatten(1) @ torch.randn(256, 256, generator=draw()) / 16, False),
}


@pytest.mark.parametrize("case", ENDS)
def test_places_of_outputs(case: str) -> None:
    stride, end, loud = ENDS[case]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return end(self.body(x)).reshape(-1, 1, SIDE, SIDE)  # type: ignore[no-any-return]

    y = discs(200, 1)
    rows = (y + 0.3 * torch.randn(y.shape, generator=draw(5)), y)
    plug("model", "outlines", Net)
    finding = asked("receptive_field", lambda: Splits(rows, rows), "model=outlines", "loss=mse", "task.kind=regression")
    assert (finding.level == "warning") == loud and ("other places" in finding.message) == loud, finding


@pytest.mark.parametrize(("last", "loud"), [(False, False), (True, True)])
def test_steps_of_a_series(last: bool, loud: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv1d(1, 8, 5, 4, 2), nn.ReLU(), nn.Conv1d(8, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            z = self.body(x)
            return (z if last else z.transpose(1, 2)).reshape(-1, 1, 32)  # type: ignore[no-any-return]

    y = torch.sin(torch.arange(32) * (0.1 + 0.3 * torch.rand(200, 1, 1, generator=draw())))
    rows = (y + 0.3 * torch.randn(y.shape, generator=draw(5)), y)
    plug("model", "finer", Net)
    finding = asked("receptive_field", lambda: Splits(rows, rows), "model=finer", "loss=mse", "task.kind=regression")
    assert (finding.level == "warning") == loud, finding


NOISES: dict[str, tuple[Any, bool]] = {
    "each": (lambda y: 0.5 * torch.randn(y.shape, generator=draw(7)), False),
    "one": (lambda y: 0.5 * torch.randn(y.shape[1:], generator=draw(7)), True),
    "one_of_many_strengths": (lambda y: torch.rand(len(y), 1, 1, 1, generator=draw(8)) * torch.randn(y.shape[1:], generator=draw(7)), True),
    "a_mark": (lambda y: 0.5 * torch.linspace(-1, 1, SIDE).expand(y.shape), False),
    "mean_taken_off": (lambda y: -y.mean(0), False),
    "none": (lambda y: 0 * y, False),
}


@pytest.mark.parametrize("case", NOISES)
def test_one_noise_for_all_pictures(case: str) -> None:
    noise, loud = NOISES[case]
    y = discs(200, 1)
    rows = (y + noise(y), y)
    finding = asked("augmentation_alive", lambda: Splits(rows, rows), "loss=mse", "task.kind=regression")
    assert (finding.level == "warning") == loud and ("one and the same noise" in finding.message) == loud, finding
