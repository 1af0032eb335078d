"""Readings and numbers of words that went round in a byte, and series that only look so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from checks_data import asked, draw
from checks_found import judged, parts, plug  # noqa: F401 (a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits


def tides(kind: str) -> Any:
    start = torch.rand(800, 1, generator=draw(1)) * 100
    time = start + torch.arange(40)
    level = 200 + 150 * torch.sin(time / 4) + 2 * torch.randn(800, 40, generator=draw(2))
    x = torch.from_numpy(level.round().numpy().astype("int64").astype(kind).astype(np.float32)) / 100
    return lambda: Splits((x[:600], level[:600, -1] / 100), (x[600:], level[600:, -1] / 100))


def test_readings_in_a_byte() -> None:
    for kind in ("int8", "uint8"):
        finding = asked("integer_traps", tides(kind))
        assert finding.level == "warning" and "256 values" in finding.cause, (kind, finding)
    assert asked("integer_traps", tides("int16")).level in ("ok", "info")


def squares() -> Tensor:
    high = (torch.arange(40) // 5 + torch.randint(10, (800, 1), generator=draw(1))) % 2
    return (high * 235 + torch.randint(0, 21, (800, 40), generator=draw(2))).float()


@pytest.mark.parametrize("what", ["noise", "squares", "angles"])
def test_series_that_did_not_wrap(what: str) -> None:
    x = {
        "noise": torch.randint(0, 256, (800, 40), generator=draw(1)).float(),
        "squares": squares(),
        "angles": ((torch.randint(360, (800, 1), generator=draw(1)) + 7 * torch.arange(40)) % 360).float(),
    }[what]
    assert asked("integer_traps", lambda: Splits((x[:600], x[:600, 0]), (x[600:], x[600:, 0]))).level in ("ok", "info")


class follows(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Embedding(out_shape[-1], 8), nn.Linear(8, out_shape[-1]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


@pytest.mark.parametrize(("many", "kept", "wrong"), [(400, 256, True), (400, 400, False), (400, 230, False), (260, 256, False)])
def test_words_in_a_byte(many: int, kept: int, wrong: bool) -> None:
    text = torch.randint(kept, (600, 13), generator=draw(1))
    spec = DataSpec((12,), (12, many), "language_model", vocab=many)
    plug("dataset", "talk", lambda: Splits((text[:400, :-1], text[:400, 1:]), (text[400:, :-1], text[400:, 1:]), spec=spec))
    plug("model", "follows", follows)
    finding = judged("integer_traps", "dataset=talk", "task=language_model", "model=follows")
    assert (finding.level == "warning") == wrong and ("every number up to 255" in finding.message) == wrong, finding
