"""A part's definition as its source text says it, by `ast`: wiring left of the star, annotated options right of it, docstring."""

from __future__ import annotations

import ast


def read_definition(path: str, name: str) -> tuple[list[str], dict[str, ast.expr], str, int]:
    """(wiring, option -> annotation, docstring, line) of the function or class `name` in `path`. Raises LookupError."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    node = next((n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name), None)
    if node is None:
        raise LookupError(f"{path} defines no {name}")
    doc = _docstring(node) or _docstring(tree)
    function: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    if isinstance(node, ast.ClassDef):
        function = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if function is None:
        return [], {}, doc, node.lineno
    wiring = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    options = {argument.arg: argument.annotation for argument in function.args.kwonlyargs if argument.annotation is not None}
    if len(options) < len(function.args.kwonlyargs):
        raise LookupError(f"{path}:{function.lineno}: every option of {name} needs an annotation")
    return wiring[1:] if isinstance(node, ast.ClassDef) else wiring, options, doc, node.lineno


def plugin_definitions(text: str) -> dict[tuple[str, str], dict[str, tuple[str, str, str]]]:
    """What a plugin's text registers, without running it: (group, name) -> option -> (annotation, default, comment behind it).

    Only definitions at the left margin under `@register.GROUP` or `@register.GROUP(...)` are seen. Raises SyntaxError, ValueError.
    """
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        for decorator in node.decorator_list:
            named = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name) and named.value.id == "register":
                found[named.attr, node.name] = _written_options(node, lines)
    return found


def _written_options(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> dict[str, tuple[str, str, str]]:
    body = [node] if isinstance(node, ast.FunctionDef) else node.body
    function = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name in (node.name, "__init__")), None)
    if function is None:
        return {}
    options = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults):
        end = (default or argument).end_lineno or argument.lineno
        rest = lines[end - 1].encode()[(default or argument).end_col_offset or 0 :].decode("utf-8", "replace").partition("#")[2]
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        options[argument.arg] = (annotation, ast.unparse(default) if default else "", rest.strip())
    return options


def _docstring(node: ast.FunctionDef | ast.ClassDef | ast.Module) -> str:
    """The docstring without its indentation (ast's own cleaning imports `inspect`, 13 ms)."""
    lines = (ast.get_docstring(node, clean=False) or "").strip().splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    return "\n".join([*lines[:1], *(line[margin:].rstrip() for line in lines[1:])])
