"""A constant learning rate.

Source: Robbins, Monro 1951 ask for a falling rate; a constant one is the baseline that every schedule has to beat.
"""

from __future__ import annotations


def constant() -> float:
    """1 at every step."""
    return 1.0
