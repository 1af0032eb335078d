"""Learning rate over steps: a multiplier `f(step, steps)` of each group's base rate, or a torch scheduler stepped once a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlrun.functional.likeness import misfit


class Scheduler:
    """Sets the learning rates of one optimizer. Exactly one of `multiplier` and `stepped` is given."""

    def __init__(self, optimizer: Any, steps: int, *, multiplier: Callable[[int, int], float] | None = None, stepped: Any = None) -> None:
        self.optimizer, self.steps, self.multiplier, self.stepped = optimizer, steps, multiplier, stepped
        self._base = [group["lr"] for group in optimizer.param_groups] if multiplier else []
        self._last: float | None = None

    def set(self, step: int) -> None:
        """Before step `step` (from 0): set the rates of a multiplier; a torch scheduler has set them already."""
        if self.multiplier is None:
            return
        factor = float(self.multiplier(step, self.steps))
        if factor != self._last:
            self._last = factor
            for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
                group["lr"] = base * factor

    @property
    def stretches(self) -> bool:
        """Whether a run of twice as many steps would have other rates at the steps of this one."""
        if self.multiplier is None:
            return False
        places = {self.steps * eighth // 8 for eighth in range(8)}
        return any(float(self.multiplier(step, self.steps)) != float(self.multiplier(step, 2 * self.steps)) for step in places)

    def advance(self) -> None:
        """After a step: move a torch scheduler on."""
        if self.stepped is not None:
            self.stepped.step()

    def state_dict(self) -> dict[str, Any]:
        """A multiplier is a pure function of the step and needs no state; a torch scheduler's own state otherwise."""
        return {"stepped": self.stepped.state_dict()} if self.stepped is not None else {"base": list(self._base)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.stepped is not None:
            self.stepped.load_state_dict(state["stepped"])
        else:
            if reason := misfit({"base": self._base}, state):
                raise ValueError(reason)
            self._base, self._last = list(state["base"]), None
