"""YAML read as data and nothing else: every file is scanned before Hydra or OmegaConf sees any of it.

Refused are what could explode (size, depth, aliases), call (tags) or mean something else than it looks like: YAML 1.1 reads `no` as
False, `1:30` as 90 and `010` as 8. The scalars that are left are read as OmegaConf reads them.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

import yaml

from dlrun.config.places import printable, shown
from dlrun.errors import UsageError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_ERRORS = 20
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)$")
FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
)
WORDS = {"true": True, "false": False, "null": None}
WORDS.update({spelling(word): value for word, value in list(WORDS.items()) for spelling in (str.capitalize, str.upper)})
WORDS.update({"~": None, "": None})
SURPRISING = (
    (re.compile(r"(?i:yes|no|on|off)$"), "YAML reads it as true or false: write true, false or put it in quotes"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"), "YAML reads it as a number to base 60: put it in quotes"),
    (re.compile(r"[-+]?0[0-9_]+$"), "YAML reads a leading zero as base 8: write the number without it, or put it in quotes"),
    (re.compile(r"[-+]?0[obxOBX][0-9a-fA-F_]+$"), "write the number in decimal, or put it in quotes"),
    (re.compile(r"[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([Tt ].*)?$"), "YAML reads it as a date: put it in quotes"),
    (re.compile(r"=$"), "put it in quotes"),
)


def reads_as_text(text: str) -> bool:
    """Whether `text`, written without quotes, is read as this very text."""
    return not (text in WORDS or INTEGER.match(text) or FLOAT.match(text) or any(pattern.match(text) for pattern, _ in SURPRISING))


class Document:
    """A YAML file as plain data: `values` (without the defaults list), `defaults`, the line each path stands on, the `@package` header."""

    def __init__(self, path: str, tree: dict[str, Any], lines: dict[tuple[str, ...], int], package: str | None) -> None:
        self.path = path
        self.defaults: list[Any] = tree.pop("defaults", None) or []
        self.values = tree
        self.lines = lines
        self.package = package

    def where(self, path: tuple[str, ...]) -> str:
        """`file:line` of `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{shown(self.path)}:{self.lines.get(path, 1)}"


class _RefusedError(Exception):
    """Reading cannot go on in this file."""


_cache: dict[tuple[str, int, int, int], Document] = {}


def read(path: str) -> Document:
    """Read `path`, whose top must be a mapping. Raises UsageError with one line for each thing refused."""
    label = shown(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{label}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise UsageError(f"{label}: {status.st_size} bytes; a config has at most {MAX_BYTES}")
        key = (path, status.st_mtime_ns, status.st_size, status.st_ino)
        if key not in _cache:
            with open(path, "rb") as file:
                _cache[key] = parse(file.read(MAX_BYTES + 1), path)
        return _cache[key]
    except OSError as error:
        raise UsageError(f"{label}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(f"{label}: not a path") from None


def parse(data: bytes, path: str) -> Document:
    """The content `data` of `path` as a Document. Raises UsageError."""
    label = shown(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{label}: not UTF-8 (byte {error.start}): save it as UTF-8") from None
    builder = _Builder(label)
    try:
        tree = builder.build(text)
    except yaml.YAMLError as error:
        builder.errors.append(f"{label}:{_line_of(error)}: not YAML: {_problem_of(error)}")
    except _RefusedError:
        pass
    if builder.errors:
        raise UsageError(builder.errors[:MAX_ERRORS])
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        found = "a list" if isinstance(tree, list) else "a single value"
        raise UsageError(f"{label}: expected a mapping `key: value` at the top, found {found}")
    defaults = tree.get("defaults")
    if defaults is not None and not isinstance(defaults, list):
        raise UsageError(f"{label}:{builder.lines[('defaults',)]}: defaults: expected a list")
    header = re.match(r"\s*#\s*@package\s+(\S+)", text)
    return Document(path, tree, builder.lines, header.group(1) if header else None)


def _line_of(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else 1


def _problem_of(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    return printable(str(problem), 120)


class _Builder:
    """Turns parser events into plain data, keeping lines and collecting what is refused."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.errors: list[str] = []
        self.lines: dict[tuple[str, ...], int] = {}
        self.nodes = 0
        self.events: Any = None

    def refuse(self, event: Any, message: str, stop: bool = False) -> None:
        """Note an error at `event`; with `stop`, or when there are very many, give up."""
        self.errors.append(f"{self.label}:{event.start_mark.line + 1}: {message}")
        if stop or len(self.errors) >= MAX_ERRORS:
            raise _RefusedError

    def build(self, text: str) -> Any:
        """The one document of `text`, or None where it is empty."""
        self.events = yaml.parse(text, Loader=LOADER)
        tree = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse(event, "a second document (`---`): one file holds one", stop=True)
                tree = self.node(next(self.events), (), 0)
        return tree

    def node(self, event: Any, path: tuple[str, ...], depth: int) -> Any:
        """The value that starts at `event`; consumes its events."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.refuse(event, f"more than {MAX_NODES} values", stop=True)
        if depth > MAX_DEPTH:
            self.refuse(event, f"nested more than {MAX_DEPTH} deep", stop=True)
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event, f"alias `*{printable(str(event.anchor))}`: write the value out")
            return None
        if event.anchor is not None:
            self.refuse(event, f"anchor `&{printable(event.anchor)}`: write the value out where it is used, or say ${{a.b}}")
        if event.tag is not None:
            self.refuse(event, f"tag `{printable(event.tag)}`: a config holds plain values only; leave the tag out")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(event, path, depth + 1))
            return items
        return self.mapping(path, depth)

    def mapping(self, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        """A mapping whose start was read."""
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, depth)
            if key in found:
                self.refuse(event, f"key {printable(key)} stands here twice (first on line {self.lines[(*path, key)]}): keep one")
            else:
                self.lines[(*path, key)] = event.start_mark.line + 1
            found[key] = self.node(next(self.events), (*path, key), depth + 1)
        return found

    def key(self, event: Any, depth: int) -> str:
        """The key at `event`; always text."""
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(event, "a key that is a list or mapping: keys are text", stop=True)
        if not event.style and event.value == "<<":
            self.refuse(event, "merge key `<<`: write the keys out")
            return "<<"
        value = self.node(event, (), depth)
        if not isinstance(value, str):
            shown_value = printable(event.value, 60) or "(empty)"
            self.refuse(event, f"key {shown_value} is not text: put it in quotes")
        return str(event.value)

    def scalar(self, event: Any) -> Any:
        """A scalar, read as OmegaConf reads it; plain ones with a surprising meaning are refused."""
        text: str = event.value
        if event.style:
            return text
        if text in WORDS:
            return WORDS[text]
        for pattern, advice in SURPRISING:
            if pattern.match(text):
                self.refuse(event, f"{printable(text, 60)}: {advice}")
                return text
        if INTEGER.match(text):
            if len(text) > 400:
                self.refuse(event, "a number of more than 400 digits")
                return 0
            return int(text.replace("_", ""))
        if FLOAT.match(text):
            return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        return text
