"""Which operation was the first to give NaN or infinity: a failed step run again, watched operation by operation.

Forward, every operation that torch executes is looked at, in networks and losses alike. Backward, torch's own anomaly mode names the
operation whose gradient is NaN. Source: Isola's Hacker's Guide (detect_anomaly), here without asking for it.
"""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PACKAGE = str(Path(__file__).parent)
FILLS = ("empty", "full", "fill", "where", "scatter", "index_put", "copy", "clone", "detach", "view", "lift")
"""Operations that bring no infinity of their own: they are given one (a mask of -inf), or give memory that nobody wrote yet."""


class _Watch(TorchDispatchMode):
    """Notes the first operation that makes infinity of finite numbers, and the first that makes NaN of none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.infinite = self.nan = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1].strip("_")
        if not self.nan and not any(word in name for word in FILLS):
            self._look(name, _floats((args, kwargs)), _floats(out))
        return out

    def _look(self, name: str, given: list[Tensor], gave: list[Tensor]) -> None:
        if any(t.isnan().any() for t in gave) and not any(t.isnan().any() for t in given):
            self.nan = f"{name}{_place()}"
        elif not self.infinite and any(t.isinf().any() for t in gave) and not any(t.isinf().any() for t in given):
            self.infinite = f"{name}{_place()}"


def _floats(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]


def first_operation(again: Callable[[Callable[[Tensor], None]], None]) -> str:
    """A phrase such as `log (mine.py:12, in forward) gave inf, then mul NaN`; "" where none is found.

    `again` runs the step's forward and hands its loss on, which is asked for gradients only where it is finite itself.
    """
    watch, told = _Watch(), []

    def loss_of(loss: Tensor) -> None:
        value = loss.item()
        told.append("" if math.isfinite(value) else _forward(watch))
        if math.isfinite(value):
            told[-1] = _backward(loss)

    try:
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True, check_nan=True):
            warnings.simplefilter("ignore")
            with watch:
                again(loss_of)
    except Exception:  # what is looked for is a help: the failure it belongs to is said in any case
        return told[0] if told else ""
    return next(filter(None, told), "")


def _forward(watch: _Watch) -> str:
    if watch.infinite and watch.nan:
        return f"{watch.infinite} gave infinity, then {watch.nan} NaN"
    return f"{watch.nan or watch.infinite} gave {'NaN' if watch.nan else 'infinity'}" if watch.nan or watch.infinite else ""


def _backward(loss: Tensor) -> str:
    """The operation whose gradient is the first that is NaN, with the line it stands on."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            loss.backward()
        except RuntimeError as error:
            named = re.search(r"Function '(\w+?)(Backward\d*)?' returned nan", str(error))
            lines = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', "".join(str(warning.message) for warning in said))
            return f"the gradient of {named[1].lower()}{_words(lines)} is NaN" if named else ""
    return ""


def _place() -> str:
    return _words([(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_stack()])


def _words(frames: list[Any]) -> str:
    """` (mine.py:12, in forward)`: the innermost line that is neither torch's nor Python's; dlrun's own only where it is a part."""
    machinery = (str(Path(torch.__file__).parent), str(Path(traceback.__file__).parent))
    folders = tuple(f"{PACKAGE}/{name}/" for name in ("models", "losses", "tasks", "nn", "functional"))
    own = [
        f
        for f in frames
        if not f[0].startswith(("<", *machinery))
        and "site-packages" not in f[0]
        and (not f[0].startswith(PACKAGE) or f[0].startswith(folders))
    ]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]}, in {own[-1][2]})" if own else ""
