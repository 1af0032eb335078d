"""Families of regressions: each row is a sine of its own amplitude and phase, known at a few points, asked at others.

Source: Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dlrun.ranges import Count, Positive, Seed
from dlrun.types import DataSpec, Splits

AMPLITUDES, PHASES, POINTS = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


def _tasks(n: int, support: int, query: int, unit: float, draw: np.random.Generator) -> dict[str, Tensor]:
    amplitude, phase = draw.uniform(*AMPLITUDES, (n, 1, 1)), draw.uniform(*PHASES, (n, 1, 1))
    points = draw.uniform(*POINTS, (n, support + query, 1))
    x, y = (torch.from_numpy(values).float() for values in (points / unit, amplitude * np.sin(points - phase)))
    return {"support_x": x[:, :support], "support_y": y[:, :support], "query_x": x[:, support:], "query_y": y[:, support:]}


def sine_tasks(*, n: Count, support: Count, query: Count, unit: Positive, seed: Seed) -> Splits:
    """Rows are tasks y = A sin(unit x - phi), float32: support_x, support_y [support, 1] to adapt to, query_x, query_y [query, 1] asked.

    A uniform in 0.1..5, phi in 0..pi, unit x in -5..5. n train tasks, a twentieth as many in val and in test; ValueError below 20.
    """
    if n < 20:
        raise ValueError(f"n is {n}: expected at least 20 tasks, a twentieth as many go to val and to test")
    draw = np.random.Generator(np.random.PCG64(seed))
    splits = [_tasks(rows, support, query, unit, draw) for rows in (n, n // 20, n // 20)]
    spec = DataSpec(
        in_shape=(1,),
        out_shape=(1,),
        kind="other",
        split_rule=f"{n} / {n // 20} / {n // 20} tasks, drawn with dataset seed {seed}",
        source="drawn",
        notes=(f"data: rows are tasks, a sine known at {support} points and asked at {query}",),
    )
    return Splits(splits[0], splits[1], splits[2], spec)
