"""Noised rows and the times told of them, made by a network or lying in the data: never really noisy, drawn twice, one for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits

TIMES = 300
ALPHA = 1 - torch.linspace(1e-4, 0.04, TIMES)
KEPT = ALPHA.cumprod(0)
WORDS = ("task.kind=diffusion", "model=denoiser")


def waves(rows: int, width: int = 12) -> Tensor:
    pace, phase = torch.randint(1, 4, (rows, 1), generator=draw()), 6.3 * torch.rand(rows, 1, generator=draw(1))
    return 1.4 * torch.sin(6.283 * pace * torch.arange(width) / width + phase)


class Told(nn.Module):
    """Rows beside an embedding of the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time, self.into, self.outof = nn.Embedding(TIMES, 16), nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, rows: Tensor, time: Tensor) -> Tensor:
        return self.outof(torch.relu(self.into(rows) + self.time(time)))  # type: ignore[no-any-return]


class Makes(Told):
    """Noises its rows by itself, as `how` says."""

    def __init__(self, width: int, how: str) -> None:
        super().__init__(width)
        self.how = how

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        time, noise = torch.randint(TIMES, (len(x),)), torch.randn_like(x)
        if self.how == "one for all":
            noise = torch.randn(x.shape[1:]).expand_as(x)
        if self.how == "seeded":
            noise = torch.randn(x.shape, generator=draw(3))
        kept = (ALPHA if self.how == "not cumulated" else KEPT)[time][:, None]
        told = torch.randint(TIMES, (len(x),)) if self.how == "drawn twice" else time
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * x
        made = {"velocity": velocity, "clean": x}.get(self.how, noise)
        return super().forward(kept.sqrt() * x + (1 - kept).sqrt() * noise, told), made


INSIDE = {
    "noise": "",
    "velocity": "",
    "clean": "",
    "drawn twice": "nothing to do with how much noise",
    "not cumulated": "ever really noisy",
    "one for all": "one and the same noise",
    "seeded": "the same noise at each draw",
}


@pytest.mark.parametrize("width", [2, 12])
@pytest.mark.parametrize("how", INSIDE)
def test_noise_that_a_network_makes(how: str, width: int) -> None:
    x = waves(400, width)
    plug("model", "denoiser", lambda: Makes(width, how))
    plug("loss", "denoised", lambda out, y: (out[0] - out[1]).square().mean())
    spec = DataSpec((width,), (width,), "diffusion")
    finding = asked("diffusion_target", lambda: Splits({"x": x}, {"x": x[:99]}, spec=spec), *WORDS, "loss=denoised")
    assert finding.level == "warning" if INSIDE[how] else finding.level in ("ok", "not_applicable"), finding
    assert INSIDE[how] in finding.message


GIVEN = {"told": "", "told another": "nothing to do with how much noise", "not cumulated": "ever really noisy"}


@pytest.mark.parametrize("target", ["noise", "clean", "velocity", "flow"])
@pytest.mark.parametrize("how", GIVEN)
def test_noise_that_lies_in_the_data(how: str, target: str) -> None:
    x, noise, time = waves(600), torch.randn(600, 12, generator=draw(2)), torch.randint(TIMES, (600,), generator=draw(3))
    kept = (ALPHA if how == "not cumulated" else KEPT)[time][:, None]
    share = (time / TIMES)[:, None]
    noised = (1 - share) * x + share * noise if target == "flow" else kept.sqrt() * x + (1 - kept).sqrt() * noise
    made = {"noise": noise, "clean": x, "flow": noise - x, "velocity": kept.sqrt() * noise - (1 - kept).sqrt() * x}[target]
    rows: dict[str, Any] = {"x": {"rows": noised, "time": time.roll(1, 0) if how == "told another" else time}, "y": made}

    class Reads(Told):
        def forward(self, x: Any) -> Tensor:  # type: ignore[override]
            return super().forward(x["rows"], x["time"])

    plug("model", "denoiser", lambda: Reads(12))
    finding = asked("diffusion_target", lambda: Splits(rows, None, spec=DataSpec((12,), (12,), "diffusion")), *WORDS, "loss=mse")
    loud = GIVEN[how] if (how, target) != ("not cumulated", "flow") else ""  # a flow has no alphas
    assert finding.level == "warning" if loud else finding.level in ("ok", "info"), finding
    assert loud in finding.message or target == "velocity"  # which looks like noise of its own where the time does not tell
