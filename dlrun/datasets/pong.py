"""Rallies of Pong: each row is a serve, the opponent's answer and where the player's paddle stands; the rest is played.

Source: Alcorn 1972, the game; its rules are in `functional/pong.py`.
"""

from __future__ import annotations

import numpy as np
import torch

from dlrun.functional.pong import SERVE
from dlrun.ranges import Count, Seed
from dlrun.types import DataSpec, Splits


def pong(*, n: Count, rallies: Count, seed: Seed) -> Splits:
    """x float32 [4]: the height of the serve in 0..1, slopes of the ball out and back in -1.5..1.5 courts per flight, and the place of
    the player's paddle in 0..1, all uniform. n train rows, `rallies` in val and in test.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    low, high = zip(*SERVE, strict=True)
    train, val, test = ({"x": torch.from_numpy(draw.uniform(low, high, (rows, len(SERVE)))).float()} for rows in (n, rallies, rallies))
    spec = DataSpec(
        in_shape=(len(SERVE),),
        out_shape=(len(SERVE),),
        kind="other",
        split_rule=f"{n} / {rallies} / {rallies} rallies, drawn with dataset seed {seed}",
        source="drawn",
        notes=("data: rows are rallies of Pong, a serve and its return; frames come from playing",),
    )
    return Splits(train, val, test, spec)
