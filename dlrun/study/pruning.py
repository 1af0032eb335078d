"""Successive halving: a run that lies behind at a rung is given up there, without waiting for the others.

Rungs are the evaluations 1, 3, 9, 27 ... of `train.eval_every`. At each a run goes on if it is among the best third of those that have come
that far, itself included (with one or two there: if it is the best), compared with runs of the same seed. The rule is that of Optuna's
`SuccessiveHalvingPruner(min_resource=eval_every, reduction_factor=3)`; it is applied to the ledger's readings, for a worker
that imported Optuna would start a second later.

Source: Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2 (ASHA), without resuming what was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dlrun.errors import UsageError
from dlrun.study.ledger import Ledger, Taken
from dlrun.study.space import Space
from dlrun.study.tables import jobs, now, patiently, readings

FACTOR = 3
PRUNED = "pruned"


def is_rung(step: int, every: int) -> bool:
    """Whether `step` is evaluation 1, 3, 9 ... of one every `every` steps."""
    count, rest = divmod(step, every)
    while count > 1 and rest == 0:
        count, rest = divmod(count, FACTOR)
    return count == 1 and rest == 0


def promoted(value: float, others: Sequence[float], direction: str) -> bool:
    """Whether a run with `value` goes on beside those with `others` at its rung."""
    ranked = sorted([value, *others], reverse=direction == "max")
    last = ranked[max(1, len(ranked) // FACTOR) - 1]
    return value >= last if direction == "max" else value <= last


def judge(ledger: Ledger, job: Taken, step: int, value: float, every: int, direction: str) -> str | None:
    """`pruned` where the job is to stop after the evaluation at `step`, whose value the ledger has; else None."""
    if step == 0:
        return None
    of_cell = (jobs.c.study == ledger.study, jobs.c.cell == job.cell, jobs.c.state == PRUNED)
    beside = (jobs.c.study == ledger.study, jobs.c.seed == job.seed, jobs.c.cell != job.cell, readings.c.step == step)

    def look() -> tuple[bool, list[float]]:
        with ledger.engine.connect().execution_options(reading=True) as connection, connection.begin():
            given_up = connection.execute(sa.select(jobs.c.id).where(*of_cell)).first() is not None
            query = sa.select(readings.c.value).join(jobs, jobs.c.id == readings.c.job).where(*beside)
            return given_up, [found for (found,) in connection.execute(query)]

    given_up, others = patiently(look)
    return PRUNED if given_up or (is_rung(step, every) and not promoted(value, others, direction)) else None


def give_up(ledger: Ledger, cell: int) -> None:
    """The seeds of a pruned cell that have not been begun, or wait, are not run."""
    mine = (jobs.c.study == ledger.study, jobs.c.cell == cell, jobs.c.state == "waiting")

    def do() -> None:
        with ledger.engine.begin() as connection:
            connection.execute(jobs.update().where(*mine).values(state=PRUNED, ended=now()))

    patiently(do)


def rung_steps(space: Space, train: dict[str, Any]) -> int:
    """Steps between evaluations, for a study that is to be pruned. UsageError where runs could not be compared on their way."""
    varied = [axis.keys for axis in space.axes if "train.eval_every" in axis.keys]
    every, steps = train["eval_every"], train["steps"]
    counts = [point.values["train.steps"] for axis in space.axes if "train.steps" in axis.keys for point in axis.ends()]
    shortest = min([count for count in [*counts, *([] if counts else [steps])] if isinstance(count, int)], default=None)
    if varied:
        raise UsageError("prune halving: train.eval_every varies, so runs have no steps to be compared at: give it one value")
    if not every or (shortest is not None and every >= shortest):
        found = f"train.eval_every={every}" + (f" of {shortest} steps" if shortest is not None else "")
        better = max(1, (shortest or 1000) // 10)
        raise UsageError(f"prune halving: runs are evaluated only at their end ({found}): say train.eval_every={better}")
    return int(every)
