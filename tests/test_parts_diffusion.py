"""Diffusion: the noise it adds, the rows it makes where the best prediction is known, and the distance they are measured by."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from parts import CLASSES, POINTS, batch_for, bound, metric, options
from torch import Tensor

from dlrun.batch import Batch
from dlrun.config import defaults
from dlrun.datasets.moons import moons
from dlrun.errors import UsageError
from dlrun.metrics.energy_distance import energy_distance
from dlrun.noise import Noise, seed_generators
from dlrun.tasks.diffusion import betas, diffusion
from dlrun.types import DataSpec, Networks

NONE = Networks({})


def made(spec: DataSpec = POINTS, **changed: Any) -> diffusion:
    task = diffusion(**options("task", "diffusion", **changed))
    task.bind(spec, bound("loss", "mse"), {"energy_distance": metric("energy_distance")})
    return task


def test_linear_variances_are_hos_and_the_cosine_is_nichols() -> None:
    linear = betas(1000, "linear")
    assert linear[0] == 1e-4 and linear[-1] == 0.02
    assert float((1 - linear).prod()) == pytest.approx(4.04e-5, rel=0.01)  # Ho et al. 2020, section 4: L_T is about 1e-5 bits a dimension
    left = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    assert torch.allclose(made().alpha_bar[:-1], torch.tensor(left[1:-1], dtype=torch.float64) / left[0], rtol=1e-12)
    assert betas(100, "cosine")[-1] == 0.999


def test_noised_rows_have_the_marginals_mean_and_variance() -> None:
    task, x = made(), torch.full((200_000, 1), 3.0)
    for t in (1, 40, 100):
        abar = float(task.alpha_bar[t - 1])
        found = task.noised(x, torch.full((len(x),), t), torch.randn(x.shape))
        assert float(found.mean()) == pytest.approx(3 * math.sqrt(abar), abs=0.01)
        assert float(found.var()) == pytest.approx(1 - abar, rel=0.02)


def test_one_step_back_has_the_posteriors_mean_and_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """For data that is one row the posterior q(x_t-1 | x_t, x_0) is what is drawn from (eq. 7)."""
    task, seen = made(timesteps=2, schedule="linear"), []
    c, (b1, b2) = 0.7, task.beta.tolist()
    abar = task.alpha_bar.tolist()

    def predicted(nets: Any, x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        at = abar[int(t[0]) - 1]
        return (x - math.sqrt(at) * c) / math.sqrt(1 - at)

    monkeypatch.setattr(task, "predicted", predicted)
    out = task.sample(NONE, torch.zeros(100_000, 1))
    at_2, at_1 = seen
    mean = (math.sqrt(abar[0]) * b2 * c + math.sqrt(1 - b2) * (1 - abar[0]) * at_2) / (1 - abar[1])
    assert float((at_1 - mean).mean()) == pytest.approx(0, abs=0.003)
    assert float((at_1 - mean).var()) == pytest.approx(b2 * (1 - abar[0]) / (1 - abar[1]), rel=0.02)
    assert torch.allclose(out, torch.full_like(out, c), atol=1e-4) and b1 == task.beta[0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_best_denoiser_of_a_gaussian_draws_that_gaussian(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, std = made(timesteps=500, schedule=schedule), 0.5

    def predicted(nets: Any, x: Tensor, t: Tensor) -> Tensor:
        abar = float(task.alpha_bar[int(t[0]) - 1])
        return math.sqrt(1 - abar) * x / (abar * std**2 + 1 - abar)

    monkeypatch.setattr(task, "predicted", predicted)
    torch.manual_seed(0)
    found = task.sample(NONE, torch.zeros(50_000, 1))
    assert float(found.std()) == pytest.approx(std, rel=0.03) and abs(float(found.mean())) < 0.01


def test_the_network_is_told_the_time_and_asked_for_the_noise() -> None:
    task, told = made(time=4), []

    class Heard(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            told.append(x)
            return x[:, :2]

    batch = task.prepare(Batch({"x": torch.randn(6, 2), "y": torch.arange(6)}), Noise(0, 0))
    loss = task.loss(task.outputs(Networks({"model": Heard()}), batch), batch)
    assert told[0].shape == (6, 6) and torch.equal(told[0][:, :2], batch["x"])
    assert torch.allclose(told[0][:, 2], batch["t"].sin()) and torch.allclose(told[0][:, 5], (batch["t"] / 100).cos())
    assert torch.allclose(loss, (batch["x"] - batch["y"]).square().mean()) and isinstance(loss, Tensor)
    assert torch.allclose(task.noised(batch["real"][:, :2], batch["t"], batch["y"]), batch["x"])
    images = made(CLASSES).networks(CLASSES)["model"]
    assert images.in_shape == (CLASSES.in_shape[0] + 32, *CLASSES.in_shape[1:]) and images.out_shape == CLASSES.in_shape


def test_samples_of_an_evaluation_repeat_under_its_key() -> None:
    task, net = made(timesteps=5), torch.nn.Linear(34, 2)
    values = []
    for key in (1, 1, 2):
        seed_generators(0, key)
        batch = task.prepare(batch_for(POINTS, 40), Noise(0, 1))
        with torch.no_grad():
            values.append(task.evaluate(Networks({"model": net}), batch)["energy_distance"].value())
    assert values[0] == values[1] != values[2]


def test_what_it_cannot_learn_is_refused() -> None:
    with pytest.raises(UsageError, match="even number"):
        made(time=3)
    with pytest.raises(UsageError, match="vectors or images"):
        made().networks(DataSpec(in_shape=(4,), vocab=9))
    with pytest.raises(UsageError, match="rows x of numbers"):
        made().prepare(Batch({"tokens": torch.zeros(3, 2)}), Noise(0, 0))


def test_energy_distance_of_two_gaussians_is_that_in_closed_form_and_has_no_bias() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4000, 1, generator=draw) + shift for shift in (0.0, 2.0))
    apart = math.sqrt(2) * (math.sqrt(2 / math.pi) * math.exp(-1) + math.sqrt(2) * math.erf(1))  # E|N(2, 2)|
    assert float(energy_distance(x, y)) == pytest.approx(2 * apart - 4 / math.sqrt(math.pi), abs=0.1)
    same = [float(energy_distance(*torch.randn(2, 20, 3, generator=draw))) for _ in range(400)]
    assert abs(sum(same) / len(same)) < 0.02 and min(same) < 0
    labelled = torch.cat((y, torch.ones_like(y)), 1)
    assert torch.equal(energy_distance(x, labelled), energy_distance(x, y)) and energy_distance(x[:1], y).isnan()


def test_the_gaussian_that_the_experiment_is_compared_with() -> None:
    words = {name: value for name, value in defaults("dataset/moons").items() if name != "name"}
    made = moons(**{**words, "n": 20000})
    (x, _), (held, _) = made.train, made.test
    torch.manual_seed(0)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    found = [float(energy_distance(gaussian.sample((4000,)), held)) for _ in range(5)]
    assert sum(found) / 5 == pytest.approx(0.0147, abs=0.002)
