"""The loss is a mean: twice the same rows cost the same. A sum makes the step grow with the batch size.

A sum is no fault by itself: a rate made for it, or an optimizer that does not care for the size of gradients (Adam, sign descent) undoes
it. A warning needs an optimizer whose steps do grow, and a rate that is too large once it is multiplied by the rows.
"""

from __future__ import annotations

from typing import Any

import torch

from dlrun.batch import Batch, map_leaves
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._probe import Probe, probe, put
from dlrun.run import Run

NEAR = 1e-3
LARGE = 0.5
"""Learning rate x rows above which a sum is too large a step for plain gradient descent on a loss of order 1 a row."""
RULE = f"L(rows twice) / L(rows) = 1; a warning where it is 2 and learning rate x rows > {LARGE:g} for steps that grow with gradients"


@check(stage="loss", recipe="Karpathy: sum or mean?", follows=("shape_contract", "output_form"))
def reduction(subject: Subject) -> Finding:
    """The loss of a batch and of the same batch twice."""
    asked = probe(subject)
    if asked is None or len(asked.out) != len(asked.batch):
        return skipped("outputs do not have a row for each row of the batch")
    if subject.kind == "contrastive" or asked.run.task.couples_rows or subject.expects.get("batch_coupled_loss"):
        return skipped("the loss compares rows: of the same ones twice it is another")
    once = asked.at(asked.out)
    try:
        twice = float(_twice(subject, asked))
    except Exception:
        return skipped("the loss takes no other number of rows")
    if abs(once) < 1e-8 or not asked.steady:
        return skipped("the loss is 0, or drawn at random")
    ratio = twice / once
    numbers: dict[str, Any] = {"ratio": round(ratio, 4), "rows": len(asked.batch)}
    if abs(ratio - 1) < NEAR:
        return Finding("ok", "the loss is a mean over rows", numbers=numbers, threshold=RULE)
    if abs(ratio - 2) > NEAR:
        return Finding("info", f"the same rows twice cost {ratio:.3f} times as much: neither mean nor sum", numbers=numbers, threshold=RULE)
    rows = subject.run.data.batch_size
    grows, rate = _grows(subject, asked), _rate(subject.run)
    numbers |= {"batch_size": rows, "rate": rate, "steps_grow": grows}
    text = f"the loss is a sum over rows: gradients grow with the batch size ({rows})"
    if grows and rate * rows > LARGE and not subject.run.config["train"].get("clip_norm"):
        cause = f"reduction='sum': at learning rate {rate:g} a step is as large as one at {rate * rows:g} with a mean"
        return Finding("warning", text, cause, "take the mean, or divide the rate by the rows", numbers, RULE)
    return Finding("info", text, numbers=numbers, threshold=RULE)


def _twice(subject: Subject, asked: Probe) -> torch.Tensor:
    """The loss of all rows twice."""

    def doubled(value: torch.Tensor) -> torch.Tensor:
        return torch.cat((value, value)) if value.dim() and len(value) == len(asked.batch) else value

    batch = Batch({name: map_leaves(doubled, leaf) for name, leaf in asked.batch.items()})
    return subject.loss_of(asked.run, map_leaves(doubled, put(asked.outputs, asked.out, asked.out)), batch)


def _rate(run: Run) -> float:
    return max((float(group.get("lr", 0.0)) for o in run.optimizers.values() for group in o.param_groups), default=0.0)


def _grows(subject: Subject, asked: Probe) -> bool:
    """Whether a step is larger for a larger gradient: asked of a copy's optimizers with made-up gradients."""
    moves = []
    for scale in (1.0, 10.0):
        run = subject.copy()
        for scheduler in run.schedulers.values():
            scheduler.set(run.steps // 2 if run.steps else 0)
        named = [p for module in run.modules.values() for p in module.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in named]
        for p in named:
            p.grad = torch.full_like(p, scale * 1e-3)
        for optimizer in run.optimizers.values():
            if getattr(optimizer, "passes", 1) != 1:
                return False
            optimizer.step()
        moves.append(sum(float((p.detach() - old).abs().sum()) for p, old in zip(named, before, strict=True)))
    return moves[0] > 0 and moves[1] > 3 * moves[0]
