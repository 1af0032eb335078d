"""A constant learning rate.

Source: Robbins, Monro 1951, "A Stochastic Approximation Method", which asks for a falling rate; the constant one is the baseline that
every schedule has to beat.
"""

from __future__ import annotations


def constant(step: int, steps: int) -> float:
    """1 at every step."""
    return 1.0
