"""Practices of the Hacker's Guide that hold in every run: clocks that wait, schedules and their horizon, what is said at both ends."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from unittest.mock import patch

import pytest
import runs
import torch

from dlrun import Splits, registry
from dlrun.config import compose
from dlrun.errors import MissingError
from dlrun.evaluate import evaluate
from dlrun.sinks.console import Console
from dlrun.stopwatch import Stopwatch, waiter
from dlrun.train import build_run, train


def notes(*words: str) -> list[str]:
    return build_run(compose([*runs.QUIET, "model.width=8", *words])).notes


def test_a_clock_that_stops_waits_for_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that takes 5 s to work off, on a clock of our own."""
    now = [0.0]
    monkeypatch.setattr("dlrun.stopwatch.time.perf_counter", lambda: now[0])

    def wait() -> None:
        now[0] += 5.0

    clock = Stopwatch(wait)
    clock.start()
    now[0] = 1.0
    with clock.paused():
        assert clock.seconds() == 6.0
        now[0] += 100.0
    assert clock.seconds() == 6.0
    clock.pause()
    clock.pause()  # stands already: nothing is waited for
    assert clock.seconds() == 11.0
    assert waiter(torch.device("cpu"))() is None


@pytest.mark.parametrize(
    ("schedule", "said"), [("constant", False), ("warmup", False), ("inverse_sqrt", False), ("cosine", True), ("linear", True)]
)
def test_a_schedule_stretched_over_epochs_is_said(schedule: str, said: bool) -> None:
    in_epochs = notes("train.steps=null", "train.epochs=2", f"schedule={schedule}")
    assert "train.epochs=2 is 38 steps of 64 rows" in in_epochs
    assert any("stretched over these 38 steps" in note for note in in_epochs) is said
    assert not any("stretched" in note for note in notes("train.steps=38", f"schedule={schedule}"))


def printed(folder: Path, *words: str) -> tuple[list[str], dict[str, object]]:
    """The lines of a run, and its summary."""
    screen = Console(stream=io.StringIO(), live=False)
    quiet = [word for word in runs.QUIET if word.split("=")[0] not in {said.split("=")[0] for said in words}]
    with patch("dlrun.wrapup.draw_figures"):
        train(compose([*quiet, *words, f"run_dir={folder / 'run'}"]), screen)
    lines = screen._stream.getvalue().splitlines()  # type: ignore[union-attr]
    return lines, json.loads((folder / "run" / "summary.json").read_text())


def test_the_first_batch_of_train_and_val_is_inspected_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Val's x is eight times as large as train's, and its classes stand in order: rows are drawn, so both are seen."""
    x, y = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)), torch.arange(400) // 200
    monkeypatch.setitem(registry.PLUGINS["dataset"], "louder", lambda: Splits((x, y), (8 * x, y)))
    lines, _ = printed(tmp_path, "dataset=louder", "model=linear", "train.steps=1")
    cells = {line.split()[0]: line.split() for line in lines if line.startswith(("  train.", "  val."))}
    variance = {name: float(cell[-2]) for name, cell in cells.items()}
    assert list(variance) == ["train.x", "train.y", "val.x", "val.y"]
    assert 40 < variance["val.x"] / variance["train.x"] < 100 and variance["val.y"] > 0.1
    lines, _ = printed(tmp_path / "other", "train.steps=1", "model.width=8", "train.eval_splits=[]")
    assert not any(line.strip().startswith("val.x") for line in lines)


def test_how_well_train_is_fitted_is_said_before_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are 20 x the class's share of x: of rows with a clear class the loss is 0, of the others ln 2."""
    sure = torch.nn.functional.one_hot(torch.arange(300) % 2, 2).float()
    x = torch.cat([sure, torch.zeros(100, 2)])
    y = torch.cat([torch.arange(300) % 2, torch.arange(100) % 2])
    monkeypatch.setitem(registry.PLUGINS["dataset"], "half_clear", lambda: Splits((x, y), (x, y)))

    class Fixed(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.weight.data, self.bias.data = 20.0 * torch.eye(2), torch.zeros(2)

    monkeypatch.setitem(registry.PLUGINS["model"], "fixed", Fixed)
    lines, summary = printed(tmp_path, "dataset=half_clear", "model=fixed", "train.steps=1", "optimizer.lr=1e-12")
    assert summary["fitted"] == {"rows": 400, "loss": pytest.approx(math.log(2) / 4, rel=1e-5), "easy": 0.75}
    place = lines.index("fit: loss 0.1733 on 400 rows of train, in eval mode; 75% of them cost less than 0.01")
    assert any("val accuracy" in line for line in lines[place + 1 :]) and not any("not fitted yet" in line for line in lines)


def test_a_network_that_has_not_learned_its_rows_is_told_to_do_that_first(tmp_path: Path) -> None:
    lines, summary = printed(tmp_path, "train.steps=2", "optimizer.lr=1e-6", "model.width=8")
    assert "easy" in summary["fitted"] and any(line.startswith("train is not fitted yet (loss 2.") for line in lines)
    lines, _ = printed(tmp_path / "more", "train.steps=120", "optimizer.lr=3e-3")
    assert any(line.startswith("fit: loss 0.0") for line in lines) and not any("not fitted yet" in line for line in lines)


def test_a_gradient_that_is_clipped_most_of_the_time_is_said(tmp_path: Path) -> None:
    said = "the gradient was clipped in 100% of the steps: train.clip_norm=0.001 set their length"
    assert said in printed(tmp_path, "train.steps=50", "train.clip_norm=1e-3", "model.width=8")[0]
    assert not any(
        "was clipped" in line for line in printed(tmp_path / "free", "train.steps=50", "train.clip_norm=1e9", "model.width=8")[0]
    )


def test_evaluation_is_in_eval_mode_without_gradients_and_leaves_no_trace() -> None:
    """A frozen batch norm, in eval mode while the rest trains, stays so."""
    seen = []

    class Watching(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_grad_enabled(), self.training, self[1].training))
            return super().forward(x)  # type: ignore[no-any-return]

    registry.PLUGINS["model"]["watching"] = lambda: Watching(torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    try:
        run = build_run(compose([*runs.QUIET, "dataset=moons", "model=watching"]))
    finally:
        del registry.PLUGINS["model"]["watching"]
    run.modules["model"].train()
    run.modules["model"][1].eval()
    before = {name: value.clone() for name, value in run.modules["model"].state_dict().items()}
    evaluate(run, run.modules, "val", 0)
    assert set(seen) == {(False, False, False)}
    assert [part.training for part in run.modules["model"].modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in run.modules["model"].state_dict().items())


def test_a_run_from_its_saved_config_has_the_same_bits(tmp_path: Path) -> None:
    run, first, _ = runs.start(tmp_path / "a", "train.steps=5", "model.width=8", "seed=3", "augment.crop=random_crop")
    runs.scramble()
    config = compose([f"run_dir={tmp_path / 'b'}"], from_file=run / "config.yaml")
    with patch("dlrun.wrapup.draw_figures"):
        second, _ = train(config, runs.console())
    assert second["weights_sha256"] == first["weights_sha256"] and runs.rows(tmp_path / "b") == runs.rows(run)


def test_going_on_with_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(80, 3), torch.arange(80) % 2
    monkeypatch.setitem(registry.PLUGINS["dataset"], "changing", lambda: Splits((x, y), (x, y)))
    run, _, _ = runs.start(tmp_path, "dataset=changing", "model=linear", "train.steps=2")
    x[7, 1] += 1
    with pytest.raises(MissingError, match="not those the run began with"):
        runs.go_on(run, "train.steps=4")
