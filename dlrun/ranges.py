"""Names for the value ranges of options: what a part writes as an annotation.

`lr: Positive` in a signature both documents the option and is what `dlrun.config` checks before anything is built. The checker reads
annotations from source text (`ast`), never by importing the part, so this table is the one place that gives the names their meaning.
All floats must be finite. An int is accepted where a float is asked for; nothing else is coerced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """An interval: `low` and `high` bound the value, `open_low`/`open_high` exclude the bound itself."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        return not (self.high is not None and (value > self.high or (self.open_high and value == self.high)))

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return "any"
        if self.high is None:
            return f"{'>' if self.open_low else '>='} {self.low:g}"
        if self.low is None:
            return f"{'<' if self.open_high else '<='} {self.high:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


Positive = Annotated[float, Range(low=0, open_low=True)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]
"""A share: 0 <= p <= 1."""
Decay = Annotated[float, Range(low=0, high=1, open_high=True)]
"""A decay or momentum: 0 <= d < 1 (at 1 nothing would ever be forgotten)."""
Count = Annotated[int, Range(low=1)]
Index = Annotated[int, Range(low=0)]
Seed = Annotated[int, Range(low=0, high=2**32 - 1)]

NAMED: dict[str, tuple[type, Range]] = {
    "Positive": (float, Range(low=0, open_low=True)),
    "NonNegative": (float, Range(low=0)),
    "Fraction": (float, Range(low=0, high=1)),
    "Decay": (float, Range(low=0, high=1, open_high=True)),
    "Count": (int, Range(low=1)),
    "Index": (int, Range(low=0)),
    "Seed": (int, Range(low=0, high=2**32 - 1)),
}
"""Annotation name -> (base type, range); kept equal to the aliases above by a test."""
