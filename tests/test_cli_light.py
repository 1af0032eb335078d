"""The command line without a run: words and flags, exit codes, `ls`, `show`, `--cfg`, plugins; what people named is printed safely."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dlrun import __version__, registry
from dlrun.cli import arguments as words_module
from dlrun.cli import console, main
from dlrun.cli.arguments import COMMANDS, FLAGS, parse
from dlrun.cli.plain import first_comment, tags_of, top_level
from dlrun.cli.show import MEANS
from dlrun.config import compose
from dlrun.config.kinds import PLAIN
from dlrun.config.places import GROUPS, part_names
from dlrun.config.reading import parse as parse_yaml
from dlrun.errors import AnswerNo, MissingError, UsageError

ROOT = Path(__file__).resolve().parent.parent


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `dlrun words`."""
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


# -- words and flags --------------------------------------------------------------------------------------------------------------------


def test_words_become_a_command_overrides_and_flags() -> None:
    found = parse("train model=cnn --plugin a.py --plugin=b.py -cd conf2 ~augment.flip +experiment=x --pdb --cfg".split())
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
    command = f"{sys.executable} -c '{code}' ls | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stderr == ""


# -- help, ls, show ---------------------------------------------------------------------------------------------------------------------


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, _ = said(capsys, *words)
        assert code == 0 and "dlrun train" in out and "Exit codes" in out
    code, out, _ = said(capsys, "train", "--help")
    assert code == 0 and "--plugin FILE|NAME" in out and "--tag" not in out
    assert said(capsys, "--version") == (0, f"dlrun {__version__}\n", "")


@pytest.mark.parametrize("group", GROUPS)
def test_ls_names_every_part_with_what_it_is(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "ls", group)
    lines = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines] == (part_names(group) or ["no"])
    assert all(len(line.split()) > 1 for line in lines), "each says what it is"
    entries = json.loads(said(capsys, "ls", group, "--json")[1])[group]
    assert [entry["name"] for entry in entries] == part_names(group)


def test_ls_without_a_kind_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "ls")[1]
    assert all(group in out for group in GROUPS) and "mlp" in out and "digits" in out
    assert set(json.loads(said(capsys, "ls", "--json")[1])) == {*GROUPS, "experiment"}


def test_ls_finds_experiments_by_tag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/a.yaml").write_text("# @package _global_\n# The first \x1b[31m[/red].\ntags: [one, two/three]\n")
    (tmp_path / "experiment/b.yaml").write_text("# The second.\ntags:\n  - two\n")
    os.mkfifo(tmp_path / "experiment/c.yaml")
    code, out, _ = said(capsys, "ls", "experiment", "--tag", "two/three", "--config-dir", str(tmp_path))
    assert code == 0 and out.split()[:3] == ["a", "The", "first"] and "\\x1b[31m[/red]" in out and "\x1b" not in out
    names = [entry["name"] for entry in json.loads(said(capsys, "ls", "--tag", "two", "--json", "-cd", str(tmp_path))[1])["experiment"]]
    assert names == ["b"]
    assert "no experiment has the tag x" in said(capsys, "ls", "experiment", "--tag", "x")[1]


def _run(root: Path, name: str, summary: Any) -> Path:
    path = root / "outputs" / "first" / name
    path.mkdir(parents=True)
    if summary is not None:
        (path / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    (path / "config.yaml").write_text("tags: [mine]\n" if name.endswith("s1") else "tags: []\n")
    return path


def test_ls_runs_newest_first_and_names_broken_ones(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no runs" in said(capsys, "ls", "runs")[1]
    best = {"step": 3, "metric": "val/accuracy", "value": 0.91234}
    metrics = {"test/accuracy": 0.9, "val/loss": "nan"}
    _run(tmp_path, "20260101-000000-s1", {"status": "finished", "step": 9, "best": best, "metrics": metrics})
    _run(tmp_path, "20260102-000000-s2", "{broken")
    _run(tmp_path, "20260103-000000-s3", None)
    _run(tmp_path, "20260104-000000-s4", "[" * 100_000)
    _run(tmp_path, "20260105-000000-\x1b[31m", {"status": "running", "reason": "[/x]\x1b]0;"})
    code, out, _ = said(capsys, "ls", "runs")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 5 and "\x1b" not in out and "\\x1b" in lines[0]
    assert "20260104" in lines[1] and "summary.json cannot be read" in lines[1] and "no summary.json" in lines[2] and "broken" in lines[3]
    assert "finished  step 9  best val/accuracy 0.9123  test/accuracy 0.9" in lines[4]
    found = json.loads(said(capsys, "ls", "runs", "--json", "--tag", "mine")[1])
    assert len(found) == 1 and found[0]["status"] == "finished"
    assert "20260101" in said(capsys, "ls", "runs", f"output_root={tmp_path / 'outputs'}")[1]


def test_ls_runs_reads_few_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(70):
        _run(tmp_path, f"20260101-0000{i:02}-s0", {"status": "finished"})
    out = said(capsys, "ls", "runs")[1]
    assert len(out.splitlines()) == 51 and "and 20 older" in out and "20260101-000069" in out.splitlines()[0]
    assert len(said(capsys, "ls", "runs", "--all")[1].splitlines()) == 70


@pytest.mark.parametrize("part", [f"{group}/{name}" for group in GROUPS for name in part_names(group)])
def test_show_says_the_same_as_the_config(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    group, name = part.split("/")
    facts = json.loads(said(capsys, "show", part, "--json")[1])
    values = parse_yaml((ROOT / "conf" / group / f"{name}.yaml").read_bytes(), "x").values
    assert [option["name"] for option in facts["options"]] == [key for key in values if key not in ("name", "slots")] and facts["doc"]
    for option in facts["options"]:
        assert parse_yaml(f"v: {option['default']}".encode(), "x").values["v"] == values[option["name"]], option
    out = said(capsys, "show", part)[1]
    assert part in out and all(option["name"] in out for option in facts["options"])


def test_show_says_what_the_ranges_mean() -> None:
    assert MEANS == {name: PLAIN[name].says for name in MEANS} and set(MEANS) <= set(PLAIN)
    from dlrun.ranges import NAMED

    assert set(MEANS) == set(NAMED)


def test_show_an_experiment_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/a.yaml").write_text("# It.\nseed: 1 # \x1b[31m\n")
    code, out, _ = said(capsys, "show", "experiment/a", "-cd", str(tmp_path))
    assert code == 0 and "seed: 1 # \\x1b[31m" in out


def test_reading_yaml_as_text() -> None:
    text = "# @package _global_\n# What it is.\na: 1  # one\nb: 'x # y'\nc:\n  - 1\n  - 2 # two\nd: {e: f}\n"
    assert first_comment(text) == "What it is."
    assert top_level(text) == {"a": ("1", "one"), "b": ("'x # y'", ""), "c": ("- 1 - 2", ""), "d": ("{e: f}", "")}
    assert tags_of("tags: [a, 'b c']\n") == ["a", "b c"] and tags_of("tags:\n  - a\n  - b\n") == ["a", "b"] and tags_of("x: 1") == []


# -- --cfg and plugins ------------------------------------------------------------------------------------------------------------------


def test_cfg_prints_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "train", "--cfg", "job", "model=cnn", "seed=3")
    assert code == 0 and parse_yaml(out.encode(), "x").values == compose(["model=cnn", "seed=3"]).saved


PLUGIN = """from dlrun import register
@register.schedule
def NAME(step, steps, *, drop: float = 0.5):
    "Halves \\x1b[31mthe rate."
    return 1.0
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """Write a plugin; forget what it registered afterwards."""
    from dlrun import plugins

    before = {group: dict(parts) for group, parts in registry.PLUGINS.items()}
    known, path_before = dict(plugins._loaded), list(sys.path)

    def write(name: str, text: str = PLUGIN) -> str:
        (tmp_path / f"{name}.py").write_text(text.replace("NAME", name))
        return str(tmp_path / f"{name}.py")

    yield write
    registry.PLUGINS.update(before)
    plugins._loaded.clear()
    plugins._loaded.update(known)
    sys.path[:] = path_before


def test_plugins_are_listed_shown_and_composed(plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = plugin("halving_a")
    assert "halving_a" in said(capsys, "ls", "schedule", "--plugin", file)[1]
    out = said(capsys, "show", "schedule/halving_a", "--plugin", file)[1]
    assert "drop" in out and "0.5" in out and "\x1b" not in out
    code, out, _ = said(capsys, "train", "--cfg", "--plugin", file, "schedule=halving_a", "schedule.drop=1")
    assert code == 0 and parse_yaml(out.encode(), "x").values["schedule"] == {"name": "halving_a", "drop": 1.0}


def test_an_error_in_a_plugin_shows_the_users_own_lines(plugin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = plugin("failing_b", "def inner():\n    return 1 / 0\n\ninner()\n")
    code, out, err = said(capsys, "train", "--plugin", file)
    assert code == 2 and out == "" and "return 1 / 0" in err and "error: --plugin" in err and "ZeroDivisionError" in err
    assert "importlib" not in err and "dlrun/plugins.py" not in err, "only the user's own part of the traceback"
