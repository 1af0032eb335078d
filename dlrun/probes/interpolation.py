"""Loss and metrics along the straight line between the weights of two runs, the barrier on it, and the average of the two.

Source: Frankle, Dziugaite, Roy, Carbin 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", section 2 (error barrier);
batch norm statistics taken anew at every point: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima", section 3.2.
"""

from __future__ import annotations

from typing import Literal

from dlrun.probes._weights import alike, directions, mixture, refresh
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import Look


def interpolation(
    first: Trained, second: Trained, *, points: Count, split: Literal["train", "val", "test"], statistics_rows: Count | None
) -> tuple[dict[str, float], dict[str, Look]]:
    """For the loss and every metric m with a direction, at weights (1 - t) first + t second, t = 0 .. 1:

    m_first, m_second (the ends), m_midpoint, m_midpoint_minus_ends (midpoint less the mean of the ends), m_barrier (the most by which the
    path is worse than the straight line between the ends' values, >= 0), m_barrier_at (its t), and m_at_T, the value at every t. Raises
    ValueError for an even number of points, runs of different networks, or runs on different data.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points={points}: an odd number from 3 on, so that the midpoint is one of them")
    alike((first, second))
    shares = [i / (points - 1) for i in range(points)]
    curves: dict[str, list[float]] = {}
    for t in shares:
        modules = mixture((first, second), (1 - t, t))
        if statistics_rows is not None:
            refresh(first, modules, statistics_rows)
        for name, value in first.evaluate(split, modules).items():
            curves.setdefault(name, []).append(value)
    numbers: dict[str, float] = {}
    known = {name: sign for name, sign in directions(first).items() if name in curves}
    for name, sign in known.items():
        numbers |= {f"{name}_{key}": value for key, value in along(shares, curves[name], sign).items()}
        numbers |= {f"{name}_at_{t:g}": value for t, value in zip(shares, curves[name])}
    looks = {
        name: Look(
            "lines", {name: (shares, curves[name]), "xlabel": "share of the second run", "ylabel": f"{split} {name}"}, "between two runs"
        )
        for name in known
    }
    return numbers, looks


def along(shares: list[float], values: list[float], sign: int) -> dict[str, float]:
    """Ends, midpoint and barrier of values on a path; sign +1 where more is better."""
    low, high, middle = values[0], values[-1], values[len(values) // 2]
    worse = [sign * ((1 - t) * low + t * high - value) for t, value in zip(shares, values)]
    worse[0] = worse[-1] = 0.0  # the ends lie on their own line, whatever rounding says
    highest = next((i for i, gap in enumerate(worse) if gap != gap), max(range(len(worse)), key=worse.__getitem__))
    return {
        "first": low,
        "second": high,
        "midpoint": middle,
        "midpoint_minus_ends": middle - (low + high) / 2,
        "barrier": worse[highest],
        "barrier_at": shares[highest],
    }
