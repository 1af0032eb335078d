"""The variational autoencoder: its KL against a closed form, its bound against an exact likelihood, and what its two measures count."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest
import torch
from parts import CLASSES, POINTS, batch_for, bound, options
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dlrun import registry
from dlrun.batch import Batch
from dlrun.checks import Subject
from dlrun.config import compose
from dlrun.errors import MissingError, UsageError
from dlrun.noise import Noise
from dlrun.tasks.vae import vae
from dlrun.train import build_run
from dlrun.types import DataSpec, Mean, Networks

GAUSSIAN = DataSpec(in_shape=(3,), kind="other")


def made(loss: str = "mse", spec: DataSpec = GAUSSIAN, **changed: object) -> vae:
    task = vae(**options("task", "vae", **changed))
    task.bind(spec, bound("loss", loss), {})
    return task


def test_kl_is_that_of_torch_distributions() -> None:
    mu, logvar, x = torch.randn(40, 5), torch.randn(40, 5), torch.randn(40, 3)
    _, terms = made().loss((x, mu, logvar), Batch({"x": x, "y": x}))
    known = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert torch.allclose(terms["kl"], known, rtol=1e-5) and terms["reconstruction"] == 0
    zero = torch.zeros(40, 5)
    assert made().loss((x, zero + 1, zero), Batch({"y": x}))[1]["kl"] == 2.5


def test_the_loss_is_the_bound_and_tight_at_the_exact_posterior() -> None:
    """x = W z + noise of variance 1/2: the posterior is Gaussian, and with it the loss is -ln p(x) up to the likelihood's constant."""
    W = torch.tensor([[1.0], [0.5], [-2.0]], dtype=torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64)
    precision = float(1 + 2 * (W.T @ W))
    mean = 2 * x @ W / precision
    nodes, weights = torch.randn(200_000, 1, dtype=torch.float64), 200_000
    z = mean[:, None] + nodes / math.sqrt(precision)
    task = made(latent=1)
    logvar = torch.full_like(mean, -math.log(precision))
    each = [
        task.loss((z[row] @ W.T, mean[row : row + 1], logvar[row : row + 1]), Batch({"y": x[row].expand(weights, 3)}))[0]
        for row in range(7)
    ]
    exact = -MultivariateNormal(torch.zeros(3, dtype=torch.float64), W @ W.T + 0.5 * torch.eye(3, dtype=torch.float64)).log_prob(x)
    assert torch.allclose(torch.stack(each) + 1.5 * math.log(math.pi), exact, atol=0.02)


def test_mean_divides_the_reconstruction_by_the_numbers_of_a_row_and_weight_multiplies_it() -> None:
    x, out = torch.randn(9, 3), (torch.randn(9, 3), torch.randn(9, 2), torch.randn(9, 2))
    batch = Batch({"y": x})
    total, terms = made().loss(out, batch)
    assert torch.allclose(terms["reconstruction"], (out[0] - x).square().sum(1).mean())
    averaged, parts = made(reduction="mean", weight=3.0).loss(out, batch)
    assert torch.allclose(averaged, total, rtol=1e-5) and torch.allclose(parts["reconstruction"] * 3, terms["reconstruction"])


class Codes(nn.Module):
    """mu is the row's first numbers, sigma is e."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((x[:, :2], torch.full_like(x[:, :2], 2.0)), 1)


class Still(nn.Module):
    """Always the same row."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.register_buffer("row", row)

    def forward(self, z: Tensor) -> Tensor:
        row: Tensor = self.row  # type: ignore[assignment]
        return row.expand(len(z), -1)


def test_active_units_and_share_of_variance_add_up_over_unequal_batches() -> None:
    x = torch.randn(90, 3) * torch.tensor([1.0, 0.05, 2.0]) + 4
    task = made(latent=2)
    nets = Networks({"encoder": Codes(), "decoder": Still(x.mean(0))})
    found: dict[str, Mean] = {}
    for rows in (x[:50], x[50:]):
        batch = task.prepare(Batch({"x": rows}), Noise(0, 0))
        new = {name: value for name, value in task.evaluate(nets, batch).items() if isinstance(value, Mean)}
        found = {name: found[name] + value if name in found else value for name, value in new.items()}
    assert found["active_units"].value() == 1  # variances 1 and 0.0025
    assert found["explained"].value() == pytest.approx(0, abs=1e-9)
    half = Networks({"encoder": Codes(), "decoder": Still(x.mean(0) + x.var(0, correction=0).sqrt())})
    again = task.evaluate(half, task.prepare(Batch({"x": x}), Noise(0, 0)))["explained"].value()
    assert again == pytest.approx(-1, abs=1e-5)  # errors of twice the variance


def test_pictures_are_made_again_in_zero_to_one_whatever_the_network_gets() -> None:
    spec = replace(CLASSES, mean=(0.3,), std=(0.25,))
    pixels = torch.rand(4, *CLASSES.in_shape)
    batch = made(spec=spec).prepare(Batch({"x": (pixels - 0.3) / 0.25}), Noise(0, 0))
    assert torch.allclose(batch["y"], pixels, atol=1e-6)


def test_draws_are_the_rows_own_and_repeatable() -> None:
    batch = batch_for(POINTS, 6)
    one, same, other = (made(spec=POINTS).prepare(batch, Noise(0, step))["noise"] for step in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == (6, 16)
    with pytest.raises(UsageError, match="rows of numbers"):
        made().networks(DataSpec(in_shape=(4,), vocab=9))


@pytest.mark.real
def test_the_experiments_theory_and_the_check_that_foretells_the_collapse(absent: Callable[[str], NoReturn]) -> None:
    """Directions of Fashion-MNIST whose variance exceeds 784 / (2 weight): what the experiment's head says."""
    try:
        run = build_run(compose(["experiment=vae_fashion", "arm=one", "log.wandb.mode=disabled"]))
    except MissingError:
        absent("Fashion-MNIST")
    rows = run.data.raw("train").take(torch.arange(55000))["x"]
    assert isinstance(rows, Tensor)
    values = torch.linalg.eigvalsh(torch.cov((rows.flatten(1).float() / 255).T))
    assert [int((values > 784 / (2 * weight)).sum()) for weight in (1, 10, 100, 784)] == [0, 0, 3, 13]
    largest = values.flip(0)
    assert [round(float((largest[:n].sum() - n * 784 / (2 * w)) / values.sum()), 2) for n, w in ((3, 100), (13, 784))] == [0.36, 0.65]
    finding = Subject(run).judge("loss_terms", registry.get("check", "loss_terms"))
    assert finding.level == "warning" and "collapse" in finding.message
