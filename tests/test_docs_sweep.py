"""docs/sweep.md is true: every command runs as written and prints what it shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from test_readme import ROOT, blocks, process

PAGE = ROOT / "docs" / "sweep.md"
QUIET = ["log.wandb.mode=disabled"]


@pytest.mark.slow
def test_every_command_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [block for block in blocks(PAGE.read_text("utf-8")) if block.language == "sh"]
    assert len(found) == 4
    for block in found:
        printed = process("-m", "dlrun", *shlex.split(block.text)[1:], *QUIET)
        lacking = [line for line in (block.output or "").splitlines() if line not in printed]
        assert not lacking, f"{PAGE.name}:{block.line}: not printed: {lacking}\n{printed}"
    assert {path.name for path in (tmp_path / "outputs" / "sweeps" / "search").iterdir()} >= {
        "results.html",
        "figures",
        "results.csv",
        "runs",
    }
