"""Inputs are used in training: equal networks learn with the real inputs, with none (zeros), and with those of other rows.

Real inputs must win by more than chance. Hard tasks learn the frequencies of the targets first, with any input; so the verdict comes late
(400 steps where 100 do not tell) and a tie that real inputs do not lose is a note. That is asked with --deep.

On request, and only where simple models find no relation of inputs and targets, the network itself is trained as it will be
(`_taught.py`): after a whole training in which nothing was learned of other rows, inputs and targets do not belong together.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from dlrun.batch import Batch, map_leaves
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._generalise import why_not
from dlrun.checks._rates import idle
from dlrun.checks._taught import NONE, Taught, taught, wanted
from dlrun.checks._taught import STEPS as STEPS_TAUGHT
from dlrun.checks._trial import Losses
from dlrun.checks.overfit_1_batch_few import peaks, without_noise
from dlrun.finite import NonFinite
from dlrun.loop import train_step
from dlrun.steplog import StepLog

STEPS, LAST, SIGMAS, SHARE = (100, 400), 20, 4.0, 0.05
THOROUGH = 10.0
"""Seconds a check must have for three trainings."""
WHOLE, OFTEN = 0.8, 5
"""The share of the training that must be done, and how often rows were seen where they need not have been learned by heart."""
APART = (
    f"warning: after {WHOLE:.0%} of a training of {STEPS_TAUGHT} steps or more the loss of val is that of exchanged targets (z < {NONE:g})"
)
RULE = f"the loss with real inputs is lower over the last {LAST} steps by > {SIGMAS:g} standard errors and > {SHARE:.0%} of the first loss"


@check(
    stage="learning",
    moment="check",
    recipe="Karpathy: input-independent baseline",
    follows=("input_matters", "step_lowers_loss", "lr_sanity"),
)
def input_baseline(subject: Subject) -> Finding:
    """A training of at most 2.5 s where need be; with --deep three of 100 steps (400 where these do not tell) from equal weights."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    asked = wanted(subject)
    learned = taught(subject, asked) if asked else None
    loud = _apart(subject, learned) if learned else None
    if loud:
        return loud
    reason = why_not(subject)
    if reason and reason != "there is no val split":
        return skipped(reason)
    if subject.patience < THOROUGH:
        return _quick(learned)
    return _compared(subject)


def _apart(subject: Subject, learned: Taught) -> Finding | None:
    """The finding where a whole training taught the network nothing of other rows, or of the positions in these."""
    what = next(iter(learned.apart), "")
    often = learned.steps * subject.run.data.batch_size > OFTEN * subject.run.data.rows["train"]
    unclear = subject.kind == "classification" and not (learned.by_heart or often)
    if not what or learned.steps < WHOLE * learned.of or learned.of < STEPS_TAUGHT or unclear:
        return None
    score = learned.scores[what]
    whose = "those of other rows" if what == "rows" else "those of other positions of the same row"
    text = f"after {learned.steps} of {learned.of} steps of training val's own targets fit no better than {whose}: "
    text += f"loss {score.loss:.4f} with its own, {score.shuffled:.4f} with these"
    text += f"; the rows of train are learned ({learned.losses[0]:.3f} -> {learned.losses[-1]:.3f})" if learned.by_heart else ""
    cause = "inputs and targets do not belong together: shuffled, sorted or augmented apart"
    numbers = {"steps": learned.steps, "z": {name: one.z for name, one in learned.scores.items()}}
    return Finding("warning", text, cause, "look at some inputs beside their targets: dlrun data --out", numbers, APART)


def _quick(learned: Taught | None) -> Finding:
    """The verdict where nothing was found and there is no time for three trainings."""
    if learned is None:
        return Finding("ok", "simple models find the targets in the inputs, or a training would not tell", threshold=APART)
    numbers = {"steps": learned.steps, "z": {name: one.z for name, one in learned.scores.items()}}
    if learned.apart:
        return Finding(
            "info", f"after {learned.steps} steps nothing is learned of val yet: hard, or not there", numbers=numbers, threshold=APART
        )
    return Finding("ok", f"after {learned.steps} steps val's own targets fit better than exchanged ones", numbers=numbers, threshold=APART)


def _compared(subject: Subject) -> Finding:
    """The verdict on three trainings."""
    numbers: dict[str, Any] = {}
    for steps in STEPS:
        curves = {kind: _learn(subject, steps, kind) for kind in ("real", "zeroed", "permuted")}
        if any(len(curve) < steps for curve in curves.values()):
            return skipped("the loss of a trial is not finite: see step_lowers_loss")
        means = {kind: sum(curve[-LAST:]) / LAST for kind, curve in curves.items()}
        wins = {kind: _paired(curves["real"], curves[kind]) for kind in ("zeroed", "permuted")}
        numbers = {"steps": steps, "losses": means, "standard_errors": wins, "first": curves["real"][0]}
        if all(wins[kind] > SIGMAS and means[kind] - means["real"] > SHARE * abs(curves["real"][0]) for kind in wins):
            break
    first = numbers["first"]
    text = f"loss after {numbers['steps']} steps: {means['real']:.4f} with real inputs, {means['zeroed']:.4f} with zeros, "
    text += f"{means['permuted']:.4f} with those of other rows"
    lost = [kind for kind in wins if wins[kind] < -SIGMAS and means["real"] - means[kind] > SHARE * abs(first)]
    if lost:
        cause = "the network does worse with its input than without: inputs of a huge scale, or a broken path from them"
        return Finding("warning", text, cause, "look at the input: dlrun data", numbers, RULE)
    tied = [kind for kind in wins if not (wins[kind] > SIGMAS and means[kind] - means["real"] > SHARE * abs(first))]
    if tied:
        what = "zeros do as well" if "zeroed" in tied else "those of other rows do as well"
        return Finding("info", f"{text}: {what}; not learned yet, or not there to be learned", numbers=numbers, threshold=RULE)
    return Finding("ok", f"{text}: inputs are used", numbers=numbers, threshold=RULE)


def _learn(subject: Subject, steps: int, kind: str) -> list[float]:
    """The loss of each step on batches whose inputs are `real`, `zeroed`, or `permuted` among the rows."""
    run = subject.copy()
    without_noise(run, 1.0, peaks(subject))
    run.steps = steps
    losses, log = Losses(run.device), StepLog()
    for module in run.modules.values():
        module.train()
    try:
        for step in range(steps):
            log.begin(False)
            train_step(run, step, [_changed(raw, kind) for raw in run.data.batches(step)[:1]], log, losses)
    except NonFinite:
        return []
    return losses.seen


def _changed(batch: Batch, kind: str) -> Batch:
    def zeros(t: Tensor) -> Tensor:
        return t.new_zeros(t.shape)

    if kind == "real":
        return batch
    return batch.replace(x=map_leaves(zeros if kind == "zeroed" else lambda t: t.roll(len(t) // 2 or 1, 0), batch["x"]))


def _paired(real: list[float], other: list[float]) -> float:
    """By how many standard errors `real` lies lower over the last steps."""
    gaps = [b - a for a, b in zip(real[-LAST:], other[-LAST:], strict=True)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
    return mean / max(spread, 1e-12)
