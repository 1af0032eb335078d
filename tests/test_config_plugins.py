"""Plugins: options from the signature, slots from the class, refusals that leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from config_errors import errors

from dlrun import registry
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.plugins import load_plugins, loaded

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


def test_a_yaml_of_the_same_name_wins_over_python_defaults(plugin: Any, tmp_path: Path) -> None:
    plugin("p4")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/p4_net.yaml").write_text("name: p4_net\nwidth: 5\nmust: 1\n")
    model = compose(["model=p4_net"], config_dir=tmp_path).resolved["model"]
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
