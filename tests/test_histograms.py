"""Histograms of gradients and weights: equal to numpy's, part of the right rows, cut back with the run, and of no effect on training."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from copies import PATIENCE, accumulated, cut, finish, new_run, write
from torch import nn

from dlrun.cli import main
from dlrun.histograms import BINS, FACTS, Histograms, _sorted_counts, cut_back, histogram
from dlrun.sinks.background import start
from dlrun.sinks.feeder import follow
from dlrun.sinks.tensorboard_hparams import flat


@pytest.mark.parametrize("values", [torch.randn(500, 7), torch.tensor([2.0, 2.0]), torch.arange(65.0), torch.tensor([-1e30, 3.0])])
def test_equal_to_numpys(values: torch.Tensor) -> None:
    counts, edges = np.histogram(values.double().numpy().ravel(), BINS)
    found = histogram(values)
    assert found[len(FACTS) :].tolist() == counts.tolist()
    assert found[0].item() == edges[0] and found[1].item() == edges[-1]
    assert found[3].item() == pytest.approx(values.double().sum().item()) and found[4].item() == pytest.approx(
        values.double().square().sum().item()
    )


def test_an_accelerator_counts_the_same() -> None:
    values = torch.cat([torch.randn(4000, dtype=torch.float64), torch.tensor([torch.nan, torch.inf, -torch.inf])])
    finite = torch.isfinite(values)
    low, high = values[finite].min(), values[finite].max()
    assert _sorted_counts(values, finite, low, high).tolist() == np.histogram(values[finite].numpy(), BINS)[0].tolist()


def test_what_is_not_finite_is_counted_apart() -> None:
    found = histogram(torch.tensor([1.0, torch.nan, torch.inf, 2.0, -torch.inf]))
    assert found[:4].tolist() == [1.0, 2.0, 3.0, 3.0] and found[len(FACTS) :].sum() == 2
    nothing = histogram(torch.full((3,), torch.nan))
    assert nothing[2] == 3 and nothing[len(FACTS) :].sum() == 0 and torch.isfinite(nothing).all()


def test_rows_are_written_at_the_flush_and_cut_back(tmp_path: Path) -> None:
    histograms = Histograms(tmp_path, "gradients", 10)
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    used.grad = torch.tensor([0.0, 1.0, 2.0])
    for step in range(1, 41):
        histograms.take(step, [("model.a", used), ("model.b", unused)])
    histograms.flush()
    rows = [json.loads(line) for line in (tmp_path / "histograms.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40] and set(rows[0]) == {"step", "gradients/model.a"}
    assert rows[0]["gradients/model.a"]["high"] == 2.0 and sum(rows[0]["gradients/model.a"]["counts"]) == 3
    with open(tmp_path / "histograms.jsonl", "a") as file:
        file.write('{"step": 50, "grad')
    cut_back(tmp_path / "histograms.jsonl", 25)
    assert [json.loads(line)["step"] for line in (tmp_path / "histograms.jsonl").read_text().splitlines()] == [10, 20]


def test_watching_changes_no_bit_and_a_resume_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = ["log.wandb.mode=disabled", "checks=none", "device=cpu", "train.eval_every=0", "train.checkpoint_every=10"]
    shas = []
    for name, watch in (("off", "none"), ("on", "all")):
        assert main(["train", "train.steps=30", f"run_dir={name}", f"log.watch={watch}", "log.watch_every=6", *quiet]) == 0
        shas.append(json.loads((tmp_path / name / "summary.json").read_text())["weights_sha256"])
    assert shas[0] == shas[1] and not (tmp_path / "off" / "histograms.jsonl").exists()
    whole = (tmp_path / "on" / "histograms.jsonl").read_bytes()
    assert main(["train", "train.steps=20", "run_dir=cut", "log.watch=all", "log.watch_every=6", *quiet]) == 0
    with open(tmp_path / "cut" / "histograms.jsonl", "a") as file:
        file.write('{"step": 24}\n')
    assert main(["resume", "cut", "train.steps=30"]) == 0
    assert (tmp_path / "cut" / "histograms.jsonl").read_bytes() == whole


# -- TensorBoard --------------------------------------------------------------------------------------------------------------------------


def test_tensorboard_drops_what_was_cut_back_and_has_histograms_and_hparams(tmp_path: Path) -> None:
    run = new_run(tmp_path / "r")
    write(run, range(9))
    finish(run, 8, "interrupted")
    background = start(run, None, None, True)
    background.finish(PATIENCE)
    cut(run, 5)
    write(run, range(5, 12), shift=0.25)
    facts = {"low": 0.0, "high": 64.0, "sum": 7.0, "sum_squares": 9.0, "nonfinite": 0.0, "counts": [2] * BINS}
    (run / "histograms.jsonl").write_text(json.dumps({"step": 10, "gradients/w": facts}) + "\n")
    finish(run, 11)
    (run / "summary.json").write_text('{"status": "finished", "seconds": 2.0, "metrics": {"val/accuracy": 0.5}}')
    background = start(None, None, None, True)
    background.attach(run, 4)
    assert background.finish(PATIENCE) == [f"TensorBoard: tensorboard --logdir {run}/tensorboard"]

    found = accumulated(run)
    losses = {event.step: event.value for event in found.Scalars("train/loss")}
    assert (
        [event.step for event in found.Scalars("train/loss")] == list(range(12))
        and losses[7] == pytest.approx(1 / 8 + 0.25)
        and losses[4] == pytest.approx(1 / 5)
    )
    (seen,) = found.Histograms("gradients/w")
    assert seen.step == 10 and seen.histogram_value.num == 2 * BINS and seen.histogram_value.bucket_limit[-1] == 64.0
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = {tag: HParamsPluginData.FromString(data) for tag, data in found.PluginTagToContent("hparams").items()}
    settings = content["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["train.steps"].number_value == 9 and settings["key"].string_value == "${oc.env:MY_TOKEN}"
    assert content["_hparams_/experiment"].experiment.metric_infos[0].name.tag == "val/accuracy"
    assert content["_hparams_/session_end_info"].session_end_info.status == 1


def test_flat() -> None:
    assert dict(flat({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": True, "f": {}})) == {"a.b": 1.0, "a.c": "[1, 2]", "e": True, "f": "{}"}


def test_without_the_package_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", "log.tensorboard=true", "log.wandb.mode=disabled"]) == 3
    assert "pip install 'dlrun[tensorboard]'" in capsys.readouterr().err and not list(tmp_path.iterdir())


# -- a run that was taken over ------------------------------------------------------------------------------------------------------------


class Told:
    """A copy that remembers what it was given."""

    name, folder = "Told", "told"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def add(self, rows: list[dict[str, Any]]) -> None:
        self.steps += [row["step"] for row in rows]


def test_rows_behind_a_cut_of_another_process_are_not_read(tmp_path: Path) -> None:
    run, copy = new_run(tmp_path / "r"), Told()
    write(run, range(4))
    watch: Any = SimpleNamespace(ended=threading.Event(), parent=7)
    watch.ended.set()
    (run / ".lock").write_text("process 7 on here since now")
    assert follow(copy, run, 1, watch) and copy.steps == [2, 3]  # type: ignore[arg-type]
    (run / ".lock").write_text("process 8 on here since now")
    assert not follow(copy, run, 1, watch) and copy.steps == [2, 3]  # type: ignore[arg-type]
