"""The architecture as rules: each takes source files and gives one line for every place that breaks it.

Kept apart from the tests, so that a rule can be shown a bad example as well as the real tree. Source files are read, never imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Longer than the budget, each for a reason that splitting would not remove.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
CORPUS = "scripts/scoring/corpus/"
"""Set-ups that the checks are scored on: lists of small parts that stay as their authors wrote them, mistakes and all."""
FILE_LINES, FUNCTION_LINES, NESTING = 300, 40, 3

LAYERS = [
    {"types", "batch", "task", "trained", "registry", "noise", "ranges", "errors", "settings"},
    {"nn", "functional", "vision"},
    {"models", "datasets", "augments", "tasks", "losses", "metrics", "optimizers", "schedules", "probes"},
    set(),  # the machinery: every other module
    {"cli", "__main__"},
]
MACHINERY = 3
PARTS = LAYERS[2]


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the repository's root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def module(self) -> str:
        """Its dotted name: `dlrun.models.mlp`; a package's is that of its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def in_package(self) -> bool:
        return self.path.startswith("dlrun/")

    def docstrings(self) -> set[int]:
        """Ids of the nodes that are docstrings or other strings standing alone: prose, not code."""
        return {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def read(*folders: str, root: Path = ROOT) -> list[Source]:
    """Every Python file below `folders`."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py") if "__pycache__" not in path.parts)
    return [Source(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in paths]


# -- what imports what ----------------------------------------------------------------------------------------------------------------


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _walk(node: ast.AST, functions: bool) -> Iterator[ast.AST]:
    """Nodes below `node`; those inside functions only if asked for, those under `if TYPE_CHECKING` never."""
    for child in ast.iter_child_nodes(node):
        if _type_checking(child) or (not functions and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            continue
        yield child
        yield from _walk(child, functions)


def imports(source: Source, *, functions: bool = True) -> Iterator[tuple[str, int]]:
    """Dotted names that `source` imports, with the line; `from a import b` gives `a.b`, relative imports are resolved."""
    package = source.module.split(".") if source.path.endswith("__init__.py") else source.module.split(".")[:-1]
    for node in _walk(source.tree, functions):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{start}.{alias.name}", node.lineno) for alias in node.names)


def layer(top: str) -> int:
    """The layer of `dlrun.<top>`."""
    return next((level for level, members in enumerate(LAYERS) if top in members), MACHINERY)


def _sibling(source: Source, target: list[str]) -> bool:
    """Whether a part imports another part; a helper in its own folder, named with an underscore, is none."""
    own = source.module.split(".")
    helper = len(target) > 2 and target[2].startswith("_")
    return target[1] in PARTS and own[1] in PARTS and target[:3] != own[:3] and not (target[1] == own[1] and helper)


def imports_from_lower_layers_only(sources: list[Source]) -> list[str]:
    """A module imports from lower layers; the machinery also from its own; parts not from each other."""
    found = []
    known = {source.module.split(".")[1] for source in sources if source.in_package and source.module.count(".")}
    for source in sources:
        if not source.in_package or source.module == "dlrun":
            continue
        own = source.module.split(".")[1]
        for name, line in imports(source):
            target = name.split(".")
            if target[0] != "dlrun" or target[-1] == "__version__":
                continue
            where = f"{source.path}:{line}: imports {name}"
            if len(target) < 2 or target[1] not in known:
                found.append(f"{where}: inside the package name the module itself, not dlrun's public names")
            elif layer(target[1]) > layer(own):
                found.append(f"{where}: layer {layer(own)} may not use layer {layer(target[1])}")
            elif _sibling(source, target):
                found.append(f"{where}: parts do not import each other; what two share goes to nn/ or functional/")
    return found


TORCH_FREE = ("errors", "ranges", "settings", "registry", "config", "claims", "cli", "plugins")
HEAVY = {"torch", "torchvision", "wandb", "sklearn", "matplotlib", "tensorboard"}
PLAIN = ("cli", "registry", "errors")  # what --help, ls and show import when they start
NOT_PLAIN = {"hydra", "omegaconf", "yaml", "rich", "numpy"} | HEAVY


def _prefixes(name: str) -> list[str]:
    """`a.b.c` imports a, a.b and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _reached(sources: list[Source], start: Source) -> dict[str, str]:
    """Every module imported when `start` is (functions' own imports do not count) -> who imports it."""
    modules = {source.module: source for source in sources}
    reached: dict[str, str] = {start.module: start.path}
    unread = [start]
    while unread:
        source = unread.pop()
        fresh = {name: line for full, line in imports(source, functions=False) for name in _prefixes(full) if name not in reached}
        reached |= {name: f"{source.path}:{line}" for name, line in fresh.items()}
        unread += [modules[name] for name in fresh if name in modules]
    return reached


def light_modules_import_nothing_heavy(sources: list[Source]) -> list[str]:
    """What a config error passes through imports no torch at module level, directly or through others; the command line nor Hydra, rich."""
    found = []
    for source in sources:
        own = source.module.split(".")[1] if source.in_package and source.module.count(".") else ""
        light = source.module == "dlrun" or own in TORCH_FREE
        plain = source.module in {"dlrun", "dlrun.cli"} or own in PLAIN[1:]
        banned = NOT_PLAIN if plain else HEAVY if light and own != "cli" else set()
        reached = _reached(sources, source) if banned else {}
        found += [f"{source.path}: importing it imports {name} (in {reached[name]})" for name in sorted(banned & reached.keys())]
    return found


def declared(project: dict[str, list[str]]) -> set[str]:
    """Import names of the distributions named in requirement lists."""
    names = {re.split(r"[<>=!\[ ;]", requirement)[0].lower() for requirements in project.values() for requirement in requirements}
    spelled = {"scikit-learn": "sklearn", "hydra-core": "hydra", "pillow": "PIL", "pyyaml": "yaml", "pytest-xdist": "xdist"}
    return {spelled.get(name, name) for name in names}


def third_party_imports(sources: list[Source]) -> dict[str, str]:
    """Top-level names of what is neither dlrun's, nor the standard library's, nor a neighbour in tests/ or scripts/ -> a place."""
    own = {"dlrun"} | {part for source in sources if not source.in_package for part in source.path.removesuffix(".py").split("/")}
    return {
        name.split(".")[0]: f"{source.path}:{line}"
        for source in sources
        for name, line in imports(source)
        if name.split(".")[0] not in own and name.split(".")[0] not in sys.stdlib_module_names
    }


# -- budgets --------------------------------------------------------------------------------------------------------------------------

BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _depth(node: ast.AST, depth: int = 0) -> int:
    """How deep blocks stand in each other below `node`; a function inside starts anew, `elif` is no deeper than `if`."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continue
        chained = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, _depth(child, depth + (isinstance(child, BLOCKS) and not chained)))
    return deepest


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines from `def` to the end, the docstring left out: explaining costs nothing."""
    first = function.body[0]
    prose = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if prose else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def within_budget(sources: list[Source]) -> list[str]:
    """Files, functions and nesting stay small, and no exemption outlives its reason."""
    found, used = [], set()
    for source in sources:
        length = len(source.text.splitlines())
        used |= {source.path} if length > FILE_LINES else set()
        if length > FILE_LINES and source.path not in LONG_FILES and not source.path.startswith(CORPUS):
            found.append(f"{source.path}: {length} lines, the budget is {FILE_LINES}")
        for function in (node for node in ast.walk(source.tree) if isinstance(node, FUNCTIONS)):
            name, lines, depth = f"{source.path}:{function.name}", _lines(function), _depth(function)
            used |= {name} if lines > FUNCTION_LINES else set()
            if lines > FUNCTION_LINES and name not in LONG_FUNCTIONS:
                found.append(f"{name}: {lines} lines, the budget is {FUNCTION_LINES}")
            if depth > NESTING and not source.path.startswith(CORPUS):
                found.append(f"{name}: nested {depth} deep, the budget is {NESTING}")
    return found + [f"{name}: an exemption from the budget that it does not need" for name in {*LONG_FILES, *LONG_FUNCTIONS} - used]


def folders_at_most_two_deep(sources: list[Source]) -> list[str]:
    """Two folders at most below dlrun/."""
    return [f"{source.path}: more than two folders deep" for source in sources if source.in_package and source.path.count("/") > 3]


# -- words that say what a file is ------------------------------------------------------------------------------------------------------


def every_module_says_what_it_is(sources: list[Source]) -> list[str]:
    """Every module has a docstring."""
    return [f"{source.path}: no module docstring" for source in sources if not ast.get_docstring(source.tree)]


def is_part(source: Source) -> bool:
    """Whether the file defines a part: dlrun/<folder of parts>/<name>.py."""
    steps = source.path.split("/")
    return len(steps) == 3 and steps[0] == "dlrun" and steps[1] in PARTS and not steps[2].startswith("_")


def every_part_names_its_source(sources: list[Source]) -> list[str]:
    """A part's docstring says where it comes from (`Source: ...`)."""
    return [
        f"{source.path}: its docstring names no source (`Source: authors year, section`)"
        for source in sources
        if is_part(source) and not re.search(r"Source: \S.{8}", ast.get_docstring(source.tree) or "")
    ]


LOOP_WORDS = {"noise", "step", "precision"}  # an augmentation, a schedule and a metric have these names too; a loop cannot do without


def the_loop_knows_no_part(sources: list[Source]) -> list[str]:
    """Nothing in loop.py carries the name of a part, prose left out: it never asks what it trains."""
    parts = {source.path.split("/")[2].removesuffix(".py") for source in sources if is_part(source)} - LOOP_WORDS
    found = []
    for source in (source for source in sources if source.path == "dlrun/loop.py"):
        prose = source.docstrings()
        for node in ast.walk(source.tree):
            words = {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None), getattr(node, "name", None)}
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                words |= set(re.findall(r"\w+", node.value))
            found += [f"{source.path}:{getattr(node, 'lineno', '?')}: names the part {word}" for word in sorted(parts & (words - {None}))]
    return found
