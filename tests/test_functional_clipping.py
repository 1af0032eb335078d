"""Clipping by norm: torch's numbers bit for bit, whatever the gradients are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dlrun.functional.clipping import clip_norm


class Marked(Tensor):
    """A kind of tensor that kernels over many do not know."""


def parameters(*gradients: Tensor | None) -> list[nn.Parameter]:
    found = [nn.Parameter(torch.zeros_like(torch.zeros(3) if gradient is None else gradient)) for gradient in gradients]
    for parameter, gradient in zip(found, gradients, strict=True):
        parameter.grad = gradient
    return found


DRAWN = torch.Generator().manual_seed(0)
CASES = {
    "several": [torch.randn(32, 784, generator=DRAWN), torch.randn(32, generator=DRAWN), torch.randn((), generator=DRAWN)],
    "some without": [None, torch.randn(5, generator=DRAWN), None],
    "two dtypes": [torch.randn(7, generator=DRAWN), torch.randn(7, generator=DRAWN).double()],
    "half precision": [torch.randn(64, generator=DRAWN).bfloat16()],
    "strided": [torch.randn(6, 4, generator=DRAWN).T],
    "a subclass": [torch.randn(4, generator=DRAWN).as_subclass(Marked)],
    "nothing": [None],
    "zeros": [torch.zeros(4)],
    "not finite": [torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])],
}


def fresh(case: str) -> list[Tensor | None]:
    return [None if gradient is None else gradient.clone() for gradient in CASES[case]]


@pytest.mark.parametrize("limit", [0.1, 1, 1e9])
@pytest.mark.parametrize("case", CASES)
def test_the_bits_are_those_of_torch(case: str, limit: float) -> None:
    ours, theirs = parameters(*fresh(case)), parameters(*fresh(case))
    norm, expected = clip_norm(ours, limit), nn.utils.clip_grad_norm_(theirs, limit)
    assert norm.dtype == expected.dtype and norm.shape == expected.shape
    assert torch.equal(torch.nan_to_num(norm), torch.nan_to_num(expected)) and norm.isnan() == expected.isnan()
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None and other.grad is not None:
            assert torch.equal(mine.grad.nan_to_num(), other.grad.nan_to_num()) and mine.grad.stride() == other.grad.stride()


def test_the_norm_is_at_most_the_limit_and_smaller_ones_stay() -> None:
    long = parameters(torch.tensor([3.0, 4.0]))
    assert clip_norm(long, 1.0).item() == 5.0
    torch.testing.assert_close(long[0].grad, torch.tensor([0.6, 0.8]))
    short = parameters(torch.tensor([0.3, 0.4]))
    clip_norm(short, 1.0)
    assert short[0].grad.tolist() == torch.tensor([0.3, 0.4]).tolist()  # type: ignore[union-attr]
