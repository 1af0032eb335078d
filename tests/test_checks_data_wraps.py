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


def sound(change: Any) -> Any:
    """Harmonics of some pitch as 16-bit sound [900, 1, 256], changed by `change`, and which of three pitches it is."""
    rng = np.random.default_rng(3)
    pitch = rng.integers(0, 3, 900)
    angle = np.array([0.15, 0.3, 0.5])[pitch][:, None] * np.arange(256) + rng.uniform(0, 6, (900, 1))
    wave = np.sin(angle) + 0.5 * np.sin(2 * angle + rng.uniform(0, 6, (900, 1))) + 0.05 * rng.normal(size=(900, 256))
    loud = (wave * np.exp(rng.uniform(5.5, 7.5, (900, 1)))).astype(np.int16)
    x, y = torch.from_numpy(change(loud).astype(np.float32)).unsqueeze(1), torch.from_numpy(pitch)
    return lambda: Splits((x[:600], y[:600]), (x[600:], y[600:]))


LOUDER = {
    "by one gain": lambda wave: wave * np.int16(37) / 32768,
    "by gains of rows": lambda wave: wave * (30000 // np.abs(wave).mean(1, keepdims=True)).astype(np.int16) / 32768,
    "standardised then": lambda wave: (wave * np.int16(45)) / (wave * np.int16(45)).std(1, keepdims=True) - 0.01,
}
AS_IT_IS = {
    "in floats": lambda wave: wave * 37.0 / 32768,
    "cut at the ends": lambda wave: (wave * 37.0).clip(-32768, 32767) / 32768,
    "peaks at 1": lambda wave: np.round(wave / np.abs(wave).max(1, keepdims=True) * 32767) / 32768,
    "of 8 bits": lambda wave: np.round((wave / 2800.0 + 1) * 127).clip(0, 255) * 257 / 65535,
    "noise": lambda wave: np.random.default_rng(1).integers(-32768, 32768, wave.shape) / 32768,
}


@pytest.mark.parametrize("how", LOUDER)
def test_gains_in_16_bit(how: str) -> None:
    finding = asked("integer_traps", sound(LOUDER[how]))
    assert finding.level == "warning" and "integer type" in finding.cause, finding


@pytest.mark.parametrize("how", AS_IT_IS)
def test_gains_that_fit(how: str) -> None:
    assert asked("integer_traps", sound(AS_IT_IS[how])).level in ("ok", "info")
