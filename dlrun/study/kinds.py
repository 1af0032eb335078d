"""Which cells the fast checks run for: the first of each set of parts, for they do not look at numbers one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlrun.study.plan import Cell


class FirstOfKind:
    """Called with cell after cell: whether it is the first with such values, numbers apart."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, cell: Cell) -> bool:
        kind = kind_of(cell.params)
        fresh = kind not in self._seen
        self._seen.add(kind)
        return fresh


def kind_of(params: Mapping[str, Any]) -> str:
    """What cells with the same parts share: their values, numbers apart."""
    return repr([(key, value) for key, value in sorted(params.items()) if not _is_number(value)])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
