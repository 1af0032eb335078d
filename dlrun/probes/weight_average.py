"""The mean of several runs' weights as one network, beside the runs themselves.

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference
time", section 2 (uniform soup); statistics of batch norms: Izmailov et al. 2018, section 3.2.
"""

from __future__ import annotations

from typing import Literal

from dlrun.probes._weights import alike, directions, mixture, refresh
from dlrun.ranges import Count
from dlrun.trained import Trained


def weight_average(runs: list[Trained], *, split: Literal["train", "val", "test"], statistics_rows: Count | None) -> dict[str, float]:
    """For the loss and every metric m with a direction: m (of the average), m_mean, m_best (of the runs), m_gain (average less m_mean).

    Raises ValueError for fewer than two runs, different networks, or different data.
    """
    if len(runs) < 2:
        raise ValueError("an average of one run is that run: name two or more")
    alike(runs)
    networks = [mixture(runs, [1 / len(runs)] * len(runs)), *(mixture([run], [1.0]) for run in runs)]
    if statistics_rows is not None:
        for modules in networks:
            refresh(runs[0], modules, statistics_rows)  # those of the runs themselves too: like is compared with like
    averaged, *single = (runs[0].evaluate(split, modules) for modules in networks)
    numbers: dict[str, float] = {}
    for name, sign in directions(runs[0]).items():
        if name not in averaged:
            continue
        values = [found[name] for found in single]
        mean = sum(values) / len(values)
        best = max(values) if sign > 0 else min(values)
        numbers |= {name: averaged[name], f"{name}_mean": mean, f"{name}_best": best, f"{name}_gain": averaged[name] - mean}
    return numbers
