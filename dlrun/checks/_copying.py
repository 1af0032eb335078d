"""Deep copies with all that belongs to them: torch's optimizers are copied without the attributes that a class of one's own gave them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")
OWN = ("step",)
"""What torch's schedules put into an optimizer: a function bound to the one it was."""


def whole_copy(value: Made, optimizers: Iterable[Any]) -> Made:
    """A deep copy of `value`, in which `optimizers` stand somewhere. Raises what the objects raise when they are copied."""
    memo: dict[int, Any] = {}
    made = copy.deepcopy(value, memo)
    for old in _inside(optimizers):
        new = memo.get(id(old))
        for key, kept in vars(old).items():
            if new is not None and key not in vars(new) and key not in OWN:
                vars(new)[key] = copy.deepcopy(kept, memo)
    return made


def _inside(optimizers: Iterable[Any]) -> Iterator[torch.optim.Optimizer]:
    """Those of torch's class among them, and among their attributes."""
    for optimizer in optimizers:
        for one in (optimizer, *getattr(optimizer, "__dict__", {}).values()):
            if isinstance(one, torch.optim.Optimizer):
                yield one
