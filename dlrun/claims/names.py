"""What a claim may speak of, and the words for what it may not. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlrun.claims import tree
from dlrun.claims.functions import FUNCTIONS
from dlrun.claims.tree import Node
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable


@dataclass(frozen=True)
class Names:
    """What a claim may speak of; `events` None: any name."""

    arms: tuple[str, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    events: tuple[str, ...] | None = ()
    measures: tuple[str, ...] = ()


class WrongError(Exception):
    """What is wrong with a claim, without the claim itself."""


def no_axes_left(node: Node, names: Names, what: str) -> None:
    """Refuse a value for every point of an axis where one is needed."""
    left = sorted(tree.axes_of(node, names.axes))
    if left:
        axis = left[0]
        place = f"at(..., {axis}={names.axes[axis][0]!r})" if names.axes[axis] else f"at(..., {axis}=VALUE)"
        raise WrongError(f"{what} has a value for every {' and '.join(left)}: say min(..., {axis}), mean(..., {axis}) or {place}")


def unknown(name: str, names: Names) -> str:
    """What to say of a name that nothing has."""
    kinds = {"arms": names.arms, "measures": names.measures, "axes": tuple(names.axes), "functions": tuple(FUNCTIONS)}
    there = "; ".join(f"{kind} {listing(found, 40)}" for kind, found in kinds.items() if found)
    every = [each for found in kinds.values() for each in found]
    return f"no {printable(name, 60)} here; there are {there}{hint(nearest(name, every))}"


def numeric(axis: str, names: Names, what: str) -> None:
    """Refuse an axis whose values are no numbers."""
    wrong = [value for value in names.axes[axis] if isinstance(value, bool) or not isinstance(value, (int, float))]
    if wrong:
        raise WrongError(f"{what} needs numbers, axis {axis} has {printable(repr(wrong[0]), 40)}: say at(..., {axis}={wrong[0]!r})")


def defined(config: Mapping[str, Any]) -> dict[str, str]:
    """What a config means by the events and measures that claims name: {"events.done": text}, equal where they mean the same."""
    groups = {key: config.get(key) for key in ("events", "measures")}
    return {
        f"{key}.{name}": json.dumps(entry, sort_keys=True, default=str)
        for key, entries in groups.items()
        if isinstance(entries, Mapping)
        for name, entry in entries.items()
    }
