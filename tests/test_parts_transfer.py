"""The parts of experiment lr_transfer: steps and weights of a spectral norm that is the same at every width."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from parts import model, options
from torch import nn

from dlrun.functional.spectral import spectral_norm
from dlrun.optimizers.sign_sgd import sign_sgd


def largest(matrix: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.detach().double(), 2))


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (1, 7), (30, 30)])
def test_power_iteration_finds_the_largest_singular_value(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(spectral_norm(matrix, 400)) == pytest.approx(largest(matrix), rel=1e-6)
    assert float(spectral_norm(torch.zeros(shape), 3)) == 0
    u, v = torch.randn(shape[0]), torch.randn(shape[1])
    assert float(spectral_norm(torch.outer(u, v), 1)) == pytest.approx(float(u.norm() * v.norm()), rel=1e-5)


@pytest.mark.parametrize("shape", [(64, 784), (256, 256), (10, 512)])
def test_a_spectral_step_has_the_norm_it_says_whatever_the_width(shape: tuple[int, int]) -> None:
    """Signs of a gradient of low rank, as those of a batch are; vectors move by the rate as ever."""
    draw = torch.Generator().manual_seed(1)
    weight, bias = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape[0]))
    words = options("optimizer", "sign_sgd", lr=0.25, momentum=0.0, spectral=8.0)
    optimizer = sign_sgd([("weight", weight), ("bias", bias)], **words)
    weight.grad = torch.randn(shape[0], 3, generator=draw) @ torch.randn(3, shape[1], generator=draw)
    bias.grad = torch.randn(shape[0], generator=draw)
    signs = weight.grad.sign()
    optimizer.step()
    assert largest(weight) == pytest.approx(0.25 * 8 * sqrt(shape[0] / shape[1]), rel=0.05)
    assert torch.equal(weight.detach().sign(), -signs) and float(weight.detach().abs().std()) < 1e-6
    assert torch.equal(bias.detach().abs(), torch.full_like(bias, 0.25))


def test_without_it_nothing_has_changed_and_a_matrix_without_gradient_stays() -> None:
    weight = nn.Parameter(torch.zeros(3, 4))
    optimizer = sign_sgd([("weight", weight)], **options("optimizer", "sign_sgd", lr=0.5, spectral=2.0))
    weight.grad = torch.zeros(3, 4)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.zeros(3, 4))
    assert "spectral" not in sign_sgd([("weight", weight)], **options("optimizer", "sign_sgd")).param_groups[0]


def test_matrices_begin_with_equal_singular_values_and_rows_keep_their_size() -> None:
    net = model("orthogonal_mlp", (1, 28, 28), (10,), width=512, depth=3)
    for layer in (part for part in net.modules() if isinstance(part, nn.Linear)):  # type: ignore[union-attr]
        values = torch.linalg.svdvals(layer.weight.detach().double())
        assert layer.bias is None
        assert torch.allclose(values, torch.full_like(values, sqrt(layer.out_features / layer.in_features)), rtol=1e-4)
    x = torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for part in list(net)[:-1]:  # type: ignore[call-overload]
        x = part(x)
    assert float(x.detach().square().mean()) == pytest.approx(1, abs=0.35)
