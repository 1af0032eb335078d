"""What kind of learning a set-up is, where its user does not say: from the shapes of inputs, targets and outputs, never from names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

SHIFTED = 0.95
"""Share of targets equal to the next input above which a sequence task is a language model."""


def kind_of(said: str, inferred: bool, x: Any, y: Any, out: Any) -> str:
    """The kind of a task that calls itself `said`; where that was inferred from data and loss, outputs may tell more.

    A VAE gives (reconstruction like x, mu, logvar, ...) without targets, a graph task reads features with a square matrix beside them,
    a language model's targets are its inputs, one place on.
    """
    if not inferred:
        return said
    if is_variational(x, out):
        return "vae"
    if said != "graph" and has_adjacency(x):
        return "graph"
    if is_tokens(x) and isinstance(y, Tensor) and y.shape == x.shape and not y.is_floating_point():
        return "language_model" if said == "language_model" or _next(x, y) else "sequence"
    return said


def is_tokens(x: Any) -> bool:
    """Whether x is rows of integers [B, T]."""
    return isinstance(x, Tensor) and x.dim() == 2 and not x.is_floating_point() and x.dtype.itemsize > 1


def is_variational(x: Any, out: Any) -> bool:
    """Whether outputs are (reconstruction as large as x, mu, logvar, ...)."""
    if not isinstance(out, (tuple, list)) or len(out) < 3 or not isinstance(x, Tensor) or not all(isinstance(t, Tensor) for t in out[:3]):
        return False
    back, mu, logvar = out[:3]
    return back.numel() == x.numel() and mu.shape == logvar.shape and mu.dim() == 2 and len(mu) == len(x)


def has_adjacency(x: Any) -> bool:
    """Whether x holds features [B, N, F] and a matrix [B, N, N] between the same N."""
    parts = list(x.values()) if isinstance(x, Mapping) else list(x) if isinstance(x, (tuple, list)) else []
    parts = [part for part in parts if isinstance(part, Tensor) and part.dim() == 3]
    square = [part for part in parts if part.shape[1] == part.shape[2]]
    return len(parts) >= 2 and any(part.shape[1] == matrix.shape[1] for matrix in square for part in parts if part is not matrix)


def _next(x: Tensor, y: Tensor) -> bool:
    return x.shape[1] > 1 and float((y[:, :-1] == x[:, 1:]).float().mean()) > SHIFTED
