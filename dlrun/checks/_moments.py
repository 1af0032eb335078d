"""When each of dlrun's own checks runs, read from its source: a training imports the checks that look at it, not all of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any

from dlrun import registry

DECORATED = re.compile(r"^@check\((.*?)^def ", re.DOTALL | re.MULTILINE)
SAID = re.compile(r'\bmoment="(\w+)"')
PLAIN, WATCHED = "check", "training"
"""The moment of a check that says none, and of one that is a `Watcher`, not a function."""
EVERY = ("fast", "check", "deep", WATCHED)


@functools.cache
def moment(name: str) -> str:
    """`fast`, `check`, `deep` or `training` of a check that dlrun brings."""
    text = (registry.PACKAGE / registry.FOLDERS["check"] / f"{name}.py").read_text(encoding="utf-8")
    decorated = DECORATED.search(text)
    said = SAID.search(decorated[1]) if decorated else None
    return said[1] if said else PLAIN if decorated else WATCHED


def known(moments: Collection[str] = EVERY) -> dict[str, Any]:
    """The checks of these moments by name: dlrun's own and those of plugins."""
    plugins = registry.PLUGINS["check"]
    wanted = [name for name in registry.names("check") if name in plugins or moment(name) in moments]
    parts = {name: registry.get("check", name) for name in wanted}
    return {name: part for name, part in parts.items() if getattr(part, "moment", PLAIN) in moments}
