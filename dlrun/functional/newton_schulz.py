"""Orthogonalisation by matrix products alone: every singular value of a matrix is driven towards 1, its singular vectors stay.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (the quintic iteration and its coefficients, equal to
torch.optim.Muon's); Bernstein, Newhouse 2024, "Old Optimizer, New Norm: An Anthology", section 3 (steepest descent in the spectral norm).
"""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonalised(
    matrix: Tensor, *, steps: int, coefficients: tuple[float, float, float], eps: float, dtype: torch.dtype | None = torch.bfloat16
) -> Tensor:
    """[R, C] -> about U V^T of its singular value decomposition, in `dtype` (None: the matrix's own).

    A step maps each singular value s to a s + b s^3 + c s^5, from s / Frobenius norm on (at least `eps`, so zeros stay zero). With the
    usual coefficients five steps take every s above a hundredth of the norm into [0.68, 1.14]: steep at zero, never settling at 1.
    """
    a, b, c = coefficients
    x = matrix if dtype is None else matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x  # the smaller of both Gram matrices
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
