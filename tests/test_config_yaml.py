"""YAML that would surprise, explode, call or hang, and files that are none: refused with file and line before anything reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from config_errors import errors

from dlrun.config import compose
from dlrun.config.reading import MAX_BYTES, read
from dlrun.errors import UsageError

YAML = [
    ("seed: 0\nmodel:\n  width: *w", "x.yaml:3: alias `*w`"),
    ("seed: &s 3", "x.yaml:1: anchor `&s`"),
    ("model: {<<: {width: 3}}", "merge key"),
    ("seed: !!python/object/apply:os.system [id]", "tag `tag:yaml.org,2002:python/object/apply:os.system`"),
    ("seed: !!int '3'", "tag"),
    ("seed: ! 3", "tag"),
    ("!!map {seed: 3}", "tag"),
    ("seed: 1\nseed: 2", "x.yaml:2: key seed stands here twice (first on line 1)"),
    ("model: {width: 1, width: 2}", "stands here twice"),
    ("1: x", "key 1 is not text"),
    ("null: x", "key null is not text"),
    ("? [a]\n: x", "keys are text"),
    ("on: x", "YAML reads it as true or false"),
    ("tags: [no]", "no: YAML reads it as true or false"),
    ("checks: off", "off: YAML reads it as true or false"),
    ("checks: No", "No: YAML reads it as true or false"),
    ("seed: 1:30", "base 60"),
    ("seed: 010", "base 8"),
    ("seed: 08", "base 8"),
    ("seed: 0o17", "in decimal"),
    ("seed: 0x1F", "in decimal"),
    ("seed: 0b11", "in decimal"),
    ("source: 2020-01-01", "a date"),
    ("source: 2020-01-01 10:00:00", "a date"),
    ("tags: [=]", "quotes"),
    ("seed: 1\n---\nseed: 2", "a second document"),
    ("[1, 2]", "expected a mapping `key: value` at the top, found a list"),
    ("just text", "found a single value"),
    ("seed: [1", "not YAML"),
    ("seed: 'x", "not YAML"),
    ("a: b: c", "not YAML"),
    ("\tseed: 1", "not YAML"),
    ("seed: \x01", "not YAML"),
    ("seed: .nan", "expected an integer"),
    ("optimizer: {lr: .inf}", "finite, found inf"),
    ("optimizer: {lr: 1.0e+999}", "finite, found inf"),
    ("seed: " + "9" * 500, "more than 400 digits"),
    ("a: " + "[" * 40 + "]" * 40, "nested more than"),
    ("arms: " + "{a: " * 25 + "1" + "}" * 25, "nested more than"),
    ("tags: [" + "a, " * 21_000 + "a]", "more than 20000 values"),
    ("source: " + "x" * MAX_BYTES, "bytes; a config has at most"),
    ("defaults: 3", "defaults: expected a list"),
    ("defaults: [3]", "expected entries `group: name`"),
    ("defaults: [{override /model: '${x}'}]", "expected a part's name"),
    ("defaults: [{optional /model: mlp}]", "`optional` would hide a missing file"),
    ("defaults: [{/hydra/launcher: joblib}]", "no group hydra"),
    ("defaults: [{/model@optimizer: mlp}]", "cannot stand at optimizer"),
    ("defaults: [x]", "in a circle: x -> x"),
    ("defaults: [nosuch]", "no experiment 'nosuch'"),
    ("defaults: [{override /model: nosuch}]", "no model 'nosuch'"),
    ("defaults: [{override /model.foo: mlp}]", "has one network"),
    ("defaults: [{override /model: cnn}]\nmodel: {name: mlp}", "given twice"),
    ("# @package model\nseed: 3", "an experiment is global"),
    ("run_dir: x", "only the command line sets this"),
    ("output_root: /", "only the command line sets this"),
    ("arm: x", "only the command line sets this"),
    ("model.width: 3", "nest the mappings"),
    ("model: {_target_: os.system}", "a config cannot name code"),
    ("hydra: {run: {dir: x}}", "unknown key"),
    ("model: [mlp]", "expected the name of a model"),
    ("train: {steps: 3, epochs: 2}", "both say how long"),
    ("events: {a: 3}", ".a: expected text, found 3"),
    ("seed: ${seeds}\nseeds: ${seed}", "runs in a circle"),
    ("arms: [1]", "expected a mapping"),
]


@pytest.mark.parametrize(("text", "fragment"), YAML, ids=[f"{i}-{text[:25]!r}" for i, (text, _) in enumerate(YAML)])
def test_yaml_that_would_surprise_or_explode_is_refused(text: str, fragment: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/x.yaml").write_text(text)
    lines = errors("experiment=x", config_dir=tmp_path)
    assert any(fragment in line and "x.yaml" in line for line in lines), lines


def test_a_bomb_of_aliases_is_not_built(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    (tmp_path / "x.yaml").write_text("\n".join(rows))
    with pytest.raises(UsageError) as caught:
        read(str(tmp_path / "x.yaml"))
    assert len(caught.value.lines) <= 20


@pytest.mark.parametrize("form", ["[{0}, {0}]", "{{x: {0}, y: {0}}}"])
def test_a_bomb_of_interpolations_is_not_built(form: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    below = [form.format(f"'${{arms.a{i}}}'") for i in range(39)]
    rows = ["arms:", "  a0: {b: 1}", *(f"  a{i + 1}: {value}" for i, value in enumerate(below))]
    (tmp_path / "experiment/x.yaml").write_text("\n".join(rows))
    assert any("more than 50000 values" in line for line in errors("experiment=x", config_dir=tmp_path))


def test_a_bomb_of_texts_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    rows = ["events:", "  a0: xxxxxxxxxx"] + [f"  a{i}: ${{events.a{i - 1}}}${{events.a{i - 1}}}" for i in range(1, 40)]
    (tmp_path / "experiment/x.yaml").write_text("\n".join(rows))
    assert any("more than 20000 characters" in line for line in errors("experiment=x", config_dir=tmp_path))


def test_y_and_n_are_text_to_every_reader_in_use(tmp_path: Path) -> None:
    """YAML 1.1 on paper reads them as booleans; PyYAML and OmegaConf do not, and `n` is a good name for an option."""
    (tmp_path / "x.yaml").write_text("n: 3\nkey: y\n")
    assert read(str(tmp_path / "x.yaml")).values == {"n": 3, "key": "y"}


def test_very_many_wrong_keys_end_soon(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/x.yaml").write_text("\n".join(f"wrong{i}: 1" for i in range(9_000)))
    assert 1 <= len(errors("experiment=x", config_dir=tmp_path)) <= 200
    (tmp_path / "experiment/x.yaml").write_text("augment:\n" + "\n".join(f"  a{i}: wrong{i}" for i in range(9_000)))
    assert 1 <= len(errors("experiment=x", config_dir=tmp_path)) <= 200
    (tmp_path / "experiment/x.yaml").write_text("arms:\n" + "\n".join(f"  a{i}: {{model: cnn}}" for i in range(3_000)))
    assert any("more than 100 arms" in line for line in errors("experiment=x", config_dir=tmp_path))
    assert len(errors(*["a=1"] * 5000)) == 1


def test_experiments_that_include_each_other_many_times_over(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    for i in range(30):
        (tmp_path / f"experiment/e{i}.yaml").write_text(f"defaults: [e{i + 1}, e{i + 1}]\n")
    (tmp_path / "experiment/e30.yaml").write_text("seed: 1\n")
    assert any("builds on more than" in line or "more than 10 deep" in line for line in errors("experiment=e0", config_dir=tmp_path))


# -- files that are none ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "device", "latin-1", "utf-16", "unreadable-link"])
def test_files_that_are_none(kind: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment/x.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "unreadable-link":
        path.symlink_to(tmp_path / "nothing")
    else:
        path.write_bytes("source: é".encode(kind))
    lines = errors("experiment=x", config_dir=tmp_path)
    expected = {
        "device": "a link that leaves",
        "loop": "cannot be read",
        "unreadable-link": "cannot be read",
        "latin-1": "not UTF-8",
        "utf-16": "not UTF-8",
    }
    assert len(lines) == 1 and expected.get(kind, "not a regular file") in lines[0]


def test_a_saved_config_that_is_none(tmp_path: Path) -> None:
    assert "cannot be read" in errors(from_file=tmp_path / "nothing.yaml")[0]
    assert "not a regular file" in errors(from_file=tmp_path)[0]
    (tmp_path / "config.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    assert "not UTF-8" in errors(from_file=tmp_path / "config.yaml")[0]


def test_a_config_dir_that_is_none(tmp_path: Path) -> None:
    assert errors(config_dir=tmp_path / "nothing") == [f"--config-dir {tmp_path / 'nothing'}: no such folder"]


PARTS = [
    ("model/mlp", "name: mlp\nwidth: 3\n", "mlp.yaml:1: model.depth: missing"),
    ("model/mlp", "name: cnn\n", "name: expected mlp, the name of the file, found cnn"),
    ("model/mlp", "defaults: [_nosuch, _self_]\nname: mlp\n", "no file model/_nosuch.yaml"),
    ("model/mlp", "defaults: [mlp, _self_]\nname: mlp\n", "circle"),
    ("model/mlp", "defaults: [{/hydra/launcher: x}]\nname: mlp\n", "expected names of model files"),
    ("model/mlp", "name: mlp\n_target_: os.system\n", "unknown key"),
    ("model/mlp", "name: mlp\nwidth: ${oc.decode:3}\n", "no other interpolation"),
    ("model/mine", "name: mine\n", "no part of this name is registered"),
]


@pytest.mark.parametrize(("name", "text", "fragment"), PARTS)
def test_parts_in_a_config_dir_are_held_to_their_source(name: str, text: str, fragment: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / f"{name}.yaml").write_text(text)
    lines = errors(f"model={name.split('/')[1]}", config_dir=tmp_path)
    assert any(fragment in line for line in lines), lines


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    errors("model=nope")
    compose()
    assert list(tmp_path.iterdir()) == []
