"""Odd places for a run and odd ends for its output: a run in the output root itself, `run_dir=/`, closed stdout, `--cfg --json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlrun.cli import main
from dlrun.errors import MissingError
from dlrun.rundir import new_directory

ROOT = Path(__file__).parent.parent


def made_run(path: Path, step: int) -> None:
    """What `ls runs` looks at."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text("tags: []\n")
    (path / "summary.json").write_text(json.dumps({"status": "finished", "step": step}))


def test_ls_runs_finds_a_run_in_the_root_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / "first", 7)
    made_run(tmp_path / "default" / "20200101-000000-s0", 5)
    assert main(["ls", "runs", f"output_root={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        [str(tmp_path / "first"), "finished", "step", "7"],
        [str(tmp_path / "default" / "20200101-000000-s0"), "finished", "step", "5"],
    ]


@pytest.mark.parametrize("folder", ["/", ".", ".."])
def test_a_folder_that_cannot_be_numbered_is_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").touch()
    monkeypatch.chdir(here)
    with pytest.raises(MissingError, match="name a folder for the run"):
        new_directory({"run_dir": folder})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "here"]


def test_cfg_with_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "--json", "model.width=7"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert (model["name"], model["width"], model["depth"]) == ("mlp", 7, 2)


def test_closed_stdout_is_no_crash() -> None:
    command = f"'{sys.executable}' -m dlrun ls >&-"
    done = subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
