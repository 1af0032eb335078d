"""Composition: which part ends up in which slot with which values, what a swap discards, what is saved."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from config_errors import errors
from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.config_store import ConfigStore

from dlrun import registry
from dlrun.config import compose, conf_dir
from dlrun.config.places import GROUPS, folder
from dlrun.config.reading import read

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

    def both(draft: Any, memory: Any) -> Any:
        composed = real(draft, memory)
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
