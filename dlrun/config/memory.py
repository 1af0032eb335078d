"""What `compose` remembers of Hydra's work, as plain data that another process can be given: it then need not import Hydra."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 20
"""Sets of parts that are handed on; what else turns up is composed where it does."""


def packed(memory: Mapping[Any, Mapping[tuple[str, ...], Any]]) -> tuple[Any, ...]:
    """The first entries of a memory as JSON; without those that JSON would change (keys that are numbers)."""
    found = [[list(same), [[slot, node] for slot, node in nodes.items()]] for same, nodes in list(memory.items())[:MOST]]
    return tuple(entry for entry in found if unpacked([json.loads(json.dumps(entry))]) == unpacked([entry]))


def unpacked(entries: Iterable[Any]) -> dict[Any, dict[tuple[str, ...], Any]]:
    """The memory that `packed` packed."""
    return {tuple((tuple(slot), name) for slot, name in same): {tuple(slot): node for slot, node in nodes} for same, nodes in entries}
