"""`dlrun eject`: the copy of every part of every group trains to the same bits as the part, and is a file to edit."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import test_every_part as every
import test_resume

from dlrun import registry
from dlrun.cli import main
from dlrun.cli.eject import as_plugin
from dlrun.config.places import GROUPS, builtin_names
from dlrun.plugins import load_plugins

data = every.data
SHORT = ("train.steps=2", "train.checkpoint_every=0", "train.eval_every=0", "train.batch_size=16")
PARTS = [(group, name) for group in GROUPS for name in builtin_names(group)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def words_for(group: str, name: str) -> list[str]:
    """Overrides that train the part, from the tables of the tests that train every part."""
    table: dict[str, Any] = {
        "loss": every.LOSSES,
        "metric": every.METRICS,
        "augment": every.AUGMENTS,
        "task": every.TASKS,
        "dataset": every.DATASETS,
        "model": test_resume.SMALL,
    }
    words = ["model=linear"] if name in every.REAL else list(table.get(group, {}).get(name, ()))
    slot = f"augment.{name}" if group == "augment" else group
    if not any(_chooses(word, group, name) for word in words):
        words = [f"{slot}={name}", *words]
    return words


def weights(folder: Path, words: list[str], config_dir: Path | None = None) -> str:
    named = {word.split("=")[0] for word in words}
    words = [*[word for word in SHORT if word.split("=")[0] not in named], *words]
    if any(word in ("dataset=text_file", "dataset=my_text_file", "model=transformer", "model=my_transformer") for word in words):
        words = [*([] if any(word.startswith("dataset=") for word in words) else ["dataset=text_file", "dataset.context=12"]), *words]
    if any(word in ("dataset=text_file", "dataset=my_text_file") for word in words):
        words.append(f"dataset.path={folder.parent / 'text.txt'}")
    if any(word in ("dataset=image_folder", "dataset=my_image_folder") for word in words):
        words.append(f"dataset.folder={folder.parent / 'pictures'}")
    folder.mkdir()
    _, summary, code = runs.start(folder, *words, config_dir=config_dir)
    assert code == 0 and summary["weights_sha256"]
    return str(summary["weights_sha256"])


TRAINED = [(group, name) for group, name in PARTS if group != "probe" and name != "distillation"]  # that starts from another run
PROMPT = {next(pair for pair in TRAINED if pair[0] == group) for group, _ in TRAINED} | {("task", "gan"), ("model", "transformer")}
"""Trained in every run of the suite; the others with --slow."""
CASES = [pytest.param(*pair, id="/".join(pair), marks=[] if pair in PROMPT else [pytest.mark.slow]) for pair in TRAINED]


PROBES = [pytest.param(name, marks=[pytest.mark.slow] if place % 3 else []) for place, name in enumerate(builtin_names("probe"))]


@pytest.mark.parametrize("name", PROBES)
def test_the_copy_of_a_probe_measures_the_same(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, paths = every.probed_runs(name, here)
    assert main(["eject", f"probe/{name}"]) == 0 and f"dlrun probe RUN my_{name} --plugin" in capsys.readouterr().out
    runs_of = [str(path) for path in paths]
    assert main(["probe", *runs_of, name, *every.PROBES[name][1], "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["numbers"]
    words = [f"my_{name}", *every.PROBES[name][1], "--plugin", f"my_{name}.py", "--config-dir", "conf", "--json"]
    assert main(["probe", *runs_of, *words]) == 0
    mine = json.loads(capsys.readouterr().out)["numbers"]
    assert list(mine) == list(numbers)
    assert mine == numbers or name in ("adversarial", "hessian"), "these two draw, from a stream that has the probe's name"


@pytest.mark.parametrize(("group", "name"), CASES)
def test_a_copy_trains_to_the_same_bits(group: str, name: str, here: Path, absent: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if group == "dataset":
        every.bring(name, absent)
    words = words_for(group, name)
    assert main(["eject", f"{group}/{name}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [f"my_{name}.py", f"conf/{group}/my_{name}.yaml"]
    assert document["use"].endswith(f"=my_{name}")
    mine = [f"{word.rpartition('=')[0]}=my_{name}" if _chooses(word, group, name) else word for word in words]
    assert mine != words
    load_plugins([f"my_{name}.py"])
    assert weights(here / "a", words) == weights(here / "b", mine, here / "conf")


def _chooses(word: str, group: str, name: str) -> bool:
    key, _, value = word.rpartition("=")
    return value == name and key.split(".")[0] == group and key != f"{group}.name"


def test_the_copy_is_what_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Edited code and edited values both count."""
    assert main(["eject", "model/mlp", "--as", "wide", "--out", "mine"]) == 0
    assert "--plugin mine/wide.py --config-dir mine/conf model=wide" in capsys.readouterr().out
    path = here / "mine/conf/model/wide.yaml"
    path.write_text(path.read_text().replace("width: 256", "width: 32"))
    source = here / "mine/wide.py"
    source.write_text(source.read_text().replace("features = width\n", "features = width\n        layers.append(nn.Identity())\n"))
    assert main(["show", "model/wide", "--plugin", "mine/wide.py", "--config-dir", "mine/conf", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {option["name"]: option["default"] for option in facts["options"]}["width"] == "32"
    assert all(option["comment"] for option in facts["options"])
    words = ["--cfg", "--json", "--plugin", "mine/wide.py", "--config-dir", "mine/conf", "model=wide"]
    assert main(["train", *words]) == 0 and json.loads(capsys.readouterr().out)["model"]["width"] == 32
    network = registry.get("model", "wide")((4,), (2,), width=3, depth=1, activation="relu", norm="none", dropout=0.0)
    assert "Identity" in repr(network)


@pytest.mark.parametrize(("group", "name"), PARTS, ids=[f"{group}/{name}" for group, name in PARTS])
def test_the_source_stays_the_same_but_for_name_and_registration(group: str, name: str) -> None:
    spec = importlib.util.find_spec(f"dlrun.{registry.FOLDERS[group]}.{name}")
    assert spec and spec.origin
    text = Path(spec.origin).read_text("utf-8")
    copy = as_plugin(text, group, name, "quite_another")
    assert ast.parse(copy).body and f"@register.{group}\n" in copy and "import register" in copy.replace("facts, ", "")
    back = copy.replace("quite_another", name).replace(f"@register.{group}\n", "").replace("from dlrun.registry import register\n", "")
    assert back.replace("import facts, register", "import facts") == text


def test_a_parameter_of_the_same_name_stays() -> None:
    text = (
        "def warmup(step, *, warmup: int):\n    return step / warmup\n\n\n"
        "table = {1: warmup}\n\n\nclass A(warmup):\n    x = lambda s: warmup\n"
    )
    assert as_plugin(text, "schedule", "warmup", "mine").replace("from dlrun.registry import register\n", "") == (
        "@register.schedule\ndef mine(step, *, warmup: int):\n    return step / warmup\n\n\n"
        "table = {1: mine}\n\n\nclass A(mine):\n    x = lambda s: mine\n"
    )


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ([], "takes one part"),
        (["mlp"], "no kind 'mlp'"),
        (["model/mlpp"], "did you mean model/mlp?"),
        (["model/../../x"], "dlrun has no model"),
        (["modle/mlp"], "did you mean model?"),
        (["check/shapes"], "no kind 'check'"),
        (["model/mlp", "--as", "cnn"], "dlrun has a model cnn already"),
        (["model/mlp", "--as", "../x"], "cannot name a part"),
        (["model/mlp", "--as", "random"], "installed Python module"),
    ],
)
def test_what_cannot_be_ejected(words: list[str], fragment: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    assert main(["eject", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and fragment in err and err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "conf/model").mkdir(parents=True)
    (here / "conf/model/my_mlp.yaml").write_text("mine\n")
    assert main(["eject", "model/mlp"]) == 2 and "my_mlp.yaml is there already" in capsys.readouterr().err
    assert not (here / "my_mlp.py").exists() and (here / "conf/model/my_mlp.yaml").read_text() == "mine\n"
