"""docs/guide.md is true: it is what its data gives, every practice stands there once, and every name in it exists today."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
from architecture_rules import ROOT

import dlrun
from dlrun import registry
from dlrun.cli.arguments import parse
from dlrun.cli.help import is_there
from dlrun.cli.keys import root_keys
from dlrun.config import compose
from dlrun.config.places import GROUPS, part_names
from dlrun.errors import UsageError
from dlrun.study.asking import ask

sys.path.insert(0, str(ROOT / "scripts"))
import guide_page

GUIDE = guide_page.load()
PRACTICES = GUIDE["practices"]
ENTRIES = {"done": {"how", "commands", "tests"}, "partly": {"how", "commands", "tests", "missing"}, "open": {"missing"}}
PLACES = ("RUN", "RUN/config.yaml")


# -- what there is ---------------------------------------------------------------------------------------------------------------------


def command_trouble(line: str) -> str:
    """Why a command line would not do what it says; "" where it parses, its command is there, and its config composes."""
    words = shlex.split(line)
    try:
        if words[0] != "dlrun":
            return "no command of dlrun"
        arguments = parse(words[1:])
        if not is_there(arguments.command):
            return f"this version has no dlrun {arguments.command}"
        if strange := [word for word in arguments.positional if not known_word(arguments.command, word)]:
            return f"what is {strange[0]}?"
        if arguments.command == "sweep":
            ask(arguments.overrides, {})
        else:
            compose(arguments.overrides)
    except UsageError as error:
        return str(error)
    return ""


def known_word(command: str, word: str) -> bool:
    """Whether a word that is no override means something to the command."""
    if command in ("resume", "eval", "sync"):
        return word in PLACES
    if command == "completion":
        return word in ("bash", "zsh", "fish")
    if command == "ls":
        return word in (*GROUPS, "experiment", "runs")
    return command == "show" and (is_part(word) or is_key(word))


def is_part(name: str) -> bool:
    group, _, part = name.partition("/")
    return group in GROUPS and part in part_names(group)


def is_key(name: str) -> bool:
    """Whether `name` is a key at the root of a config, or a section of them."""
    return any(key == name or key.startswith(f"{name}.") for key in root_keys())


@cache
def check_names() -> frozenset[str]:
    """The checks that have a file of their own."""
    return frozenset(path.stem for path in (ROOT / "dlrun" / "checks").glob("*.py") if not path.stem.startswith("_"))


def is_file_of_a_run(name: str) -> bool:
    """Whether the map of the code lists it among the files of a run."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    begin, end = text.index("## Files of a run"), text.index("## Decisions")
    end_of_name = "" if name.endswith("/") else r"(?![\w./-])"
    return bool(re.search(rf"(?<![\w./-]){re.escape(name)}{end_of_name}", text[begin:end]))


def exists(token: str) -> bool:
    """Whether what stands in backticks is something of today."""
    if token.startswith("dlrun "):
        return command_trouble(token) == ""
    if token.startswith("--"):
        return any(token[2:] in flags for _, _, flags in parse_table().values())
    if "=" in token:
        return command_trouble(f"dlrun train {token}") == ""
    if "/" in token and (ROOT / token).is_file():
        return True
    return token in check_names() or is_part(token) or is_key(token) or token in dlrun.__all__ or is_file_of_a_run(token)


def parse_table() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    from dlrun.cli.arguments import COMMANDS

    return COMMANDS


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of the test functions of a file, read and not run."""
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


@cache
def all_tests() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tests").glob("*.py")) if path.name != "test_guide.py")


def tokens(fact: dict[str, object]) -> list[str]:
    return re.findall(r"`([^`]+)`", " ".join(str(fact.get(key, "")) for key in ("practice", "how", "missing")))


# -- the page --------------------------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_generator_gives() -> None:
    assert guide_page.PAGE.read_text("utf-8") == guide_page.render(GUIDE), "run scripts/guide"


def test_every_practice_stands_there_once() -> None:
    wanted = [f"H{number:02}" for number in range(1, 48)] + [f"N{number:02}" for number in range(1, 9)]
    assert list(PRACTICES) == wanted
    assert sorted(name for topic in GUIDE["topics"].values() for name in guide_page.members(topic)) == wanted
    page = guide_page.PAGE.read_text("utf-8")
    assert sorted(re.findall(r"^### (\w+) \(", page, re.MULTILINE)) == wanted
    assert sum(guide_page.counts(GUIDE, "H").values()) == 47


@pytest.mark.parametrize("name", PRACTICES)
def test_a_status_has_what_it_takes(name: str) -> None:
    """What is done is missing nothing, what is open claims nothing."""
    fact = PRACTICES[name]
    assert set(fact) == {"practice", "status"} | ENTRIES[fact["status"]]
    assert all(fact[key] for key in fact) and not str(fact.get("missing", "x")).endswith(".")
    assert fact["practice"].endswith(".") and str(fact.get("how", ".")).endswith(".")


@pytest.mark.parametrize("name", [name for name in PRACTICES if "commands" in PRACTICES[name]])
def test_its_commands_parse_and_compose(name: str) -> None:
    for command in PRACTICES[name]["commands"]:
        assert command_trouble(command) == "", command


def test_every_test_that_is_named_exists() -> None:
    for name, fact in PRACTICES.items():
        for test in fact.get("tests", ()):
            file, _, function = test.partition("::")
            assert (ROOT / file).is_file() and function in functions_of(ROOT / file), f"{name}: {test}"


def test_every_name_in_backticks_exists() -> None:
    stale = [f"{name}: {token}" for name, fact in PRACTICES.items() for token in tokens(fact) if not exists(token)]
    assert not stale


def test_every_check_that_is_named_is_tested() -> None:
    named = {token for fact in PRACTICES.values() for token in tokens(fact) if token in check_names()}
    assert named and not [name for name in named if not re.search(rf"\b{name}\b", all_tests())]
    assert all(registry.get("check", name) for name in named)


@pytest.mark.parametrize(
    "token",
    ["train.clipnorm", "model/perceptron", "a_check_that_is_none", "--dive", "schedule=cosinus", "dlrun train model=mlpp", "dlrun ablate",
     "metrics.json", "inspect", "dlrun show train.clipnorm", "tests/test_nothing.py"],
)  # fmt: skip
def test_a_stale_name_is_found(token: str) -> None:
    assert not exists(token)


def test_the_generator_says_whether_the_page_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guide_page, "PAGE", tmp_path / "guide.md")
    assert guide_page.main(["--check"]) == 1 and guide_page.main([]) == 0 and guide_page.main(["--check"]) == 0
    assert guide_page.main(["--wrong"]) == 2 and "scripts/guide" in capsys.readouterr().out
