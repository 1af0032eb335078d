"""Accuracy on rows moved within eps against the classifier: one signed gradient step (FGSM), or projected gradient ascent (PGD).

Source: Goodfellow, Shlens, Szegedy 2015, "Explaining and Harnessing Adversarial Examples", section 4 (FGSM); Madry et al. 2018,
"Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1 (PGD from a random start); transfer: Papernot et al. 2016,
"Transferability in Machine Learning", section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.attacks import Ball, ball, uphill
from dlrun.functional.pictures import stacked
from dlrun.noise import Noise
from dlrun.probes._rows import loss_of, loss_task, right
from dlrun.ranges import Count, NonNegative, Positive
from dlrun.task import LossTask
from dlrun.trained import Trained
from dlrun.types import Look

SHOWN = 16


def adversarial(
    runs: list[Trained],
    noise: Noise,
    *,
    eps: NonNegative,
    attack: Literal["fgsm", "pgd"],
    steps: Count,
    step_size: Positive | None,
    random_start: bool,
    bounds: list[float] | None,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> tuple[dict[str, float], dict[str, Look]]:
    """clean_accuracy and accuracy (attacked) of the first run, which makes the attack on its own loss; success_rate, the share of rows it
    had right that it then has wrong. With more runs, means over them: transfer_clean_accuracy, transfer_accuracy on the first one's rows,
    transfer_rate, the share of rows that both had right and the first then has wrong that they have wrong too (NaN where there is none).

    eps and step_size are in input units: of 0..1 for images kept as bytes, whatever the data's standardisation, else of x itself.
    Raises ValueError where x is no tensor of numbers or targets are no classes.
    """
    tasks = [loss_task(run) for run in runs]
    clean: list[Tensor] = []
    hit: list[Tensor] = []
    shown: Look | None = None
    for batch in runs[0].prepared(split, rows):
        box = _ball(runs[0], batch["x"], eps, step_size or (eps if attack == "fgsm" else 2.5 * eps / steps), bounds)
        moved = batch.replace(x=_attack(runs[0], tasks[0], batch, box, 1 if attack == "fgsm" else steps, random_start, noise, len(clean)))
        clean.append(_right(runs, tasks, batch))
        hit.append(_right(runs, tasks, moved))
        shown = shown or _shown(batch["x"], moved["x"], eps)
    before, after = torch.cat(clean, 1), torch.cat(hit, 1)  # [runs, rows]
    numbers = {
        "clean_accuracy": _share(before[0]),
        "accuracy": _share(after[0]),
        "success_rate": _share(~after[0][before[0]]),
        "rows": before.shape[1],
    }
    if len(runs) > 1:
        both = [before[0] & ~after[0] & before[i] for i in range(1, len(runs))]
        numbers |= {
            "transfer_clean_accuracy": _share(before[1:]),
            "transfer_accuracy": _share(after[1:]),
            "transfer_rate": sum(_share(~after[i][rows_]) for i, rows_ in enumerate(both, 1)) / len(both),
        }
    return numbers, {"rows": shown} if shown else {}


def _attack(run: Trained, task: LossTask, batch: Batch, box: Ball, steps: int, random_start: bool, noise: Noise, number: int) -> Tensor:
    """x moved uphill on the loss, `steps` signed steps, each back into the ball."""
    x: Tensor = batch["x"]
    begin = x
    if random_start:
        drawn = torch.rand(x.shape, generator=noise.generator(f"start {number}", x.device), device=x.device, dtype=x.dtype)
        begin = box.into(x + (2 * drawn - 1) * box.eps, x)
    return uphill(lambda moved: loss_of(task, task.outputs(run.nets, batch.replace(x=moved)), batch), x, begin, box, steps)


def _ball(run: Trained, x: object, eps: float, step: float, bounds: list[float] | None) -> Ball:
    """eps, step and bounds in units of x as the network gets it, for bytes standardised as (x / 255 - mean) / std."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(
            f"needs rows of numbers, which can be moved a little; found {getattr(x, 'dtype', type(x).__name__)}".replace("torch.", "")
        )
    raw = run.data.raw("train").take(torch.arange(1))["x"]
    if raw.dtype != torch.uint8:
        return ball(x, eps, step, bounds, None, None)
    return ball(x, eps, step, [0.0, 1.0] if bounds is None else bounds, run.spec.mean, run.spec.std)


@torch.no_grad()
def _right(runs: list[Trained], tasks: list[LossTask], batch: Batch) -> Tensor:
    """Which rows each run has right, [runs, B], on the CPU."""
    return torch.stack([right(task, task.outputs(run.nets, batch), batch).cpu() for run, task in zip(runs, tasks)])


def _share(flags: Tensor) -> float:
    return float(flags.double().mean()) if flags.numel() else float("nan")


def _shown(x: Tensor, moved: Tensor, eps: float) -> Look | None:
    """Images: rows, and below them the rows as attacked."""
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        return None
    spread = torch.linspace(0, len(x) - 1, min(len(x), SHOWN)).long()  # a split is often sorted by class
    return Look("images", stacked(x[spread], moved[spread]), f"rows above what an attack of eps {eps:g} makes of them")
