"""docs/reproduce.md is true: its experiment is reproduced by its commands, and what it says of keys and documents is what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from test_readme import ROOT

from dlrun.cli import main

PAGE = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
QUIET = ["log.wandb.mode=disabled", "device=cpu"]


def test_the_experiment_of_the_page_is_reproduced(tmp_path: Path, monkeypatch: object, capsys: object) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[attr-defined]
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (tmp_path / "conf" / "experiment" / "wide.yaml").write_text(text)
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    for line in commands.splitlines():
        assert main([*shlex.split(line)[1:], *QUIET]) == 0, line
    found = json.loads((tmp_path / "outputs" / "wide" / "reproduce.json").read_text())
    assert found["verdict"] == "reproduced"
    assert set(re.findall(r"`(\w+)`", PAGE.partition("is what `--json` prints for it:")[2].partition("W&B")[0])) <= {
        *found,
        *found["claims"][0],
    }
    assert {path.name for path in (tmp_path / "outputs" / "wide").iterdir()} >= {"figures", "report.html", "reproduce.json"}


def test_every_key_of_an_experiment_is_explained() -> None:
    for key in ("arms", "axes", "tune", "events", "measures", "seeds", "claims", "baseline", "figure", "cost", "recorded"):
        assert f"\n| `{key}` |" in PAGE
