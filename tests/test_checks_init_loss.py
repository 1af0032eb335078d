"""The first loss: scaled last layers, negated losses, starts that learned elsewhere, beside healthy ones."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, big, built, first_loud, found, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn


class times(big):
    """The same by scaling outputs instead of weights."""

    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__(in_shape, out_shape, factor=1.0)
        self.scale = nn.Parameter(torch.tensor(30.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


@pytest.mark.parametrize("seed", range(8))
def test_a_last_layer_scaled_by_30_is_an_error_of_the_first_loss(seed: int) -> None:
    plug("model", "big", big)
    findings = found("dataset=moons", "model=big", f"seed={seed}")
    first = findings["init_loss"]
    assert first_loud(findings) == "init_loss"
    assert first.level == "error" and "first loss" in first.message and "last layer" in first.cause
    assert 2.6 < first.numbers["last_layer_gain"] < 3.4 and first.numbers["expected"] == pytest.approx(math.log(2))


def test_weights_that_learned_elsewhere_are_no_luck() -> None:
    """A network that its author trained: as sure of itself as one that is scaled, but right, whatever the seed."""
    weights = big((2,), (2,), factor=10.0)
    from sklearn.datasets import make_moons

    x, y = (torch.as_tensor(part) for part in make_moons(400, noise=0.1, random_state=3))
    learn = torch.optim.Adam(weights.parameters(), lr=3e-3)
    for _ in range(60):
        learn.zero_grad()
        F.cross_entropy(weights(x.float()), y).backward()
        learn.step()
    with torch.no_grad():
        list(weights.net.children())[-1].weight.mul_(3)
    plug("model", "known", lambda: copy.deepcopy(weights))
    first = found("dataset=moons", "model=known")["init_loss"]
    assert first.level == "info" and first.numbers["last_layer_gain"] > 2.4
    assert first.numbers["other_seeds"] == pytest.approx(first.numbers["loss"], rel=1e-4) and "lower than" in first.message


def test_kaiming_heads_are_none(seeds: int = 3) -> None:
    """A last layer with He's own scale is 14 times the built-in one's: usual elsewhere, so no error even where the loss starts high."""
    plug("model", "big", big)
    for seed in range(seeds):
        first = found("dataset=moons", "model=big", "model.factor=14.1", f"seed={seed}")["init_loss"]
        assert first.level in ("ok", "info", "warning"), first
        assert first_loud(found("dataset=digits", "model=big", "model.factor=5.8", f"seed={seed}")) == ""


def test_scaled_outputs_are_found_as_well() -> None:
    plug("model", "times", times)
    assert found("dataset=moons", "model=times")["init_loss"].level == "error"


def test_the_first_loss_beside_ln_c() -> None:
    for dataset, classes in (("moons", 2), ("digits", 10)):
        first = found(f"dataset={dataset}")["init_loss"]
        assert first.level == "ok" and f"(ln {classes})" in first.message
        assert first.numbers["loss"] == pytest.approx(math.log(classes), abs=0.05)


def test_a_loss_that_is_no_number_from_the_start() -> None:
    plug("loss", "root", lambda out, y: (out.mean(1) * 0 - 1).sqrt().mean())
    first = found(*CLOUDS, "loss=root")["init_loss"]
    assert first.level == "error" and "nan" in first.message


TEMPERATURES = {0.01: "multiplies logits by 100", 100.0: "divides logits by 100"}


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_temperature_inside_the_loss(temperature: float) -> None:
    plug("loss", "hot", lambda out, y: F.cross_entropy(out / temperature, y))
    first = found(*CLOUDS, "loss=hot")["init_loss"]
    assert first.level == "warning" and TEMPERATURES[temperature] in first.message and "temperature" in first.cause


def test_cosines_need_a_factor() -> None:
    class Cosine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.weight = nn.Linear(8, 16), nn.Parameter(torch.randn(4, 16))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.normalize(self.body(x), dim=1), F.normalize(self.weight, dim=1))

    plug("model", "cosine", Cosine)
    plug("loss", "hot", lambda out, y: F.cross_entropy(out * 30, y))
    assert first_loud(found(*CLOUDS, "loss=hot", "model=cosine")) == ""


NEGATED = {
    "classes": ("clouds", "ce_gradient_signature", lambda out, y: -F.cross_entropy(out, y)),
    "quantities": ("near_targets", "loss_direction", lambda out, y: -(out.squeeze(-1) - y).square().mean()),
    "labels": ("several_labels", "loss_direction", lambda out, y: -F.binary_cross_entropy_with_logits(out, y)),
}


@pytest.mark.parametrize("case", NEGATED)
def test_a_negated_loss(case: str) -> None:
    dataset, check, loss = NEGATED[case]
    plug("loss", "negated", loss)
    model = ["model=flat"] if case == "quantities" else []
    findings = found(f"dataset={dataset}", "task=supervised", "loss=negated", *model)
    assert first_loud(findings) == check
    assert findings[check].level == "error" and "sign" in findings[check].cause
