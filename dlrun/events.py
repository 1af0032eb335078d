"""Events of an experiment: the first step at which a condition on a metric holds, such as `train/accuracy >= 0.99`."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from dlrun.errors import UsageError

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
CONDITION = re.compile(r"\s*([\w./]+)\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


class Events:
    """Conditions by name, and the step at which each first held."""

    def __init__(self, conditions: Mapping[str, str]) -> None:
        self.happened: dict[str, int] = {}
        self._conditions = {name: parse(name, text) for name, text in conditions.items()}

    def see(self, row: Mapping[str, Any]) -> list[str]:
        """Names of the events that a row of metrics.jsonl makes happen."""
        new = []
        for name, (metric, compare, level) in self._conditions.items():
            value = row.get(metric)
            if name not in self.happened and isinstance(value, float) and compare(value, level):
                self.happened[name] = row["step"]
                new.append(name)
        return new


def parse(name: str, text: str) -> tuple[str, Any, float]:
    """Metric, comparison and level of a condition; UsageError where it has another form."""
    match = CONDITION.fullmatch(text)
    if not match or "/" not in match[1]:
        raise UsageError(f"events.{name}: {text!r} is no condition: write <split>/<metric> >= <number> (or <=, >, <)")
    return match[1], COMPARE[match[2]], float(match[3])
