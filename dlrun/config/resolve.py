"""Interpolations: `${a.b}` and `${oc.env:NAME}` (or `${oc.env:NAME,default}`), nothing else; bounded in depth and size.

What comes out of the environment may be a secret: it stays unresolved in what is saved, and no message ever holds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from dlrun.config.layers import Path, dotted
from dlrun.config.places import printable
from dlrun.redact import note_taken

TOKEN = re.compile(r"\$\{([^${}]*)\}")
PATH = re.compile(r"\s*[A-Za-z_][\w-]*(\.[\w-]+)*\s*$")
ENVIRONMENT = re.compile(r"\s*oc\.env\s*:\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?:,(.*))?$", re.DOTALL)
MAX_CHAIN = 50
MAX_VALUES = 50_000
MAX_TEXT = 20_000


def refers(text: Any) -> bool:
    """Whether `text` takes something from elsewhere in the config (`${a.b}`), where another may have written it."""
    return isinstance(text, str) and any(not ENVIRONMENT.match(token) for token in TOKEN.findall(text))


class ResolveError(Exception):
    """An interpolation that cannot be resolved; the message names no resolved value."""


class Resolver:
    """Resolves one tree. `tainted` are the paths whose value came out of the environment."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree
        self.tainted: set[Path] = set()
        self.errors: list[tuple[Path, str]] = []
        self._done: dict[Path, tuple[Any, bool]] = {}
        self._open: list[Path] = []
        self._budget = MAX_VALUES

    def resolve(self) -> dict[str, Any]:
        """A copy of the tree without interpolations; what fails is None there and noted in `errors` as (path, message)."""
        return {key: self._inside((key,), value) for key, value in self.tree.items()}

    def _inside(self, path: Path, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._inside((*path, key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._inside((*path, str(i)), inner) for i, inner in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            result, tainted = self._value(path, value)
        except ResolveError as failure:
            self.errors.append((path, str(failure)))
            return None
        if tainted:
            self.tainted.add(path)
        return result

    def _value(self, path: Path, value: Any) -> tuple[Any, bool]:
        """(resolved value, whether it holds something of the environment) of the value that stands at `path`."""
        self._spend(1)
        if isinstance(value, (dict, list)):
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            pairs = [self._value((*path, str(key)), value[key]) for key in keys]
            tainted = any(pair[1] for pair in pairs)
            items = [pair[0] for pair in pairs]
            return (dict(zip(keys, items, strict=True)) if isinstance(value, dict) else items), tainted
        if not isinstance(value, str) or "${" not in value:
            return value, False
        if path in self._done:
            self._spend(_size(self._done[path][0], self._budget))
            return self._done[path]
        if path in self._open:
            circle = " -> ".join(dotted(p) for p in [*self._open[self._open.index(path) :], path])
            raise ResolveError(f"the interpolation runs in a circle: {circle}")
        if len(self._open) >= MAX_CHAIN:
            raise ResolveError(f"a chain of more than {MAX_CHAIN} interpolations")
        self._open.append(path)
        try:
            self._done[path] = self._text(value)
        finally:
            self._open.pop()
        return self._done[path]

    def _spend(self, values: int) -> None:
        """Count what is made; a value used twice counts twice, for later it will be copied."""
        self._budget -= values
        if self._budget < 0:
            raise ResolveError(f"interpolations make more than {MAX_VALUES} values")

    def _text(self, text: str) -> tuple[Any, bool]:
        whole = TOKEN.fullmatch(text)
        if whole:
            return self._token(whole.group(1))
        if "${" in TOKEN.sub("", text):
            raise ResolveError(f"{printable(text, 80)}: not a whole interpolation; ${{a.b}} and ${{oc.env:NAME}} hold no other")
        pieces = list(self._pieces(text))
        if sum(len(piece) for piece, _ in pieces) > MAX_TEXT:
            raise ResolveError(f"the interpolation makes a text of more than {MAX_TEXT} characters")
        return "".join(piece for piece, _ in pieces), any(tainted for _, tainted in pieces)

    def _pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        end = 0
        for match in TOKEN.finditer(text):
            yield text[end : match.start()], False
            value, tainted = self._token(match.group(1))
            if isinstance(value, (dict, list)) or value is None:
                raise ResolveError(f"{printable(match.group(0), 80)}: only a single value can stand inside a text")
            yield str(value).lower() if isinstance(value, bool) else str(value), tainted
            end = match.end()
        yield text[end:], False

    def _token(self, content: str) -> tuple[Any, bool]:
        if PATH.match(content):
            return self._reference(tuple(content.strip().split(".")))
        environment = ENVIRONMENT.match(content)
        if environment is None:
            shown = printable(f"${{{content}}}", 80)
            raise ResolveError(f"{shown}: there are ${{a.b}} and ${{oc.env:NAME}} or ${{oc.env:NAME,default}}, no other interpolation")
        name, default = environment.groups()
        if name in os.environ:
            note_taken(name, os.environ[name])
            return os.environ[name], True
        if default is None:
            raise ResolveError(f"${{oc.env:{printable(name, 60)}}}: not set in the environment; set it or say ${{oc.env:{name},default}}")
        default = default.strip()
        if default[:1] in "'\"" and default[-1:] == default[:1] and len(default) > 1:
            return default[1:-1], True
        return (None if default == "null" else default), True

    def _reference(self, path: Path) -> tuple[Any, bool]:
        node: Any = self.tree
        for depth, key in enumerate(path):
            if not isinstance(node, dict) or key not in node:
                at = f"{dotted(path[:depth])} has no {printable(key)}" if depth else f"the config has no {printable(key)}"
                raise ResolveError(f"${{{dotted(path)}}} points to nothing: {at}")
            node = node[key]
        return self._value(path, node)


def _size(value: Any, limit: int) -> int:
    """How many values `value` holds; counting stops soon after `limit`."""
    if not isinstance(value, (dict, list)):
        return 1
    size = 1
    for inner in value.values() if isinstance(value, dict) else value:
        size += _size(inner, limit - size)
        if size > limit:
            break
    return size
