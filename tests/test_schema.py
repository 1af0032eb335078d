"""`dlrun schema`: a valid JSON Schema that agrees with dlrun's own check of every option, and says what each means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from architecture_rules import ROOT
from jsonschema import Draft202012Validator

from dlrun.cli import main
from dlrun.cli.schema import schema
from dlrun.config import compose, reading
from dlrun.config.json_schema import of_annotation
from dlrun.config.kinds import Kind, MisfitError, kind_of_text
from dlrun.config.library import Library
from dlrun.config.places import SLOT_GROUPS, part_names
from dlrun.config.schema import settings

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
PARTS = [(group, name) for group in SLOT_GROUPS for name in part_names(group)]
EXPERIMENTS = sorted((ROOT / "conf/experiment").glob("*.yaml"))
PROBES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 0.5, 1.5, -0.5, 2**32, "x", "", "full", "none", "cpu",
    [], [1], [0.5], ["x"], [0.9, 0.999], [1, 2], [-1, 1], [0.9, "x"], [[1, 2]], {}, {"a": 1}, {"a": "x"}, {"a": [0, 1]}, {"a": None},
]  # fmt: skip


def problems(instance: Any) -> list[str]:
    """What the schema has against a config, as lines."""
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in VALIDATOR.iter_errors(instance)]


def test_it_is_a_schema_of_the_draft_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(printed)
    assert printed == SCHEMA and printed["$schema"].endswith("draft/2020-12/schema")
    assert main(["schema", "x"]) == 2


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_validates_as_written_and_composed(path: Path) -> None:
    document = reading.read(str(path))
    assert problems({"defaults": document.defaults, **document.values}) == []
    assert problems(compose([f"experiment={path.stem}"]).saved) == []


@pytest.mark.parametrize(("group", "name"), PARTS, ids=[f"{group}/{name}" for group, name in PARTS])
def test_every_part_validates_alone_and_by_name(group: str, name: str) -> None:
    values = {key: value for key, value in Library().part(group, name).values.items() if key != "defaults"}
    assert problems({group: values}) == [] and problems({group: name}) == []
    assert problems({group: {key: value for key, value in values.items() if key != "name"}}) == [], "options of a part chosen elsewhere"
    assert problems({group: {**values, "widht": 1}}) and problems({group: {**values, "name": "nope"}}) and problems({group: f"{name}x"})
    if group not in ("dataset", "task"):
        assert problems({group: {"a": values, "b": name}}) == []
    assert problems({group: [values]}) and problems({group: 3})


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["task=gan", "dataset=ring"],
        ["task=gan", "dataset=ring", "model.critic=cnn", "~loss"],
        ["augment.flip=flip", "augment.other=shift"],
        ["metric=accuracy", "loss=mse"],
        ["metric.a=accuracy", "metric.b=top_k"],
        ["optimizer.a=sgd", "optimizer.a.owns=['*.weight']", "optimizer.b=adam", "schedule=cosine"],
        ["start={from: outputs/x, step: 3}", "expects={causal: true, frozen: ['a.*']}", "train.batch_size=full", "seeds=[1,2]"],
        ["optimizer.lr=${optimizer.eps}", "optimizer.betas=[0.9,'${optimizer.eps}']", "log.wandb.notes=${oc.env:HOME}"],
    ],
)
def test_composed_configs_validate(words: list[str]) -> None:
    try:
        saved = compose(words).saved
    except Exception as error:  # an override of this list that dlrun refuses would make the test say nothing
        pytest.fail(f"{words}: {error}")
    assert problems(json.loads(json.dumps(saved))) == []


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"sed": 1}, ""),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"train": {"step": 1}}, "train"),
        ({"train": {"steps": -1}}, "train.steps"),
        ({"train": {"precision": "fp8"}}, "train.precision"),
        ({"train": {"ema": 1.0}}, "train.ema"),
        ({"train": {"batch_size": "half"}}, "train.batch_size"),
        ({"log": {"wandb": {"mode": "on"}}}, "log.wandb.mode"),
        ({"model": {"name": "mlp", "width": 0}}, "model"),
        ({"model": {"name": "mlp", "channels": [1]}}, "model"),
        ({"model": {"width": "wide"}}, "model"),
        ({"model": {"generator": {"name": "mlp", "width": 0}}}, "model"),
        ({"optimizer": {"name": "adam", "betas": [0.9]}}, "optimizer"),
        ({"optimizer": {"name": "adam", "betas": [0.9, 1.0]}}, "optimizer"),
        ({"dataset": None}, "dataset"),
        ({"expects": {"casual": True}}, "expects"),
        ({"start": {"from": 3}}, "start.from"),
        ({"checks": "off"}, "checks"),
        ({"run_dir": "x"}, ""),
        ({"tags": "x"}, "tags"),
        ({"claims": {}}, "claims"),
        ([], ""),
    ],
)
def test_a_wrong_config_fails_where_it_is_wrong(config: Any, place: str) -> None:
    found = problems(config)
    assert found and any(line.startswith(f"{place}:") for line in found), found


def options() -> list[tuple[str, Kind, dict[str, Any]]]:
    """(label, dlrun's own check, the schema) of every option and root key there is."""
    found = []
    for group, name in PARTS:
        properties = SCHEMA["$defs"][f"{group}/{name}"]["properties"]
        for option, told in Library().part(group, name).source.options.items():
            found.append((f"{group}/{name}.{option}", told.kind, properties[option]))
    places = {"Train": ["train"], "Wandb": ["log", "wandb"], "Log": ["log"], "Start": ["start"], "Root": []}
    from ast import unparse

    for section, fields in settings().classes.items():
        node = SCHEMA
        for step in places[section]:
            node = node["properties"][step]
        for key, annotation in fields.items():
            if key in node["properties"] and key != "wandb":
                found.append((f"{section}.{key}", kind_of_text(unparse(annotation)), node["properties"][key]))
    return found


def takes(kind: Kind, value: Any) -> bool:
    try:
        kind.convert(value)
    except MisfitError:
        return False
    return True


@pytest.mark.parametrize(("label", "kind", "node"), options(), ids=[label for label, _, _ in options()])
def test_schema_and_dlrun_agree_on_every_option(label: str, kind: Kind, node: dict[str, Any]) -> None:
    """An interpolation aside, both take the same values; a whole float for an integer is the one thing JSON Schema cannot tell apart."""
    validator = Draft202012Validator({**node, "$defs": SCHEMA["$defs"]})
    differing = [value for value in [*PROBES, *kind.choices] if takes(kind, value) != validator.is_valid(value)]
    assert differing == [], f"{label}: {kind.text}"
    assert validator.is_valid("${train.steps}"), "a value may come from elsewhere"
    assert node["description"] and (label.startswith(("Start.", "Root.")) or "default" in node)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Positive", {"type": "number", "exclusiveMinimum": 0.0}),
        ("Decay", {"type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0}),
        ("Seed", {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}),
        ("Literal['a', 1]", {"enum": ["a", 1]}),
        ("Count | None", {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}),
        ("Optional[int]", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("nothing.known", {}),
        ("list[", {}),
    ],
)
def test_annotations(text: str, expected: dict[str, Any]) -> None:
    assert of_annotation(text) == expected


def test_parts_of_plugins_and_values_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "part_for_schema.py").write_text(
        "from dlrun import register\n@register.model\n"
        "def schemed(in_shape, *, width: int = 3, kind: 'str | None' = None, any=None):\n    'It.'\n"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mlp.yaml").write_text("# Mine.\nname: mlp\nwidth: 7  # my own width\n")
    assert main(["schema", "--plugin", str(tmp_path / "part_for_schema.py"), "--config-dir", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    validator = Draft202012Validator(printed)
    assert validator.is_valid({"model": {"name": "schemed", "width": 5, "kind": None, "any": {"x": [1]}}})
    assert not validator.is_valid({"model": {"name": "schemed", "width": "x"}})
    width = printed["$defs"]["model/mlp"]["properties"]["width"]
    assert (width["default"], width["description"]) == (7, "my own width")


def test_an_editors_line_is_no_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# yaml-language-server: $schema=../dlrun.json\n# What it is.\nseed: 1\n")
    assert main(["ls", "experiment", "-cd", str(tmp_path)]) == 0
    assert "What it is." in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert compose(["experiment=mine"], config_dir=tmp_path).resolved["seed"] == 1
