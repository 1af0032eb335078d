"""`dlrun reproduce` as a user has it: runs what is missing, goes on after being killed, judges, and says it by its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from reproducing import TINY, experiment

from dlrun.cli import main

ARMS = {"wide": {"model.width": 16}, "narrow": {"model.width": 2}}


def reproduce(folder: Path, *words: str, capsys: Any) -> tuple[dict[str, Any], int]:
    """(the JSON document, the exit code) of `dlrun reproduce`."""
    code = main(["reproduce", *words, "--config-dir", str(folder / "conf"), f"output_root={folder / 'outputs'}", "--json"])
    text = capsys.readouterr().out
    return (json.loads(text) if text.strip() else {}), code


def runs(folder: Path) -> dict[str, tuple[float, str]]:
    """Of every run its folder's name, when it began, and its weights."""
    found = {}
    for path in sorted(folder.glob("outputs/*/*/summary.json")):
        summary = json.loads(path.read_text())
        found[path.parent.name] = (path.stat().st_mtime_ns, summary["weights_sha256"])
    return found


def weights(folder: Path) -> dict[str, str]:
    """Weights by what a run is: its name without the time at which it began."""
    return {name.split("-", 2)[2]: sums for name, (_, sums) in runs(folder).items()}


def test_what_is_missing_is_trained_once_and_judged(tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "claims": ['wide["val/loss"].final < 9', 'narrow["val/accuracy"].final >= -9']})
    found, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert code == 0
    tiny = found["tiny"]
    assert tiny["verdict"] == "reproduced"
    assert [claim["verdict"] for claim in tiny["claims"]] == ["met", "met"]
    assert all(len(claim["per_seed"]) == 2 and claim["interval"] for claim in tiny["claims"])
    assert len(tiny["runs"]) == 4
    assert all(Path(run).is_dir() for run in tiny["runs"])
    before = runs(tmp_path)
    assert sorted(name.split("-", 2)[2] for name in before) == ["s0-narrow", "s0-wide", "s1-narrow", "s1-wide"]
    again, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert code == 0
    assert runs(tmp_path) == before
    assert again["tiny"]["claims"] == tiny["claims"]
    assert not any((tmp_path / "outputs" / "sweeps").glob("*"))


def test_a_figure_that_cannot_be_drawn_takes_no_verdict_away(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no such font")

    experiment(tmp_path, {**TINY, "arms": {"wide": {}}, "claims": ['wide["val/loss"].final < 9']})
    monkeypatch.setattr("dlrun.reproduce.figure.draw", broken)
    code = main(["reproduce", "tiny", "--config-dir", str(tmp_path / "conf"), f"output_root={tmp_path / 'outputs'}", "--json"])
    said = capsys.readouterr()
    assert code == 0 and json.loads(said.out)["tiny"]["verdict"] == "reproduced"
    assert "no figure: ValueError: no such font" in said.err
    assert list((tmp_path / "outputs" / "tiny").glob("*.html"))


def test_a_run_that_train_made_is_there_and_has_the_same_bits(tmp_path: Path, capsys: Any) -> None:
    conf = experiment(tmp_path, TINY)
    words = ["experiment=tiny", "arm=wide", "seed=1", "--config-dir", str(conf), f"output_root={tmp_path / 'outputs'}"]
    assert main(["train", *words]) == 0
    capsys.readouterr()
    (own,) = runs(tmp_path)
    found, _ = reproduce(tmp_path, "tiny", capsys=capsys)
    assert len(runs(tmp_path)) == 4
    assert own in {Path(run).name for run in found["tiny"]["runs"]}
    elsewhere = tmp_path / "elsewhere"
    experiment(elsewhere, TINY)
    reproduce(elsewhere, "tiny", capsys=capsys)
    assert weights(elsewhere) == weights(tmp_path)


@pytest.mark.slow
def test_more_seeds_train_only_the_new_ones_and_fresh_trains_all(tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "arms": {"wide": {}}})
    reproduce(tmp_path, "tiny", capsys=capsys)
    before = runs(tmp_path)
    found, _ = reproduce(tmp_path, "tiny", "--seeds", "3", capsys=capsys)
    after = runs(tmp_path)
    assert set(before) < set(after)
    assert len(after) == 3
    assert [one["seed"] for one in found["tiny"]["claims"][0]["per_seed"]] == [0, 1, 2]
    reproduce(tmp_path, "tiny", "--seeds", "1", "--fresh", capsys=capsys)
    assert len(runs(tmp_path)) == 4


CODES: list[tuple[Mapping[str, Any], str, int]] = [
    ({"claims": ['wide["val/loss"].final < 0']}, "not_reproduced", 1),
    ({"claims": ['wide["val/loss"].final < 0'], "recorded": "not_reproduced"}, "not_reproduced", 0),
    ({"claims": ['wide["val/loss"].final < 9'], "seeds": 1}, "undecided", 4),
    ({"claims": ["wide.never.step >= 0"], "events": {"never": "val/accuracy >= 2"}, "seeds": 5}, "not_reproduced", 1),
    (
        {"claims": ['wide["val/loss"].final < 0', {"claim": 'wide["val/loss"].final < -1', "control": True}]},
        "undecided",
        4,
    ),
]


@pytest.mark.parametrize(("values", "verdict", "code"), CODES)
def test_the_exit_code_says_the_verdict(values: Mapping[str, Any], verdict: str, code: int, tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "arms": {"wide": {}}, **values})
    found, said = reproduce(tmp_path, "tiny", capsys=capsys)
    assert (found["tiny"]["verdict"], said) == (verdict, code)


def test_an_arm_starts_from_the_run_of_another_with_its_seed(tmp_path: Path, capsys: Any) -> None:
    arms = {"student": {"start": {"from": "teacher", "step": "last"}, "optimizer.lr": 0}, "teacher": {}}
    experiment(tmp_path, {**TINY, "arms": arms, "claims": ['abs(student["val/loss"].final - teacher["val/loss"].final) < 1e-9']})
    found, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert (found["tiny"]["verdict"], code) == ("reproduced", 0)
    by = weights(tmp_path)
    assert by["s0-student"] == by["s0-teacher"] != by["s1-teacher"]


def test_the_tuned_value_is_taken_and_told(tmp_path: Path, capsys: Any) -> None:
    values = {
        **TINY,
        "arms": {"wide": {"model.width": 16}},
        "axes": {"lr": {"optimizer.lr": [1e-6, 1e-2]}},
        "tune": {"axis": "lr", "by": "val/loss", "seeds": [100, 101]},
    }
    experiment(tmp_path, values)
    found, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert code == 0
    (tuned,) = found["tiny"]["tuned"]
    assert tuned["winner"] == 1e-2
    assert tuned["edge"] is True
    assert len(runs(tmp_path)) == 2 * 2 + 2
    configs = [(Path(run) / "config.yaml").read_text() for run in found["tiny"]["runs"]]
    assert all("lr: 0.01\n" in text for text in configs)


def test_a_run_that_breaks_leaves_its_claim_undecided_with_the_reason(tmp_path: Path, capsys: Any) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from torch import nn\nfrom dlrun import register\n\n\n@register.model\ndef breaks(*, width: int = 3) -> nn.Module:\n"
        "    raise RuntimeError('out of ideas')\n"
    )
    arms = {"wide": {"model.width": 16}, "broken": {"model": "breaks"}}
    experiment(tmp_path, {**TINY, "arms": arms, "claims": ['wide["val/loss"].final < 9', 'broken["val/loss"].final < 9']})
    found, code = reproduce(tmp_path, "tiny", "--plugin", str(plugin), capsys=capsys)
    assert code == 4
    tiny = found["tiny"]
    assert [claim["verdict"] for claim in tiny["claims"]] == ["met", "undecided"]
    assert "out of ideas" in str(tiny["missing"])


def test_a_run_that_diverges_fails_its_claim_and_is_not_trained_again(tmp_path: Path, capsys: Any) -> None:
    arms = {"wide": {"model.width": 16}, "wild": {"optimizer": "sgd", "optimizer.lr": 1e30, "train.clip_norm": None}}
    claims = ['wide["val/loss"].final < 9', "wild.diverged >= 1"]
    experiment(tmp_path, {**TINY, "arms": arms, "claims": claims, "checks": "none"})
    found, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert (code, found["tiny"]["verdict"]) == (0, "reproduced")
    before = runs(tmp_path)
    reproduce(tmp_path, "tiny", capsys=capsys)
    assert runs(tmp_path) == before


def test_a_claim_changed_after_its_seeds_ran_is_not_judged_on_them(tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "arms": {"wide": {}}})
    reproduce(tmp_path, "tiny", capsys=capsys)
    experiment(tmp_path, {**TINY, "arms": {"wide": {}}, "claims": ['wide["val/loss"].final < 8']})
    found, code = reproduce(tmp_path, "tiny", capsys=capsys)
    assert code == 4
    assert "changed after" in found["tiny"]["claims"][0]["reason"]
    experiment(tmp_path, {**TINY, "arms": {"wide": {}}, "claims": ['wide["val/loss"].final < 8'], "seeds": [5, 6]})
    assert reproduce(tmp_path, "tiny", capsys=capsys)[1] == 0


def test_an_override_is_for_all_runs_and_is_said(tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "claims": ["wide.parameters > narrow.parameters"]})
    found, code = reproduce(tmp_path, "tiny", "model.width=4", capsys=capsys)
    assert code == 1
    assert found["tiny"]["changed"] == ["model.width=4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tinny"], "did you mean tiny"),
        ([], "which experiment"),
        (["tag:none"], "no experiment has the tag"),
        (["tiny", "seed=3"], "seed=3"),
        (["tiny", "--seeds", "0"], "--seeds 0"),
        (["tiny", "optimizer.lrr=3"], "optimizer.lrr"),
    ],
)
def test_a_wrong_command_runs_nothing(words: list[str], said: str, tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, TINY)
    code = main(["reproduce", *words, "--config-dir", str(tmp_path / "conf"), f"output_root={tmp_path / 'outputs'}"])
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_a_wrong_value_in_the_last_arm_runs_nothing(tmp_path: Path, capsys: Any) -> None:
    experiment(tmp_path, {**TINY, "arms": {"wide": {}, "odd": {"model.widht": 3}}})
    code = main(["reproduce", "tiny", "--config-dir", str(tmp_path / "conf"), f"output_root={tmp_path / 'outputs'}"])
    assert code == 2
    assert "widht" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_several_are_named_by_tag(tmp_path: Path, capsys: Any) -> None:
    small = {**TINY, "arms": {"wide": {}}, "tags": ["toys"]}
    experiment(tmp_path, small)
    experiment(tmp_path, {**small, "seed": 3}, name="other")
    found, code = reproduce(tmp_path, "tag:toys", capsys=capsys)
    assert (sorted(found), code) == (["other", "tiny"], 0)


LONG = {**TINY, "train": {"steps": 400, "eval_every": 100, "checkpoint_every": 50, "log_every": 50}, "arms": ARMS}


def driver(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dlrun", "reproduce", "tiny", "--config-dir", "conf", "output_root=outputs"]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob("outputs/tiny/*/checkpoints/step-*/MANIFEST.json")):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_killed_and_begun_again_it_ends_as_if_nothing_had_been(how: int, tmp_path: Path, capsys: Any) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    experiment(calm, LONG)
    experiment(wild, LONG)
    assert driver(calm).wait(300) == 0
    process = driver(wild)
    wait_for_checkpoint(wild, process)
    os.kill(process.pid, how)
    assert process.wait(60) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    done = {name for name, (_, _) in runs(wild).items() if '"finished"' in next(wild.glob(f"outputs/tiny/{name}/summary.json")).read_text()}
    before = {name: value for name, value in runs(wild).items() if name in done}
    assert driver(wild).wait(300) == 0, (wild / "log").read_text()
    assert weights(wild) == weights(calm)
    assert {name: runs(wild)[name] for name in before} == before  # what had finished was not touched
    assert all(path.read_text().count('"event": "finished"') == 1 for path in wild.glob("outputs/tiny/*/events.jsonl"))


def test_a_measure_that_cannot_be_made_is_said(tmp_path: Path, capsys: Any) -> None:
    values = {"arms": {"wide": {}}, "measures": {"lens": {"probe": "logit_lens", "runs": ["wide"]}}, "claims": ["lens.cross_entropy_0 < 9"]}
    experiment(tmp_path, {**TINY, **values})
    code = main(["reproduce", "tiny", "--config-dir", str(tmp_path / "conf"), f"output_root={tmp_path / 'outputs'}"])
    assert code == 4
    assert "measure lens: probe logit_lens" in " ".join(capsys.readouterr().out.split())
