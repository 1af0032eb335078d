"""What a denoiser is told of the time: a clock that stands still, one that runs, and networks that are told none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits

TIMES = 50
WORDS = ("task.kind=diffusion", "loss=denoised", "model=denoiser")


def shares(time: Tensor) -> Tensor:
    return (time / TIMES)[:, None]


def waves(time: Tensor) -> Tensor:
    angle = shares(time) * torch.tensor([1.0, 2.0, 4.0])
    return torch.cat((angle.sin(), angle.cos(), torch.ones(len(time), 1)), 1)


class Beside(nn.Module):
    """Gets what it is told of the time beside the noised rows."""

    def __init__(self, clock: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.clock, width = clock, clock(torch.zeros(1)).shape[1] if clock(torch.zeros(1)).dim() > 1 else 0
        self.net = nn.Sequential(nn.Linear(2 + width, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        time, noise = torch.randint(TIMES, (len(x),)), torch.randn_like(x)
        kept = (1 - time / TIMES)[:, None]
        return self.told(kept.sqrt() * x + (1 - kept).sqrt() * noise, time), noise

    def told(self, noised: Tensor, time: Tensor) -> Tensor:
        said = self.clock(time)
        return self.net(torch.cat((noised, said), 1) if said.dim() > 1 else noised)  # type: ignore[no-any-return]


class Added(Beside):
    """Adds an embedding of the time to its hidden features."""

    def __init__(self, clock: Callable[[Tensor], Tensor]) -> None:
        super().__init__(lambda time: time)
        self.index, self.embedding = clock, nn.Embedding(TIMES, 32)

    def told(self, noised: Tensor, time: Tensor) -> Tensor:
        hidden = self.net[0](noised) + self.embedding(self.index(time))
        return self.net[2](self.net[1](hidden))  # type: ignore[no-any-return]


class Pictures(nn.Module):
    """Convolutions over noised pictures with the time as one more channel."""

    def __init__(self, clock: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.clock, self.net = clock, nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        time, noise = torch.rand(len(x)), torch.randn_like(x)
        shown = time[:, None, None, None]
        noised = (1 - shown) * x + shown * noise
        return self.net(torch.cat((noised, self.clock(shown).expand_as(x)), 1)), noise - x


def points() -> Splits:
    x = torch.randn(600, 2, generator=draw())
    return Splits({"x": x[:400]}, {"x": x[400:500]}, {"x": x[500:]}, spec=DataSpec((2,), (2,), "diffusion"))


def pictures() -> Splits:
    x = torch.randn(300, 1, 8, 8, generator=draw())
    return Splits({"x": x[:200]}, {"x": x[200:250]}, {"x": x[250:]}, spec=DataSpec((1, 8, 8), (1, 8, 8), "diffusion"))


def said(make: Callable[[], nn.Module], data: Any = points) -> Any:
    plug("loss", "denoised", lambda: lambda out, y: (out[0] - out[1]).square().mean())
    plug("model", "denoiser", make)
    return asked("diffusion_target", data, *WORDS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Beside(lambda time: waves(time // TIMES)),
        lambda: Beside(lambda time: shares(time).long().float()),
        lambda: Added(lambda time: (time / TIMES).long()),
        lambda: Added(torch.zeros_like),
    ],
)
def test_a_clock_that_stands_still(make: Callable[[], nn.Module]) -> None:
    finding = said(make)
    assert finding.level == "warning" and "the same for every row and every draw" in finding.message


@pytest.mark.parametrize(
    "make",
    [
        lambda: Beside(waves),
        lambda: Beside(shares),
        lambda: Beside(lambda time: shares(time)[torch.zeros(len(time)).long()]),  # one time for a batch, another for the next
        lambda: Beside(lambda time: time),  # is told no time
        lambda: Added(lambda time: time),
    ],
)
def test_clocks_that_run_and_networks_without_one(make: Callable[[], nn.Module]) -> None:
    assert said(make).level in ("ok", "info", "not_applicable")


def test_a_channel_of_time() -> None:
    finding = said(lambda: Pictures(lambda time: time.long().float()), pictures)
    assert finding.level == "warning" and "1 numbers" in finding.message
    assert said(lambda: Pictures(lambda time: time), pictures).level == "ok"


class Given(nn.Module):
    """Noised rows and their times come with the data."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads, self.embedding, self.net = reads, nn.Embedding(TIMES, 2), nn.Linear(2, 2)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.net(x["noised"] + self.embedding(x["time"] if self.reads else 0 * x["time"]))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("reads", "level"), [(True, "ok"), (False, "warning")])
def test_times_of_the_data_that_the_network_does_not_read(reads: bool, level: str) -> None:
    x = {"noised": torch.randn(200, 2, generator=draw()), "time": torch.randint(TIMES, (200,), generator=draw())}
    rows = {"x": x, "y": torch.randn(200, 2, generator=draw(1))}
    plug("model", "given", lambda: Given(reads))
    words = ("task.kind=diffusion", "loss=mse", "model=given")
    finding = asked("input_matters", lambda: Splits(rows, rows, rows, spec=DataSpec((2,), (2,), "diffusion")), *words)
    assert finding.level == level and ("time" in finding.message and "changes no output" in finding.message) == (level == "warning")
