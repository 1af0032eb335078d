"""Rows that are equal or lie close: sums of rows, random projections, nearest rows.

Source: W. Johnson, J. Lindenstrauss, Extensions of Lipschitz mappings into a Hilbert space, 1984, lemma 1 (projections keep distances).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

PROJECTED, CHUNK = 32, 512


def row_sums(tensors: Sequence[Tensor]) -> list[bytes]:
    """A sum of 128 bits over the bytes of each row of all `tensors` ([N, ...] each): equal sums are equal rows."""
    plain = [tensor.detach().cpu().contiguous() for tensor in tensors]
    tables = [tensor.reshape(len(tensor), -1).numpy().view(np.uint8).reshape(len(tensor), -1) for tensor in plain if tensor.numel()]
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in np.concatenate(tables, 1)] if tables else []


def first_of(sums: Sequence[bytes]) -> dict[bytes, int]:
    """Each sum -> the first row that has it."""
    return {key: row for row, key in reversed(list(enumerate(sums)))}


def projection(width: int, device: torch.device | str = "cpu") -> Tensor | None:
    """A fixed matrix [width, 32] that keeps distances to about a factor of 1.5; None where rows are that short already."""
    if width <= PROJECTED:
        return None
    drawn: Tensor = torch.randn(width, PROJECTED, generator=torch.Generator().manual_seed(0))
    scaled: Tensor = drawn.to(device) / PROJECTED**0.5
    return scaled


def nearest(queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query [Q, D] the squared distance to the nearest of `rows` [N, D], and which that is."""
    squares, found = rows.square().sum(1), []
    for chunk in queries.split(CHUNK):
        found.append(torch.addmm(squares, chunk, rows.T, alpha=-2).min(1))
    near = torch.cat([pair.values for pair in found]) + queries.square().sum(1)
    return near.clamp(min=0), torch.cat([pair.indices for pair in found])
