"""The autoencoder: what it compares, what it refuses, and how its pictures show it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from parts import CLASSES, RING, TOKENS, batch_for, bound, metric, networks, task
from torch import Tensor, nn

from dlrun import Splits, registry
from dlrun.batch import Batch
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.tasks.autoencoder import stacked
from dlrun.train import build_run
from dlrun.types import DataSpec, Networks

NOISE = Noise(0)
PIXELS = DataSpec(in_shape=(3, 8, 8), kind="classification", classes=10, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def test_mse_compares_with_x_and_an_identity_costs_nothing() -> None:
    made, batch = task("autoencoder", CLASSES), batch_for(CLASSES)
    same = Networks({"encoder": nn.Flatten(), "decoder": nn.Unflatten(1, (1, 8, 8))})
    zero = Networks({"encoder": nn.Flatten(), "decoder": nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Threshold(1e9, 0.0))})
    prepared = made.prepare(batch, NOISE)
    assert made.evaluate(same, prepared)["loss"].value() == 0
    assert made.evaluate(zero, prepared)["loss"].value() == pytest.approx(float(batch["x"].square().mean()), rel=1e-6)
    assert made.loss_floor(CLASSES) == 0


def test_encoder_and_decoder_meet_at_the_latent() -> None:
    shapes = task("autoencoder", PIXELS, latent=5).networks(PIXELS)
    assert shapes == {"encoder": ((3, 8, 8), (5,)), "decoder": ((5,), (3, 8, 8))}


def test_bce_takes_pixels_as_shares() -> None:
    """Standardised pixels are brought back to [0, 1]; the least loss is the entropy of the targets, at logits ln(p / (1 - p))."""
    made = task("autoencoder", PIXELS, loss=bound("loss", "bce"))
    shares = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (PIXELS.mean, PIXELS.std))
    prepared = made.prepare(Batch({"x": (shares - mean) / std}), NOISE)
    torch.testing.assert_close(prepared["y"], shares, atol=1e-6, rtol=0)
    entropy = -(shares * shares.log() + (1 - shares) * (1 - shares).log()).mean()
    assert float(made.loss(shares.logit(), prepared)) == pytest.approx(float(entropy), rel=1e-5)
    assert float(made.loss(torch.zeros_like(shares), prepared)) == pytest.approx(math.log(2), rel=1e-6)
    assert made.loss_floor(PIXELS) is None
    torch.testing.assert_close(made.logits(shares.logit()), shares, atol=1e-5, rtol=0)


def test_bce_refuses_what_are_no_shares() -> None:
    with pytest.raises(UsageError, match=r"needs x in \[0, 1\]; found -.* say loss=mse"):
        task("autoencoder", CLASSES, loss=bound("loss", "bce")).prepare(batch_for(CLASSES), NOISE)


@pytest.mark.parametrize(("spec", "said"), [(TOKENS, "tokens of a vocabulary of 11"), (DataSpec(), "rows without a shape")])
def test_what_cannot_be_made_again_is_refused(spec: DataSpec, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        task("autoencoder", spec).networks(spec)


def test_metrics_compare_reconstructions_with_the_input_and_not_with_labels() -> None:
    run = build_run(compose([*runs.QUIET, "task=autoencoder", "metric=mae", "task.latent=4"]))
    assert list(run.task.metrics) == ["mae"]
    batch = run.task.prepare(run.data.head("val", 32), NOISE)
    with torch.no_grad():
        found = run.task.evaluate(run.nets, batch)["mae"].value()
        out = run.nets.decoder(run.nets.encoder(batch["x"]))
    assert found == pytest.approx(float((out - batch["x"]).abs().mean()), rel=1e-5)


def test_metrics_of_classes_and_units_of_labels_have_no_part_in_it() -> None:
    with pytest.raises(UsageError, match="accuracy reads classes or labels, but task autoencoder .* has numbers: take .*mae"):
        build_run(compose([*runs.QUIET, "task=autoencoder", "metric=accuracy"]))
    spec = DataSpec(in_shape=(3,), out_shape=(), kind="regression", target_mean=(5.0,), target_std=(70.0,))
    made = task("autoencoder", spec, latent=2)
    made.bind(spec, made.criterion, {"mae": metric("mae")})
    nets, batch = networks(made, spec), made.prepare(batch_for(spec), NOISE)
    with torch.no_grad():
        assert made.evaluate(nets, batch)["mae"].value() == pytest.approx(float((made.outputs(nets, batch) - batch["x"]).abs().mean()))


def test_one_optimizer_updates_both_by_default_and_two_can_be_had() -> None:
    run = build_run(compose([*runs.QUIET, "task=autoencoder"]))
    assert list(run.optimizers) == ["optimizer"]
    owned = {name.split(".")[0] for name, _ in run.owned["optimizer"]}
    assert owned == {"encoder", "decoder"}
    two = build_run(compose([*runs.QUIET, "task=autoencoder", "optimizer.encoder=adam", "optimizer.decoder=sgd"]))
    assert set(two.optimizers) == {"encoder", "decoder"}


def test_pictures_have_the_original_above_its_reconstruction_on_one_scale() -> None:
    above, below = torch.full((2, 1, 3, 4), 0.5), torch.zeros(2, 1, 3, 4)
    pairs = stacked(above, below)
    assert pairs.shape == (2, 1, 7, 4)
    assert torch.equal(pairs[:, :, :3], above) and torch.equal(pairs[:, :, 4:], below) and bool((pairs[:, :, 3] == 0.5).all())


def looks(spec: DataSpec, **changed: Any) -> dict[str, Any]:
    made = task("autoencoder", spec, **changed)
    nets, batch = networks(made, spec), batch_for(spec)
    return dict(made.look(nets, made.prepare(batch, NOISE)))


def test_what_is_shown_fits_the_data() -> None:
    assert looks(CLASSES)["reconstructions"].kind == "images" and looks(CLASSES)["reconstructions"].data.shape == (16, 1, 17, 8)
    assert looks(RING)["reconstructions"].kind == "scatter"
    assert "latents" not in looks(CLASSES) and looks(CLASSES, latent=2)["latents"].data.shape == (24, 2)


def test_a_linear_autoencoder_finds_the_principal_subspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Baldi, Hornik 1989: the least loss is the variance outside the first principal components, and training comes near it."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=draw) @ torch.randn(3, 8, generator=draw) + 0.1 * torch.randn(400, 8, generator=draw)
    x = x - x.mean(0)

    def plane() -> Splits:
        return Splits({"x": x}, {"x": x}, spec=DataSpec(in_shape=(8,), kind="other"))

    monkeypatch.setitem(registry.PLUGINS["dataset"], "plane", plane)
    words = ("task=autoencoder", "dataset=plane", "model.encoder=linear", "model.decoder=linear", "optimizer=adam", "optimizer.lr=0.01")
    _, summary, code = runs.start(tmp_path, *words, "task.latent=3", "train.steps=1500", "train.eval_every=0", "train.batch_size=full")
    values: Tensor = torch.linalg.svdvals(x.double()).square()
    least = float(values[3:].sum() / x.numel())
    assert code == 0
    assert least * 0.999 < summary["metrics"]["val/loss"] < least * 1.02
