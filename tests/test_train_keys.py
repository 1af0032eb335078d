"""Every `train.*` key does what it says, or says that it does nothing here. A key without a test fails the last test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import nn

from dlrun import checkpoint, registry, settings
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.loading import load
from dlrun.run import Run
from dlrun.train import build_run

BASE = ("train.steps=4", "train.eval_every=0", "train.log_every=1", "train.checkpoint_every=0", "model.width=8", "train.batch_size=16")
TESTED: set[str] = set()


def key(name: str) -> Any:
    """Mark a test as the one of `train.<name>`."""
    TESTED.add(name)
    return lambda test: test


def start(folder: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    named = {text.split("=")[0] for text in overrides} | ({"model.width"} if "model=cnn" in overrides else set())
    run, summary, code = runs.start(folder, *[text for text in BASE if text.split("=")[0] not in named], *overrides)
    assert code == 0
    return run, summary


def built(*overrides: str) -> Run:
    return build_run(compose([*runs.QUIET, *overrides]))


@key("steps")
def test_steps(tmp_path: Path) -> None:
    run, summary = start(tmp_path, "train.steps=3")
    assert summary["step"] == 3 and runs.rows(run)[-1]["step"] == 3


def test_no_steps_builds_and_evaluates(tmp_path: Path) -> None:
    run, summary = start(tmp_path, "train.steps=0")
    assert summary["status"] == "finished" and summary["step"] == 0
    assert [row["step"] for row in runs.rows(run)] == [0]
    assert {"val/loss", "test/loss"} <= runs.rows(run)[0].keys()


@key("epochs")
def test_epochs_count_in_rows(tmp_path: Path) -> None:
    _, summary = start(tmp_path, "train.steps=null", "train.epochs=0.1")
    assert summary["step"] == 8  # 0.1 x 1197 rows / 16 rows a step = 7.48


@key("batch_size")
def test_batch_size() -> None:
    assert len(next(built("train.batch_size=24").data.stream(0))[0]) == 24
    assert len(next(built("train.batch_size=full").data.stream(0))[0]) == 1197


@key("accumulate")
def test_accumulate_equals_the_full_batch(tmp_path: Path) -> None:
    """In float64 to 1e-12: one batch of 16 against four of 4."""
    seen = []
    for parts in (1, 4):
        run = built("model.width=8", "train.batch_size=16", f"train.accumulate={parts}", "train.clip_norm=null", "optimizer=sgd")
        run.modules["model"].double()
        step_in_float64(run)
        seen.append(torch.cat([p.detach().flatten() for p in run.modules["model"].parameters()]))
    assert (seen[0] - seen[1]).abs().max() < 1e-12


def step_in_float64(run: Run) -> None:
    from dlrun.finite import Watch
    from dlrun.loop import train_step
    from dlrun.steplog import StepLog

    log = StepLog()
    for step, batches in zip(range(3), run.data.stream(0), strict=False):
        log.begin(True)
        train_step(
            run, step, [batch.map(lambda t: t.double() if t.is_floating_point() else t) for batch in batches], log, Watch(run.device)
        )


@key("eval_every")
def test_eval_every(tmp_path: Path) -> None:
    run, _ = start(tmp_path, "train.eval_every=2")
    assert [row["step"] for row in runs.rows(run) if "val/loss" in row] == [0, 2, 4]


@key("eval_splits")
def test_eval_splits(tmp_path: Path) -> None:
    run, _ = start(tmp_path, "train.eval_splits=[val,test]", "train.eval_every=2")
    assert [row["step"] for row in runs.rows(run) if "test/loss" in row] == [0, 2, 4]


@key("log_every")
def test_log_every(tmp_path: Path) -> None:
    run, _ = start(tmp_path, "train.log_every=3", "train.steps=7")
    assert [row["step"] for row in runs.rows(run) if "train/loss" in row] == [1, 3, 6, 7]


@key("checkpoint_every")
def test_checkpoint_every(tmp_path: Path) -> None:
    run, _ = start(tmp_path, "train.checkpoint_every=2", "train.steps=5", "train.keep_last=9")
    assert checkpoint.steps(run) == [2, 4, 5]


@key("keep_last")
def test_keep_last_keeps_the_best_beside(tmp_path: Path) -> None:
    run, summary = start(tmp_path, "train.checkpoint_every=1", "train.eval_every=1", "train.steps=6", "train.keep_last=1")
    assert set(checkpoint.steps(run)) == {6, summary["best"]["step"]}


@key("clip_norm")
def test_clip_norm_bounds_the_step(tmp_path: Path) -> None:
    """Plain SGD moves by lr x gradient: with the gradient's norm at 0.01 a step of rate 1 moves the weights by 0.01."""
    run = built("model.width=8", "train.clip_norm=0.01", "optimizer=sgd", "optimizer.lr=1.0")
    before = [p.detach().clone() for p in run.modules["model"].parameters()]
    from dlrun.finite import Watch
    from dlrun.loop import train_step
    from dlrun.steplog import StepLog

    log = StepLog()
    log.begin(True)
    train_step(run, 0, next(run.data.stream(0)), log, Watch(run.device))
    moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(run.modules["model"].parameters(), before, strict=True)) ** 0.5
    assert abs(moved - 0.01) < 1e-6
    row = log.values()
    assert float(row["clipped"]) == 1.0 and float(row["grad_norm"]) > 0.01  # type: ignore[arg-type]


@key("ema")
@pytest.mark.parametrize("more", [(), ("model=cnn", "model.channels=[4,8]", "model.norm=none", "train.channels_last=true")])
def test_ema_is_the_weighted_sum_of_the_weights(more: tuple[str, ...], tmp_path: Path) -> None:
    run, _ = start(tmp_path, "train.ema=0.5", "train.steps=2", "train.checkpoint_every=1", "train.keep_last=9", *more)
    first, last = (checkpoint.read(checkpoint.step_directory(run, step)) for step in (1, 2))
    initial = load(run, step=1)  # only for its shapes and the names
    assert set(last.tensors["ema"]) == {f"model.{name}" for name in initial.model.state_dict()}
    for name, value in last.tensors["model"].items():
        expected = 0.5 * first.tensors["ema"][f"model.{name}"] + 0.5 * value
        assert torch.allclose(last.tensors["ema"][f"model.{name}"], expected, atol=1e-7)
    assert "val_ema/loss" in runs.rows(run)[-1]


@key("precision")
def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    class watcher(nn.Module):
        def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.layer(x.flatten(1))
            seen.append(out.dtype)
            return out

    monkeypatch.setitem(registry.PLUGINS["model"], "watcher", watcher)
    run = built("model=watcher", "train.precision=bf16")
    step_in = next(run.data.stream(0))
    with run.precision.autocast():
        run.modules["model"](step_in[0]["x"])
    assert seen and set(seen) == {torch.bfloat16}
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        built("train.precision=fp16")


@key("compile")
def test_compile_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The networks are compiled in place; a backend that only counts stands for the compiler, which takes half a minute."""
    calls: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: calls.append(self))
    run = built("train.compile=true")
    assert calls == [run.modules["model"]]
    assert list(run.modules["model"].state_dict()) == list(built().modules["model"].state_dict())


@key("channels_last")
def test_channels_last() -> None:
    run = built("model=cnn", "model.channels=[4,8]", "train.channels_last=true")
    weights = [p for p in run.modules["model"].parameters() if p.dim() == 4 and p.shape[1] > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert any("channels_last has no effect" in note for note in built("train.channels_last=true").notes)


@key("cudnn_benchmark")
def test_cudnn_benchmark_says_that_it_does_nothing_on_a_cpu() -> None:
    assert any("cudnn_benchmark has no effect" in note for note in built("train.cudnn_benchmark=true").notes)


@key("deterministic")
def test_deterministic() -> None:
    built("train.deterministic=true")
    assert torch.are_deterministic_algorithms_enabled()
    built("train.deterministic=false")
    assert not torch.are_deterministic_algorithms_enabled()


@key("workers")
def test_workers_say_that_they_do_nothing_for_data_in_memory() -> None:
    assert any("workers=2 has no effect" in note for note in built("train.workers=2").notes)


@key("threads")
def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        built("train.threads=3")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@key("max_seconds")
def test_max_seconds(tmp_path: Path) -> None:
    _, summary, code = runs.start(tmp_path, *BASE, "train.max_seconds=1e-9")
    assert code == 75 and summary["status"] == "stopped" and json.loads((tmp_path / "run" / "summary.json").read_text())["step"] == 1


@key("replica")
def test_replica(tmp_path: Path) -> None:
    """The data are the seed's; initial weights and the order of rows are others, and the seed is still the one that was asked for."""
    sums = []
    for number in (0, 1, 1, 2):
        run, summary = start(tmp_path / str(len(sums)), f"train.replica={number}")
        manifest = json.loads((run / "manifest.json").read_text())
        assert manifest["seed"] == 0
        sums.append((summary["weights_sha256"], manifest["data"]["fingerprint"]))
    assert len({weights for weights, _ in sums}) == 3 and sums[1] == sums[2]
    assert len({data for _, data in sums}) == 1
    orders = [built(f"train.replica={number}").data.order.indices(0).tolist() for number in (0, 1)]
    assert orders[0] != orders[1]
    first = [next(built(f"train.replica={number}", "train.steps=0").modules["model"].parameters()) for number in (0, 1)]
    assert not torch.equal(*first)


def test_every_key_is_tested() -> None:
    assert set(settings.Train.__annotations__) == TESTED
