"""What a mask beside x is taken for, said once: a network that sees padding is no error, but nobody should learn of it from a number."""

from __future__ import annotations

from dlrun.functional.masks import counts_targets, of_inputs
from dlrun.run import Run
from dlrun.task import LossTask


def mask_notes(run: Run) -> list[str]:
    """A line where a batch has a mask beside x that could be meant for the network, for the targets, or both."""
    if not isinstance(run.task, LossTask) or "model" not in run.modules:
        return []
    batch, takes = run.data.head("train", 2), getattr(run.modules["model"], "takes_mask", False)
    if "x" not in batch or not takes or not of_inputs(batch.get("mask"), batch["x"]):
        return []
    if not counts_targets(batch.get("mask"), batch.get("y")):
        return ["mask says which steps of x there are: the network gets it"]
    if getattr(run.modules["model"], "causal", False):
        return []
    return ["mask says which targets count; the network sees every step of x: give x as (rows, mask) to hide padding from it"]
