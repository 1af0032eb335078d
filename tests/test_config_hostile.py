"""Wrong, ambiguous and hostile input: each ends in an error that names the thing, the place and what to do; nothing hangs or explodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dlrun.config import compose
from dlrun.config.reading import MAX_BYTES, read
from dlrun.errors import UsageError


def errors(*overrides: str, **where: Any) -> list[str]:
    """The error lines that `overrides` end in; none holds a line break or a control character."""
    with pytest.raises(UsageError) as caught:
        compose(overrides, **where)
    assert all(line.isprintable() for line in caught.value.lines)
    return caught.value.lines


COMMAND_LINE = [
    # unknown keys, at any depth
    ("model.widht=3", "unknown key; model mlp has width, depth, activation, norm, dropout; did you mean model.width?"),
    ("modle=mlp", "did you mean model?"),
    ("lr=0.1", "did you mean optimizer.lr?"),
    ("log.wandb.mod=offline", "did you mean log.wandb.mode?"),
    ("log.wandb.mode.x=1", "log.wandb.mode is an option (one of offline, online, disabled) and holds no keys"),
    ("train.nested.deep.key=1", "unknown key; train has steps"),
    ("log={wandb: {mod: offline}}", "did you mean log.wandb.mode?"),
    ("start={from: x, stepp: 3}", "did you mean start.step?"),
    ("expects.casual=true", "did you mean expects.causal?"),
    ("+new.key=1", "unknown key; the config has"),
    ("++model.new=1", "unknown key; model mlp has"),
    ("Model.width=3", "unknown key"),
    # unknown parts
    ("model=mlpp", "no model 'mlpp'; there are cnn, linear, mlp"),
    ("model=MLP", "did you mean model=mlp?"),
    ("model=../../etc/passwd", "no model"),
    ("model=torch.nn.Linear", "no model 'torch.nn.Linear'"),
    ("model=null", "a model is needed"),
    ("model=3", "expected the name of a model"),
    ("model=[mlp,cnn]", "expected the name of a model"),
    ("model=", "no model ''"),
    ("~model", "a model is needed"),
    ("task=nope", "no task 'nope'"),
    ("experiment=nope", "no experiment 'nope'"),
    ("experiment=../x", "no experiment '../x'"),
    ("experiment=3", "no experiment"),
    ("arm=nope", "no arm 'nope'; the config has no arms"),
    ("augment.a=nope", "no augment 'nope'"),
    ("probes=[nope]", "no probe 'nope'"),
    # slots
    ("model.foo=cnn", "task classification has one network: say model=cnn"),
    ("dataset.a=digits", "there is one dataset: say dataset=digits"),
    ("~augment.flip", "there is no augment.flip to take away"),
    ("~train.ema", "set it (KEY=null)"),
    ("augment.a-b=flip", "cannot"),
    ("model@optimizer=mlp", "cannot stand at optimizer"),
    ("model@model.a.b=mlp", "a slot is GROUP or GROUP.SLOT"),
    ("nope@model=x", "cannot stand at model"),
    ("nope@nope=x", "no group nope"),
    ("schedule.generator=cosine", "a schedule for no optimizer"),
    ("task.slots={model: [a, b]}", "the slots of task classification are what its own YAML says"),
    # wrong types and ranges
    ("model.width=wide", "expected an integer >= 1, found 'wide'"),
    ("model.width=3.5", "expected an integer >= 1, found 3.5"),
    ("model.width=3.0", "say 3"),
    ("model.width='3'", "expected an integer >= 1, found '3'"),
    ("model.width=true", "expected an integer >= 1, found true"),
    ("model.width=null", "expected an integer >= 1, found null"),
    ("model.width=[3]", "expected an integer >= 1, found [3]"),
    ("model.width={a: 3}", "found a mapping with a"),
    ("model.width=0", "expected an integer >= 1, found 0"),
    ("model.dropout=1.5", "expected a number in [0, 1], found 1.5"),
    ("model.activation=rleu", "expected one of relu, gelu, silu, tanh, found 'rleu'; did you mean relu?"),
    ("optimizer.lr=-1", "expected a number >= 0, found -1"),
    ("optimizer.lr=nan", "finite, found nan"),
    ("optimizer.lr=inf", "finite, found inf"),
    ("optimizer.lr=1e999", "finite, found inf"),
    ("optimizer.betas=[0.9]", "a list of 2"),
    ("optimizer.betas=[0.9,1.0]", "[1]: expected a number in [0, 1), found 1.0"),
    ("train.steps=1e3", "say 1000"),
    ("train.steps=-5", "expected an integer >= 0 or null, found -5"),
    ("train.steps=" + "9" * 399, "of a size that a float can hold"),
    ("train.compile=1", "expected true or false, found 1"),
    ("train.compile=yes", "expected true or false, found 'yes'"),
    ("train.batch_size=ful", "did you mean full?"),
    ("train.eval_splits=[val,tset]", "[1]: expected one of train, val, test, found 'tset'; did you mean test?"),
    ("train.eval_splits=[val,val]", "stands here twice"),
    ("train=3", "expected a mapping"),
    ("train=null", "expected a mapping"),
    ("seed=-1", "from 0 to 4294967295"),
    ("seeds=[1,1]", "different seeds"),
    ("device=cdua", "did you mean cuda?"),
    ("device=cpu:1", "expected auto, cpu"),
    ("checks=no", "expected one of fast, deep, none, found 'no'"),
    ("log.wandb.name=123", "put it in quotes"),
    ("log.wandb.tags=[a,3]", "[1]: expected text, found 3"),
    ("events.a=3", "expected text, found 3"),
    ("claims=[nan]", "finite"),
    ("output_root=null", "expected a path"),
    ("run_dir=\"a\x00b\"", "zero byte"),
    # missing, too much
    ("model.width=???", "missing: give it, model.width=..."),
    ("train.steps=null", "say how long to train"),
    ("start.step=3", "start needs from"),
    ("train.accumulate=7", "does not divide into 7 micro-batches"),
    # what would import, call or write
    ("model._target_=os.system", "a config cannot name code"),
    ("model={_target_: os.system}", "a config cannot name code"),
    ("+x._target_=os.system", "unknown key"),
    ("model._partial_=true", "a config cannot name code"),
    ("hydra.run.dir=x", "say run_dir=FOLDER"),
    ("hydra/launcher=joblib", "say dlrun sweep --backend"),
    ("+hydra.job.chdir=true", "never changes the working folder"),
    ("hydra.searchpath=[file:///tmp]", "say --config-dir FOLDER"),
    ("~hydra.x", "dlrun has its own options"),
    ("plugin=evil.py", "unknown key"),
    # sweeps belong to sweep
    ("model=mlp,cnn", "use `dlrun sweep`"),
    ("optimizer.lr=choice(1,2)", "use `dlrun sweep`"),
    ("seed=range(1,5)", "use `dlrun sweep`"),
    ("optimizer.lr=interval(0,1)", "use `dlrun sweep`"),
    ("model=glob(*)", "use `dlrun sweep`"),
    # not in the grammar
    ("model", "expected KEY=VALUE"),
    ("=3", "single dots"),
    (".model=3", "single dots"),
    ("model..width=3", "single dots"),
    ("model.=3", "single dots"),
    ("seed=[1", "cannot be read"),
    ("seed={a", "cannot be read"),
    ("seed=}", "cannot be read"),
    ("seed='1", "cannot be read"),
    ("train.eval_splits[0]=test", "cannot be read"),
    ("seed=eval(1)", "Unknown function 'eval'"),
    ("seed=" + "[" * 900 + "]" * 900, "nested more than"),
    ("seed=[" + "1," * 4000 + "1]", "longer than"),
    ("seed=" + "9" * 3000, "expected an integer from 0"),
    ("a\x1b[31mb=3", "\\x1b[31m"),
    ("log.wandb.notes={1: 2}", "is not text"),
    # interpolations
    ("model.width=${nope.x}", "points to nothing: the config has no nope"),
    ("model.width=${model.nope}", "points to nothing: model has no nope"),
    ("model.width=${model.width}", "runs in a circle"),
    ("model.width=${oc.env:DLRUN_NOT_SET}", "not set in the environment"),
    ("model.width=${oc.decode:3}", "no other interpolation"),
    ("model.width=${oc.create:3}", "no other interpolation"),
    ("model.width=${hydra:runtime.cwd}", "no other interpolation"),
    ("model.width=${now:%Y}", "no other interpolation"),
    ("model.width=${.depth}", "no other interpolation"),
    ("log.wandb.notes=a${model}b", "only a single value can stand inside a text"),
    ("log.wandb.notes='${a'", "not a whole interpolation"),
    ("log.wandb.notes='${oc.env:${seed}}'", "not a whole interpolation"),
    ("model=${oc.env:HOME}", "no model"),
    ("model.activation=${dataset.name}", "found 'digits'"),
]


@pytest.mark.parametrize(("override", "fragment"), COMMAND_LINE, ids=[f"{i}-{text[:30]!r}" for i, (text, _) in enumerate(COMMAND_LINE)])
def test_one_bad_override_is_one_error_that_names_it(override: str, fragment: str) -> None:
    lines = errors(override)
    assert len(lines) == 1, lines
    assert fragment in lines[0] and lines[0].startswith("command line: ")


TWICE = [
    ("model.width=1", "model.width=2"),
    ("model.width=1", "+model.width=1"),
    ("model=mlp", "model=cnn"),
    ("model=mlp", "model@model=mlp"),
    ("model=mlp", "~model"),
    ("train={steps: 3}", "train.steps=4"),
    ("metric=f1", "metric.a=accuracy"),
    ("experiment=gan_ring", "+experiment=gan_ring"),
    ("optimizer=sgd", "optimizer.body=adamw"),
]


@pytest.mark.parametrize(("one", "other"), TWICE)
def test_a_key_given_twice_names_both(one: str, other: str) -> None:
    lines = errors(one, other)
    assert any(one in line and other in line and "given twice" in line for line in lines), lines


GAN = [
    ("model=cnn", "task gan has networks generator, critic: say model.generator=cnn"),
    ("model.width=3", "task gan has networks generator, critic: say model.generator.width=..."),
    ("model.generatr=cnn", "did you mean model.generator?"),
    ("model.generator.widht=3", "did you mean model.generator.width?"),
    ("optimizer=adamw", "task gan has optimizers generator, critic: say optimizer.generator=adamw"),
    ("optimizer.lr=3", "say optimizer.generator.lr=..."),
    ("loss=mse", "task gan takes no loss"),
    ("loss.a=mse", "task gan takes no loss"),
    ("~model.critic", "needed"),
    ("schedule.generatr=cosine", "a schedule for no optimizer; there are optimizers generator, critic"),
]


@pytest.mark.parametrize(("override", "fragment"), GAN)
def test_a_task_with_several_networks_says_how_to_name_them(override: str, fragment: str) -> None:
    lines = errors("task=gan", "dataset=ring", override)
    assert len(lines) == 1 and fragment in lines[0], lines


def test_all_errors_come_at_once_each_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/x.yaml").write_text("model:\n  widht: 3\n  depth: -1\ntrain: {steps: many}\n")
    lines = errors("experiment=x", "seed=x", "lr=3", "optimizer=sdg", "a b", config_dir=tmp_path)
    written = ("x.yaml:2: model.widht", "x.yaml:3: model.depth", "x.yaml:4: train.steps")
    for fragment in (*written, "line: seed=x", "line: lr=3", "sdg", "line: a b"):
        assert sum(fragment in line for line in lines) == 1, fragment
    assert len(lines) == 7


# -- YAML -------------------------------------------------------------------------------------------------------------------------------

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
    expected = {"loop": "cannot be read", "unreadable-link": "cannot be read", "latin-1": "not UTF-8", "utf-16": "not UTF-8"}
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
