"""Weights that decay away or explode, looked at where the clock stands still: at evaluations.

Source: Isola's Hacker's Guide (look at weights and gradients, not at the loss alone). The catalogue's factor 10 holds for all weights
together; single matrices with small starts grow as much in healthy networks and are a note.
"""

from __future__ import annotations

import torch

from dlrun.checks._finding import Finding
from dlrun.checks._watcher import Evaluation, Watcher
from dlrun.run import Run

FACTOR = 10.0
LEAST = 1e-3
RULE = f"norm of all weight matrices between 1/{FACTOR:g} and {FACTOR:g} x that of the start"


class weights_watch(Watcher):
    """The norm of all trainable matrices together, and of each, against the start."""

    stage, recipe = "update", "Hacker's Guide: plot the weights"

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        named = {f"{name}.{key}": p for name, module in run.modules.items() for key, p in module.named_parameters()}
        self.named = {name: p for name, p in named.items() if p.requires_grad and p.dim() > 1 and p.is_floating_point()}
        self.start = self._norms()
        self.said = False

    def _norms(self) -> list[float]:
        if not self.named:
            return []
        with torch.no_grad():
            return [float(norm) for norm in torch.stack([norm.float() for norm in torch._foreach_norm(list(self.named.values()))]).tolist()]

    def evaluated(self, seen: Evaluation) -> Finding | None:
        """Compare with the start, once."""
        if self.said or not self.start or seen.step == 0 or self.run.config.get("start"):
            return None
        before, norms = sum(norm**2 for norm in self.start) ** 0.5, self._norms()
        after = sum(norm**2 for norm in norms) ** 0.5
        if before < LEAST or before / FACTOR <= after <= before * FACTOR:
            return None
        self.said = True
        name = max(zip(self.named, norms, self.start, strict=True), key=lambda item: abs(item[1] - item[2]))[0]
        text = f"the weights went from norm {before:.4g} to {after:.4g} in {seen.step} steps, most of it in {name}"
        numbers = {"before": before, "after": after, "most_in": name}
        if after < before:
            return Finding("warning", text, "weight decay or the rate is too high", "look at weight_decay x lr x steps", numbers, RULE)
        return Finding("warning", text, "the learning rate is too high", "try a third of it", numbers, RULE)
