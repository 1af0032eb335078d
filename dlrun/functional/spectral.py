"""The largest singular value of a matrix, by power iteration.

Source: Golub, Van Loan 2013, "Matrix Computations", section 7.3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spectral_norm(matrix: Tensor, iterations: int) -> Tensor:
    """[R, C] -> its largest singular value, from below; a fixed start, so that equal matrices give equal numbers. 0 for zeros."""
    v = torch.arange(1, matrix.shape[1] + 1, device=matrix.device).to(matrix.dtype).mul(2.4).cos()  # of no particular direction
    for _ in range(iterations):
        v = matrix.mT @ (matrix @ (v / v.norm().clamp(min=torch.finfo(v.dtype).tiny)))
    found: Tensor = (matrix @ (v / v.norm().clamp(min=torch.finfo(v.dtype).tiny))).norm()
    return found
