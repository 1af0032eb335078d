"""The corpus: set-ups as plugins of plain PyTorch parts, one pair of files a kind of learning, `corpus/<half>/<kind>.py` and `.yaml`.

The .py holds the parts, registered as a user's own would be; the .yaml names the set-ups made of them:

    twins:    healthy set-ups that faults are mutations of; `words` for the command line, `judge` the metric and its better direction
    healthy:  odd but right
    faults:   `twin`, what it `change`s there (another part in a slot, an option), what that is (`what`), where such a fault is
              reported (`source`), `silent` (no shape changes, nothing raises or warns), how it is `shown` to hurt, and which `family`
              (stage of a check) and which `checks` of the catalogue would name it

`shown` says on which rows a trained fault is measured, always with the task, loss and metric of its twin: `twin` (those of the twin's
test split), `own` (those of its own), `gap` (its own test split is honest, its val split flatters), `twin gap` (the twin's is).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "corpus"
HALVES = ("first", "second")
STAGES = ("data", "outputs", "loss", "gradient", "update", "learning")
SHOWN = ("twin", "own", "gap", "twin gap")


@dataclass(frozen=True)
class Setup:
    """One set-up. `twin` is the name of the healthy one that a fault is a mutation of, empty for healthy ones."""

    name: str
    half: str
    kind: str
    words: tuple[str, ...]
    plugin: Path
    judge: tuple[str, str] = ("loss", "min")
    odd: bool = False
    twin: str = ""
    what: str = ""
    source: str = ""
    silent: bool = False
    shown: str = "twin"
    family: tuple[str, ...] = ()
    checks: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        """A hash of all that training it depends on: the words, and the source of the parts they name."""
        names = {word.partition("=")[2] for word in self.words}
        text = "\n".join([*self.words, *self.judge, self.shown, *definitions(self.plugin, names)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    return {target.id for target in node.targets if isinstance(target, ast.Name)} if isinstance(node, ast.Assign) else set()


def definitions(path: Path, names: set[str]) -> list[str]:
    """The source, formatting left out, of what `path` defines under `names` and of everything in it that these use."""
    wanted, found = set(names), {}
    fresh = True
    while fresh:
        fresh = False
        for node in _tree(path).body:
            if _defined(node) & wanted and id(node) not in found:
                found[id(node)] = ast.unparse(node)
                wanted |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
                fresh = True
    return sorted(found.values())


def merged(words: list[str], change: list[str]) -> tuple[str, ...]:
    """`words` with what `change` sets put in the place of the same key; options of a part that is swapped go with it."""
    new = {word.partition("=")[0]: word for word in change}
    kept = [word for word in words if word.partition("=")[0] not in new and word.partition("=")[0].partition(".")[0] not in new]
    return (*kept, *new.values())


def _setups(half: str, path: Path) -> Iterator[Setup]:
    nodes: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    common: dict[str, Any] = {"half": half, "kind": path.stem, "plugin": path.with_suffix(".py")}
    twins = nodes.get("twins") or {}
    for group in ("twins", "healthy"):
        for name, node in (nodes.get(group) or {}).items():
            what = node.get("what", "")
            yield Setup(name, words=tuple(node["words"]), judge=tuple(node["judge"].split()), odd=group == "healthy", what=what, **common)
    for name, node in (nodes.get("faults") or {}).items():
        twin = twins[node["twin"]]
        words, judge = merged(twin["words"], node["change"]), tuple(twin["judge"].split())
        family, checks = tuple(node["family"]), tuple(node["checks"])
        assert set(family) <= set(STAGES) and node["shown"] in SHOWN, f"{path}: {name}"
        plain = {key: node[key] for key in ("twin", "what", "source", "silent", "shown")}
        yield Setup(name, words=words, judge=judge, family=family, checks=checks, **plain, **common)


def load(*halves: str) -> dict[str, Setup]:
    """Every set-up of these halves by name. A name used twice is an error of the corpus."""
    found: dict[str, Setup] = {}
    for half in halves:
        for path in sorted((FOLDER / half).glob("*.yaml")):
            for setup in _setups(half, path):
                assert setup.name not in found, f"{path}: {setup.name} is there already"
                found[setup.name] = setup
    return found
