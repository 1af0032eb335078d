"""P5 to P7: what a user waits for before anything happens, against the bare cost of Python, of Hydra and of torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from measure import PYTHON, Promise, Result, Sample, compare, dlrun, milliseconds, results

P5 = Promise("P5", 5, 3, at_least=False)
P6 = Promise("P6", 2, 1.3, at_least=False)
P7 = Promise("P7", 1.5, 1.0, at_least=False)
P7_MORE = Promise("P7", 1.0, 0.5, at_least=False)
"""Seconds that the fast checks, or W&B, may add."""

REPEAT = 5  # a start takes milliseconds: add up several


def _mean(command: Sequence[str], number: int, expect: int = 0) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        samples = [milliseconds(command, expect, Path(folder)) for _ in range(number)]
    return {unit: fmean(sample[unit] for sample in samples) for unit in samples[0]}


def _against(promise: Promise, words: Sequence[str], python: str, rounds: int, number: int, expect: int = 0) -> Iterator[Result]:
    """`dlrun WORDS` over `python -c PYTHON`, the mean of `number` starts of each in turn."""
    sides = (lambda: _mean([*dlrun(), *words], number, expect), lambda: _mean([PYTHON, "-c", python], number))
    return compare(promise, f"dlrun {' '.join(words)} / python -c '{python}'", sides, rounds)


def light_commands(rounds: int) -> Iterator[Result]:
    """P5: commands that only look, over `python -c pass`."""
    for words in (["--help"], ["ls"], ["ls", "model"], ["show", "model/mlp"]):
        yield from _against(P5, words, "pass", rounds, REPEAT)


def mistyped_key(rounds: int) -> Iterator[Result]:
    """P6: a mistyped key to its message, over `import hydra`."""
    yield from _against(P6, ["train", "optimizer.lrr=0.1"], "import hydra", rounds, 2, expect=2)


ONE_STEP = ["train", "train.steps=1", "checks=none", "log.wandb.mode=disabled"]


def one_step(rounds: int) -> Iterator[Result]:
    """P7: a whole process that trains one step on data that is there, over `import torch`; then what checks and W&B add to it."""
    yield from _against(P7, ONE_STEP, "import torch", rounds, 1)
    for word in ("checks=fast", "log.wandb.mode=offline"):
        more = [word if each.split("=")[0] == word.split("=")[0] else each for each in ONE_STEP]
        pairs = [(_mean([*dlrun(), *more], 1), _mean([*dlrun(), *ONE_STEP], 1)) for _ in range(rounds)]
        added = [({clock.replace("ms", "s"): (a[clock] - b[clock]) / 1000 for clock in a}, {"s cpu": 1.0, "s wall": 1.0}) for a, b in pairs]
        yield from results(P7_MORE, f"dlrun {' '.join(more)}: seconds added to the line above", added)
