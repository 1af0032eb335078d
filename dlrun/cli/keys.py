"""The root keys of a config as text: values and comments from `conf/config.yaml`, types from `dlrun/settings.py`, without a YAML parser."""

from __future__ import annotations

import os

from dlrun.cli.plain import read_text, split_comment
from dlrun.config.places import PACKAGE, own_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

SECTIONS = {"Train": "train", "Wandb": "log.wandb", "Log": "log", "Start": "start", "Root": ""}
"""Class in `settings.py` -> the section of the config whose keys it types."""
DEFAULTS = {
    "start.from": "(must be given)",
    "start.step": "last",
    "start.networks": "{}",
    "start.freeze": "[]",
    "start.strict": "true",
    "arm": "null",
    "experiment": "null",
}
"""Values that stand in no YAML; those of `start` are equal to `config.sections.START_DEFAULTS` (tested)."""
COMMENTS = {"experiment": "a file of conf/experiment: its values stand over these", "arm": "one of the experiment's arms"}


def root_keys() -> dict[str, dict[str, str]]:
    """Every root key that is not a part, in the order of `conf/config.yaml`: dotted name -> name, type, default, comment."""
    types = _types(os.path.join(PACKAGE, "settings.py"))
    found: dict[str, dict[str, str]] = {}
    for key, (value, comment) in values(read_text(os.path.join(own_conf(), "config.yaml"))).items():
        if key in types:
            found[key] = {"name": key, "type": types[key][0], "default": value, "comment": comment}
    for key, (annotation, comment) in types.items():
        default = DEFAULTS.get(key, "(not said)" if key.startswith("expects.") else "")
        found.setdefault(key, {"name": key, "type": annotation, "default": default, "comment": comment or COMMENTS.get(key, "")})
    return found


def section_comments() -> dict[str, str]:
    """What stands behind a section's own name: `start`, `expects`."""
    written = values(read_text(os.path.join(own_conf(), "config.yaml")))
    return {key: written[key][1] for key in ("start", "expects")}


def values(text: str) -> dict[str, tuple[str, str]]:
    """Dotted key -> (value as written, comment) of block mappings; the defaults list is passed over."""
    found: dict[str, tuple[str, str]] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.lstrip()
        key, colon, rest = bare.partition(":")
        if not bare or bare[0] in "#-" or not colon:
            continue
        indent = len(line) - len(bare)
        above = [(depth, name) for depth, name in above if depth < indent]
        value, comment = split_comment(rest)
        above.append((indent, key))
        if value:
            found[".".join(name for _, name in above)] = (value, comment)
    return found


def _types(path: str) -> dict[str, tuple[str, str]]:
    """Dotted key -> (annotation, comment behind it) of the classes and of EXPECTS in `settings.py`."""
    import ast

    text = read_text(path)
    lines = text.splitlines()
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse(text).body:
        for key, annotation, line in _typed(node):
            found[key] = (ast.unparse(annotation), split_comment(lines[line - 1])[1])
    found.pop("log.wandb", None)
    return found


def _typed(node: ast.stmt) -> Iterator[tuple[str, ast.expr, int]]:
    """(dotted key, annotation, last line) of the fields of a section's class, and of the facts in EXPECTS."""
    import ast

    if isinstance(node, ast.ClassDef) and node.name in SECTIONS:
        before = SECTIONS[node.name] and SECTIONS[node.name] + "."
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield before + field.target.id.rstrip("_"), field.annotation, field.end_lineno or 1
    elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
        for key, value in zip(node.value.keys, node.value.values):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield f"expects.{key.value}", value, value.lineno
