"""Evaluation: every row of a split once, networks in eval mode, without gradients, under noise keyed by its place.

Restores each module's own train/eval flag, so evaluating changes nothing (a frozen batch norm stays frozen).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dlrun.noise import Noise, hash32, seed_generators
from dlrun.run import Run

ROWS = 512
"""Rows of an evaluation batch."""


@contextmanager
def evaluating(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """All `modules` in eval mode and without gradients; every submodule's flag is put back afterwards."""
    flags = [(part, part.training) for module in modules.values() for part in module.modules()]
    for module in modules.values():
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in flags:
            part.training = training


def evaluate(run: Run, modules: Mapping[str, nn.Module], split: str, step: int) -> dict[str, float]:
    """The metrics of `split`, exact over unequal batches; {} where the task has none.

    Where the loss couples the rows of a batch, batches are as large as in training: a loss over more of them would be another one.
    """
    rows = run.data.batch_size if run.task.couples_rows else ROWS
    nets = run.networks(modules)
    totals: dict[str, Any] = {}
    with evaluating(modules):
        for number, batch in enumerate(run.data.evaluation(split, rows)):
            noise = Noise(run.seed, step, split, number, "eval")
            seed_generators(*noise.key)
            with run.precision.autocast():
                means: Mapping[str, Any] = run.task.evaluate(nets, run.task.prepare(batch, noise))
            for name, value in means.items():
                totals[name] = totals[name] + value if name in totals else value
    return {name: float(total.value()) for name, total in totals.items()}


def look(run: Run, modules: Mapping[str, nn.Module], split: str, rows: int = 512) -> Mapping[str, Any]:
    """What the task shows of itself on the first rows of `split`."""
    with evaluating(modules):
        batch = run.data.head(split, rows)
        noise = Noise(run.seed, hash32("look"), split, 0, "look")
        seed_generators(*noise.key)
        return run.task.look(run.networks(modules), run.task.prepare(batch, noise))
