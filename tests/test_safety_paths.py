"""Promise S1 on configs: a YAML of others names no file that is read, unless it lies where nothing private does or the user typed it."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import hostile
import pytest
import runs
import yaml
from PIL import Image

from dlrun import load, register
from dlrun.config import Config, compose
from dlrun.config.reach import seals
from dlrun.errors import UsageError
from dlrun.rundir import read_json

TEXT = (
    "dataset=text_file",
    "dataset.context=4",
    "task=language_model",
    "model=transformer",
    "model.width=8",
    "model.depth=1",
    "model.heads=1",
)
REFUSED = "a config may not choose what is read outside"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a private file, a data cache, a project in which dlrun is called, and a folder of YAML from somewhere."""
    for name in ("cache", "project/outputs", "conf/experiment", "conf/dataset", "conf/data", "shelf", "private"):
        (tmp_path / name).mkdir(parents=True)
    for folder in ("private", "conf/data", "cache", "project/outputs", "shelf"):
        (tmp_path / folder / "x.txt").write_text("a text of some length, to be predicted. " * 20)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DLRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DLRUN_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def composed(home: Path, text: str, *overrides: str) -> Config:
    (home / "conf/experiment/x.yaml").write_text(text)
    return compose(["experiment=x", *overrides], config_dir=home / "conf")


def refusal(home: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        composed(home, text, *overrides)
    (line,) = caught.value.lines
    assert REFUSED in line
    return line


OUTSIDE = [
    "{home}/private/x.txt",
    "~/private/x.txt",
    "../private/x.txt",
    "{home}/conf/../private/x.txt",
    "/etc/passwd",
    "/proc/self/environ",
]
OUTSIDE += ["{home}/conf/way-out/x.txt", "{home}/conf-not/x.txt", "/", "~", "."]
OUTSIDE += ["${{oc.env:HOME}}/private/x.txt", "${{log.wandb.notes}}", "{home}/cache/../private/x.txt"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("key", ["dataset.path", "dataset.folder", "start.from"])
def test_an_experiment_cannot_name_a_file_outside(key: str, path: str, home: Path) -> None:
    (home / "conf/way-out").symlink_to(home / "private")
    part = {
        "dataset.path": "dataset: {name: text_file, path: ",
        "dataset.folder": "dataset: {name: image_folder, folder: ",
        "start.from": "start: {from: ",
    }
    written = path.format(home=home)
    line = refusal(home, f"{part[key]}'{written}'}}\nlog: {{wandb: {{notes: /etc/passwd}}}}\n")
    assert "x.yaml:1: " in line and f"say {key}={written} on the command line" in line
    assert str(home) not in line.replace(str(home / "conf"), "") or str(home) in written  # what HOME holds is not told


def test_what_is_typed_counts_and_what_lies_in_the_open_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = "dataset: {name: text_file, path: /etc/passwd}\n"
    assert composed(home, private, f"dataset.path={home}/private/x.txt").paths == {"dataset.path": f"{home}/private/x.txt"}
    assert composed(home, private, "dataset.path='${oc.env:HOME}/private/x.txt'").paths == {"dataset.path": f"{home}/private/x.txt"}
    for place in (f"{home}/conf/data/x.txt", "~/cache/x.txt", "outputs/x.txt"):
        assert composed(home, f"dataset: {{name: text_file, path: '{place}'}}\n").resolved["dataset"]["path"] == place
    refusal(home, "dataset: {name: text_file, path: ../shelf/x.txt}\n")
    monkeypatch.setenv("DLRUN_DATA", f"/nowhere:{home}/shelf")
    composed(home, "dataset: {name: text_file, path: ../shelf/x.txt}\n")
    refusal(home, private)
    composed(home, "dataset: {name: text_file, path: elsewhere/x.txt}\n", "output_root=elsewhere")


def test_a_typed_reference_to_what_yaml_holds_is_not_typed(home: Path) -> None:
    refusal(home, "log: {wandb: {notes: /etc/passwd}}\ndataset: {name: text_file}\n", "dataset.path='${log.wandb.notes}'")


def test_values_of_parts_and_arms_are_no_way_around(home: Path) -> None:
    (home / "conf/dataset/text_file.yaml").write_text(Path(yaml_of("text_file")).read_text().replace("path: null", "path: /etc/passwd"))
    refusal(home, "seed: 1\n", "dataset=text_file")
    (home / "conf/dataset/text_file.yaml").unlink()
    refusal(home, "dataset: {name: text_file}\narms: {a: {dataset.path: /etc/passwd}}\n", "arm=a")
    refusal(home, "dataset: {name: fashion_mnist, folder: /etc}\n")
    assert composed(home, "start: {from: base}\narms: {base: {seed: 1}}\n").resolved["start"]["from"] == "base"
    refusal(home, "start: {from: ../private}\narms: {../private: {seed: 1}}\n")


def yaml_of(name: str) -> str:
    from dlrun.config import conf_dir

    return str(conf_dir() / "dataset" / f"{name}.yaml")


def test_plugins_paths_follow_the_same_rule(home: Path) -> None:
    @register.dataset
    def files_of_mine(*, places: list[Path] = [], one: Path | None = None) -> None: ...  # noqa: B006

    line = refusal(home, "dataset: {name: files_of_mine, places: [~/cache/x, ~/private/x.txt]}\n")
    assert "dataset.places: 1: " in line and "say dataset.places=[...]" in line
    refusal(home, "dataset: {name: files_of_mine, one: ../private/x.txt}\n")
    assert composed(home, "dataset: {name: files_of_mine}\n", f"dataset.places=[{home}/private/x.txt]").paths


def test_links_in_a_config_folder_stay_inside(home: Path) -> None:
    (home / "private/x.yaml").write_text("# a secret comment\nsecret: 1\n")
    (home / "conf/experiment/x.yaml").symlink_to(home / "private/x.yaml")
    for words in (("train", "experiment=x"), ("ls", "experiment"), ("show", "experiment/x")):
        answer = hostile.ask(*words, "--config-dir", str(home / "conf"))
        hostile.assert_calm(answer, words)
        assert "secret" not in answer.out + answer.err and (answer.code == 2 or words[0] == "show"), (words, answer)
    shutil.rmtree(home / "conf/experiment")
    (home / "conf/experiment").symlink_to(home / "private")
    with pytest.raises(UsageError, match="a link that leaves"):
        compose(["experiment=x"], config_dir=home / "conf")


@pytest.fixture
def mine(home: Path) -> Path:
    """A run of the user's own on a file that was typed."""
    run, _, code = runs.start(
        home, *TEXT, "train.steps=2", "train.batch_size=4", "train.eval_every=0", f"dataset.path={home}/private/x.txt"
    )
    assert code == 0 and set(read_json(run / "manifest.json")["paths"]) == {"dataset.path"}
    return run


def test_the_owner_resumes_evaluates_and_loads_without_saying_it_again(mine: Path) -> None:
    assert hostile.ask("resume", str(mine), "train.steps=3", "log.wandb.mode=disabled").code == 0
    assert hostile.ask("eval", str(mine)).code == 0 and load(mine).step == 3
    again = compose([], from_file=mine / "config.yaml")
    assert seals(again.paths) == read_json(mine / "manifest.json")["paths"]


def refused(run: Path) -> None:
    for words in (
        ("eval", str(run)),
        ("resume", str(run), "train.steps=9", "log.wandb.mode=disabled"),
        ("train", "--from", f"{run}/config.yaml"),
    ):
        answer = hostile.ask(*words)
        assert answer.code == 2 and REFUSED in answer.err and answer.err.count("\n") == 1, answer


def test_a_run_of_others_reads_nothing_until_it_is_said(mine: Path, home: Path) -> None:
    manifest = json.loads((mine / "manifest.json").read_text())
    good = manifest["paths"]["dataset.path"]
    for odd in (
        {},
        [],
        None,
        *({"dataset.path": value} for value in hostile.ODD),
        {"dataset.path": good[:-1] + "\u0660"},
        {"dataset.folder": good},
    ):
        (mine / "manifest.json").write_text(json.dumps({**manifest, "paths": odd}))
        with pytest.raises(UsageError, match=REFUSED):
            compose([], from_file=mine / "config.yaml")
    refused(mine)
    for words in (("eval", str(mine)), ("resume", str(mine), "train.steps=3", "log.wandb.mode=disabled")):
        assert hostile.ask(*words, f"dataset.path={home}/private/x.txt").code == 0
    assert load(mine, overrides=[f"dataset.path={home}/private/x.txt"]).step == 3
    answer = hostile.ask("resume", str(mine), f"dataset.path={home}/shelf/x.txt")
    assert answer.code == 2 and "a resumed run keeps it" in answer.err


def test_a_seal_is_for_one_path_one_option_and_one_user(mine: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = next((home / "cache").glob("paths-*.key"))
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
    config = (mine / "config.yaml").read_text()
    (mine / "config.yaml").write_text(config.replace("private/x.txt", "shelf/x.txt"))
    refused(mine)
    (mine / "config.yaml").write_text(config)
    compose([], from_file=mine / "config.yaml")
    key.chmod(0o644)
    refused(mine)
    key.chmod(0o600)
    compose([], from_file=mine / "config.yaml")
    key.write_bytes(bytes(32))
    refused(mine)
    key.unlink()
    key.symlink_to(home / "private/x.txt")
    refused(mine)
    assert seals({"a": "/b"}) is None and (home / "private/x.txt").read_text().startswith("a text")


def test_a_picture_folder_of_others_links_to_nothing(home: Path) -> None:
    for name in ("a", "b"):
        (home / "conf/data" / name).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), 10 * i).save(home / "conf/data" / name / f"{i}.png")
    (home / "conf/data/x.txt").unlink()
    Image.new("L", (8, 8)).save(home / "private/secret.png")
    (home / "conf/data/a/9.png").symlink_to(home / "private/secret.png")
    (home / "conf/experiment/x.yaml").write_text(f"dataset: {{name: image_folder, folder: {home}/conf/data, size: 8}}\n")
    answer = hostile.ask("data", "experiment=x", "--config-dir", str(home / "conf"))
    assert answer.code == 3 and "9.png is a link that leaves the folder" in answer.err


CONFIG_ODD = [
    *hostile.ODD,
    "${oc.env:HOME}",
    "${a}",
    "${seed}",
    "${oc.env:X,${seed}}",
    "???",
    "_target_",
    {"_target_": "os.system"},
    "../../..",
    "\0",
]


def test_fuzzed_saved_configs_end_in_errors_with_a_place(home: Path) -> None:
    """One to three values of a saved config replaced: a valid config, or lines that name file and key. Never anything else."""
    run, _, _ = runs.start(home, "train.steps=1", "checks=none", "train.eval_every=0", "model.width=4")
    tree = yaml.safe_load((run / "config.yaml").read_text())
    rng, refusals = random.Random(31), 0
    for number in range(60):
        odd = tree
        for _ in range(rng.randint(1, 3)):
            odd, _ = hostile.mutated(odd, rng, CONFIG_ODD)
        file = home / f"{number}.yaml"
        file.write_text(yaml.safe_dump(odd))
        try:
            compose([], from_file=file)
        except UsageError as error:
            refusals += 1
            assert all(file.name in line or "conf/" in line for line in error.lines), error.lines
            assert all(line.isprintable() and len(line) < 1000 and str(home) not in line.replace(str(file), "") for line in error.lines)
    assert refusals > 30


def test_fuzzed_bytes_of_yaml_are_refused_or_read(home: Path) -> None:
    run, _, _ = runs.start(home, "train.steps=1", "checks=none", "train.eval_every=0", "model.width=4")
    text = (run / "config.yaml").read_bytes()
    rng = random.Random(32)
    bits = [
        b"&a",
        b"*a",
        b"!!python/object/apply:os.system [x]",
        b"{",
        b"[",
        b"\0",
        b"\xff",
        b"? ",
        b"- ",
        b": ",
        b"|",
        b"%",
        b"---\n",
        b"\t",
        b"\xe2\x80\xae",
    ]
    for number in range(150):
        data = bytearray(text)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(bits)
        file = home / f"{number}.yaml"
        file.write_bytes(data)
        try:
            compose([], from_file=file)
        except UsageError as error:
            assert 0 < len(error.lines) <= 101 and all(line.isprintable() and len(line) < 1000 for line in error.lines)
    assert sorted(os.listdir(home / "project")) == ["outputs"]
