"""Wrong, ambiguous and hostile command lines: each ends in an error that names the thing, the place and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_errors import errors

COMMAND_LINE = [
    # unknown keys, at any depth
    ("model.widht=3", "unknown key; model mlp has width, depth, activation, norm, dropout; did you mean model.width?"),
    ("modle=mlp", "did you mean model?"),
    ("lr=0.1", "did you mean optimizer.lr?"),
    ("log.wandb.mod=offline", "did you mean log.wandb.mode?"),
    ("log.wandb.mode.x=1", "log.wandb.mode is an option (one of offline, online, disabled or null) and holds no keys"),
    ("train.nested.deep.key=1", "unknown key; train has steps"),
    ("log={wandb: {mod: offline}}", "did you mean log.wandb.mode?"),
    ("start={from: x, stepp: 3}", "did you mean start.step?"),
    ("expects.casual=true", "did you mean expects.causal?"),
    ("+new.key=1", "unknown key; the config has"),
    ("++model.new=1", "unknown key; model mlp has"),
    ("Model.width=3", "unknown key"),
    # unknown parts
    ("model=mlpp", "no model 'mlpp'; there are cnn, "),
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
    ('run_dir="a\x00b"', "zero byte"),
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
    ("hydra.searchpath=[x]", "say --config-dir FOLDER"),
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
