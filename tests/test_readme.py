"""README.md is true: its commands and Python blocks run, in order and in one folder, and print what it says, numbers aside."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from dlrun.cli import main

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
# Commands that bring something over the network or train for minutes, by how they begin: .ci/run installs and fetches, test_setup.py
# covers what it can of an installation, test_every_part.py trains two steps of each experiment.
ELSEWHERE = [
    "pip install -c constraints.txt .",
    "python3 -m venv .venv",
    ".venv/bin/pip install",
    "scripts/dlrun data dataset=fashion_mnist --fetch",
    "scripts/dlrun train experiment=fashion_mnist_cnn",
    "scripts/dlrun reproduce grokking",
]
# What a test does not have to wait for; the README's own numbers come after it and win.
SHORT = ["log.wandb.mode=disabled", "train.steps=20", "train.eval_every=10"]
NUMBER = r"(?<!ln )(?<![0-9])[0-9]+(?:[.:][0-9]+)*(?:e[+-]?[0-9]+)?"


@dataclass(frozen=True)
class Block:
    """A fenced block of the README: its language, its text, the line it begins on, the README's text block below it ("" for none)."""

    language: str
    text: str
    line: int
    output: str = ""


def blocks(text: str) -> list[Block]:
    """The fenced blocks in order; a text block belongs to the commands right above it."""
    found: list[Block] = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        language, body, line = match[1], match[2], text.count("\n", 0, match.start()) + 1
        if language == "text":
            found[-1] = Block(found[-1].language, found[-1].text, found[-1].line, body)
        else:
            found.append(Block(language, body, line))
    return found


def is_elsewhere(command: str) -> bool:
    """Whether a command is on the list of those that are not run here."""
    return any(command.startswith(beginning) for beginning in ELSEWHERE)


def arguments(command: str, shown: bool) -> list[str]:
    """What `dlrun` is given by one README command. Training is short where neither output nor length is said."""
    words = shlex.split(command, comments=True)
    assert words[0] == "scripts/dlrun", f"{command}: neither a command of dlrun nor on the list of those run elsewhere"
    said = {word.split("=")[0] for word in words}
    add = [short for short in SHORT if short.split("=")[0] not in said] if words[1] == "train" else []
    if shown or said & {"train.steps", "train.epochs"}:
        add = [short for short in add if not short.startswith("train.")]
    return [*words[1:], *add]


def process(*words: str) -> str:
    """What a process of this Python prints, stdout and stderr together; it has to succeed."""
    command, environment = [sys.executable, *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    assert done.returncode == 0, f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def call(words: list[str]) -> str:
    """What `dlrun WORDS` prints; it has to end with exit code 0. In this process, which saves the seconds of starting torch, but for
    plugins, which would stay registered here."""
    if "--plugin" in words:
        return process("-m", "dlrun", *words)
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), patch("dlrun.wrapup.draw_figures"):
        code = main(words)
    assert code == 0, f"dlrun {shlex.join(words)} ended with {code}:\n{printed.getvalue()}"
    return printed.getvalue()


def form(line: str) -> str:
    """A line with its numbers masked, but for the one in "ln 2", which is the point of its line."""
    return re.sub(NUMBER, "<n>", line.strip())


def missing(expected: str, printed: str) -> list[str]:
    """Lines of the README that were not printed, in their order; `...` stands for any lines."""
    seen = iter([form(line) for line in printed.splitlines()])
    return [line for line in expected.splitlines() if line.strip() != "..." and form(line) not in seen]


def run_block(block: Block) -> str:
    """Run a block's commands, or write or run its Python, in the current folder; returns what was printed."""
    if block.language == "python":
        named = re.match(r"# (\w+\.py)\n", block.text)
        name = named[1] if named else "block.py"
        Path(name).write_text(block.text)
        return "" if named else process(name)
    commands = [line for line in block.text.splitlines() if line.strip() and not is_elsewhere(line)]
    return "".join(call(arguments(command, bool(block.output))) for command in commands)


def test_every_command_and_block_runs_and_prints_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(README.read_text("utf-8")):
        printed = run_block(block)
        assert not (lines := missing(block.output, printed)), f"README.md:{block.line}: not printed: {lines}\nprinted:\n{printed}"


def test_key_output_is_shown() -> None:
    shown = "".join(block.output for block in blocks(README.read_text("utf-8")))
    for text in ("(ln 2)", "(ln 10)", "overfitted one batch", "test accuracy", "outputs/default/"):
        assert text in shown


def test_every_command_is_run_or_listed_and_the_list_is_needed() -> None:
    commands = [line for block in blocks(README.read_text("utf-8")) if block.language == "sh" for line in block.text.splitlines() if line]
    for command in commands:
        assert is_elsewhere(command) or arguments(command, shown=False)
    unused = [beginning for beginning in ELSEWHERE if not any(command.startswith(beginning) for command in commands)]
    assert not unused
    assert sum("scripts/dlrun train " in command and "=" in command for command in commands) >= 4


def test_length_links_and_no_registry_or_machine() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 130
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / target).exists(), target
    for pattern in (r"https?://", r"\bpypi\b", r"(?i)index\.org", r"/(home|root|work|tmp|Users)/", r"whl/"):
        assert not re.search(pattern, text), pattern


def test_a_line_that_is_not_printed_is_found() -> None:
    printed = "check a: first loss 0.6914, expected 0.6931 (ln 2): fine\nsound: 7 checks in 2.2 s\n"
    assert missing("...\ncheck a: first loss 0.7000, expected 0.6931 (ln 2): fine\nsound: 12 checks in 0.1 s\n", printed) == []
    assert missing("check a: first loss 0.7, expected 0.69 (ln 3): fine\n", printed)
    assert missing("sound: 7 checks in 2.2 s\ncheck a: first loss 0.6914, expected 0.6931 (ln 2): fine\n", printed)
