"""A run that was killed and resumed ends with the same bits as one that never was: over models, optimizers, schedules, tasks, options."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

from dlrun import checkpoint, registry

BASE = ("train.steps=6", "train.checkpoint_every=2", "train.eval_every=3", "train.log_every=1", "train.batch_size=16", "train.keep_last=9")
SMALL = {
    "mlp": ("model=mlp", "model.width=16", "model.dropout=0.3", "model.norm=batch"),
    "linear": ("model=linear",),
    "cnn": ("model=cnn", "model.channels=[4]"),
    "resnet": ("model=resnet", "model.depth=8"),
    "vit": ("model=vit", "model.width=16", "model.depth=1", "model.dropout=0.2"),
    **{name: (f"model={name}", "model.width=16", "model.depth=2", "model.dropout=0.2") for name in ("rnn", "lstm", "gru")},
    "gnn": ("task=supervised", "dataset=graphs", "dataset.n=64", "model=gnn", "model.width=8", "model.aggregate=max"),
    "siren": ("model=siren", "model.width=16", "model.depth=2"),
    "deconv": ("task=autoencoder", "model.decoder=deconv", "model.decoder.channels=[8]", "model.encoder.dropout=0.2", "task.latent=4"),
    "orthogonal_mlp": ("model=orthogonal_mlp", "model.width=16"),
    "random_features": ("task=least_squares", "model.features=16"),
    "embedding_sum": ("dataset=modular_addition", "model=embedding_sum", "model.width=16"),
    "torchvision": ("model=torchvision", "model.arch=shufflenet_v2_x0_5"),
    "transformer": ("task=language_model", "model=transformer", "model.width=16", "model.heads=2", "model.depth=1", "model.dropout=0.2"),
}
OPTIONS = {
    "ema": ("train.ema=0.9",),
    "accumulate": ("train.accumulate=4", "model.dropout=0.2"),
    "bf16": ("train.precision=bf16",),
    "no_clip": ("train.clip_norm=null",),
    "best": ("train.eval_every=1", "train.keep_last=5"),
    "channels_last": ("model=cnn", "model.channels=[4,8]", "train.channels_last=true"),
}
OPTIMIZERS = [
    ("optimizer=sign_sgd", "optimizer.spectral=64"),
    ("optimizer=sam", "optimizer.base=adamw", "optimizer.lr=0.001", "train.accumulate=2"),
    ("optimizer=rmsprop", "optimizer.momentum=0.9", "optimizer.centered=true"),
    ("optimizer=adagrad", "optimizer.lr_decay=0.1"),
    ("optimizer.a=muon", "optimizer.a.owns=['*.1.weight']", "optimizer.b=lion", "optimizer.b.owns=['*.bias','*.[!1]*.weight']"),
]


def same_after_kill(folder: Path, *overrides: str, kill: int = 2) -> None:
    named = {text.split("=")[0] for text in overrides}
    run, whole, code = runs.start(folder, *[text for text in BASE if text.split("=")[0] not in named], *overrides)
    assert code == 0 and whole["status"] == "finished"
    rows = runs.rows(run)
    runs.kill_back_to(run, max(step for step in checkpoint.steps(run) if step <= kill))
    again, code, _ = runs.go_on(run)
    assert code == 0 and again["status"] == "finished"
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert runs.rows(run) == rows
    assert again["best"] == whole["best"] and again["metrics"] == whole["metrics"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    return f"dataset=text_file dataset.path={path} dataset.context=12"


@pytest.mark.parametrize("model", registry.builtin_names("model"))
def test_every_model(model: str, tmp_path: Path, text: str) -> None:
    assert model in SMALL, f"say in SMALL how model {model} is made small"
    extra = text.split() if model == "transformer" else []
    same_after_kill(tmp_path, *SMALL[model], *extra)


@pytest.mark.parametrize("optimizer", registry.builtin_names("optimizer"))
def test_every_optimizer(optimizer: str, tmp_path: Path) -> None:
    extra = ("optimizer.momentum=0.9",) if optimizer == "sgd" else ()
    same_after_kill(tmp_path, f"optimizer={optimizer}", *SMALL["mlp"], *extra)


@pytest.mark.parametrize("optimizer", registry.builtin_names("optimizer"))
def test_every_optimizer_in_another_memory_layout(optimizer: str, tmp_path: Path) -> None:
    same_after_kill(tmp_path, f"optimizer={optimizer}", *OPTIONS["channels_last"], "model.norm=batch")


@pytest.mark.parametrize("words", OPTIMIZERS)
def test_optimizers_in_other_forms(words: tuple[str, ...], tmp_path: Path) -> None:
    same_after_kill(tmp_path, *SMALL["mlp"], *words)


@pytest.mark.parametrize("schedule", registry.builtin_names("schedule"))
def test_every_schedule(schedule: str, tmp_path: Path) -> None:
    same_after_kill(tmp_path, f"schedule={schedule}", *SMALL["mlp"], kill=4)


@pytest.mark.parametrize("option", OPTIONS)
def test_options(option: str, tmp_path: Path) -> None:
    same_after_kill(tmp_path, *OPTIONS[option])


def test_two_networks(tmp_path: Path) -> None:
    same_after_kill(tmp_path, "task=gan", "dataset=ring")


@pytest.mark.parametrize("kill", [2, 4, 6])
def test_any_checkpoint(kill: int, tmp_path: Path) -> None:
    same_after_kill(tmp_path, *SMALL["mlp"], "train.ema=0.5", kill=kill)
