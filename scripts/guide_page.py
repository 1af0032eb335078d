"""docs/guide.md from docs/guide.yaml: the practices of the Hacker's Guide by topic, with status, what does it, commands and tests.

`scripts/guide` runs this. What the page says is held by tests/test_guide.py: every name in it exists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE = DOCS / "guide.yaml", DOCS / "guide.md"
STATUSES = {"done": "done", "partly": "partly done", "open": "open"}
Guide = Mapping[str, Any]


def load() -> Guide:
    """The data as it is written."""
    return yaml.safe_load(DATA.read_text("utf-8"))  # type: ignore[no-any-return]


def members(topic: Mapping[str, str]) -> Iterator[str]:
    """The practices of a topic: `H01-H03 H07` is H01, H02, H03, H07."""
    for word in topic["ids"].split():
        first, _, last = word.partition("-")
        for number in range(int(first[1:]), int((last or first)[1:]) + 1):
            yield f"{first[0]}{number:02}"


def counts(guide: Guide, letter: str) -> dict[str, int]:
    """Practices of each status whose name begins with `letter`."""
    mine = [fact["status"] for name, fact in guide["practices"].items() if name.startswith(letter)]
    return {status: mine.count(status) for status in STATUSES}


def render(guide: Guide) -> str:
    """The page."""
    lines = [
        "# The Hacker's Guide, practice by practice",
        "",
        f"Source: {guide['source']}. For each practice: what of dlrun does it, how to try it, which test holds it, what is missing.",
        "`scripts/guide` writes this page from `docs/guide.yaml`; `tests/test_guide.py` sees to it that every command, key, part, check,",
        "file and test that is named here exists.",
        "",
        "| | done | partly | open |",
        "|---|---|---|---|",
        *(
            f"| {title} | " + " | ".join(str(count) for count in counts(guide, letter).values()) + " |"
            for title, letter in (("the guide, H01 to H47", "H"), ("from other courses, N01 to N08", "N"))
        ),
        "",
        "Open: " + ", ".join(name for name, fact in guide["practices"].items() if fact["status"] == "open") + ".",
    ]
    for topic in guide["topics"].values():
        lines += ["", f"## {topic['title']}"]
        for name in members(topic):
            lines += ["", *practice(name, guide["practices"][name])]
    return "\n".join(lines) + "\n"


def practice(name: str, fact: Mapping[str, Any]) -> Iterator[str]:
    """One practice, as lines."""
    yield f"### {name} ({STATUSES[fact['status']]}): {fact['practice'].removesuffix('.')}"
    if how := fact.get("how"):
        yield from ("", how)
    if commands := fact.get("commands"):
        yield from ("", *(f"    {command}" for command in commands), "")
    if tests := fact.get("tests"):
        yield f"Held by {', '.join(f'`{test}`' for test in tests)}."
    if missing := fact.get("missing"):
        yield from ("", f"Not yet: {missing}.") if fact.get("tests") else ("", f"Missing: {missing}.")


def main(words: list[str]) -> int:
    """Write the page; with `--check` only compare."""
    if words not in ([], ["--check"]):
        print("scripts/guide [--check]: writes docs/guide.md from docs/guide.yaml")
        return 0 if words in (["-h"], ["--help"]) else 2
    text = render(load())
    if words:
        same = PAGE.is_file() and PAGE.read_text("utf-8") == text
        print("docs/guide.md is up to date" if same else "docs/guide.md is not what docs/guide.yaml gives: run scripts/guide")
        return 0 if same else 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
