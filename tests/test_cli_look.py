"""`--help`, `ls`, `show`, `--cfg`, with plugins and without; what people named is printed safely."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dlrun import __version__, registry
from dlrun.cli import main
from dlrun.cli.plain import first_comment, tags_of, top_level
from dlrun.cli.show import MEANS
from dlrun.config import compose
from dlrun.config.kinds import PLAIN
from dlrun.config.places import GROUPS, part_names
from dlrun.config.reading import parse as parse_yaml

ROOT = Path(__file__).resolve().parent.parent


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `dlrun words`."""
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


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
    assert set(json.loads(said(capsys, "ls", "--json")[1])) == {*GROUPS, "experiment", "sweep"}


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
    assert " ".join(lines[4].split()).startswith("outputs/first/20260101-000000-s1 finished step 9 best val/accuracy 0.9123")
    assert lines[4].endswith("test/accuracy 0.9")
    found = json.loads(said(capsys, "ls", "runs", "--json", "--tag", "mine")[1])["runs"]
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
