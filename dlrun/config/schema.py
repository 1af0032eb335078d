"""Options of parts and root keys: names, types and ranges read from source text (`ast`), never by importing a part.

Plugins are the exception: the user's file has run already, so their options come from `inspect.signature`.
"""

from __future__ import annotations

import ast
import os
from pathlib import PurePath
from typing import Any, NamedTuple

from dlrun.config.kinds import ANY, Kind, UnknownAnnotationError, kind_of, kind_of_default, kind_of_object
from dlrun.config.places import PACKAGE, is_name, plugin_parts, source_file
from dlrun.config.source import read_definition


class Missing:
    """The default of an option that has none."""

    def __repr__(self) -> str:
        return "(must be given)"


MISSING = Missing()


class Option(NamedTuple):
    """One option: what it takes and, for plugins, its default."""

    name: str
    kind: Kind
    default: Any = MISSING


class Source(NamedTuple):
    """What source text says of a part: its wiring (left of the star), options (right of it), docstring and line."""

    wiring: tuple[str, ...]
    options: dict[str, Option]
    doc: str
    line: int


_cache: dict[tuple[str, str, int, int], Source] = {}


def read_source(path: str, name: str) -> Source:
    """The part `name` in the Python file `path`. Raises LookupError where the file does not define it, UnknownAnnotationError."""
    status = os.stat(path)
    key = (path, name, status.st_mtime_ns, status.st_size)
    if key not in _cache:
        wiring, annotations, doc, line = read_definition(path, name)
        options = {option: Option(option, kind_of(annotation)) for option, annotation in annotations.items()}
        _cache[key] = Source(tuple(wiring), options, doc, line)
    return _cache[key]


def part_source(group: str, name: str) -> Source | None:
    """What is known of the part `name` of `group`; None where there is none."""
    plugin = plugin_parts(group).get(name)
    if plugin is not None:
        return plugin_source(plugin)
    path = source_file(group, name)
    return read_source(path, name) if is_name(name) and os.path.isfile(path) else None


def plugin_source(part: Any) -> Source:
    """The options of a plugin's part, from its signature. Unannotated: the type of the default; an unknown annotation allows anything."""
    import inspect
    import typing

    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):
        return Source((), {}, inspect.getdoc(part) or "", 1)
    try:
        hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    except Exception:  # whatever the user's annotations raise, their text is still there
        hints = {}
    wiring = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    options = {}
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = MISSING if parameter.default is parameter.empty else _plain_value(parameter.default)
            options[parameter.name] = Option(parameter.name, _plugin_kind(parameter, hints.get(parameter.name)), default)
    return Source(wiring, options, inspect.getdoc(part) or "", 1)


def _plugin_kind(parameter: Any, hint: Any) -> Kind:
    annotation = parameter.annotation if hint is None else hint
    if annotation is parameter.empty:
        return ANY if parameter.default is parameter.empty else kind_of_default(parameter.default)
    try:
        return kind_of_object(annotation)
    except UnknownAnnotationError:
        return ANY


def _plain_value(value: Any) -> Any:
    """A Python default as YAML would hold it."""
    if isinstance(value, (tuple, list)):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain_value(item) for key, item in value.items()}
    return str(value) if isinstance(value, PurePath) else value


def is_plain(value: Any) -> bool:
    """Whether YAML can hold `value`."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


class Settings(NamedTuple):
    """The schema of the root keys: classes of `settings.py` by name, and the facts of `expects`."""

    classes: dict[str, dict[str, ast.expr]]
    expects: dict[str, Kind]


_settings: list[Settings] = []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def settings() -> Settings:
    """`dlrun/settings.py`, read as text once."""
    if not _settings:
        tree = ast.parse(_read(os.path.join(PACKAGE, "settings.py")))
        classes = {node.name: _fields(node) for node in tree.body if isinstance(node, ast.ClassDef)}
        expects = next(n for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.target.id == "EXPECTS")
        assert isinstance(expects.value, ast.Dict)
        facts = {ast.literal_eval(key): kind_of(value) for key, value in zip(expects.value.keys, expects.value.values, strict=True) if key}
        _settings.append(Settings(classes, facts))
    return _settings[0]


def _fields(node: ast.ClassDef) -> dict[str, ast.expr]:
    found = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    return {n.target.id.rstrip("_"): n.annotation for n in found if isinstance(n.target, ast.Name)}
