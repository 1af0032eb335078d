"""What a careful reader objects to in a finished study: an optimum at the edge of what was tried, rates that were never too large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dlrun.study.space import Axis, Space

NEAR = 0.05
"""Share of an interval that counts as its edge."""
LEAST = 3
"""With two values one of them is always an edge."""


def objections(found: Mapping[str, Any], space: Space) -> list[str]:
    """One line an objection; `found` is the study's document."""
    cells = [cell for cell in found["cells"] if cell["value"] is not None]
    if found["best"] is None or len(cells) < LEAST:
        return []
    best = next(cell for cell in cells if cell["number"] == found["best"])
    top = [best, *(cell for cell in cells if cell["number"] in found["ties"])]
    said = []
    for axis in space.axes:
        text = edge(axis, top, cells) if len(axis.keys) == 1 else None
        text = text if text and "upper" in text else text or never_too_large(axis, found)
        said += [text] if text else []
    return said


def edge(axis: Axis, top: list[Mapping[str, Any]], cells: list[Mapping[str, Any]]) -> str | None:
    """Where the best cell and all that cannot be told from it lie at the same end of an axis of numbers."""
    key = axis.keys[0]
    tried = sorted({cell["params"][key] for cell in cells if _is_number(cell["params"].get(key))})
    if len(tried) < LEAST or not all(_is_number(cell["params"].get(key)) for cell in top):
        return None
    shares = [_share(axis, cell["params"][key], tried) for cell in top]
    value = top[0]["params"][key]
    if min(shares) >= 1 - NEAR:
        return f"{key}={value:g}, the best, is at the upper end of what was tried: widen it"
    if max(shares) <= NEAR and not (isinstance(value, int) and value in (0, 1)):  # counts end there
        return f"{key}={value:g}, the best, is at the lower end of what was tried: widen it"
    return None


def _share(axis: Axis, value: float, tried: list[float]) -> float:
    """Where a value lies between the ends: 0 the lower, 1 the upper; within a list every inner value is inside."""
    if axis.listed:
        return 0.0 if value == tried[0] else 1.0 if value == tried[-1] else 0.5
    low, high = axis.low, axis.high
    return math.log(value / low) / math.log(high / low) if axis.log else (value - low) / (high - low)


def never_too_large(axis: Axis, found: Mapping[str, Any]) -> str | None:
    """A learning-rate axis whose largest value is still among the better half: where training breaks was not seen."""
    key = axis.keys[0]
    if len(axis.keys) > 1 or not (key.endswith(".lr") or key == "lr"):
        return None
    have = [cell for cell in found["cells"] if cell["value"] is not None and _is_number(cell["params"].get(key))]
    rates = sorted({cell["params"][key] for cell in found["cells"] if _is_number(cell["params"].get(key))})
    if len(rates) < LEAST or any(failure["class"] == "non_finite" for failure in found["failures"]):
        return None
    largest = [cell["value"] for cell in have if cell["params"][key] == rates[-1]]
    values = sorted((cell["value"] for cell in have), reverse=str(found["goal"]).endswith(":max"))
    if not largest or min(values.index(value) for value in largest) >= len(values) / 2:
        return None
    return f"no {key} was too large (up to {rates[-1]:g}): where training breaks was not seen, so the best may lie above"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
