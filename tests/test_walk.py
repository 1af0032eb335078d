"""What a walk as a user brought to light, so that it stays mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import nn

from dlrun import Splits, load, registry
from dlrun.checks import run_checks
from dlrun.cli import main
from dlrun.config import compose
from dlrun.errors import MissingError, UsageError
from dlrun.train import build_run


def findings(*words: str) -> dict[str, Any]:
    return {finding.check: finding for finding in run_checks(build_run(compose([*runs.QUIET, *words])), "fast")}


def test_a_head_for_other_data_is_said_and_never_called_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["model"], "seven", lambda: nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 7)))
    found = findings("dataset=moons", "model=seven")
    assert found["shape_contract"].level == "warning" and "7 outputs, the data 2 classes" in found["shape_contract"].message
    assert "ln 2)" not in found["init_loss"].message and "ln 7" in found["init_loss"].message


def test_consequences_of_broken_data_are_folded_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    x[::2, 1] = float("nan")
    monkeypatch.setitem(registry.PLUGINS["dataset"], "holes", lambda: Splits((x, torch.arange(90) % 2)))
    found = findings("dataset=holes", "model=linear", "train.batch_size=full")
    assert found["finite_data"].level == "error"
    assert {finding.level for name, finding in found.items() if name != "finite_data"} == {"not_applicable"}


def test_a_stop_line_shows_no_value_from_before(tmp_path: Path) -> None:
    from unittest.mock import patch

    screen = runs.console()
    words = [*runs.QUIET, "train.max_seconds=1e-9", "train.log_every=1", f"run_dir={tmp_path / 'run'}"]
    with patch("dlrun.wrapup.draw_figures"):
        from dlrun.train import train

        _, code = train(compose(words), screen)
    lines = screen._stream.getvalue().splitlines()  # type: ignore[union-attr]
    stopped = next(line for line in lines if "at step 1" in line)
    assert code == 75 and "val accuracy" not in stopped and "accuracy" in stopped


def test_out_of_memory_while_building_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def huge() -> nn.Module:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setitem(registry.PLUGINS["model"], "huge", huge)
    with pytest.raises(MissingError, match="out of memory while the parts were built"):
        build_run(compose([*runs.QUIET, "model=huge"]))


@pytest.mark.parametrize("words", [("train", "model.widht=3"), ("eval", "nowhere"), ("resume", "nowhere"), ("check", "dataset=nothing")])
def test_json_is_one_document_on_failures_too(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*words, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False and document["exit_code"] == code and document["errors"]


def test_paths_beyond_ascii_need_no_quotes() -> None:
    assert compose(["run_dir=/data/jürgen/my run"]).resolved["run_dir"] == "/data/jürgen/my run"
    with pytest.raises(UsageError, match="seed"):
        compose(["seed=ü"])


def test_classification_of_a_ring_names_its_modes() -> None:
    run = build_run(compose([*runs.QUIET, "dataset=ring", "model=linear"]))
    assert run.modules["model"](torch.zeros(5, 2)).shape == (5, 8)


def test_classification_without_classes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setitem(registry.PLUGINS["dataset"], "slope", lambda: Splits((x, x[:, 0])))
    with pytest.raises(UsageError, match="needs classes"):
        build_run(compose([*runs.QUIET, "dataset=slope", "model=linear"]))


def test_a_loaded_run_says_what_it_is(tmp_path: Path) -> None:
    run, _, _ = runs.start(tmp_path, "train.steps=2", "train.eval_every=1", "model.width=8")
    assert repr(load(run)) == f"<run digits at step {load(run).step}: model (682 parameters)>"


def test_keys_that_nothing_reads_are_said() -> None:
    notes = build_run(compose([*runs.QUIET, "expects={causal: true, pretrained: true}", "seeds=3"])).notes
    assert not any("expects" in note for note in notes)
    assert any("seeds=3 has no effect" in note for note in notes)
    with pytest.raises(UsageError, match="no probe 'hessain'"):
        compose([*runs.QUIET, "probes=[hessain]"])


def test_the_list_of_read_expectations_is_that_of_the_checks() -> None:
    import re

    from dlrun.unread import EXPECTED

    folder = Path(registry.PACKAGE, "checks")
    found = {key for path in folder.glob("*.py") for key in re.findall(r'expects\.get\("(\w+)"', path.read_text())}
    assert found == set(EXPECTED)
