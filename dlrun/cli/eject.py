"""`dlrun eject KIND/NAME`: a built-in part as a plugin of one's own, with its YAML: trains to the same bits until it is edited."""

from __future__ import annotations

import ast
import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.new import check_name, write_new
from dlrun.cli.plain import read_text
from dlrun.config.places import GROUPS, builtin_names, find_yaml, own_conf, printable, source_file
from dlrun.errors import UsageError


def run(arguments: Arguments) -> int:
    """Write NEW.py and conf/KIND/NEW.yaml into the current folder (or --out), and say how to train with them."""
    group, name = _part(arguments)
    new = arguments.text("as") or f"my_{name}"
    check_name(group, new)
    folder = os.path.expanduser(arguments.text("out") or "")
    path = find_yaml(group, name, [own_conf()])
    plugin, conf = os.path.join(folder, f"{new}.py"), os.path.join(folder, "conf")
    values = os.path.join(conf, group, f"{new}.yaml")
    text = renamed_yaml(read_text(path) if path else "", name, new)
    write_new({plugin: as_plugin(read_text(source_file(group, name)), group, name, new), values: text})
    slot = f"augment.{name}" if group == "augment" else group
    from shlex import join

    brought = ["--plugin", plugin, "--config-dir", conf]
    words = ["probe", "RUN", new, *brought] if group == "probe" else ["train", *brought, f"{slot}={new}"]
    use = join(["dlrun", *words])
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"kind": group, "name": new, "files": [plugin, values], "use": use})
    else:
        sys.stdout.write(f"wrote {printable(plugin)} and {printable(values)}, a copy of {group}/{name}\n  {printable(use)}\n")
    return 0


def _part(arguments: Arguments) -> tuple[str, str]:
    from dlrun.config.messages import hint, listing, nearest

    words = arguments.positional
    if len(words) != 1 or arguments.overrides:
        raise UsageError("dlrun eject takes one part, KIND/NAME, like model/mlp")
    group, _, name = words[0].partition("/")
    if group not in GROUPS:
        raise UsageError(f"no kind {printable(repr(group), 60)}; there are {', '.join(GROUPS)}{hint(nearest(group, GROUPS))}")
    known = builtin_names(group)
    if name not in known:
        guess = hint(nearest(name, known), f"{group}/")
        raise UsageError(f"dlrun has no {group} {printable(repr(name), 60)}; there are {listing(known) or 'none'}{guess}")
    return group, name


def renamed_yaml(text: str, name: str, new: str) -> str:
    """The YAML under its new name."""
    lines = [f"name: {new}" if line.partition("#")[0].strip() == f"name: {name}" else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def as_plugin(text: str, group: str, name: str, new: str) -> str:
    """The source of a part as a plugin: defined and used under its new name, and registered. Strings stay: keyed noise reads some."""
    tree = ast.parse(text)
    node = next(n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name)
    lines = text.splitlines()
    for line, column in sorted({*_uses(tree, name), _name_of(node, lines, name)}, reverse=True):
        raw = lines[line - 1].encode()
        lines[line - 1] = (raw[:column] + new.encode() + raw[column + len(name) :]).decode()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines.insert(first - 1, f"@register.{group}")
    imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom)) and getattr(n, "module", "") != "__future__"]
    own = [n for n in imports if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("dlrun")]
    after = max(
        (n.end_lineno or 0 for n in own if (n.module or "") < "dlrun.registry~"),
        default=max((n.end_lineno or 0 for n in imports), default=0),
    )
    facts = next((n for n in own if n.module == "dlrun.registry"), None)
    if facts is not None and facts.lineno == facts.end_lineno:
        lines[facts.lineno - 1] += ", register"
    else:
        lines.insert(after or first - 1, "from dlrun.registry import register")
    return "\n".join(lines) + "\n"


def _name_of(node: ast.FunctionDef | ast.ClassDef, lines: list[str], name: str) -> tuple[int, int]:
    """Where the definition's own name stands: (line, byte in it)."""
    word = "class " if isinstance(node, ast.ClassDef) else "def "
    return node.lineno, lines[node.lineno - 1].encode().index(f"{word}{name}".encode()) + len(word)


def _uses(node: ast.AST, name: str) -> set[tuple[int, int]]:
    """Where the part's name is read: not in functions that have something else of this name."""
    found: set[tuple[int, int]] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and child.id == name and isinstance(child.ctx, ast.Load):
            found.add((child.lineno, child.col_offset))
        if not (isinstance(child, (ast.FunctionDef, ast.Lambda)) and name in _own_names(child)):
            found |= _uses(child, name)
    return found


def _own_names(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """Parameters of a function and what it assigns."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *filter(None, [arguments.vararg, arguments.kwarg])]
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return {argument.arg for argument in named} | stored
