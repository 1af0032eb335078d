"""Every network trains in bf16, in parts of a batch and with channels last; compiled it gives what it gives without."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
import torch

from dlrun import registry
from dlrun.config import compose
from dlrun.finite import Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog
from dlrun.train import build_run

LM = ("task=language_model", "dataset=text_file", "dataset.context=12")
SMALL: dict[str, tuple[str, ...]] = {
    "mlp": ("model=mlp", "model.width=16"),
    "linear": ("model=linear",),
    "cnn": ("model=cnn", "model.channels=[4]", "model.dropout=0", "model.norm=layer"),
    "resnet": ("model=resnet", "model.depth=8"),
    "vit": ("model=vit", "model.width=16", "model.depth=1"),
    **{name: (f"model={name}", "model.width=16", "model.depth=2") for name in ("rnn", "lstm", "gru")},
    "siren": ("model=siren", "model.width=16", "model.depth=2"),
    "deconv": ("task=autoencoder", "model.decoder=deconv", "model.decoder.channels=[8]", "model.decoder.norm=none", "task.latent=4"),
    "torchvision": ("model=torchvision", "model.arch=shufflenet_v2_x0_5"),
    "transformer": (*LM, "model=transformer", "model.width=16", "model.heads=2", "model.depth=1"),
    "orthogonal_mlp": ("model=orthogonal_mlp", "model.width=16"),
    "embedding_sum": ("dataset=modular_addition", "model=embedding_sum", "model.width=16"),
    "lstm_text": (*LM, "model=lstm", "model.width=16"),
}
ELSEWHERE = {"gnn", "random_features"}
"""Networks with data of their own, or that gradients do not train; their tests stand elsewhere."""
COUPLED = {"resnet", "torchvision"}
"""Batch norm looks at the rows of a micro-batch alone: parts of a batch are another network there."""


def test_every_model_is_tried() -> None:
    assert set(registry.builtin_names("model")) <= SMALL.keys() | ELSEWHERE


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    return f"dataset.path={path}"


def steps(name: str, text: str, *more: str, double: bool = False, number: int = 3) -> tuple[list[float], Run]:
    """Losses of the first steps of a small network, and the run after them."""
    words = (*SMALL[name], *((text,) if "dataset=text_file" in SMALL[name] else ()), "train.batch_size=16", *more)
    run = build_run(compose([*runs.QUIET, *words]))
    log, watch, losses = StepLog(), Watch(run.device), []
    for module in run.modules.values():
        module.double() if double else module.train()
    for step, batches in zip(range(number), run.data.stream(0)):
        log.begin(True)
        if double:
            batches = [batch.map(lambda t: t.double() if t.is_floating_point() else t) for batch in batches]
        train_step(run, step, batches, log, watch)
        losses.append(float(log.values()["loss"]))  # type: ignore[arg-type]
    watch.read()
    return losses, run


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten() for module in run.modules.values() for p in module.parameters()])


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_trains_close_to_single_precision(name: str, text: str) -> None:
    """First losses within 2 %, and all of them finite; weights stay in single precision."""
    single, _ = steps(name, text)
    half, run = steps(name, text, "train.precision=bf16")
    assert half[0] == pytest.approx(single[0], rel=0.02) and half[0] != single[0]
    assert weights(run).isfinite().all() and all(p.dtype == torch.float32 for m in run.modules.values() for p in m.parameters())


@pytest.mark.parametrize("name", [name for name in SMALL if name not in COUPLED])
def test_parts_of_a_batch_give_the_weights_of_the_whole(name: str, text: str) -> None:
    """In double precision to 1e-10 after three steps of gradient descent."""
    plain = ("optimizer=sgd", "optimizer.lr=0.1", "train.clip_norm=null")
    whole, parts = (weights(steps(name, text, f"train.accumulate={k}", *plain, double=True)[1]) for k in (1, 4))
    assert (whole - parts).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["cnn", "resnet", "vit", "deconv", "torchvision"])
def test_channels_last_is_a_layout_and_no_other_network(name: str, text: str) -> None:
    """First losses equal to 1e-5; the order of sums differs."""
    plain, _ = steps(name, text)
    other, run = steps(name, text, "train.channels_last=true")
    assert other[0] == pytest.approx(plain[0], rel=1e-5) and other[-1] == pytest.approx(plain[-1], rel=1e-2)
    assert not any("no effect" in note for note in run.notes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler of torch warns about torch itself
@pytest.mark.parametrize("name", ["mlp", "cnn", "vit", "lstm", "siren", "deconv", "transformer"])
def test_compiled_networks_give_what_they_give_without(name: str, text: str) -> None:
    """Losses of three steps in float32 to 1e-6 of themselves (measured: 1e-7): kernels are fused, and sums come in another order.

    Weights are within 2e-4: AdamW makes steps of 1e-3 of gradients that are rounding errors alone, such as those of a key's bias.
    """
    plain, one = steps(name, text)
    compiled, two = steps(name, text, "train.compile=true")
    assert all(module._compiled_call_impl is not None for module in two.modules.values())
    assert compiled == pytest.approx(plain, rel=1e-6)
    assert (weights(one) - weights(two)).abs().max() < 2e-4
