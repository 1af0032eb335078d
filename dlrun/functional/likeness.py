"""Whether plain data that was read has the form of data that was made here: what a state must be before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOUNS = {bool: "true or false", int: "an integer", float: "a number", str: "a text", type(None): "null"}


def misfit(like: Any, found: Any, where: str = "") -> str:
    """Where and how `found` differs in form from `like`: "" where it does not, else `base[1]: expected a number, found a str`.

    Mappings must have the keys of `like` (more are no harm), lists and tuples its length. An integer passes where a number stands, true or
    false where null stands (torch's flags). Other things, tensors among them, are not looked at.
    """
    if isinstance(like, Mapping):
        return _misfit_of_keys(like, found, where) if isinstance(found, Mapping) else _said(where, "a mapping", found)
    if isinstance(like, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(like):
            return _said(where, f"a list of {len(like)}", found)
        return next((reason for i, pair in enumerate(zip(like, found, strict=True)) if (reason := misfit(*pair, f"{where}[{i}]"))), "")
    kind = type(like)
    if kind not in NOUNS:
        return ""
    fits = type(found) is kind or (kind is float and type(found) is int) or (like is None and type(found) is bool)
    return "" if fits else _said(where, NOUNS[kind], found)


def _misfit_of_keys(like: Mapping[Any, Any], found: Mapping[Any, Any], where: str) -> str:
    for key, value in like.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in found:
            return f"{place} is missing"
        if reason := misfit(value, found[key], place):
            return reason
    return ""


def _said(where: str, expected: str, found: Any) -> str:
    kind = f"a list of {len(found)}" if isinstance(found, (list, tuple)) else "null" if found is None else f"a {type(found).__name__}"
    return f"{where}: expected {expected}, found {kind}" if where else f"expected {expected}, found {kind}"
