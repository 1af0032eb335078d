"""docs/checks.md is generated: `python tests/checks_docs.py` writes its table of checks anew, with a folder to work in its transcripts too.

The table comes from the checks themselves, the transcripts from `dlrun check` on the plugin that the page shows. Between the markers
`<!-- table -->` and `<!-- transcripts -->` and the end of each part nothing is written by hand.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

from dlrun import registry
from dlrun.checks import known
from dlrun.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "checks.md"
STAGES = ("data", "outputs", "loss", "gradient", "update", "learning")
WHEN = {"fast": "always", "check": "`check`", "deep": "`--deep`", "training": "training"}
ALSO_WHILE_TRAINING = ("gan_balance", "label_permutation", "too_good")
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"

CASES: dict[str, tuple[str, str]] = {
    "A wrong input to a loss: softmax, then a loss that takes logits": (
        "dataset=digits task=supervised loss=cross_entropy model=squashed", "output_form"),
    "A forgotten update: the optimizer was built from the last layer alone": (
        "dataset=digits task=supervised loss=cross_entropy optimizer=head_only", "optimizer_owns"),
    "A contaminated split: some rows of val were trained on": (
        "dataset=leaky task=supervised loss=cross_entropy", "split_leakage"),
    "A mask that was forgotten: the network sees the token it is to predict": (
        "dataset=words task=supervised task.kind=language_model loss=cross_entropy model=peeks", "causality"),
    "A rate that is too high": (
        "dataset=digits task=supervised loss=cross_entropy optimizer=adam optimizer.lr=30", "lr_sanity"),
}  # fmt: skip
"""Title -> (overrides, the check that says it first)."""


def table() -> str:
    """One row a check: name, when it runs, what it is for (the first sentence of its file), where it comes from."""
    lines = ["| check | stage | runs | what it looks for | recipe |", "|---|---|---|---|---|"]
    parts = known()
    for name in sorted((n for n in parts if n in registry.builtin_names("check")), key=lambda n: (STAGES.index(parts[n].stage), n)):
        text = ast.get_docstring(ast.parse((registry.PACKAGE / "checks" / f"{name}.py").read_text("utf-8"))) or ""
        first = re.split(r"(?<=[.!?])\s", " ".join(text.split("\n\n")[0].split()))[0]
        when = WHEN[parts[name].moment] + (", training" if name in ALSO_WHILE_TRAINING else "")
        lines.append(f"| `{name}` | {parts[name].stage} | {when} | {escaped(first)} | {escaped(parts[name].recipe)} |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def plugin(page: str) -> str:
    """The Python block of the page."""
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def transcript(words: str, file: Path) -> list[str]:
    """What `dlrun check` prints of the first finding above info."""
    screen = io.StringIO()
    with redirect_stdout(screen):
        main(["check", "--plugin", str(file), "device=cpu", *words.split()])
    lines = screen.getvalue().splitlines()
    begin = next((n for n, line in enumerate(lines) if re.match(r"check \w+: (ERROR|warning): ", line)), None)
    assert begin is not None, screen.getvalue()
    end = next((n for n in range(begin + 1, len(lines)) if not lines[n].startswith("    ")), len(lines))
    return [*lines[begin:end], lines[-1]]


def transcripts(file: Path) -> str:
    """Every case with its command and what is printed."""
    parts = []
    for title, (words, _) in CASES.items():
        text = "\n".join(transcript(words, file))
        parts.append(f"**{title}.**\n\n    dlrun check --plugin mine.py {words}\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def part_of(page: str, name: str) -> str:
    """What stands between a marker and its end."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert found is not None, name
    return found[1]


def write_table() -> None:
    """Write the table alone anew: what a new check needs."""
    page = PAGE.read_text("utf-8")
    PAGE.write_text(page.replace(part_of(page, "table"), table()), "utf-8")


def write(folder: Path) -> None:
    """Write both parts of the page anew."""
    page = PAGE.read_text("utf-8")
    file = folder / "mine.py"
    file.write_text(plugin(page), "utf-8")
    for name, text in (("table", table()), ("transcripts", transcripts(file))):
        page = page.replace(f"<!-- {name} -->\n{part_of(page, name)}\n", f"<!-- {name} -->\n{text}\n")
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1])) if len(sys.argv) > 1 else write_table()
