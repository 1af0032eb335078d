"""What the user's own network, trained as it will be, learns of rows it has not seen, where simple models find nothing to learn.

The loss of val's targets is held against that of the same outputs on targets of other rows, and on those of other positions of the same row
(graphs, series). Training stops as soon as these are told apart. Where they are not, though the whole training was done (or a good part of
it in which the loss on its own rows came to a rest), targets do not belong to their inputs: nobody trains a network that ends so.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import Subject
from dlrun.checks._generalise import SHUFFLES, Score
from dlrun.checks._pairing import DIRECTIONS, WITHOUT, simple
from dlrun.checks._trial import Losses
from dlrun.finite import NonFinite
from dlrun.functional.relation import Relation
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

ROWS, LEAST, STEPS, SECONDS = 256, 100, 100, 2.5
ASKED = (30, 60, 100, 150, 220, 300, 450, 700, 1000)
KNOWN, CLEAR, NONE = 4.5, 5.0, 2.5
LEARNED = 0.5


@dataclass
class Taught:
    """After `steps` of `of`: the best scores by what targets were exchanged with (`rows`, `positions`), and the losses of the steps."""

    steps: int
    of: int
    scores: dict[str, Score]
    losses: list[float] = field(default_factory=list)

    @property
    def apart(self) -> dict[str, Score]:
        """What is not told apart from chance."""
        return {what: score for what, score in self.scores.items() if score.z < NONE}

    @property
    def by_heart(self) -> bool:
        """Whether the rows it was trained on were learned."""
        first, last = self.losses[:10], self.losses[-10:]
        return len(last) == 10 and sum(last) < LEARNED * sum(first) and min(last) >= 0


def wanted(subject: Subject) -> tuple[str, ...]:
    """What to exchange targets with: `rows`, `positions`, where simple models find nothing, and targets are such that this is no chance.

    A class or a number a row may be noise, or hard; a whole picture, series or graph of them is not. Classes count where rows are learned
    by heart.
    """
    found = simple(subject)
    if any(relation.z > KNOWN for relation in found.values()) or subject.kind in WITHOUT or not found:
        return ()
    y = subject.raw.get("y")
    if not isinstance(y, Tensor) or "val" not in subject.run.data.rows or subject.run.data.rows["val"] < LEAST:
        return ()
    several = y[0].numel() >= DIRECTIONS if len(y) else False
    classes = subject.kind == "classification" and y.dim() == 1
    return (("rows",) if several or classes else ()) + (("positions",) if _positions(found) and several else ())


def _positions(found: dict[str, Relation]) -> bool:
    return "positions" in found


def taught(subject: Subject, what: tuple[str, ...]) -> Taught | None:
    """Train a copy and ask it now and then; None where it broke, or a score cannot be had."""
    run, of = subject.copy(), subject.run.steps
    rows = subject.rows("val", ROWS).batch
    log, losses, begun = StepLog(), Losses(run.device), time.thread_time()
    found = Taught(0, of, {})
    try:
        for step in range(of):
            for module in run.modules.values():
                module.train()
            log.begin(False)
            train_step(run, step, run.data.batches(step), log, losses)
            found.steps = step + 1
            late = time.thread_time() - begun > SECONDS
            if found.steps in ASKED or late or found.steps == of:
                _ask(subject, run, rows, found, what)
            if late or (found.scores and all(score.z > CLEAR for score in found.scores.values())):
                break
    except (NonFinite, RuntimeError, ValueError, IndexError, TypeError):
        return None
    found.losses = losses.seen
    return found if all(math.isfinite(score.z) for score in found.scores.values()) else None


def _ask(subject: Subject, run: Run, rows: Batch, found: Taught, what: tuple[str, ...]) -> None:
    """Keep the best score so far: noisy labels are learned first, and what is learned by heart later hides that."""
    for name in what:
        score = scored(subject, run, rows, name)
        if name not in found.scores or score.z > found.scores[name].z:
            found.scores[name] = score


def scored(subject: Subject, run: Run, raw: Batch, what: str) -> Score:
    """The loss of rows against that of targets exchanged among them, or among the positions of each; outputs are computed once."""
    batch = subject.prepared(run, raw)
    outputs = subject.outputs(run, batch, training=False)
    y, generator, losses = batch["y"], torch.Generator().manual_seed(0), []
    for _ in range(SHUFFLES):
        if what == "rows":
            moved = y[torch.randperm(len(y), generator=generator).to(y.device)]
        else:
            order = torch.rand(y.shape[:2], generator=generator).argsort(1).to(y.device)
            moved = y.gather(1, order.reshape(*order.shape, *[1] * (y.dim() - 2)).expand_as(y))
        losses.append(float(subject.loss_of(run, outputs, batch.replace(y=moved))))
    mean = sum(losses) / len(losses)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in losses) / (len(losses) - 1))
    return Score(float(subject.loss_of(run, outputs, batch)), mean, deviation, len(y))
