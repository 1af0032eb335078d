"""docs/from-lightning.md is true: every step runs as written, and the script's numbers come out of dlrun again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from test_readme import ROOT, Block, blocks, missing, process

from dlrun.config import compose

PAGE = ROOT / "docs" / "from-lightning.md"
SHOWN = {"lit.py"}  # needs Lightning, which is no dependency
QUIET = ["log.wandb.mode=disabled"]


def run_block(block: Block) -> str:
    """Write a named block to its file, or run the commands of a block of them; returns what was printed."""
    if named := re.match(r"# ([\w/]+\.(?:py|yaml))\n", block.text):
        path = Path(named[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return ""
    assert block.language == "sh", f"{PAGE.name}:{block.line}: neither a file by name nor commands"
    printed = ""
    for words in map(shlex.split, block.text.splitlines()):
        printed += process(*words[1:]) if words[0] == "python" else process("-m", "dlrun", *words[1:], *QUIET)
    return printed


@pytest.mark.slow
def test_every_step_runs_and_the_scripts_numbers_come_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE.read_text("utf-8")):
        printed = run_block(block)
        assert not (lines := missing(block.output, printed)), f"{PAGE.name}:{block.line}: not printed: {lines}\nprinted:\n{printed}"
    script = process("plain.py")
    assert script.strip() in PAGE.read_text("utf-8")  # to the digit
    losses = {int(step): float(loss) for step, loss in re.findall(r"step (\d+) train loss ([\d.]+)", script)}
    last = re.search(r"val loss ([\d.]+) accuracy ([\d.]+)", script)
    assert len(losses) == 3 and last is not None
    for name in ("first", "second"):
        rows = {row["step"]: row for row in map(json.loads, Path(name, "metrics.jsonl").read_text().splitlines())}
        assert {step: rows[step]["train/loss"] for step in losses} == pytest.approx(losses, abs=2e-6)
        assert rows[200]["val/loss"] == pytest.approx(float(last[1]), abs=2e-6)
        assert rows[200]["val/accuracy"] == pytest.approx(float(last[2]), abs=1e-4)


def test_the_keys_it_names_exist_and_every_file_is_run_or_shown() -> None:
    text = PAGE.read_text("utf-8")
    tree = compose([]).resolved
    named = set(re.findall(r"`((?:train|log)\.[\w.]+?)(?:=\w+)?`", text))
    assert len(named) > 12
    for key in named:
        node = tree
        for part in key.split("."):
            assert part in node, f"{PAGE.name} names {key}, which is no key"
            node = node[part]
    files = {match[1] for block in blocks(text) if (match := re.match(r"# (\S+)\n", block.text))}
    run = {Path(word).name for block in blocks(text) if block.language == "sh" for word in block.text.split()}
    assert {name for name in files if name.endswith(".py")} - run == SHOWN
    assert len(text.splitlines()) < 260
