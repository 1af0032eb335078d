"""A config with a wrong claim is refused before anything runs: every mistake is one line, with its key and what there is."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from architecture_rules import ROOT
from test_architecture_light import start

from dlrun.claims.forms import check_claims, names_of
from dlrun.config import compose
from dlrun.config.reading import read
from dlrun.errors import UsageError

AXES = {"width": {"model.width": [32, 64]}, "lr": {"optimizer.lr": [0.1, 0.01], "schedule.warmup": [5, 50]}}
WHOLE: dict[str, Any] = {
    "arms": {"a": {}, "b": {"optimizer.weight_decay": 0}},
    "axes": AXES,
    "tune": {"axis": "lr", "by": "val/loss:min", "seeds": [100, 101]},
    "events": {"done": "train/accuracy >= 0.99"},
    "measures": {"gap": {"probe": "x", "runs": ["a", "b"]}},
    "seeds": 3,
    "claims": ["min(a.done.step, width) >= 3", {"claim": "every(min(gap.x, width) > 0)", "control": True}],
    "baseline": {"ours": "max(a.steps, width)", "is": 3},
    "figure": {"y": ["train/accuracy", "done.step", "gap.x", "parameters"], "x": "width", "log": ["x"]},
}


def test_a_config_that_is_in_order_has_no_errors() -> None:
    assert check_claims(WHOLE) == []
    assert check_claims({}) == []
    assert check_claims({"claims": ["run.steps >= 3"], "seeds": 1}) == [], "without arms there is one, run"


def test_what_claims_may_speak_of() -> None:
    names = names_of(WHOLE)
    assert (names.arms, names.events, names.measures) == (("a", "b"), ("done",), ("gap",))
    assert names.axes == {"width": (32, 64)}, "an axis that is tuned is gone"
    assert names_of({**WHOLE, "tune": None}).axes == {"width": (32, 64), "lr": (0.1, 0.01)}, "a point goes by its first key"
    assert names_of({}).arms == ("run",)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"claims": ["a.done.stp > 1"]}, "claims: 'a.done.stp > 1': a.done.stp: an event has .step and .happened; did you mean a.done.step?"),
    ({"claims": ["min(argmin(a.steps, lr), width) > 1"]}, "say argmin(e, AXIS); axes here: width"),
    ({"claims": ["a.steps > 1"] * 101}, "claims: 101 claims, at most 100"),
    ({"claims": [None]}, "claims: expected a claim in quotes"),
    ({"axes": {"width": {"model.width": 32}}}, "axes.width: expected {key: [values]}, such as {model.width: [32, 64]}; found"),
    ({"axes": {"width": [32, 64]}}, "axes.width: expected {key: [values]}"),
    ({"axes": {"width": {"model.width": []}}}, "axes.width: expected {key: [values]}"),
    ({"axes": {"width": {"a.b": [1], "c.d": [1, 2]}}}, "axes.width: keys that go together need lists of equal length; found a.b 1, c.d 2"),
    ({"axes": {"width": {"a.b": [1, 1]}}}, "axes.width: the same value twice in a.b"),
    ({"axes": {name: {"a.b": list(range(101))} for name in "xy"}}, "axes: 10201 points, at most 10000"),
    ({"tune": {"axis": "lrr"}}, "tune: axis: no axis 'lrr'; there are width, lr; did you mean lr?"),
    ({"tune": {"axis": "lr", "by": "test/loss"}}, "tune: by: 'test/loss': the test split never chooses"),
    ({"tune": {"axis": "lr", "by": "loss"}}, "tune: by: 'loss': expected a metric"),
    ({"tune": {"axis": "lr", "by": "val/loss:up"}}, "tune: by: 'val/loss:up': expected a metric"),
    ({"tune": {"axis": "lr", "seeds": [2, 3]}, "seeds": [0, 2]}, "tune: seeds: seed 2 judges as well"),
    ({"tune": {"axis": "lr", "seeds": [7, 7]}}, "tune: seeds: expected different seeds in a list"),
    ({"tune": {"axis": "lr", "seed": [7]}}, "tune: unknown key seed; there are axis, by, seeds"),
    ({"events": {"done": "accuracy >= 1"}}, "events.done: 'accuracy >= 1' is no condition"),
    ({"events": {"done": "tset/accuracy >= 1"}}, "events.done: 'tset/accuracy >= 1': no split tset; there are train, val, test"),
    ({"arms": {"no-decay": {}}}, "arms.no-decay: claims cannot say 'no-decay': a name has letters, digits and _, such as no_decay"),
    ({"arms": {"is": {}}}, "arms.is: claims cannot say 'is'"),
    ({"arms": {"width": {}}}, "axes.width: arms has the name width too"),
    ({"events": {"steps": "train/x > 1"}}, "events.steps: an arm has .steps already"),
    ({"baseline": {"ours": "a.steps"}}, "baseline: expected {ours: expression, is: expression or number}; found a mapping with ours"),
    ({"baseline": {"ours": 3, "is": 3}}, "baseline.ours: expected an expression in quotes; found 3"),
    ({"baseline": {"ours": "max(a.steps, width)", "is": True}}, "baseline.is: expected an expression in quotes or a number; found true"),
    ({"baseline": {"ours": "a.steps", "is": 3}}, "baseline.ours: 'a.steps': this number has a value for every width"),
    ({"figure": {"x": "widht"}}, "figure: x: expected step or an axis; found 'widht'; axes are width"),
    ({"figure": {"x": "lr"}}, "figure: x: expected step or an axis; found 'lr'"),
    ({"figure": {"log": ["z"]}}, "figure: log: expected a list of x and y"),
    ({"figure": {"z": 3}}, "figure: unknown key z; there are y, x, log, from"),
    ({"figure": {"from": -1}}, "figure: from: expected the step that curves begin at, a whole number from 0 on; found -1"),
    ({"figure": {"from": True}}, "figure: from: expected the step that curves begin at, a whole number from 0 on; found true"),
    ({"figure": {"y": []}}, "figure: y: expected a list of metrics"),
    ({"figure": {"y": ["tset/x"]}}, "figure: y: 'tset/x': expected split/metric, EVENT.step, MEASURE.NUMBER"),
    ({"figure": {"y": ["dome.step"]}}, "or one of steps, seconds, parameters; did you mean done?"),
    ({"figure": {"y": [3]}}, "figure: y: 3: expected split/metric"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_every_mistake_is_told_with_its_key(changes: dict[str, Any], said: str) -> None:
    found = check_claims({**WHOLE, **changes})
    assert any(said in line for line in found), found
    assert all("\n" not in line and line.isprintable() and len(line) < 700 for line in found)


def experiment(folder: Path, **changes: Any) -> list[str]:
    """The words that compose an experiment with these keys."""
    place = folder / "conf" / "experiment"
    place.mkdir(parents=True, exist_ok=True)
    keys = {key: value for key, value in {**WHOLE, **changes}.items() if key != "measures"}
    keys["axes"] = {"width": AXES["width"]}
    keys["tune"], keys["figure"] = None, {"y": ["train/accuracy"]}
    keys["claims"] = changes.get("claims", ["min(a.done.step, width) >= 3"])
    (place / "mine.yaml").write_text("# @package _global_\n# Mine.\n" + yaml.safe_dump(keys, sort_keys=False))
    return ["experiment=mine"]


def test_a_config_with_a_wrong_claim_is_refused_with_file_and_line(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    compose(experiment(tmp_path), config_dir=conf)
    words = experiment(tmp_path, claims=["min(a.done.step, width) >= 3", "min(a.don.step, width) >= 3"])
    with pytest.raises(UsageError) as caught:
        compose(words, config_dir=conf)
    (line,) = caught.value.lines
    assert (
        "mine.yaml:" in line and ": claims: 'min(a.don.step, width) >= 3': a has no don;" in line and line.endswith("did you mean a.done?")
    )


OVERLAYS = {
    "axis": ({"axes": {"w": {"model.widht": [8]}}}, ["axes.w.model.widht: unknown key", "did you mean model.width?"]),
    "axis value": ({"axes": {"w": {"model.width": [8, 0]}}}, ["model.width: expected an integer >= 1, found 0"]),
    "axis part": ({"axes": {"w": {"model": ["mlp", "cnnn"]}}}, ["no model 'cnnn'", "did you mean model=cnn?"]),
    "mutation": ({"mutation": {"optimizer.weight_dacay": 0}}, ["did you mean optimizer.weight_decay?"]),
    "mutation value": ({"mutation": {"train.steps": -1}}, ["expected an integer >= 0", "found -1"]),
}


@pytest.mark.parametrize("case", OVERLAYS)
def test_values_of_axes_and_mutations_are_those_of_options(case: str, tmp_path: Path) -> None:
    changes, said = OVERLAYS[case]
    claim = {"claim": "every(min(a.steps, w) > 1)", "mutation": changes.get("mutation", {"train.steps": 0})}
    place = tmp_path / "conf" / "experiment"
    place.mkdir(parents=True)
    keys = {"arms": {"a": {}, "b": {}}, "axes": {"w": {"model.width": [8, 16]}}, "claims": [claim]}
    text = "# @package _global_\n# Mine.\n"
    (place / "fine.yaml").write_text(text + yaml.safe_dump(keys))
    (place / "wrong.yaml").write_text(text + yaml.safe_dump({**keys, **{key: value for key, value in changes.items() if key == "axes"}}))
    with pytest.raises(UsageError) as caught:
        compose(["experiment=wrong"], config_dir=tmp_path / "conf")
    for words in said:
        assert any(words in line and "wrong.yaml:" in line for line in caught.value.lines), caught.value.lines
    if case != "mutation" and case != "mutation value":
        compose(["experiment=fine"], config_dir=tmp_path / "conf")


def test_an_option_that_only_one_arm_or_point_has_may_vary_there(tmp_path: Path) -> None:
    place = tmp_path / "conf" / "experiment"
    place.mkdir(parents=True)
    keys = {
        "arms": {"a": {"model": "mlp"}, "b": {"model": "linear"}},
        "axes": {"rule": {"optimizer": ["sgd", "adam"]}, "push": {"optimizer.momentum": [0.0, 0.9]}},
        "claims": [{"claim": "every(min(min(a.steps, rule), push) > 1)", "mutation": {"model.width": 1}}],
    }
    (place / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\ndefaults:\n  - override /model: linear\n  - _self_\n" + yaml.safe_dump(keys)
    )
    assert compose(["experiment=mine"], config_dir=tmp_path / "conf").resolved["axes"] == keys["axes"]


def test_the_command_line_may_say_it_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"command line: events=.*: done: .*no split trian; .*did you mean train\?"):
        compose(['events={done: "trian/accuracy >= 1"}'])
    with pytest.raises(UsageError, match="recorded=no: expected one of reproduced, not_reproduced, undecided or null, found 'no'"):
        compose(["recorded=no"])


def test_a_saved_config_reads_back_with_its_claims(tmp_path: Path) -> None:
    from dlrun.config.dump import dump

    texts = ['min(a["val/x"].final,\n  width) >= 3', "every(min(b.steps, width) >= 'x')".replace("'x'", "2")]
    saved = compose(experiment(tmp_path, claims=texts), config_dir=tmp_path / "conf").saved
    (tmp_path / "config.yaml").write_text(dump(saved))
    assert read(str(tmp_path / "config.yaml")).values["claims"] == texts, "the very text"
    assert compose(from_file=tmp_path / "config.yaml").resolved["claims"] == texts


def test_a_wrong_claim_is_told_before_torch_loads(tmp_path: Path) -> None:
    code, imported, said = start(
        "import sys; from dlrun.cli import console; sys.exit(console())", "train", "claims=['a.steps > 1']", "arms={b: {}}", folder=tmp_path
    )
    assert code == 2 and "no a here; there are arms b" in said, said
    assert not imported & {"torch", "numpy", "scipy", "wandb"}
    assert list(tmp_path.iterdir()) == []


def test_a_config_without_claims_does_not_read_the_grammar(tmp_path: Path) -> None:
    code = "import sys; from dlrun.config import compose; compose(); sys.exit('dlrun.claims' in sys.modules)"
    assert start(code, folder=tmp_path)[0] == 0


def test_a_hundred_claims_are_read_in_no_time() -> None:
    text = "min(" * 10 + "min(a.steps, width)" + ", 2)" * 10 + " > 1" + " or min(a.done.step, width) > 1" * 10
    began = time.process_time()
    assert check_claims({**WHOLE, "claims": [text] * 100}) == []
    assert time.process_time() - began < 4
    assert sys.getrecursionlimit() <= 10_000


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_claim_of_dlruns_own_experiments_says_where_it_comes_from(path: Path) -> None:
    """A claim without a source is no claim of anybody's; `not_reproduced` needs a positive control."""
    config = read(str(path)).values
    for claim in config.get("claims", []):
        assert config.get("source") or (isinstance(claim, dict) and claim.get("source")), claim
    if config.get("recorded") == "not_reproduced":
        assert any(isinstance(claim, dict) and claim.get("control") for claim in config["claims"])
