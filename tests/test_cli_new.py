"""`dlrun new`: every skeleton works as written: its tests pass, it trains without a warning and resumes to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs
from architecture_rules import ROOT

from dlrun.checks import run_checks
from dlrun.cli import main
from dlrun.cli.new import KINDS
from dlrun.config import compose
from dlrun.config.places import GROUPS
from dlrun.plugins import load_plugins
from dlrun.train import build_run

TWO = ("train.steps=2", "train.checkpoint_every=1", "train.eval_every=0", "train.log_every=1", "train.keep_last=9", "train.batch_size=16")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Plugins of other tests left their folders there, with a mine.py of their own.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "pytest-" not in path])
    return tmp_path


def made(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words after `dlrun train` that `dlrun new` says to use."""
    assert main(["new", kind, name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [f"{name}.py", f"test_{name}.py"] and all(os.path.isfile(file) for file in document["files"])
    words: list[str] = document["use"].split()
    at = words.index("--plugin")
    assert words[0] == "dlrun" and at == (4 if kind == "probe" else 2) and words[at + 1] == f"{name}.py"
    return [f"probes=[{name}]"] if kind == "probe" else words[at + 2 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_trains_at_once_and_resumes(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"fresh_{kind}"
    words = made(kind, name, capsys)
    load_plugins([f"{name}.py"])
    findings = run_checks(build_run(compose([*runs.QUIET, *TWO, *words])), "fast")
    assert [finding for finding in findings if finding.level in ("warning", "error")] == []
    assert kind != "check" or name in {finding.check for finding in findings}
    run, whole, code = runs.start(here, *TWO, *words)
    assert code == 0 and (kind != "probe" or (run / "probes" / f"{name}.json").is_file())
    runs.kill_back_to(run, 1)
    again, code, _ = runs.go_on(run)
    assert code == 0 and again["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "check"])
def test_every_option_of_a_skeleton_is_explained(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    made(kind, f"shown_{kind}", capsys)
    assert main(["show", f"{kind}/shown_{kind}", "--plugin", f"shown_{kind}.py", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["summary"] and facts["options"] and all(len(option["comment"].split()) > 1 for option in facts["options"])


def test_the_tests_of_all_skeletons_pass_and_they_are_tidy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        made(kind, f"own_{kind}", capsys)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    rules = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "140", "--select", "E,F,W,B,UP", "."]
    done = subprocess.run(rules, cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_kinds_are_those_a_plugin_can_bring() -> None:
    assert set(KINDS) == {*GROUPS, "check"}


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ([], "takes a kind and a name"),
        (["model"], "takes a kind and a name"),
        (["modle", "x"], "did you mean model?"),
        (["probe", "knn"], "dlrun eject probe/knn"),
        (["model", "../x"], "cannot name a part"),
        (["model", "/tmp/x"], "cannot name a part"),
        (["model", "a b"], "cannot name a part"),
        (["model", "1x"], "cannot name a part"),
        (["model", "_x"], "cannot name a part"),
        (["model", ""], "cannot name a part"),
        (["model", "\x1b[31mx"], "cannot name a part"),
        (["model", "x" * 61], "cannot name a part"),
        (["model", "größe"], "cannot name a part"),
        (["model", "lambda"], "a word of Python"),
        (["model", "mlp"], "dlrun eject model/mlp"),
        (["check", "shape_contract"], "has a check shape_contract already"),
        (["model", "random"], "installed Python module"),
        (["model", "torch"], "installed Python module"),
        (["model", "dlrun"], "installed Python module"),
        (["model", "conftest"], "installed Python module"),
        (["model", "NAME"], "cannot name a part"),
    ],
)
def test_a_name_that_cannot_be_is_refused(words: list[str], fragment: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and fragment in err and err.count("\n") == 1 and err.strip().isprintable()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("file", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(file: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / file).symlink_to(here / "elsewhere")
    assert main(["new", "model", "mine"]) == 2 and f"{file} is there already" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == [file], "neither file was written, not through a link either"


def test_a_folder_that_takes_no_files(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.open

    def refuse(path: object, *rest: object, **named: object) -> object:
        if str(path).startswith("test_"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refuse)
    assert main(["new", "model", "mine"]) == 3
    assert capsys.readouterr().err == "error: cannot write test_mine.py: Permission denied\n"
    assert list(here.iterdir()) == [], "no half of a skeleton stays"
