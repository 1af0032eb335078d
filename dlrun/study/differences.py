"""What a study was asked and is asked now, in the words of a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dlrun.config.places import printable

FREE = ("trials", "timeout")
"""What may change without another study."""
MOST = 200
"""Characters of each side of a difference."""


def different(study: str, was: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line a difference; `was` comes from a ledger, which is others' data."""
    now = json.loads(json.dumps(asked))  # tuples are lists there
    found = []
    for key in sorted({*was, *now}):
        if key not in FREE and was.get(key) != now.get(key):
            found += _space(was.get(key), now.get(key)) if key == "space" else [_line(key, was.get(key), now.get(key))]
    found = found or ["the same in another order"]
    return [f"study {study} was asked otherwise: {line}; give this one another --name" for line in found]


def _line(key: str, was: Any, now: Any) -> str:
    """One field of the question."""
    if key == "words" and isinstance(was, list) and isinstance(now, list):
        gone, come = [word for word in was if word not in now], [word for word in now if word not in was]
        return _change("", _listed(gone), _listed(come))
    if key == "plugins":
        return _plugins(was, now)
    return _change(f"{key} ", _text(key, was), _text(key, now))


def _change(key: str, was: str, now: str) -> str:
    return f"{key}{was or 'nothing'}, now {now or 'nothing'}"


def _listed(values: Sequence[Any]) -> str:
    return printable(" ".join(map(str, values)), MOST)


def _text(key: str, value: Any) -> str:
    if key == "goal" and isinstance(value, dict):
        return printable(f"{value.get('metric')}:{value.get('direction')}", MOST)
    if isinstance(value, list):
        return printable(",".join(map(str, value)), MOST)
    return "" if value is None else printable(str(value), MOST)


def _plugins(was: Any, now: Any) -> str:
    """Files that are other files now, or that are not the same ones."""
    try:
        before, after = dict(was), dict(now)
    except (TypeError, ValueError):
        before, after = {}, {}
    changed = [name for name in before if name in after and before[name] != after[name]]
    if changed:
        return f"plugin {_listed(changed)} has changed since then"
    return _change("plugins ", _listed(list(before)), _listed(list(after)))


def _space(was: Any, now: Any) -> list[str]:
    """The axes that differ, one line each."""
    before, after = _axes(was), _axes(now)
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    return [_change("", before.get(key, f"no {key}"), after.get(key, f"no {key}")) for key in keys] or ["the same axes in another order"]


def _axes(space: Any) -> dict[str, str]:
    """Every axis as it would be typed, by its keys."""
    found = {}
    for axis in space.get("axes", ()) if isinstance(space, dict) else ():
        keys = printable(",".join(map(str, axis.get("keys", ()))), MOST)
        found[keys] = _axis(keys, axis)
    return found


def _axis(keys: str, axis: Mapping[str, Any]) -> str:
    when = "".join(f" where {key} is {' or '.join(map(str, values))}" for key, values in axis.get("when", {}).items())
    if "points" in axis:
        single = all(len(point) == 1 for point in axis["points"])
        values = [str(point[0]).partition("=")[2] if single else " ".join(map(str, point)) for point in axis["points"]]
        return printable((f"{keys}={','.join(values)}" if single else " or ".join(values)) + when, MOST)
    inner = f"interval({axis.get('low')},{axis.get('high')})"
    inner = f"int({inner})" if axis.get("whole") else inner
    return printable(f"{keys}={f'tag(log,{inner})' if axis.get('log') else inner}{when}", MOST)
