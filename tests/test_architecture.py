"""The tree keeps the rules of its architecture, and every rule is shown something that breaks it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

import architecture_rules as shape
import pytest
import safety_rules as safety
from architecture_rules import ROOT, Source

PACKAGE = shape.read("dlrun")
TREE = shape.read("dlrun", "tests", "scripts")

Rule = Callable[[list[Source]], list[str]]
RULES: list[Rule] = [
    shape.imports_from_lower_layers_only,
    shape.light_modules_import_nothing_heavy,
    shape.within_budget,
    shape.folders_at_most_two_deep,
    shape.every_module_says_what_it_is,
    shape.every_part_names_its_source,
    shape.the_loop_knows_no_part,
    safety.no_code_from_data,
    safety.tasks_yield_outside_context_managers,
    safety.nothing_is_swallowed,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    assert not rule(TREE), "\n" + "\n".join(rule(TREE))


def test_the_loop_is_there_to_be_looked_at() -> None:
    """Without the file its rule would hold of nothing."""
    assert any(source.path == "dlrun/loop.py" for source in PACKAGE)
    assert {source.path.split("/")[1] for source in PACKAGE if shape.is_part(source)} >= {"models", "tasks", "losses", "optimizers"}


LONG = '"""Long."""\n' + "x = 1\n" * 300
DEEP = "def f(a):\n    for b in a:\n        if b:\n            with b:\n                while b:\n                    pass\n"
BAD: list[tuple[Rule, dict[str, str], str]] = [
    (shape.imports_from_lower_layers_only, {"dlrun/batch.py": "import dlrun.loop", "dlrun/loop.py": ""}, "layer 0 may not use layer 3"),
    (shape.imports_from_lower_layers_only, {"dlrun/models/a.py": "def f():\n    from dlrun.loop import x", "dlrun/loop.py": ""}, "a.py:2"),
    (
        shape.imports_from_lower_layers_only,
        {"dlrun/models/a.py": "from dlrun.models import b", "dlrun/models/b.py": ""},
        "parts do not import",
    ),
    (
        shape.imports_from_lower_layers_only,
        {"dlrun/tasks/a.py": "from dlrun.models.b import b", "dlrun/models/b.py": ""},
        "parts do not import",
    ),
    (shape.imports_from_lower_layers_only, {"dlrun/models/a.py": "from .b import b", "dlrun/models/b.py": ""}, "parts do not import"),
    (
        shape.imports_from_lower_layers_only,
        {"dlrun/build.py": "from dlrun.cli import main", "dlrun/cli/__init__.py": ""},
        "layer 3 may not",
    ),
    (shape.imports_from_lower_layers_only, {"dlrun/build.py": "from dlrun import Task"}, "not dlrun's public names"),
    (shape.light_modules_import_nothing_heavy, {"dlrun/config/a.py": "from torch import nn"}, "imports torch (in dlrun/config/a.py:1)"),
    (shape.light_modules_import_nothing_heavy, {"dlrun/registry.py": "import dlrun.batch", "dlrun/batch.py": "import torch"}, "batch.py:1"),
    (shape.light_modules_import_nothing_heavy, {"dlrun/cli/__init__.py": "import rich.console"}, "imports rich"),
    (shape.within_budget, {"dlrun/a.py": LONG}, "301 lines, the budget is 300"),
    (shape.within_budget, {"dlrun/a.py": "def f():\n" + "    x = 1\n" * 40}, "f: 41 lines, the budget is 40"),
    (shape.within_budget, {"dlrun/a.py": DEEP}, "f: nested 4 deep"),
    (shape.folders_at_most_two_deep, {"dlrun/a/b/c/d.py": ""}, "more than two folders"),
    (shape.every_module_says_what_it_is, {"scripts/a.py": "x = 1"}, "no module docstring"),
    (shape.every_part_names_its_source, {"dlrun/models/a.py": '"""A network."""'}, "names no source"),
    (shape.the_loop_knows_no_part, {"dlrun/loop.py": "if name == 'gan': pass", "dlrun/tasks/gan.py": ""}, "names the part gan"),
    (shape.the_loop_knows_no_part, {"dlrun/loop.py": "run.config.adam", "dlrun/optimizers/adam.py": ""}, "names the part adam"),
    (safety.tasks_yield_outside_context_managers, {"dlrun/tasks/a.py": "def f():\n    with g():\n        yield 1"}, "a.py:3"),
    (safety.nothing_is_swallowed, {"dlrun/a.py": "try:\n    f()\nexcept:\n    g()"}, "a.py:3"),
    (safety.nothing_is_swallowed, {"dlrun/a.py": "try:\n    f()\nexcept Exception:\n    pass"}, "a.py:3"),
]
FORBIDDEN = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "import torch\ntorch.load('a')": "torch.load",
    "from torch import load": "torch.load",
    "eval('1')": "eval",
    "map(exec, lines)": "exec",
    "from hydra.utils import instantiate": "instantiate",
    "hydra.utils.instantiate(c)": "instantiate",
    "c['_target_']": "_target_",
    "yaml.load(text, Loader=L)": "yaml.load",
    "archive.extractall(folder)": "extractall",
    "os.system('ls')": "os.system",
    "subprocess.run('ls', shell=True)": "shell=True",
    "np.load(path, allow_pickle=True)": "allow_pickle=True",
    "importlib.import_module(name)": "import_module",
}
BAD += [(safety.no_code_from_data, {"dlrun/a.py": text}, f"uses {word}") for text, word in FORBIDDEN.items()]


@pytest.mark.parametrize(("rule", "files", "finding"), BAD)
def test_the_rule_finds_what_breaks_it(rule: Rule, files: dict[str, str], finding: str) -> None:
    found = rule([Source(path, text) for path, text in files.items()])
    assert any(finding in line for line in found), found


def test_every_rule_has_something_that_breaks_it() -> None:
    assert {rule.__name__ for rule, _, _ in BAD} == {rule.__name__ for rule in RULES}


GOOD: list[tuple[Rule, dict[str, str]]] = [
    (shape.imports_from_lower_layers_only, {"dlrun/datasets/a.py": "from dlrun.datasets._idx import read", "dlrun/datasets/_idx.py": ""}),
    (shape.imports_from_lower_layers_only, {"dlrun/loop.py": "from dlrun.ema import Ema", "dlrun/ema.py": ""}),
    (shape.light_modules_import_nothing_heavy, {"dlrun/config/a.py": "if TYPE_CHECKING:\n    import torch\ndef f():\n    import torch"}),
    (
        shape.within_budget,
        {"dlrun/a.py": "def f(a):\n    if a: pass\n    elif a: pass\n    elif a: pass\n    elif a: pass\n    elif a: pass"},
    ),
    (shape.the_loop_knows_no_part, {"dlrun/loop.py": '"""Not even a gan."""', "dlrun/tasks/gan.py": ""}),
    (
        safety.no_code_from_data,
        {"dlrun/a.py": '"""Never pickle, torch.load or eval(."""\nmodel.eval()\nre.compile("a")\nyaml.safe_load(t)'},
    ),
    (safety.no_code_from_data, {"dlrun/registry.py": "from importlib import import_module\nimport_module(name)"}),
]


@pytest.mark.parametrize(("rule", "files"), GOOD)
def test_the_rule_leaves_in_peace_what_keeps_it(rule: Rule, files: dict[str, str]) -> None:
    assert rule([Source(path, text) for path, text in files.items()]) == []


def tracked_texts() -> dict[str, str]:
    """Text of every file that git tracks (of every file there is, where this is no git checkout)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    hidden = {".git", ".venv", ".cache", "outputs", "__pycache__"}
    paths = (
        listing.stdout.split("\0")[:-1]
        if listing.returncode == 0
        else [os.path.relpath(os.path.join(folder, name), ROOT) for folder, _, names in os.walk(ROOT) for name in names]
    )
    texts = {}
    for path in (path for path in paths if not hidden & set(path.split(os.sep)) and (ROOT / path).is_file()):
        raw = (ROOT / path).read_bytes()
        if b"\0" not in raw:
            texts[path] = raw.decode("utf-8")
    return texts


def test_no_file_names_the_machine_it_was_written_on() -> None:
    texts = tracked_texts()
    assert "pyproject.toml" in texts
    assert not safety.names_no_machine(texts), "\n" + "\n".join(safety.names_no_machine(texts))


@pytest.mark.parametrize("line", ["cd /" + "work/main", "pip install --find-" + "links wheels", "open('/" + "home/anna/data')"])
def test_a_machine_is_found_by_its_names(line: str) -> None:
    assert safety.names_no_machine({"a.md": line})


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_what_is_imported_is_declared() -> None:
    """An undeclared import works where something else happens to bring it, until it does not."""
    lists = {"run": project()["dependencies"], **project()["optional-dependencies"]}
    run = shape.declared({"run": lists["run"], "tensorboard": lists["tensorboard"], "text": lists["text"], "ray": lists["ray"]})
    assert {name: place for name, place in shape.third_party_imports(PACKAGE).items() if name not in run} == {}
    everything = shape.declared(lists)
    assert {name: place for name, place in shape.third_party_imports(TREE).items() if name not in everything} == {}
    assert "attrs" in shape.third_party_imports([Source("dlrun/a.py", "def f():\n    import attrs")])
