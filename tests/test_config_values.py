"""Values: what fits an option, interpolations, saved configs that read back to the letter, secrets that stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_errors import errors

from dlrun.config import compose, defaults
from dlrun.config.dump import dump
from dlrun.config.kinds import PLAIN, MisfitError, kind_of_object, kind_of_text, show_value
from dlrun.config.messages import whole_number
from dlrun.config.places import is_experiment_name, is_name, printable
from dlrun.config.reading import read, reads_as_text
from dlrun.errors import UsageError

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


@pytest.mark.parametrize("text", ["0", "9", "-3", "4.0", "", "²", "٣", "x\x1b", "1_0", "9" * 5000, True, None])
def test_a_whole_number_is_one_between_its_ends(text: object) -> None:
    assert [whole_number("--n", str(n), 3, 8) for n in (3, 8)] == [3, 8] == [whole_number("--n", n, 3, 8) for n in (3, 8)]
    with pytest.raises(UsageError, match="^--n .*: expected a whole number from 3 to 8$") as caught:
        whole_number("--n", text, 3, 8)
    assert caught.value.lines[0].isprintable() and len(caught.value.lines[0]) < 120


def test_defaults_for_notebooks() -> None:
    options = defaults("model/mlp")
    assert options["width"] == 256 and "name" not in options
    for wrong in ("model/mlpp", "nope/x", "mlp"):
        with pytest.raises(UsageError):
            defaults(wrong)
