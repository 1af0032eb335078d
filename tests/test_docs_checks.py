"""docs/checks.md is true: its table is that of the checks, and its five transcripts come out of `dlrun check` again, numbers aside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import checks_docs
import pytest

from dlrun import registry
from dlrun.unread import EXPECTED


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    saved = {group: dict(known) for group, known in registry.PLUGINS.items()}
    yield
    for group, known in saved.items():
        registry.PLUGINS[group] = known


def page() -> str:
    return checks_docs.PAGE.read_text("utf-8")


def test_the_table_is_that_of_the_checks() -> None:
    assert checks_docs.part_of(page(), "table") == checks_docs.table(), "PYTHONPATH=. python tests/checks_docs.py writes it anew"


def test_every_fact_of_expects_is_explained() -> None:
    facts = re.findall(r"^\| `(\w+)[`:]", page().split("## While")[0], re.MULTILINE)
    assert sorted(facts) == sorted(EXPECTED)


def wordless(line: str) -> str:
    return re.sub(checks_docs.NUMBER, "N", line)


@pytest.mark.slow
@pytest.mark.parametrize("title", checks_docs.CASES)
def test_the_transcripts_come_out_again(title: str, tmp_path: Path) -> None:
    words, name = checks_docs.CASES[title]
    file = tmp_path / "mine.py"
    file.write_text(checks_docs.plugin(page()), "utf-8")
    printed = checks_docs.transcript(words, file)
    assert printed[0].startswith(f"check {name}: ")
    shown = checks_docs.part_of(page(), "transcripts").split(f"**{title}.**")[1].split("```text\n")[1].split("\n```")[0].splitlines()
    for mine, theirs in zip(printed[:3], shown[:3], strict=True):
        assert wordless(mine) == wordless(theirs)
