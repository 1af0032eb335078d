"""What an annotation allows: `kind_of(expression)` turns `Count | Literal["full"]` into something that checks a value from YAML.

Annotations are read from source text (`ast`), so a part is never imported to check its options. An int is accepted where a float is asked
for; nothing else is coerced, and `True` is no number. All floats must be finite.
"""

from __future__ import annotations

import ast
import math
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from dlrun.config.places import printable
from dlrun.ranges import NAMED, Range


class MisfitError(Exception):
    """A value that does not fit: `expected` says what would, `where` is the place inside the value ("" or "[2]" or ".key")."""

    def __init__(self, expected: str, value: Any, where: str = "", choices: tuple[Any, ...] = ()) -> None:
        super().__init__(expected)
        self.expected, self.value, self.where, self.choices = expected, value, where, choices


class Kind(NamedTuple):
    """What values an option takes: `text` as written, `says` in words, `convert` gives it back (an int as float) or raises MisfitError."""

    text: str
    says: str
    convert: Callable[[Any], Any]
    choices: tuple[Any, ...] = ()
    range: Range | None = None
    optional: bool = False
    container: str = ""


class UnknownAnnotationError(ValueError):
    """An annotation outside the language of `dlrun.ranges` and the plain types."""


def show_value(value: Any) -> str:
    """A value as a message shows it: as it would stand in YAML, short and on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return printable(repr(value), 60)
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    if isinstance(value, dict):
        return "a mapping with " + (printable(", ".join(map(str, value)), 60) or "nothing in it")
    return printable(str(value), 60)


def _limits(limits: Range, base: type) -> str:
    if base is int and limits.low is not None and limits.high is not None:
        return f"from {int(limits.low)} to {int(limits.high)}"
    return str(limits)


def _number(base: type, limits: Range | None, text: str) -> Kind:
    noun = "an integer" if base is int else "a number"
    says = noun if limits is None else f"{noun} {_limits(limits, base)}"

    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (base is int and not isinstance(value, int)):
            raise MisfitError(says, value)
        try:
            as_float = float(value)
        except OverflowError:
            raise MisfitError(f"{says}, of a size that a float can hold", value) from None
        if not math.isfinite(as_float):
            raise MisfitError(f"{says}, finite", value)
        if limits is not None and not limits.holds(value):
            raise MisfitError(says, value)
        return as_float if base is float else value

    return Kind(text, says, convert, range=limits)


def _plain(kind: type, text: str, says: str) -> Kind:
    def convert(value: Any) -> Any:
        if not isinstance(value, kind):
            raise MisfitError(says, value)
        if isinstance(value, str) and "\0" in value:
            raise MisfitError(f"{says} without a zero byte", value)
        if text == "Path" and not value:
            raise MisfitError(f"{says} (leave the key out where there is none)", value)
        return value

    return Kind(text, says, convert)


def _null(value: Any) -> None:
    if value is not None:
        raise MisfitError("null", value)


def _anything(value: Any) -> Any:
    """Any plain value whose numbers are finite."""
    if isinstance(value, dict):
        return {key: _inside(_anything, item, f".{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_inside(_anything, item, f"[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise MisfitError("a finite number", value)
    return value


def _inside(convert: Callable[[Any], Any], value: Any, place: str) -> Any:
    try:
        return convert(value)
    except MisfitError as misfit:
        raise MisfitError(misfit.expected, misfit.value, place + misfit.where, misfit.choices) from None


NONE = Kind("None", "null", _null, optional=True)
ANY = Kind("Any", "any value", _anything, optional=True)


def _literal(choices: tuple[Any, ...], text: str) -> Kind:
    names = ", ".join("null" if c is None else str(c) for c in choices)
    says = f"one of {names}" if len(choices) > 1 else names

    def convert(value: Any) -> Any:
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise MisfitError(says, value, choices=choices)
        return value

    return Kind(text, says, convert, choices, optional=None in choices)


def _union(kinds: list[Kind], text: str) -> Kind:
    says = " or ".join(kind.says for kind in kinds)
    choices = tuple(choice for kind in kinds for choice in kind.choices)

    def convert(value: Any) -> Any:
        inner: MisfitError | None = None
        for kind in kinds:
            try:
                return kind.convert(value)
            except MisfitError as misfit:
                inner = misfit if misfit.where or misfit.expected != kind.says else inner
        raise inner or MisfitError(says, value, choices=choices)

    limits = next((kind.range for kind in kinds if kind.range), None)
    container = next((kind.container for kind in kinds if kind.container), "")
    return Kind(text, says, convert, choices, limits, any(kind.optional for kind in kinds), container)


def _list(item: Kind, text: str) -> Kind:
    says = "a list" if item is ANY else f"a list, each item {item.says}"

    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise MisfitError(says, value)
        return [_inside(item.convert, entry, f"[{i}]") for i, entry in enumerate(value)]

    return Kind(text, says, convert, container="list")


def _tuple(items: list[Kind], text: str) -> Kind:
    says = f"a list of {len(items)}: {', '.join(kind.says for kind in items)}"

    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            raise MisfitError(says, value)
        return [_inside(kind.convert, entry, f"[{i}]") for i, (kind, entry) in enumerate(zip(items, value, strict=True))]

    return Kind(text, says, convert, container="list")


def _dict(item: Kind, text: str) -> Kind:
    says = "a mapping" if item is ANY else f"a mapping from names to {item.says}"

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise MisfitError(says, value)
        return {key: _inside(item.convert, entry, f".{key}") for key, entry in value.items()}

    return Kind(text, says, convert, container="dict")


PLAIN = {
    "bool": _plain(bool, "bool", "true or false"),
    "str": _plain(str, "str", "text"),
    "Path": _plain(str, "Path", "a path"),
    "int": _number(int, None, "int"),
    "float": _number(float, None, "float"),
    "None": NONE,
    "NoneType": NONE,
    "Any": ANY,
    "object": ANY,
    "list": _list(ANY, "list"),
    "tuple": _list(ANY, "tuple"),
    "Sequence": _list(ANY, "Sequence"),
    "dict": _dict(ANY, "dict"),
    "Mapping": _dict(ANY, "Mapping"),
    **{name: _number(base, limits, name) for name, (base, limits) in NAMED.items()},
}


def kind_of(node: ast.expr) -> Kind:
    """The kind an annotation means. Raises UnknownAnnotationError."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return kind_of_text(node.value)
        if node.value is None:
            return NONE
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in PLAIN:
            return PLAIN[name]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(_flat_union(node), ast.unparse(node))
    if isinstance(node, ast.Subscript):
        return _subscript(node)
    raise UnknownAnnotationError(f"{ast.unparse(node)}: not in the language of dlrun/ranges.py")


def kind_of_text(text: str) -> Kind:
    """The kind an annotation in quotes means. Raises UnknownAnnotationError."""
    try:
        return kind_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UnknownAnnotationError(f"{text}: {error}") from None


def _flat_union(node: ast.expr) -> list[Kind]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_flat_union(node.left), *_flat_union(node.right)]
    return [kind_of(node)]


def _subscript(node: ast.Subscript) -> Kind:
    outer = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    text = ast.unparse(node)
    if outer == "Literal":
        return _literal(tuple(ast.literal_eval(item) for item in inner), text)
    if outer in ("tuple", "Tuple") and isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis:
        return _list(kind_of(inner[0]), text)
    if outer == "Annotated":
        return kind_of(inner[0])
    kinds = [kind_of(item) for item in inner]
    return _compound(outer, kinds, text)


def _compound(outer: str, kinds: list[Kind], text: str) -> Kind:
    if outer in ("list", "List", "Sequence", "set", "frozenset"):
        return _list(kinds[0], text)
    if outer in ("tuple", "Tuple"):
        return _tuple(kinds, text)
    if outer in ("dict", "Dict", "Mapping") and len(kinds) == 2:
        return _dict(kinds[1], text)
    if outer in ("Optional", "Union"):
        return _union([*kinds, *([NONE] if outer == "Optional" else [])], text)
    raise UnknownAnnotationError(f"{text}: not in the language of dlrun/ranges.py")


def kind_of_object(annotation: Any) -> Kind:
    """The kind of an annotation met as an object (a plugin's signature). Raises UnknownAnnotationError."""
    if isinstance(annotation, str):
        return kind_of_text(annotation)
    if annotation is None or (isinstance(annotation, type) and not typing.get_args(annotation)):
        name = "None" if annotation is None else annotation.__name__
        if name in PLAIN:
            return PLAIN[name]
    if annotation is Any:
        return ANY
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    text = str(annotation).replace("typing.", "")
    if origin is typing.Annotated:
        limits = next((extra for extra in inner[1:] if isinstance(extra, Range)), None)
        base = inner[0]
        named = next((name for name, known in NAMED.items() if known == (base, limits)), text)
        return _number(base, limits, named) if base in (int, float) else kind_of_object(base)
    if origin is typing.Literal:
        return _literal(inner, text)
    if origin is typing.Union or isinstance(annotation, types.UnionType):
        return _union([kind_of_object(item) for item in inner], text)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return _list(kind_of_object(inner[0]), text)
    if origin is not None and inner:
        return _compound(getattr(origin, "__name__", ""), [kind_of_object(item) for item in inner], text)
    raise UnknownAnnotationError(f"{text}: not in the language of dlrun/ranges.py")


def kind_of_default(value: Any) -> Kind:
    """The kind of an option without annotation, from its default: a number stays a number, text stays text; anything where it is None."""
    return PLAIN.get(type(value).__name__, ANY) if value is not None else ANY
