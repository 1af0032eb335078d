"""Targets that no output can reach: states, cosines, sines, a tanh; and bounded outputs that reach theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_data import draw
from checks_found import built, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import Splits, registry
from dlrun.checks import Finding, Subject


class recurs(nn.Module):
    """Reads [B, 12, 2] with a GRU and answers in some way."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer, self.reads, self.head = answer, nn.GRU(2, 16, batch_first=True), nn.Linear(16, 4)
        self.state, self.memory, self.linear = nn.GRU(16, 1, batch_first=True), nn.LSTM(16, 8, batch_first=True), nn.Linear(4, 1)
        self.towards = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        states = self.reads(x)[0]
        if self.answer == "state":
            return self.state(states)[0][:, -1, 0]  # type: ignore[no-any-return]
        if self.answer == "sum of states":
            return states[:, -1].sum(1)  # type: ignore[no-any-return]
        if self.answer == "memory":
            return self.memory(states)[1][1][0].mean(1)  # type: ignore[no-any-return]
        features = self.head(states.mean(1))
        if self.answer == "cosine":
            return F.cosine_similarity(features, self.towards[None], dim=1)
        line: Tensor = self.linear(features)[:, 0]
        return line.tanh() if self.answer == "tanh" else line.sin() if self.answer == "sine" else line


def steps(scale: float = 1.0, noise: float = 0.0) -> Any:
    x = torch.randn(600, 12, 2, generator=draw(1))
    y = x[:, :, 0].mean(1) * 3 + x[:, -3:, 1].mean(1)
    y = (y / y.std()).tanh() + noise * torch.randn(600, generator=draw(2)) if noise else scale * (y / y.std()).clamp(-4, 4)
    return lambda: Splits((x[:400], y[:400]), (x[400:], y[400:]))


def said() -> Finding:
    words = ("dataset=steps", "task=supervised", "task.kind=regression", "loss=mse", "model=recurs")
    return Subject(built(*words), patience=20.0).judge("output_form", registry.get("check", "output_form"))


@pytest.mark.parametrize("answer", ["state", "cosine", "tanh", "sine"])
def test_standardised_targets_beyond_what_is_bounded(answer: str) -> None:
    plug("model", "recurs", lambda: recurs(answer))
    plug("dataset", "steps", steps())
    finding = said()
    assert finding.level == "error" and "out of reach" in finding.message, finding
    assert (answer == "state") == ("recurrent" in finding.cause)


@pytest.mark.parametrize(
    ("answer", "scale", "noise"),
    [
        ("state", 0.2, 0.0),
        ("cosine", 0.2, 0.0),
        ("tanh", 1.0, 0.25),
        ("sum of states", 1.0, 0.0),
        ("memory", 1.0, 0.0),
        ("line", 1.0, 0.0),
    ],
)
def test_bounded_outputs_that_reach_their_targets(answer: str, scale: float, noise: float) -> None:
    plug("model", "recurs", lambda: recurs(answer))
    plug("dataset", "steps", steps(scale, noise))
    finding = said()
    assert finding.level == "ok", finding
