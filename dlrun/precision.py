"""Numerical precision of the forward and backward pass: fp32, bf16 or fp16 autocast, and the gradient scaler that fp16 needs.

Micikevicius et al. 2018, Mixed Precision Training. Weights stay fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dlrun.errors import AnswerNo
from dlrun.functional.likeness import misfit

SKIPS_IN_A_ROW = 50


class Precision:
    """Autocast, backward and optimizer step in one of three precisions; knows no task."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self.skipped = 0
        self._in_a_row = 0
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self._device = device
        self.scaler: Any = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, self._dtype)

    def backward(self, loss: Tensor, inputs: Sequence[Tensor] | None) -> None:
        """Accumulate gradients of `loss` in `inputs` (None: in every leaf)."""
        try:
            (self.scaler.scale(loss) if self.scaler else loss).backward(inputs=inputs)
        except RuntimeError as error:
            if "modified by an inplace operation" in str(error):
                raise RuntimeError(
                    "a value that the gradient needs was overwritten, by an operation in place (+=, relu(inplace=True)) or by an update of "
                    "weights: write to a new tensor; in a task of several objectives compute this loss after the previous yield"
                ) from error
            raise

    def unscale(self, optimizers: Sequence[Any]) -> None:
        """Gradients as they are, before clipping looks at them."""
        if self.scaler:
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def step(self, optimizers: Sequence[Any]) -> None:
        """Step each optimizer, or skip it where fp16 overflowed; 50 skipped objectives in a row stop the run."""
        if not self.scaler:
            for optimizer in optimizers:
                optimizer.step()
            return
        before = self.scaler.get_scale()
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        skipped = self.scaler.get_scale() < before
        self.skipped += skipped
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row >= SKIPS_IN_A_ROW:
            raise AnswerNo(f"fp16 gradients overflowed {SKIPS_IN_A_ROW} times in a row: say train.precision=bf16 or a lower learning rate")

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs: the scaler's state and the counts of skipped objectives."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row, "scaler": self.scaler.state_dict() if self.scaler else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if reason := misfit(self.state_dict(), state):
            raise ValueError(reason)
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
