"""No check may raise a warning where nothing is wrong, however odd the set-up is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import checks_healthy
import pytest
import runs

from dlrun import registry
from dlrun.checks import Finding, run_checks
from dlrun.config import compose
from dlrun.run import Run
from dlrun.train import build_run

CLOUDS = ("dataset=clouds", "task=supervised")
HEALTHY: dict[str, tuple[str, ...]] = {
    "moons": ("dataset=moons",),
    "moons_linear": ("dataset=moons", "model=linear"),
    "zero_head": (*CLOUDS, "model=zero_head"),
    "frozen_body": (*CLOUDS, "model=frozen_body"),
    "low_rank": (*CLOUDS, "model=low_rank"),
    "tied": ("TEXT", "task=language_model", "model=tied"),
    "warmup": ("dataset=moons", "schedule=slow_start", "train.steps=1000"),
    "warmup_short": ("dataset=moons", "schedule=slow_start", "train.steps=5"),
    "smoothing": (*CLOUDS, "loss=cross_entropy", "loss.label_smoothing=0.2"),
    "weighted": (*CLOUDS, "loss=weighted"),
    "summed_weights": (*CLOUDS, "loss=summed_weights"),
    "focal": (*CLOUDS, "loss=focal"),
    "hinge": (*CLOUDS, "loss=hinge"),
    "gaussian": ("dataset=near_targets", "task=supervised", "model=mean_variance", "loss=gaussian"),
    "several_labels": ("dataset=several_labels", "task=supervised", "loss=bce"),
    "far_targets": ("dataset=far_targets", "task=supervised"),
    "far_targets_squeezed": ("dataset=far_targets", "task=supervised", "model=column", "loss=squeezes"),
    "columns": ("dataset=columns", "task=supervised", "model=column"),
    "regression_linear": ("dataset=near_targets", "task=supervised", "model=linear"),
    "segmentation": ("dataset=pixels", "task=supervised", "model=segment", "loss=over_classes"),
    "tuple_out": (*CLOUDS, "model=tuple_out", "loss=first_of_two"),
    "named_in": ("dataset=named_inputs", "task=supervised", "model=named_in"),
    "batch_norm_small": (*CLOUDS, "model=batch_normed", "train.batch_size=4"),
    "heavy_dropout": (*CLOUDS, "model=heavy_dropout"),
    "eight_rows": ("dataset=eight_rows", "task=supervised"),
    "contrast": ("dataset=two_views", "task=supervised", "task.kind=contrastive", "model=views", "loss=contrast"),
    "autoencoder": ("dataset=only_x", "task=supervised", "task.kind=vae", "model=autoencoder", "loss=evidence"),
    "sampler": ("dataset=sampled", "task=supervised"),
    "log_soft": (*CLOUDS, "model=log_soft", "loss=negative_log"),
    "own_optimizer": (*CLOUDS, "optimizer=remembers"),
    "one_cycle": (*CLOUDS, "schedule=one_cycle", "train.steps=30"),
    "sgd": (*CLOUDS, "optimizer=sgd", "optimizer.lr=0.01"),
    "one_step": ("dataset=moons", "train.steps=1"),
    "no_step": ("dataset=moons", "train.steps=0"),
    "accumulate": ("dataset=moons", "train.accumulate=4"),
    "ema": ("dataset=moons", "train.ema=0.9"),
    "bf16": ("dataset=moons", "train.precision=bf16"),
    "gan": ("dataset=ring", "task=gan"),
    "gan_learned_loss": ("dataset=ring", "task=learned_loss_gan"),
    "transformer": ("TEXT", "task=language_model", "model=transformer", "model.width=32", "model.depth=1", "model.heads=2"),
    "binary_flat": ("dataset=zero_one", "task=supervised", "task.kind=binary", "model=flat"),
    "loss_with_parameters": (*CLOUDS, "loss=uncertain"),
    "gaps_in_targets": ("dataset=gaps", "task=supervised", "model=three", "loss=skips_gaps"),
    "quantiles_of_counts": ("dataset=counts", "task=supervised", "model=three", "loss=quantiles"),
    "distribution_out": ("dataset=near_targets", "task=supervised", "model=drawn", "loss=log_density"),
    "below_zero": ("dataset=near_targets", "task=supervised", "model=column", "loss=correlation"),
    "siren": ("model=siren", "model.width=64", "model.depth=2"),
    "siren_slow": ("model=siren", "model.omega_0=1", "model.omega=1"),
    "siren_points": ("dataset=near_targets", "task=supervised", "model=siren", "model.width=64", "model.depth=2"),
    "rnn_rows": ("model=rnn",),
    "lstm_rows": ("model=lstm", "model.depth=2", "model.dropout=0.3"),
    "gru_both_ways": ("model=gru", "model.bidirectional=true", "model.pool=mean"),
    "lstm_text": ("TEXT", "task=language_model", "model=lstm", "model.width=64", "model.dropout=0.2"),
    "vit": ("model=vit", "model.width=32", "model.depth=2", "model.dropout=0.1"),
    "torchvision": ("model=torchvision", "model.arch=shufflenet_v2_x0_5"),
    "autoencode": ("task=autoencoder",),
    "autoencode_images": ("task=autoencoder", "model.encoder=cnn", "model.encoder.channels=[16,32]", "model.decoder=deconv"),
    "transformer_post_norm": (
        "TEXT", "task=language_model", "model=transformer", "model.width=32", "model.heads=2", "model.norm_first=false",
        "model.positions=rotary", "optimizer.lr=0.003",
    ),
    "full_batch": ("dataset=moons", "train.batch_size=full", "optimizer=sgd", "optimizer.lr=0.1"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    saved = {group: dict(known) for group, known in registry.PLUGINS.items()}
    checks_healthy.add()
    yield
    for group, known in saved.items():
        registry.PLUGINS[group] = known


def built(folder: Path, case: str, *more: str) -> Run:
    text = folder / "text.txt"
    text.write_text("".join(f"the {n} quick brown foxes jump over {n * 7} lazy dogs; " for n in range(120)))
    replaced = [(f"dataset=text_file dataset.path={text} dataset.context=16" if word == "TEXT" else word).split() for word in HEALTHY[case]]
    return build_run(compose([*runs.QUIET, *[word for words in replaced for word in words], *more]))


def loud(findings: list[Finding]) -> list[str]:
    return [f"{f.check} {f.level}: {f.message} {f.numbers}" for f in findings if f.level in ("warning", "error")]


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_odd_but_right_set_ups_before_training(case: str, tmp_path: Path) -> None:
    findings = run_checks(built(tmp_path, case), "fast")
    assert loud(findings) == [] and len(findings) > 6


QUICK = sorted(HEALTHY)[::2]
"""Those whose long checks run each time: all of them take a tenth of the whole suite. The others run with --slow."""


@pytest.mark.parametrize("case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in HEALTHY])
def test_nothing_is_said_of_odd_but_right_set_ups_on_request(case: str, tmp_path: Path) -> None:
    assert loud(run_checks(built(tmp_path, case), "check")) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("case", HEALTHY)
def test_nor_for_other_seeds(case: str, seed: int, tmp_path: Path) -> None:
    assert loud(run_checks(built(tmp_path, case, f"seed={seed}"), "check")) == []


def test_a_start_from_another_run_is_no_fault(tmp_path: Path) -> None:
    run, _, code = runs.start(tmp_path, "dataset=moons", "train.steps=150", "train.eval_every=0")
    assert code == 0
    findings = run_checks(build_run(compose([*runs.QUIET, "dataset=moons", f"start.from={run}"])), "check")
    assert loud(findings) == []
    assert next(f for f in findings if f.check == "init_loss").message.endswith("the weights are not fresh")
