"""`dlrun show` explains every option of a part and every key at the root of a config, within the columns of a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from architecture_rules import ROOT

from dlrun.cli import main
from dlrun.cli.keys import DEFAULTS, root_keys
from dlrun.cli.plain import split_comment
from dlrun.cli.sheet import wrapped
from dlrun.config.places import GROUPS, part_names
from dlrun.config.schema import settings
from dlrun.config.sections import START_DEFAULTS

PARTS = [f"{group}/{name}" for group in GROUPS for name in part_names(group)]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_every_option_of_every_part_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for part in PARTS:
        facts = json.loads(said(capsys, "show", part, "--json")[1])
        assert all(len(option["comment"].split()) > 1 for option in facts["options"]), part
        lines = said(capsys, "show", part)[1].splitlines()
        words = " ".join(lines).split()
        for option in facts["options"]:
            at = words.index(option["comment"].split()[0])
            assert option["comment"].split()[-1] in words[at:], (part, option)
        long = [line for line in lines if len(line) > 80 and " " in line.strip() and not line.startswith("  Literal")]
        assert not long, long


def test_the_root_keys_are_those_of_the_schema_and_all_are_explained() -> None:
    classes = settings().classes
    expected = {f"train.{key}" for key in classes["Train"]} | {f"log.wandb.{key}" for key in classes["Wandb"]} | set(classes["Root"])
    expected |= {f"log.{key}" for key in classes["Log"] if key != "wandb"} | {f"start.{key}" for key in classes["Start"]}
    expected |= {f"expects.{key}" for key in settings().expects}
    keys = root_keys()
    assert set(keys) == expected
    assert [name for name, key in keys.items() if not key["comment"] or not key["type"] or not key["default"]] == []
    assert keys["train.clip_norm"]["default"] == "1.0" and keys["train.clip_norm"]["type"] == "Positive | None"
    written = {"last": "last", "{}": {}, "[]": [], "true": True}
    assert {key: written[DEFAULTS[f"start.{key}"]] for key in START_DEFAULTS} == START_DEFAULTS


@pytest.mark.parametrize(
    ("word", "fragments", "absent"),
    [
        ("config", ["train.steps", "log.wandb.mode", "seed", "expects.causal", "claims"], []),
        ("train", ["train.steps", "train.clip_norm", "exit code 75"], ["seed", "log.wandb"]),
        ("train.clip_norm", ["train.clip_norm", "1.0", "a number > 0", "null: as it comes"], ["train.steps"]),
        ("log.wandb", ["log.wandb.mode", "'offline', 'online', 'disabled'"], ["tensorboard"]),
        ("expects", ["facts about the set-up", "expects.causal"], []),
        ("seed", ["from 0 to 4294967295"], ["seeds"]),
        ("arm", ["one of the experiment's arms"], ["arms"]),
    ],
)
def test_keys_of_the_root(word: str, fragments: list[str], absent: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "show", word)
    assert code == 0 and all(fragment in " ".join(out.split()) for fragment in fragments), out
    assert not [fragment for fragment in absent if f"  {fragment} " in out], out
    names = [option["name"] for option in json.loads(said(capsys, "show", word, "--json")[1])["options"]]
    assert names and all(word == "config" or name == word or name.startswith(f"{word}.") for name in names)


@pytest.mark.parametrize(
    ("word", "fragment"),
    [
        ("model", "dlrun ls model lists them"),
        ("model.width", "dlrun show model/NAME explains width"),
        ("train.stepz", "did you mean dlrun show train.steps?"),
        ("expects/causal", "no kind 'expects'"),
    ],
)
def test_what_is_no_key_is_said(word: str, fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "show", word)
    assert code == 2 and out == "" and fragment in err and err.count("\n") == 1


def test_a_plugins_part_says_what_its_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine_shown.py").write_text(
        "from dlrun import register\n\n@register.schedule\ndef fading(step, steps, *,\n"
        "    last: float = 0.5,  # share that is left\n    kind: str = 'a'):  # what's up\n    'Fades out.'\n    return 1.0\n"
    )
    code, out, _ = said(capsys, "show", "schedule/fading", "--plugin", str(tmp_path / "mine_shown.py"))
    assert code == 0 and out.splitlines()[0] == "schedule/fading: Fades out."
    assert "share that is left" in out and "what's up" in out and "mine_shown.py" in out


def test_wrapping_keeps_words_and_columns() -> None:
    text = "a word and anotherwordthatislongerthanalltherest and the end"
    lines = wrapped(text, 20, 2)
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= 20 or " " not in line.strip() for line in lines) and wrapped("", 20, 2) == []


def test_an_apostrophe_starts_no_quote() -> None:
    assert split_comment(" Occam's # a razor") == ("Occam's", "a razor")
    assert split_comment(" 'a # b' # c") == ("'a # b'", "c")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", [["show", "model/mlp"], ["show", "config"], ["ls"], ["--help"]])
def test_a_full_disk_behind_stdout_is_one_line(words: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for unbuffered in ([], ["-u"]):
        with open("/dev/full", "w") as full:
            command = [sys.executable, *unbuffered, "-m", "dlrun", *words]
            done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 3 and done.stderr == "error: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["train", "run_dir="], "run_dir=: expected a path"),
        (["train", "output_root="], "output_root=: expected a path"),
        (["train", ""], "an empty word"),
    ],
)
def test_what_is_empty_is_no_value(words: list[str], fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, *words)
    assert code == 2 and out == "" and fragment in err and err.count("\n") == 1


def test_from_a_folder_says_which_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "it holds no config.yaml" in said(capsys, "train", "--from", str(tmp_path))[2]
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    code, _, err = said(capsys, "train", "--from", str(tmp_path))
    assert code == 2 and f"say --from {tmp_path}/config.yaml" in err and err.count("\n") == 1


def test_help_names_only_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from dlrun.cli.help import is_there

    assert ("--multirun" in said(capsys, "train", "--help")[1]) == is_there("sweep")
