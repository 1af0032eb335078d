"""Rules on what code may not do: run or import what a file says, unpack without looking, name a machine.

Each takes source files and gives one line for every place that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from architecture_rules import Source, imports

# Who may use what is forbidden to all others: (file or folder, word) -> the reason.
NAMED_PLACES: dict[tuple[str, str], str] = {
    ("dlrun/registry.py", "import_module"): "imports built-in parts by a name checked against the directory listing",
    ("dlrun/plugins.py", "import_module"): "imports plugins that the command line named",
    ("dlrun/__init__.py", "import_module"): "resolves the public names lazily, from a table of its own",
    ("dlrun/cli/", "import_module"): "imports the command that was typed, from a table of its own",
    ("dlrun/config/", "_target_"): "refuses it",
}

CODE_FROM_DATA = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
BUILTINS = {"eval", "exec", "__import__"}
METHODS = {
    "extractall",
    "unpack_archive",
    "instantiate",
    "import_module",
    "run_path",
    "run_module",
    "exec_module",
    "unsafe_load",
    "full_load",
}
OF_MODULES = {"torch.load", "torch.save", "torch.hub.load", "yaml.load", "yaml.load_all", "os.system", "os.popen", "sklearn.externals"}
STRINGS = {"_target_"}


def _word(node: ast.AST, prose: set[int]) -> str | None:
    """The forbidden word that `node` uses, if any."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in BUILTINS | METHODS:
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "compile":
        return "compile"
    if isinstance(node, ast.Attribute):
        dotted = ast.unparse(node)
        return dotted if dotted in OF_MODULES else node.attr if node.attr in METHODS else None
    if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and node.value.value is True:
        return f"{node.arg}=True" if node.arg in {"shell", "allow_pickle"} else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
        return next((word for word in STRINGS if word in node.value), None)
    return None


def _used(source: Source) -> Iterator[tuple[str, int]]:
    """Forbidden words in `source` with their lines; bare names only count where they are called or handed on, not in prose."""
    prose = source.docstrings()
    for name, line in imports(source):
        head = name.split(".")[0]
        if head in CODE_FROM_DATA:
            yield head, line
        elif name in OF_MODULES or name.split(".")[-1] in METHODS:
            yield name if name in OF_MODULES else name.split(".")[-1], line
    for node in ast.walk(source.tree):
        if word := _word(node, prose):
            yield word, getattr(node, "lineno", 0)


def _named(path: str, word: str) -> bool:
    return any(word == allowed and (path == place or (place.endswith("/") and path.startswith(place))) for place, allowed in NAMED_PLACES)


def no_code_from_data(sources: list[Source]) -> list[str]:
    """Nothing in the package turns data into code, or unpacks an archive whole, outside the named places."""
    return [
        f"{source.path}:{line}: uses {word}, which is left to the places named in safety_rules.py"
        for source in sources
        if source.in_package
        for word, line in _used(source)
        if not _named(source.path, word)
    ]


def _yields(node: ast.AST, inside: bool = False) -> Iterator[int]:
    """Lines of the yields below `node` that stand inside a `with`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Yield, ast.YieldFrom)) and inside:
            yield child.lineno
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield from _yields(child, inside or isinstance(child, (ast.With, ast.AsyncWith)))


def tasks_yield_outside_context_managers(sources: list[Source]) -> list[str]:
    """The loop steps optimizers at a yield: a context manager that is open there would surround them too."""
    return [
        f"{source.path}:{line}: yields inside a context manager"
        for source in sources
        if source.path.startswith("dlrun/tasks/") or source.path == "dlrun/task.py"
        for function in ast.walk(source.tree)
        if isinstance(function, ast.FunctionDef)
        for line in _yields(function)
    ]


def nothing_is_swallowed(sources: list[Source]) -> list[str]:
    """No bare `except`, and no `except Exception` whose body is only `pass`: nothing is silent."""
    return [
        f"{source.path}:{node.lineno}: an exception of any kind vanishes here"
        for source in sources
        if source.in_package
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (ast.unparse(node.type) in {"Exception", "BaseException"} and isinstance(node.body[0], ast.Pass)))
    ]


# Joined here so that this file does not break the rule. Places of one machine, and where its packages came from.
MACHINE = ["/" + "work/", "/" + "root/", "/" + "opt/", "file" + "://", "/" + "Users/", "extra-index" + "-url", "find-" + "links"]


def names_no_machine(texts: dict[str, str]) -> list[str]:
    """No file of the repository (path -> text) names a folder or a package index of the machine it was written on."""
    home = re.compile(r"/" + r"home/(?!user\b|you\b|me\b)\w+")  # tests may make one up
    return [
        f"{path}:{number}: names a place of one machine: {word}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for word in [*(word for word in MACHINE if word in line), *([] if path.startswith("tests/") else home.findall(line))]
    ]
