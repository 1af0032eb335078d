"""`dlrun ls runs`: newest first, few files opened of many, damaged and hostile folders a line each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dlrun.cli import main, runs


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def make(root: Path, name: str, summary: Any = None, config: str = "seed: 0\narm: null\ntags: []\n") -> Path:
    path = root / "outputs" / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config)
    if summary is not None:
        (path / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_says_what_the_run_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ago = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() - 7300))
    best = {"step": 3, "metric": "val/accuracy", "value": 0.91234}
    summary = {"status": "finished", "step": 9, "best": best, "metrics": {"test/accuracy": 0.9, "val/loss": 1}}
    make(here, f"grokking/{ago}-s7-no_decay", summary, "seed: 7\narm: no_decay\ntags: [a]\n")
    line = said(capsys, "ls", "runs")[1]
    words = "finished step 9 best val/accuracy 0.9123 2 h ago seed 7 no_decay test/accuracy 0.9"
    assert " ".join(line.split()) == f"outputs/grokking/{ago}-s7-no_decay {words}"
    entry = json.loads(said(capsys, "ls", "runs", "--json")[1])["runs"][0]
    assert (entry["seed"], entry["arm"], entry["best"], entry["started"]) == (7, "no_decay", best, ago)


def test_json_says_how_many_are_left_out(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(130):
        make(
            here, f"a/20260101-{i // 60:02}{i % 60:02}00-s{i}", {"status": "finished"}, f"seed: {i}\ntags: [{'rare' if i == 2 else 'x'}]\n"
        )
    opened: list[str] = []
    read = runs.read_text
    monkeypatch.setattr(runs, "read_text", lambda path, *limit, **how: opened.append(path) or read(path, *limit, **how))
    code, out, err = said(capsys, "ls", "runs", "--json")
    document = json.loads(out)
    assert code == 0 and (document["total"], document["shown"], document["not_looked_at"]) == (130, 50, 80) and "80 older" in err
    assert [entry["seed"] for entry in document["runs"]] == list(range(129, 79, -1))
    assert len(opened) <= 100, "the files of 50 runs, not of 130"
    document = json.loads(said(capsys, "ls", "runs", "--json", "--all")[1])
    assert (document["total"], document["shown"], document["not_looked_at"], len(document["runs"])) == (130, 130, 0, 130)
    code, out, _ = said(capsys, "ls", "runs", "--tag", "rare")
    assert code == 0 and out.count("\n") == 1 and "-s2" in out, "a rare tag is looked for in all of them"


HOSTILE = {
    "escape": '{"status": "\\u001b[31mred", "step": "\\u001b]0;x\\u0007", "best": {"metric": "\\u001b[2J", "value": "\\u001b[1m"}}',
    "deep": "[" * 100_000,
    "number": "3",
    "list": "[1]",
    "nan": '{"status": NaN, "step": Infinity, "best": [1], "metrics": {"test/a": {"b": 1}}}',
    "types": '{"status": {"a": 1}, "step": [], "best": {"metric": 3}, "metrics": [1], "reason": ["x"]}',
    "half": '{"status": "finished", "st',
    "huge": '{"status": "' + "x" * 2_000_000 + '"}',
    "binary": "\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_run_is_one_safe_line(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(here, f"a/20260101-000000-{kind}", HOSTILE[kind], "seed: \x1b[31m\narm: '\x1b]0;x\x07'\n")
    make(here, "a/20260102-000000-\x1b[31m\n\u202efine", {"status": "finished"})
    code, out, err = said(capsys, "ls", "runs")
    assert code == 0 and err == "" and out.count("\n") == 2 and all(line.isprintable() for line in out.splitlines())
    assert len(json.loads(said(capsys, "ls", "runs", "--json")[1])["runs"]) == 2


def test_what_is_no_file_and_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fifo = make(here, "a/20260101-000000-s0")
    os.mkfifo(fifo / "summary.json")
    (make(here, "a/20260102-000000-s0") / "summary.json").symlink_to("/dev/zero")
    (here / "outputs/a/link").symlink_to("/")
    (here / "outputs/file").write_text("")
    (here / "outputs/a/note.txt").write_text("")
    code, out, _ = said(capsys, "ls", "runs")
    assert code == 0 and out.count("summary.json cannot be read") == 2 and out.count("\n") == 2


@pytest.mark.parametrize(
    "name", ["20269999-999999-s0", "20260101-00000x-s0", "99990101-000000-s0", "00000000-000000", "mine", "20260101-000000"]
)
def test_a_name_that_holds_no_time(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(here, f"a/{name}", {"status": "finished"})
    assert said(capsys, "ls", "runs")[0] == 0


def test_a_run_whose_process_is_gone_was_killed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    locks = {"20260103": (os.getpid(), os.uname().nodename), "20260102": (gone, os.uname().nodename), "20260101": (gone, "elsewhere")}
    for day, (process, host) in locks.items():
        path = make(here, f"a/{day}-000000-s0", {"status": "running", "step": 3})
        (path / ".lock").write_text(f"process {process} on {host} since 2026-01-01 00:00:00")
    lines = said(capsys, "ls", "runs")[1].splitlines()
    assert ["running" in line for line in lines] == [True, False, True]
    assert "killed" in lines[1] and "go on with dlrun resume" in lines[1]
    alive = [entry["alive"] for entry in json.loads(said(capsys, "ls", "runs", "--json")[1])["runs"]]
    assert alive == [True, False, None]


def test_runs_named_by_run_dir_stand_among_the_others_by_their_time(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(here, "a/20260101-000000-s0", {"status": "finished"})
    path = make(here, "mine", {"status": "finished"})
    os.utime(path, (0, 0))
    assert [line.split()[0] for line in said(capsys, "ls", "runs")[1].splitlines()] == ["outputs/a/20260101-000000-s0", "outputs/mine"]
    assert said(capsys, "ls", "runs", "output_root=")[0] == 2


def test_runs_of_a_study_are_listed_and_its_folder_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = {"status": "finished", "step": 5, "seconds": 1.0, "best": None, "metrics": {}}
    make(here, "sweeps/mine/runs/00000-s0", summary, "seed: 0\narm: null\ntags: [a]\n")
    make(here, "sweeps/mine/runs/00001-s0", summary)
    (here / "outputs/sweeps/mine/study.yaml").touch()
    (here / "outputs/sweeps/mine/figures").mkdir()
    make(here, "default/20260101-000000-x", summary)
    document = json.loads(said(capsys, "ls", "runs", "--json")[1])
    assert sorted(entry["run"] for entry in document["runs"]) == [
        "outputs/default/20260101-000000-x",
        "outputs/sweeps/mine/runs/00000-s0",
        "outputs/sweeps/mine/runs/00001-s0",
    ]
    assert [entry["run"] for entry in json.loads(said(capsys, "ls", "runs", "--tag", "a", "--json")[1])["runs"]] == [
        "outputs/sweeps/mine/runs/00000-s0"
    ]
