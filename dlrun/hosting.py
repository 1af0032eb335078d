"""What stands around a run that is one of many in a process: who may stop it, who looks on, and what is done for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlrun.signals import Stop


@dataclass
class Host:
    """A run alone has the plain one.

    `stop` is the wish to stop, of the process's signals or of the host. `evaluated(step, metrics)` is called after each evaluation and may
    give a reason to stop there. `unchecked` says why the fast checks are left out, None where they run; an error of a check of the stages
    `tried` is noted and does not stop the run, for to find out what such values do is what it is for. `once(name, facts, make)` gives what
    `make` makes, or made before for equal `facts`.
    """

    stop: Stop = field(default_factory=Stop)
    evaluated: Callable[[int, Mapping[str, float]], str | None] = lambda step, metrics: None
    unchecked: str | None = None
    tried: tuple[str, ...] = ()
    figures: bool = True
    once: Callable[[str, str, Callable[[], Any]], Any] = lambda name, facts, make: make()
