"""Metrics beside the first ones: equal to scikit-learn's and torchmetrics' on cases with ties, absent classes, masks and soft targets.

Which metrics fit a run is one rule (`dlrun/unfit.py`); a value that is undefined is NaN, and the run says why.
"""

from __future__ import annotations

import functools
import itertools
from math import isnan, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from parts import options
from torch import Tensor

from dlrun import DataSpec, Splits, registry
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.train import build_run, train
from dlrun.types import Metric
from dlrun.vision import torchvision

torchvision()
from torchmetrics import functional as tm  # noqa: E402 (imports torchvision, which may need its missing operators declared first)

N, C = 97, 5
CUTS = (0, 1, 8, 60, N)


def value(name: str, out: Tensor, y: Tensor, kind: str | None = None, **changed: Any) -> float:
    """The metric over unequal batches, added up as an evaluation does."""
    part = registry.get("metric", name)
    supplied = {"kind": kind} if "kind" in registry.wiring(part) else {}
    made = Metric(name, functools.partial(part, **supplied, **options("metric", name, **changed)), part.best, getattr(part, "whole", False))
    cuts = [cut for cut in CUTS if cut < len(y)] + [len(y)]
    parts: list[Any] = [made(out[a:b], y[a:b], b - a) for a, b in itertools.pairwise(cuts)]
    return float(functools.reduce(lambda a, b: a + b, parts).value())


def case(seed: int, labels: int = C) -> tuple[Tensor, Tensor]:
    """Logits with many ties (whole and half numbers), classes of unequal frequency of which the last may be absent."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor([0.4, 0.3, 0.2, 0.09, 0.01]), N, replacement=True, generator=generator).clamp(max=labels - 1)
    out = (2 * torch.randn(N, C, generator=generator) + F.one_hot(y, C)).round() / 2
    return out.double(), y


SEEDS = range(6)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("seed", SEEDS)
def test_counts_of_classes_are_scikit_learns(seed: int, average: str) -> None:
    out, y = case(seed, labels=3 + seed % 3)
    scores = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    for name, score in scores.items():
        expected = score(y, out.argmax(1), average=average, zero_division=0)
        assert value(name, out, y, average=average) == pytest.approx(expected, abs=1e-12), name
    z, side = out[:, 0], (y == 0).long()
    for name, score in scores.items():
        for labels in (side, side.double()):
            assert value(name, z, labels, "binary", average=average) == pytest.approx(score(side, z > 0, average=average, zero_division=0))
        assert value(name, z, side, average="binary") == pytest.approx(score(side, z > 0, zero_division=0))
        assert value(name, torch.stack((0 * z, z), 1), side, average="binary") == pytest.approx(score(side, z > 0, zero_division=0))


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("seed", SEEDS)
def test_several_labels_a_row_are_labels_and_no_shares(seed: int, average: str) -> None:
    """The two look alike; read as shares, an accuracy of labels compared the places of the largest numbers."""
    out, y = case(seed)[0], (case(seed + 100)[0] > 0).double()
    said = (out > 0).long()
    for name, score in {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}.items():
        assert value(name, out, y, "binary", average=average) == pytest.approx(score(y, said, average=average, zero_division=0), abs=1e-12)
    accuracy = tm.accuracy(out.sigmoid(), y.long(), task="multilabel", num_labels=C, average="micro")
    assert value("accuracy", out, y, "binary") == pytest.approx(accuracy.item())
    assert value("worst_recall", out, y, "binary") == pytest.approx(sk.recall_score(y, said, average=None).min())
    assert value("auc", out, y, "binary") == pytest.approx(sk.roc_auc_score(y, out, average="macro"), abs=1e-12)
    p = out.sigmoid()
    assert value("nll", out, y, "binary") == pytest.approx(F.binary_cross_entropy(p, y).item())
    assert value("brier", out, y, "binary") == pytest.approx((p - y).square().mean().item())
    with pytest.raises(ValueError, match="average=binary is for two classes"):
        value("f1", out, y, "binary", average="binary")


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_are_scikit_learns(seed: int) -> None:
    out, y = case(seed)
    y[:C] = torch.arange(C)
    p = (out.exp() / out.exp().sum(1, keepdim=True)).numpy()
    expected = np.mean([sk.roc_auc_score(y == c, out.log_softmax(1)[:, c]) for c in range(C)])
    assert value("auc", out, y) == pytest.approx(expected, abs=1e-12)
    assert value("auc", out, y) == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"), abs=2e-3)  # p rounds some scores into ties
    z, side = out[:, 0], (y == 0).long()
    expected = sk.roc_auc_score(side, z)
    for labels, scores in ((side, z), (side.double(), z), (side, torch.stack((-z, z), 1)), (side, z[:, None])):
        assert value("auc", scores, labels, "binary" if scores is z else None) == pytest.approx(expected, abs=1e-12)
    masked = torch.where(torch.arange(N) % 3 == 0, -100, y)
    kept = masked >= 0
    assert value("auc", out, masked) == pytest.approx(value("auc", out[kept], y[kept]), abs=1e-12)


def test_limits_of_areas() -> None:
    y = torch.arange(N) % 2
    assert value("auc", torch.zeros(N), y) == 0.5 and value("auc", y - 0.5, y) == 1 and value("auc", 0.5 - y, y) == 0
    three = torch.arange(N) % 3
    out = torch.randn(N, C, generator=torch.Generator().manual_seed(0)).double()
    present = [sk.roc_auc_score(three == c, out.log_softmax(1)[:, c]) for c in range(3)]
    assert value("auc", out, three) == pytest.approx(np.mean(present), abs=1e-12)  # the two absent classes have no area
    assert isnan(value("auc", out, torch.full((N,), 2))) and isnan(value("auc", torch.zeros(N), torch.ones(N), "binary"))
    assert isnan(value("auc", out, torch.full((N,), -100))) and isnan(value("auc", torch.full((N,), float("nan")), y))
    with pytest.raises(ValueError, match="needs targets of 0 or 1"):
        value("auc", torch.zeros(N), torch.full((N,), 0.3), "binary")
    with pytest.raises(ValueError, match="found shares of classes"):
        value("auc", out, out.softmax(1))


@pytest.mark.parametrize("seed", SEEDS)
def test_probabilities_are_scored_as_elsewhere(seed: int) -> None:
    out, y = case(seed)
    p = out.softmax(1)
    assert value("nll", out, y) == pytest.approx(sk.log_loss(y, p, labels=range(C)))
    assert value("brier", out, y) == pytest.approx((p - F.one_hot(y, C)).square().sum(1).mean().item())
    for bins in (15, 4):
        expected = tm.calibration_error(p, y, task="multiclass", num_classes=C, n_bins=bins, norm="l1").item()
        assert value("calibration_error", out, y, bins=bins) == pytest.approx(expected, abs=1e-6)
    z, side = out[:, 0], (y == 0).long()
    assert value("brier", z, side.double(), "binary") == pytest.approx(sk.brier_score_loss(side, z.sigmoid()))
    assert value("nll", z, side.double(), "binary") == pytest.approx(F.binary_cross_entropy_with_logits(z, side.double()).item())
    two = torch.stack((torch.zeros_like(z), z), 1)
    for name in ("nll", "brier", "calibration_error"):
        assert value(name, two, side) == pytest.approx(value(name, z, side.double(), "binary"), abs=1e-12)


def test_calibration_of_known_cases() -> None:
    y = torch.zeros(N).long()
    sure = torch.tensor([[40.0, 0.0]]).expand(N, 2)
    assert value("calibration_error", sure, y) == pytest.approx(0, abs=1e-12)
    assert value("calibration_error", sure, 1 - y) == pytest.approx(1)
    half = torch.zeros(N, 4)  # confidence 1/4, right where class 0: always
    assert value("calibration_error", half, y) == pytest.approx(0.75)
    # both lie in the bin (0.6, 0.8] of 5, one right and one wrong: |1/2 - mean confidence|
    pair = torch.tensor([[0.7, 0.3], [0.62, 0.38]]).log()
    assert value("calibration_error", pair, torch.tensor([0, 1]), bins=5) == pytest.approx(0.66 - 0.5, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_top_k_is_scikit_learns_where_nothing_ties(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    out, y = torch.randn(N, C, generator=generator), case(seed)[1]
    expected = sk.top_k_accuracy_score(y, out, k=k, labels=range(C))
    assert value("top_k", out, y, k=k) == pytest.approx(expected)
    tied, y = case(seed)
    assert value("top_k", tied, y, k=1) == value("accuracy", tied, y)


def test_a_constant_output_names_k_classes_and_no_more() -> None:
    y = torch.arange(N) % C
    assert value("top_k", torch.zeros(N, C), y, k=2) == pytest.approx(float((y < 2).double().mean()))
    assert value("top_k", torch.full((N, C), float("nan")), y, k=2) == 0
    with pytest.raises(ValueError, match="would be 1 for any network"):
        value("top_k", torch.zeros(N, C), y, k=C)
    with pytest.raises(ValueError, match="a logit for each of several classes"):
        value("top_k", torch.zeros(N), y % 2, k=1)


CLASS_METRICS = {"accuracy": {}, "worst_recall": {}, "f1": {}, "precision": {}, "recall": {}, "nll": {}, "brier": {}, "top_k": {"k": 2}}
CLASS_METRICS |= {"calibration_error": {}, "auc": {}}


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_masked_targets_are_not_counted(name: str) -> None:
    out, y = case(1)
    masked = torch.where(torch.arange(N) % 4 == 0, -100, y)
    kept = masked >= 0
    changed: Any = CLASS_METRICS[name]
    assert value(name, out, masked, **changed) == pytest.approx(value(name, out[kept], y[kept], **changed), abs=1e-12)
    tokens, ids = out[:96].view(24, 4, C), masked[:96].view(24, 4)
    assert value(name, tokens, ids, **changed) == pytest.approx(value(name, out[:96], masked[:96], **changed), abs=1e-12)
    assert isnan(value(name, out, torch.full((N,), -100), **changed))


@pytest.mark.parametrize("name", sorted(CLASS_METRICS.keys() - {"auc"}))
def test_shares_of_classes_count_by_the_largest_or_by_their_shares(name: str) -> None:
    out, y = case(2)
    soft = 0.8 * F.one_hot(y, C).double() + 0.04
    changed: Any = CLASS_METRICS[name]
    if name == "nll":
        expected = F.cross_entropy(out, soft).item()
    elif name == "brier":
        expected = (out.softmax(1) - soft).square().sum(1).mean().item()
    else:
        expected = value(name, out, y, **changed)
    assert value(name, out, soft, "classification", **changed) == pytest.approx(expected)


def test_one_output_and_one_target_a_row_are_a_label() -> None:
    """[B, 1] against [B]: the largest of one output is always class 0, and accuracy was the share of zeros."""
    z, y = torch.randn(N, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2
    for name in ("accuracy", "worst_recall", "f1", "nll", "brier", "calibration_error", "auc"):
        assert value(name, z[:, None], y) == pytest.approx(value(name, z, y)), name
    assert value("accuracy", z, torch.where(z > 0, 0.9, 0.2), "binary") == 1  # shares of one label count by the nearer side


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
@pytest.mark.parametrize("seed", SEEDS)
def test_regression_metrics_are_scikit_learns(seed: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    out = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = out + 0.5 + torch.randn(shape, generator=generator, dtype=torch.float64)
    assert value("mse", out, y) == pytest.approx(sk.mean_squared_error(y, out))
    assert value("rmse", out, y) == pytest.approx(sk.mean_squared_error(y, out) ** 0.5)
    assert value("explained_variance", out, y) == pytest.approx(sk.explained_variance_score(y, out))
    assert value("r2", out, y) == pytest.approx(sk.r2_score(y, out))
    assert value("explained_variance", y + 3, y) == pytest.approx(1)


def test_what_regression_metrics_cannot_say_is_nan() -> None:
    one = torch.ones(1)
    assert isnan(value("r2", one, one)) and isnan(value("explained_variance", one, one))
    y = torch.tensor([1.0, float("nan"), 2.0])
    for name in ("r2", "explained_variance", "mse", "rmse", "mae"):
        assert isnan(value(name, torch.zeros(3), y)), name
    constant = torch.full((4,), 2.0)
    assert value("explained_variance", constant + 1, constant) == 1 and value("explained_variance", torch.arange(4.0), constant) == 0
    assert sk.explained_variance_score(constant, constant + 1) == 1


def test_first_losses_and_metrics_agree() -> None:
    out, y = torch.zeros(N, C), torch.arange(N) % C
    assert value("nll", out, y) == pytest.approx(log(C)) and value("brier", out, y) == pytest.approx(1 - 1 / C)
    assert value("brier", torch.zeros(N), y % 2) == pytest.approx(0.25)


# which metrics fit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("metric=mae",), "mae reads numbers, but task classification of kind classification has classes: take accuracy"),
        (
            ("metric=accuracy", "task=supervised", "dataset=numbers"),
            "accuracy reads classes or labels, but task supervised of kind regression",
        ),
        (("metric=modes_covered",), "modes_covered reads samples"),
        (("metric=accuracy", "task=gan", "dataset=ring"), "of kind gan has samples: take energy_distance, high_quality, modes_covered"),
        (("metric=f1", "task=contrastive", "augment.noise=noise"), "has embeddings: take a metric of your own"),
        (("metric.best.name=top_k", "metric.best.k=10"), "metric best does not fit these outputs: k is 10, there are 10 classes"),
        (("metric=accuracy", "task.kind=other", "task=supervised", "dataset=numbers", "loss=mse"), "kind other has numbers"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_in_one_line(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = torch.randn(40, 3)
    monkeypatch.setitem(registry.PLUGINS["dataset"], "numbers", lambda: Splits((x, x.sum(1)), (x, x.sum(1))))
    with pytest.raises(UsageError) as caught:
        build_run(compose([*runs.QUIET, *words]))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_several_labels_get_their_metrics_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, :3] > 0.5).float()
    monkeypatch.setitem(registry.PLUGINS["dataset"], "labels", lambda: Splits((x, y), (x, y)))
    run = build_run(compose([*runs.QUIET, "dataset=labels", "task=supervised", "model=linear", "metric=f1"]))
    with torch.no_grad():
        out = run.modules["model"](x)
        found = run.task.evaluate(run.nets, run.data.head("val", 200))
    assert run.task.kind == "binary"  # type: ignore[attr-defined]
    assert found["accuracy"].value() == pytest.approx(((out > 0) == (y > 0)).double().mean().item())
    assert found["f1"].value() == pytest.approx(sk.f1_score(y, out > 0, average="macro", zero_division=0))


def test_why_a_value_is_nan_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(60, 3), torch.arange(60) % 2
    spec = DataSpec((3,), (2,), "classification", 2)
    one_sided = Splits((x, y), (x[y == 1], y[y == 1]), (x, y), spec)
    monkeypatch.setitem(registry.PLUGINS["dataset"], "one_sided", lambda: one_sided)
    console = runs.console()
    words = ["dataset=one_sided", "metric=auc", "model=linear", "train.steps=4", "train.eval_every=1", "train.batch_size=20"]
    summary, code = train(compose([*runs.QUIET, *words, f"run_dir={tmp_path / 'run'}"]), console)
    text = console._stream.getvalue()  # type: ignore[union-attr]
    assert code == 0 and isnan(summary["metrics"]["val/auc"]) and not isnan(summary["metrics"]["test/auc"])
    assert text.count("val/auc is nan: it needs counted rows of two classes") == 1 and "test/auc is nan" not in text
    assert summary["best"] is None
