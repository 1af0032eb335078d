"""The config as JSON Schema (draft 2020-12), from the same annotations, values and comments that configs are checked with.

It says what can stand where in an experiment or a saved config. What needs more than one place to be known (which slots a task has, which
part a bare option belongs to) is left to `dlrun train --cfg`: the schema is never stricter than dlrun, and a little looser.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from dlrun.ranges import NAMED, Range

Schema = dict[str, Any]
INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{.+\}|^\?\?\?$"}
NAME = "^(?!name$)[A-Za-z_][A-Za-z0-9_]*$"
PLAIN: dict[str, Schema] = {
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "Path": {"type": "string", "minLength": 1},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "list": {"type": "array"},
    "tuple": {"type": "array"},
    "Sequence": {"type": "array"},
    "dict": {"type": "object"},
    "Mapping": {"type": "object"},
}


def reference(name: str) -> Schema:
    """A pointer to a definition; `/` in its name is escaped as JSON Pointers want it."""
    return {"$ref": f"#/$defs/{name.replace('/', '~1')}"}


def of_range(base: type, limits: Range) -> Schema:
    """A number within limits."""
    found: Schema = {"type": "integer" if base is int else "number"}
    if limits.low is not None:
        found["exclusiveMinimum" if limits.open_low else "minimum"] = base(limits.low)
    if limits.high is not None:
        found["exclusiveMaximum" if limits.open_high else "maximum"] = base(limits.high)
    return found


def of_annotation(text: str) -> Schema:
    """What the annotation `text` allows; {} (anything) for one outside the language of `dlrun/ranges.py`."""
    try:
        return _of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return {}


def _of(node: ast.expr) -> Schema:
    if isinstance(node, ast.Constant):
        return of_annotation(node.value) if isinstance(node.value, str) else {"type": "null"} if node.value is None else {}
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        return of_range(*NAMED[name]) if name in NAMED else dict(PLAIN.get(name, {}))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _any([_of(node.left), _of(node.right)])
    return _subscript(node) if isinstance(node, ast.Subscript) else {}


def _any(choices: list[Schema]) -> Schema:
    """One of several, those of unions inside unions side by side."""
    flat = [inner for choice in choices for inner in (choice["anyOf"] if list(choice) == ["anyOf"] else [choice])]
    return {} if {} in flat else {"anyOf": flat}


def _subscript(node: ast.Subscript) -> Schema:
    outer = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return {"enum": [ast.literal_eval(item) for item in inner]}
    if outer == "Annotated":
        return _of(inner[0])
    if outer in ("Optional", "Union"):
        return _any([*map(_of, inner), *([{"type": "null"}] if outer == "Optional" else [])])
    if outer in ("dict", "Dict", "Mapping"):
        return {"type": "object", "additionalProperties": _inner(inner[-1])}
    ends_open = isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis
    if outer in ("tuple", "Tuple") and not ends_open:
        return {"type": "array", "prefixItems": [_inner(item) for item in inner], "minItems": len(inner), "maxItems": len(inner)}
    if outer in ("list", "List", "Sequence", "tuple", "Tuple", "set", "frozenset"):
        return {"type": "array", "items": _inner(inner[0])}
    return {}


def _inner(node: ast.expr) -> Schema:
    """What stands inside a list or mapping: there, too, a value may come from elsewhere."""
    kind = _of(node)
    return _any([kind, reference("interpolation")]) if kind else {}


def option(annotation: str, comment: str, default: Any = None, has_default: bool = False) -> Schema:
    """An option: its type or an interpolation, what it means, its default."""
    kind = of_annotation(annotation)
    found: Schema = {"description": comment} if comment else {}
    if has_default:
        found["default"] = default
    return found | (_any([kind, reference("interpolation")]) if kind else {})


def part(group: str, name: str, about: str, options: Mapping[str, Schema]) -> Schema:
    """A part: its name and options and nothing else. Without a name it is what changes options of a part chosen elsewhere."""
    properties: Schema = {"name": {"const": name}, **options}
    if group == "optimizer":
        words = "which parameters it updates, by pattern; null: those no other optimizer owns"
        properties["owns"] = option("list[str] | None", words)
    if group == "task":
        properties["slots"] = {"description": "the slots that the task has, as its code says", "type": "object"}
    return {"title": f"{group}/{name}", "description": about, "type": "object", "properties": properties, "additionalProperties": False}


def group(name: str, parts: list[str]) -> Schema:
    """One part of a group: its name alone, a part with its options, or options of a part that is chosen elsewhere."""
    named = [{"allOf": [reference(f"{name}/{each}")], "required": ["name"]} for each in parts]
    bare = {"type": "object", "not": {"required": ["name"]}, "anyOf": [reference(f"{name}/{each}") for each in parts]}
    return {"oneOf": [{"title": f"the name of a {name}", "enum": parts}, *named, bare]}


def place(name: str, slots: bool, empty: bool) -> Schema:
    """What may stand at the key of a group: a part, slots that hold one each, or nothing."""
    choices = [reference(name)]
    if slots:
        inside = {"anyOf": [reference(name), {"type": "null"}]}
        choices.append({"type": "object", "minProperties": 1, "propertyNames": {"pattern": NAME}, "additionalProperties": inside})
    return {"anyOf": [*choices, *([{"type": "null"}] if empty else [])]}
