"""Composition: which part ends up in which slot with which values, what a swap discards, what is saved."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore

from dlrun import registry
from dlrun.config import compose, conf_dir, defaults
from dlrun.config.dump import dump
from dlrun.config.kinds import PLAIN, MisfitError, kind_of_object, kind_of_text, show_value
from dlrun.config.places import GROUPS, folder, is_experiment_name, is_name, printable
from dlrun.config.reading import read, reads_as_text
from dlrun.errors import UsageError
from dlrun.plugins import load_plugins, loaded

EXPERIMENT = """
# An experiment for tests.
defaults:
  - override /model: mlp
  - /augment@augment.mirror: flip
  - _self_
model: {width: 7, depth: 3}
optimizer: {lr: 0.01}
train: {epochs: 3}
seed: 4
arms:
  plain: {}
  wide: {model.width: 99}
  conv: {model: cnn, optimizer.lr: 0.1}
  momentum: {optimizer: {name: sgd, lr: 0.2}}
tags: [one, two/three]
"""


@pytest.fixture
def folder_of(tmp_path: Path) -> Any:
    """Write files of a --config-dir: `folder_of({"experiment/x": text})`."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def errors(*overrides: str, **where: Any) -> list[str]:
    """The error lines that `overrides` end in."""
    with pytest.raises(UsageError) as caught:
        compose(overrides, **where)
    return caught.value.lines


# -- the defaults -----------------------------------------------------------------------------------------------------------------------


def test_the_default_config_is_digits_by_an_mlp() -> None:
    config = compose()
    names = {group: config.resolved[group]["name"] for group in ("dataset", "task", "model", "loss", "optimizer", "schedule")}
    assert names == {
        "dataset": "digits",
        "task": "classification",
        "model": "mlp",
        "loss": "cross_entropy",
        "optimizer": "adamw",
        "schedule": "constant",
    }
    assert config.resolved["optimizer"]["lr"] == 1e-3 and config.resolved["optimizer"]["weight_decay"] == 0.03
    assert config.resolved["metric"] == {} and config.resolved["augment"] == {} and config.resolved["start"] is None
    assert config.notes == []
    assert "run_dir" not in config.saved and "output_root" not in config.saved, "they come from the command line and are not saved"


def test_root_yaml_and_settings_have_the_same_keys() -> None:
    classes = {n.name: n for n in ast.parse(Path(registry.PACKAGE, "settings.py").read_text()).body if isinstance(n, ast.ClassDef)}
    fields = {name: [n.target.id.rstrip("_") for n in node.body if isinstance(n, ast.AnnAssign)] for name, node in classes.items()}  # type: ignore[union-attr]
    values = read(str(conf_dir() / "config.yaml")).values
    assert list(values["train"]) == fields["Train"]
    assert list(values["log"]["wandb"]) == fields["Wandb"]
    assert sorted(values["log"]) == sorted(fields["Log"])
    groups = {"train", "log", "start", "expects"}
    assert set(values) - groups == set(fields["Root"]) - {"experiment", "arm"}


def test_every_key_of_the_root_yaml_says_what_it_does() -> None:
    lines = (conf_dir() / "config.yaml").read_text().splitlines()
    bare = [line for line in lines[9:] if line.strip() and "#" not in line and not line.rstrip().endswith(":")]
    assert bare == []


def test_folders_are_those_of_the_registry() -> None:
    assert {group: folder(group) for group in registry.FOLDERS} == registry.FOLDERS
    assert set(GROUPS) == set(registry.FOLDERS) - {"check"}


def test_the_static_nodes_are_what_hydra_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlrun.config import composing

    seen: list[Any] = []
    real = composing._nodes

    def both(draft: Any) -> Any:
        composed = real(draft)
        seen.append((composed, {slot: part.values for slot, part in draft.parts.items()}))
        return composed

    monkeypatch.setattr(composing, "_nodes", both)
    compose(["task=gan", "dataset=ring", "model.generator=linear"])
    composed, static = seen[0]
    assert composed == static and ("model", "generator") in composed


def test_hydra_in_the_same_process_is_left_alone() -> None:
    store = ConfigStore.instance()
    before = dict(store.repo)
    try:
        store.store(name="mine", node={"a": 1}, group="model")
        with initialize(config_path=None, version_base="1.3"):
            compose(["model=cnn"])
            assert hydra_compose(overrides=["+model=mine"]).model.a == 1
    finally:
        store.repo = before


# -- slots ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["model=cnn", "+model=cnn", "++model=cnn", "model@model=cnn", "model.name=cnn", "model={name: cnn}"])
def test_every_spelling_of_a_choice(override: str) -> None:
    model = compose([override]).resolved["model"]
    assert model["name"] == "cnn" and "width" not in model


@pytest.mark.parametrize("override", ["model.generator=linear", "model@model.generator=linear", "+model@model.generator=linear"])
def test_slots_of_a_task_with_two_networks(override: str) -> None:
    config = compose(["task=gan", "dataset=ring", override, "optimizer.critic.lr=0.5"]).resolved
    assert config["model"]["generator"]["name"] == "linear" and config["model"]["critic"]["name"] == "mlp"
    assert config["optimizer"]["critic"]["lr"] == 0.5 and config["optimizer"]["generator"]["lr"] != 0.5
    assert config["loss"] is None


def test_a_schedule_for_one_optimizer_leaves_the_other_its_own() -> None:
    config = compose(["task=gan", "dataset=ring", "schedule.generator=cosine"]).resolved
    assert {slot: part["name"] for slot, part in config["schedule"].items()} == {"generator": "cosine", "critic": "constant"}


def test_metrics_and_augmentations_take_any_slot_names() -> None:
    config = compose(["metric.top=accuracy", "metric.other=f1", "augment.mirror=flip", "augment.mirror.p=0.25", "augment=shift"]).resolved
    assert {slot: part["name"] for slot, part in config["metric"].items()} == {"top": "accuracy", "other": "f1"}
    assert config["augment"]["mirror"]["p"] == 0.25 and config["augment"]["shift"]["name"] == "shift"
    assert compose(["metric=f1"]).resolved["metric"]["name"] == "f1"


def test_two_optimizers_say_what_they_own() -> None:
    config = compose(["optimizer.body=sgd", "optimizer.rest=adamw", "optimizer.body.owns=['model.*']", "optimizer.body.lr=0.1"])
    assert config.resolved["optimizer"]["body"]["owns"] == ["model.*"] and config.resolved["optimizer"]["rest"]["name"] == "adamw"
    assert "optimizer.body=sgd takes the place of optimizer=adamw" in config.notes


def test_an_experiment_lays_its_values_over_the_parts(folder_of: Any) -> None:
    config = compose(["experiment=x"], config_dir=folder_of({"experiment/x": EXPERIMENT}))
    assert config.resolved["experiment"] == "x" and config.resolved["seed"] == 4
    assert config.resolved["model"]["width"] == 7 and config.resolved["augment"]["mirror"]["name"] == "flip"
    assert config.resolved["train"]["epochs"] == 3 and config.resolved["train"]["steps"] is None
    assert any("train.epochs=3 takes the place of train.steps" in note for note in config.notes)
    assert compose(["+experiment=x"], config_dir=folder_of({})).resolved["model"]["width"] == 7


def test_a_swap_discards_what_was_written_for_the_old_part_and_says_so(folder_of: Any) -> None:
    where = folder_of({"experiment/x": EXPERIMENT.replace("width: 7, depth: 3", "width: 7, depth: 3, dropout: 0.5")})
    plain, swapped = compose(["model=cnn"]), compose(["experiment=x", "model=cnn"], config_dir=where)
    assert swapped.resolved["model"] == plain.resolved["model"], "the dropout that both have was meant for the old part"
    assert any("model.width, model.depth, model.dropout" in note and "command line: model=cnn" in note for note in swapped.notes)
    assert compose(["experiment=x", "model=cnn", "model.dropout=0.1"], config_dir=where).resolved["model"]["dropout"] == 0.1
    same = compose(["experiment=x", "model=mlp"], config_dir=where)
    assert same.resolved["model"]["width"] == 7, "the same part again is no swap"


def test_an_option_beside_a_new_part_must_exist_there(folder_of: Any) -> None:
    lines = errors("experiment=x", "model=cnn", "model.width=3", config_dir=folder_of({"experiment/x": EXPERIMENT}))
    assert len(lines) == 1 and "command line: model.width=3: unknown key; model cnn has channels" in lines[0]


def test_a_slot_taken_away(folder_of: Any) -> None:
    config = compose(["experiment=x", "~augment.mirror"], config_dir=folder_of({"experiment/x": EXPERIMENT}))
    assert config.resolved["augment"] == {}


def test_a_swapped_task_takes_the_slots_along(folder_of: Any) -> None:
    config = compose(["experiment=x", "task=gan", "dataset=ring"], config_dir=folder_of({"experiment/x": EXPERIMENT}))
    assert sorted(config.resolved["model"]) == ["critic", "generator"]
    assert any("model.width, model.depth" in note for note in config.notes) and any("optimizer.lr" in note for note in config.notes)


def test_experiments_build_on_each_other(folder_of: Any) -> None:
    where = folder_of({"experiment/x": EXPERIMENT, "experiment/y": "defaults: [x, _self_]\nseed: 5\n"})
    config = compose(["experiment=y"], config_dir=where).resolved
    assert config["seed"] == 5 and config["model"]["width"] == 7 and config["experiment"] == "y"


def test_a_part_with_a_defaults_list_is_composed_by_hydra(folder_of: Any) -> None:
    where = folder_of({"model/_base": "width: 11\nnorm: layer\n", "model/mlp": "defaults: [_base, _self_]\nname: mlp\nnorm: batch\n"})
    lines = errors("model=mlp", config_dir=where)
    assert any("model.depth: missing: model mlp needs depth" in line for line in lines)
    where = folder_of({"model/_base": (conf_dir() / "model/mlp.yaml").read_text().replace("width: 256", "width: 11")})
    model = compose([], config_dir=where).resolved["model"]
    assert model["width"] == 11 and model["norm"] == "batch" and model["name"] == "mlp"


# -- arms -------------------------------------------------------------------------------------------------------------------------------


def test_arms_set_values_and_swap_parts(folder_of: Any) -> None:
    where = folder_of({"experiment/x": EXPERIMENT})
    assert compose(["experiment=x", "arm=wide"], config_dir=where).resolved["model"]["width"] == 99
    assert compose(["experiment=x", "arm=wide", "model.width=5"], config_dir=where).resolved["model"]["width"] == 5
    conv = compose(["experiment=x", "arm=conv"], config_dir=where)
    assert conv.resolved["model"]["name"] == "cnn" and conv.resolved["optimizer"]["lr"] == 0.1 and conv.saved["arm"] == "conv"
    momentum = compose(["experiment=x", "arm=momentum"], config_dir=where).resolved["optimizer"]
    assert momentum["name"] == "sgd" and momentum["lr"] == 0.2


def test_arms_are_checked_before_they_are_chosen(folder_of: Any) -> None:
    bad = "arms: {a: {model.widht: 3}, b: {model.width: -1}, c: {model: nope}, d: {run_dir: x}, e: 3}\n"
    lines = errors("experiment=x", config_dir=folder_of({"experiment/x": bad}))
    assert len(lines) == 5
    expected = ["did you mean model.width", ">= 1, found -1", "no model 'nope'", "only the command line", "mapping of"]
    for line, fragment in zip(lines, expected, strict=True):
        assert fragment in line and "x.yaml:1: arms." in line


# -- saved configs ----------------------------------------------------------------------------------------------------------------------


def test_a_saved_config_composes_to_itself(tmp_path: Path) -> None:
    words = ["1e-3", "0o17", "yes", "08", "1:30", "nan", "=", "2020-01-01", "~", "", "null", "a: b", "# x", "0x1F", "<<", "\u202e", "1_0"]
    words += ["*a", "é"]
    tags = ",".join(f"'{word}'" for word in words)
    config = compose(["task=gan", "dataset=ring", "model.critic=linear", "metric.x=modes_covered", f"log.wandb.tags=[{tags}]"])
    assert config.saved["log"]["wandb"]["tags"] == words
    (tmp_path / "config.yaml").write_text(dump(config.saved))
    again = compose([], from_file=tmp_path / "config.yaml")
    assert again.saved == config.saved and again.resolved == config.resolved and again.notes == []
    assert compose(["model.critic=mlp"], from_file=tmp_path / "config.yaml").resolved["model"]["critic"]["name"] == "mlp"


def test_a_saved_config_of_an_older_dlrun_says_what_it_lacks(tmp_path: Path) -> None:
    saved = compose(["model.width=9"]).saved
    del saved["train"]["ema"], saved["model"]["norm"]
    (tmp_path / "config.yaml").write_text(dump(saved))
    config = compose([], from_file=tmp_path / "config.yaml")
    assert config.resolved["train"]["ema"] is None and config.resolved["model"]["width"] == 9
    assert len(config.notes) == 1 and "model.norm, train.ema" in config.notes[0]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"model": {"name": "mlp", "_target_": "os.system"}}, "refused: a config cannot name code"),
        ({"run_dir": "/etc"}, "only the command line sets this"),
        ({"experiment": 3}, "experiment: expected a name"),
        ({"task": {"name": "classification", "slots": {"model": ["a"]}}}, "the slots of task classification are what its own YAML says"),
        ({"plugins": ["evil.py"]}, "unknown key"),
        ({"defaults": ["other"]}, "a saved config has none"),
        ({"model": {"name": "../../x"}}, "no model '../../x'"),
    ],
)
def test_a_hostile_saved_config_is_refused(change: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump({**compose().saved, **change}))
    assert any(fragment in line and "config.yaml:" in line for line in errors(from_file=tmp_path / "config.yaml"))


# -- interpolations ---------------------------------------------------------------------------------------------------------------------


def test_interpolations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLRUN_TEST_SECRET", "hunter2")
    overrides = ["model.width=${train.batch_size}", "log.wandb.notes=a${seed}b${log.tensorboard}"]
    overrides += ["log.wandb.entity=${oc.env:DLRUN_TEST_SECRET}", "log.wandb.group=${log.wandb.entity}"]
    overrides += ["log.wandb.name=${oc.env:DLRUN_TEST_NONE,none of it}", "log.wandb.project='x-${log.wandb.group}'"]
    config = compose(overrides)
    wandb = config.resolved["log"]["wandb"]
    assert config.resolved["model"]["width"] == 64 and wandb["notes"] == "a0bfalse" and wandb["name"] == "none of it"
    assert wandb["entity"] == "hunter2" and wandb["project"] == "x-hunter2"
    assert config.saved["log"]["wandb"]["entity"] == "${oc.env:DLRUN_TEST_SECRET}"
    assert "hunter2" not in dump(config.saved), "what leads to the environment stays as it was written"


def test_no_message_holds_what_the_environment_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLRUN_TEST_SECRET", "hunter2")
    env = "${oc.env:DLRUN_TEST_SECRET}"
    lines = errors(f"model.width={env}", "model.depth=${model.width}", f"log.wandb.mode={env}", f"optimizer.betas=[{env},1]")
    lines += errors(f"train={env}")
    lines += errors(f"dataset={env}") + errors(f"device={env}") + errors(f"probes=[{env}]") + errors(f"experiment={env}")
    assert len(lines) == 9 and "hunter2" not in "\n".join(lines)


# -- types ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [0, -3], [1.0, True, "1", None, 10**400]),
        ("float", [1, 1.5], [True, "1", float("nan"), float("inf"), 10**400]),
        ("Count", [1], [0, -1, 1.0, True]),
        ("Fraction", [0, 1, 0.5], [-0.1, 1.1]),
        ("Decay", [0, 0.999], [1, 1.0]),
        ("Seed", [0, 2**32 - 1], [2**32, -1]),
        ("bool", [True, False], [0, 1, "true", None]),
        ("str", ["", "x"], [1, None, "a\0b"]),
        ("Literal['a', 3, None]", ["a", 3, None], ["b", 3.0, True]),
        ("Count | Literal['full']", [3, "full"], [0, "ful", None]),
        ("list[Count]", [[], [1, 2]], [[0], 1, "12", {"a": 1}]),
        ("tuple[float, float]", [[1, 2]], [[1], [1, 2, 3], ["a", 1]]),
        ("tuple[int, ...]", [[], [1, 2]], [[1.5]]),
        ("dict[str, Positive]", [{}, {"a": 1}], [{"a": 0}, []]),
        ("Path | None", ["x", None], [3]),
        ("Optional[int]", [None, 3], ["x"]),
        ("dict[str, Any]", [{"a": [1, {"b": None}]}], [{"a": [float("nan")]}]),
        ("'Count'", [1], [0]),
    ],
)
def test_annotations_say_what_fits(annotation: str, good: list[Any], bad: list[Any]) -> None:
    kind = kind_of_text(annotation)
    for value in good:
        assert kind.convert(value) == value
    for value in bad:
        with pytest.raises(MisfitError):
            kind.convert(value)


def test_an_int_becomes_a_float_and_nothing_else_changes() -> None:
    lr = compose(["optimizer.lr=1"]).resolved["optimizer"]["lr"]
    assert lr == 1.0 and isinstance(lr, float)


def test_the_named_ranges_mean_the_same_read_as_text_and_as_objects() -> None:
    from dlrun import ranges

    for name in ranges.NAMED:
        assert kind_of_object(getattr(ranges, name)).says == PLAIN[name].says == kind_of_text(name).says
    assert kind_of_object(int | None).says == kind_of_text("int | None").says
    assert kind_of_object(tuple[int, ...]).says == kind_of_text("tuple[int, ...]").says


SCALARS = ["a", "1e-3", "yes", "Off", "1:30", "010", "0o7", "0x1F", "2020-01-01", "null", "~", "", "1_000", ".inf", "+.5", "=", "-"]


@pytest.mark.parametrize("text", SCALARS)
def test_what_is_dumped_reads_back(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(dump({"key": text, "list": [text]}))
    assert read(str(tmp_path / "x.yaml")).values == {"key": text, "list": [text]}
    assert reads_as_text("plain") and not reads_as_text("1e-3")


def test_names() -> None:
    assert is_name("my_net2") and not any(is_name(text) for text in ("2x", "a.b", "", "x" * 61, "é", None))
    assert is_experiment_name("a-b.c") and not any(is_experiment_name(text) for text in ("../x", "a/b", ".x", ""))
    assert printable("a\x1b[31m\n\u202e") == "a\\x1b[31m\\n\\u202e" and len(printable("x" * 999, 50)) == 53
    assert show_value(True) == "true" and show_value(None) == "null" and "40 digits" in show_value(10**50)


def test_defaults_for_notebooks() -> None:
    options = defaults("model/mlp")
    assert options["width"] == 256 and "name" not in options
    for wrong in ("model/mlpp", "nope/x", "mlp"):
        with pytest.raises(UsageError):
            defaults(wrong)


# -- plugins ----------------------------------------------------------------------------------------------------------------------------

PLUGIN = """
from typing import Annotated, Literal, Optional
from dlrun import register
from dlrun.ranges import Count, Range

@register.model
def NAME_net(in_shape, out_shape, *, width: Count = 64, kind: Literal["a", "b"] = "a", scale=1.5, must: int, odd: Optional[float] = None,
             small: Annotated[float, Range(low=0, high=2)] = 1, strange: "Unknown" = 3, factory=print):
    ...

@register.task
class NAME_duel:
    slots = {"model": ("left", "right"), "loss": None}

@register.task
class NAME_solo:
    slots = {}

@register.schedule
def NAME_steps(step, steps, *, drops: tuple[int, ...] = (1, 2)):
    ...
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """Load PLUGIN under a name of its own; forget it afterwards."""
    from dlrun import plugins

    before = {group: dict(parts) for group, parts in registry.PLUGINS.items()}
    known, path_before = dict(plugins._loaded), list(sys.path)

    def load(name: str, text: str = PLUGIN) -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(text.replace("NAME", name))
        load_plugins([str(file)])
        return file

    yield load
    registry.PLUGINS.update(before)
    plugins._loaded.clear()
    plugins._loaded.update(known)
    sys.path[:] = path_before


def test_plugin_options_come_from_the_signature(plugin: Any) -> None:
    file = plugin("p1")
    config = compose(["model=p1_net", "model.must=3", "model.scale=2", "schedule=p1_steps"])
    model = config.resolved["model"]
    assert model == {"name": "p1_net", "width": 64, "kind": "a", "scale": 2.0, "must": 3, "odd": None, "small": 1.0, "strange": 3}
    assert config.resolved["schedule"]["drops"] == [1, 2]
    assert any("option factory keeps its Python default" in note for note in config.notes)
    record = loaded()[-1]
    assert record["parts"] == ["model/p1_net", "task/p1_duel", "task/p1_solo", "schedule/p1_steps"] and len(record["sha256"]) == 64
    assert load_plugins([str(file)])[0] is record, "a second time does nothing"


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("model.must=???", "missing: give it, model.must=..."),
        ("model.width=0", "an integer >= 1"),
        ("model.kind=c", "one of a, b"),
        ("model.scale=x", "a number"),
        ("model.small=3", "in [0, 2]"),
        ("model.odd=x", "a number or null"),
        ("model.wide=3", "did you mean model.width"),
    ],
)
def test_plugin_options_are_checked(override: str, fragment: str, plugin: Any) -> None:
    plugin("p2")
    must = [] if "must" in override else ["model.must=1"]
    lines = errors("model=p2_net", override, *must)
    assert len(lines) == 1 and fragment in lines[0]


def test_a_plugin_task_says_its_slots(plugin: Any) -> None:
    plugin("p3")
    config = compose(["task=p3_duel", "model.left=linear"]).resolved
    assert config["model"]["left"]["name"] == "linear" and config["model"]["right"]["name"] == "mlp" and config["loss"] is None
    assert config["task"]["slots"] == {"model": ["left", "right"], "loss": "none"} and config["optimizer"]["name"] == "adamw"
    assert compose(["task=p3_solo"]).resolved["model"]["name"] == "mlp"
    assert "say model.left=cnn" in errors("task=p3_duel", "model=cnn")[0]


def test_a_yaml_of_the_same_name_wins_over_python_defaults(plugin: Any, folder_of: Any) -> None:
    plugin("p4")
    where = folder_of({"model/p4_net": "name: p4_net\nwidth: 5\nmust: 1\n"})
    model = compose(["model=p4_net"], config_dir=where).resolved["model"]
    assert model["width"] == 5 and model["must"] == 1 and model["scale"] == 1.5


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def (:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import nosuchmodule_x", "ModuleNotFoundError"),
        ("x = 1", "registers no part"),
        ("from dlrun import register\n@register.model\ndef mlp(): ...", "dlrun has a model mlp already"),
        ("from dlrun import register\n@register.modle\ndef x(): ...", "AttributeError: register has no 'modle'"),
    ],
)
def test_a_plugin_that_fails_leaves_nothing_behind(text: str, fragment: str, plugin: Any) -> None:
    before = {group: dict(parts) for group, parts in registry.PLUGINS.items()}
    with pytest.raises(UsageError) as caught:
        plugin("p5", text)
    assert fragment in caught.value.lines[0] and len(caught.value.lines) == 1
    assert before == registry.PLUGINS


def test_only_named_plugins_are_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_plugins([str(tmp_path / "nothing.py")])
    with pytest.raises(UsageError, match="neither a file nor an installed plugin"):
        load_plugins(["nosuch_plugin"])
