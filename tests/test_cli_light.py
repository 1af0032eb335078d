"""The command line without a run: words and flags, exit codes, errors."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dlrun.cli import arguments as words_module
from dlrun.cli import console, main
from dlrun.cli.arguments import COMMANDS, FLAGS, parse
from dlrun.errors import AnswerNo, MissingError, UsageError

ROOT = Path(__file__).resolve().parent.parent


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `dlrun words`."""
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


# -- words and flags --------------------------------------------------------------------------------------------------------------------


def test_words_become_a_command_overrides_and_flags() -> None:
    found = parse(
        ["train", "model=cnn", "--plugin", "a.py", "--plugin=b.py", "-cd", "conf2", "~augment.flip", "+experiment=x", "--pdb", "--cfg"],
    )
    assert found.command == "train" and found.overrides == ["model=cnn", "~augment.flip", "+experiment=x"]
    assert found.plugins == ["a.py", "b.py"] and found.text("config-dir") == "conf2" and found.flag("pdb") is True
    assert found.flag("cfg") == "job" and found.flag("json") is None and found.positional == []
    found = parse(["eval", "outputs/x", "--split", "test", "--step=best", "--json"])
    assert found.positional == ["outputs/x"] and found.text("split") == "test" and found.text("step") == "best"
    assert parse(["train", "-m", "seed=1,2"]).command == "sweep" and parse(["train", "--cfg", "job", "seed=1"]).overrides == ["seed=1"]
    assert parse(["ls", "--", "--odd"]).positional == ["--odd"]


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["trian"], "no command 'trian'; did you mean dlrun train?"),
        (["zzz"], "dlrun --help lists them"),
        (["model=cnn"], "the command comes first: dlrun train model=cnn"),
        (["--json"], "the command comes first"),
        (["train", "--jsn"], "did you mean --json?"),
        (["train", "--plugn=x"], "did you mean --plugin?"),
        (["train", "-x"], "no such option of dlrun train"),
        (["train", "--tag", "x"], "ls has it"),
        (["train", "--plugin"], "needs a value: --plugin FILE|NAME"),
        (["train", "--plugin", "--json"], "needs a value"),
        (["train", "--from="], "needs a value"),
        (["train", "--pdb=1"], "takes no value"),
        (["train", "--cfg", "hydra"], "config of the job only"),
        (["train", "--cfg=all"], "config of the job only"),
        (["train", "--from", "a", "--from", "b"], "given twice: a and b"),
        (["train", "--config-name", "x"], "say experiment=NAME"),
        (["train", "--config-path=x"], "say --config-dir"),
        (["train", "--info"], "say --cfg"),
        (["trai\x1b[31mn"], "\\x1b[31m"),
        (["report", "x"], "not part of this version"),
        (["train", "steps"], "expected an override"),
        (["ls", "modle"], "did you mean dlrun ls model?"),
        (["ls", "model", "task"], "takes one kind"),
        (["ls", "model", "a=b"], "takes no overrides"),
        (["ls", "model", "--tag", "x"], "a model has none"),
        (["ls", "runs", "seed=1"], "takes output_root=FOLDER only"),
        (["show"], "takes one KIND/NAME"),
        (["show", "model/mlpp"], "did you mean model/mlp?"),
        (["show", "modle/mlp"], "did you mean model?"),
        (["show", "mlpp"], "did you mean model/mlp?"),
        (["show", "model/../../x"], "no model"),
        (["show", "experiment/nope"], "no experiment 'nope'"),
        (["help", "nope"], "no command 'nope'"),
        (["train", "--plugin", "nothing.py"], "no such file"),
        (["train", "--config-dir", "/nothing"], "no such folder"),
        (["train", "--from", "/nothing/config.yaml"], "cannot be read"),
    ],
)
def test_a_wrong_word_is_exit_2_and_one_line(words: list[str], fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, *words)
    assert code == 2 and out == ""
    assert fragment in err and err.startswith("error: ") and err.count("\n") == 1 and err.strip().isprintable()


def test_every_wrong_flag_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "train", "--jsn", "--pbd", "--tag", "x")
    assert code == 2 and err.count("error: ") == 3


def test_every_flag_a_command_names_exists() -> None:
    for command, (_, summary, flags) in COMMANDS.items():
        assert summary and set(flags) <= set(FLAGS), command
    assert set(words_module.HYDRA_FLAGS).isdisjoint(FLAGS)


# -- exit codes -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace `dlrun doctor` by a function."""

    def put(function: Any) -> None:
        module = types.ModuleType("dlrun.cli.doctor")
        module.run = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "dlrun.cli.doctor", module)

    return put


def _raise(error: BaseException) -> Any:
    def run(arguments: Any) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "fragment"),
    [
        (UsageError(["one", "two"]), 2, "error: one\nerror: two\n"),
        (MissingError("gone"), 3, "error: gone\n"),
        (AnswerNo("no"), 1, "error: no\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("first\nsecond"), 3, "error: RuntimeError: first\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_exit_codes(error: BaseException, code: int, fragment: str, doctor: Any, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("dlrun.cli._silence_stdout", lambda: None)
    doctor(_raise(error))
    assert main(["doctor"]) == code
    err = capsys.readouterr().err
    assert fragment in err and ("Traceback" in err) == isinstance(error, RuntimeError), "a traceback only for bugs of our own"


def test_pdb_opens_where_the_error_was_raised(doctor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("pdb.post_mortem", opened.append)
    doctor(_raise(RuntimeError("x")))
    assert main(["doctor", "--pdb"]) == 3 and len(opened) == 1 and opened[0] is not None
    doctor(_raise(UsageError("x")))
    assert main(["doctor", "--pdb"]) == 2 and len(opened) == 1, "what the user can mend needs no debugger"


def test_a_module_missing_inside_a_command_is_no_missing_command(doctor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(_raise(ModuleNotFoundError("No module named 'x'", name="x")))
    assert main(["doctor"]) == 3 and "ModuleNotFoundError" in capsys.readouterr().err


def test_the_console_ends_with_the_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dlrun", "nope"])
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught:
        console()
    assert caught.value.code == 2


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    code = "import sys; from dlrun.cli import console; console()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"'{sys.executable}' -c '{code}' ls | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stderr == ""


def test_public_names_are_no_modules_whatever_was_imported_first() -> None:
    import dlrun

    for name, home in dlrun._HOMES.items():
        import_module(home)
        assert not isinstance(getattr(dlrun, name), types.ModuleType), name
    assert set(dlrun._HOMES) <= set(dir(dlrun))
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = dlrun.nope
