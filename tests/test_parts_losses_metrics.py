"""Losses: known values, counted units, refused shapes. Metrics: equal to scikit-learn's, exact over unequal batches."""

from __future__ import annotations

import functools
import itertools
from math import exp, log
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from parts import bound, metric
from torch import Tensor, nn

from dlrun import registry
from dlrun.functional.criteria import reference
from dlrun.functional.ring import centres, covered, fitted, high_quality, hits
from dlrun.types import DataSpec, Mean

N, C = 103, 5
CUTS = (0, 1, 8, 60, N)


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits [N, C] that are right a good part of the time, classes [N] of unequal frequency."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor([0.4, 0.3, 0.2, 0.08, 0.02]), N, replacement=True, generator=generator)
    return torch.randn(N, C, generator=generator) + 1.5 * F.one_hot(y, C), y


def in_batches(name: str, out: Tensor, y: Tensor, **changed: Any) -> float:
    """The metric over unequal batches, added up as an evaluation does."""
    made = metric(name, **changed)
    parts = [made(out[a:b], y[a:b], b - a) for a, b in itertools.pairwise(CUTS)]
    return functools.reduce(lambda a, b: a + b, parts).value()  # type: ignore[arg-type, return-value, operator]


# losses


def test_cross_entropy_is_torchs() -> None:
    out, y = data()
    assert torch.equal(bound("loss", "cross_entropy")(out, y), F.cross_entropy(out, y))
    assert torch.equal(bound("loss", "cross_entropy", label_smoothing=0.1)(out, y), F.cross_entropy(out, y, label_smoothing=0.1))
    soft = F.one_hot(y, C).float() * 0.7 + 0.06
    assert torch.equal(bound("loss", "cross_entropy")(out, soft), F.cross_entropy(out, soft))
    uniform = bound("loss", "cross_entropy", label_smoothing=0.3)(torch.zeros(4, C), torch.arange(4))
    assert uniform.item() == pytest.approx(log(C))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_sequences_is_the_mean_over_counted_tokens(smoothing: float) -> None:
    loss = bound("loss", "cross_entropy", label_smoothing=smoothing)
    out, y = torch.randn(4, 6, C), torch.randint(0, C, (4, 6))
    y[0, :5], y[2] = -100, -100
    pairs = zip(out.view(-1, C), y.view(-1), strict=True)
    kept = torch.stack([F.cross_entropy(o, t, label_smoothing=smoothing) for o, t in pairs if t >= 0])
    assert loss(out, y).item() == pytest.approx(kept.mean().item(), rel=1e-6)
    nothing = loss(out.requires_grad_(), torch.full((4, 6), -100))
    nothing.backward()
    assert nothing.item() == 0 and not out.grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "classes", "initial"), [("cross_entropy", 7, log(7)), ("bce", 2, log(2)), ("mse", 2, None)])
def test_reference_losses_are_what_zero_outputs_cost(name: str, classes: int, initial: float | None) -> None:
    spec = DataSpec(classes=classes)
    assert reference(bound("loss", name), "initial", spec) == (initial if initial is None else pytest.approx(initial))
    assert reference(bound("loss", name), "floor", spec) == 0
    if initial is not None:
        out, y = (torch.zeros(3, classes), torch.arange(3)) if name == "cross_entropy" else (torch.zeros(3), torch.ones(3))
        assert bound("loss", name)(out, y).item() == pytest.approx(initial)
    assert reference(nn.L1Loss(), "initial", spec) is None and reference(None, "floor", spec) is None


@pytest.mark.parametrize("smoothing", [0.05, 0.3, 1.0])
def test_the_floor_is_reached_by_the_best_logits(smoothing: float) -> None:
    loss = bound("loss", "cross_entropy", label_smoothing=smoothing)
    best = (F.one_hot(torch.arange(C), C) * (1 - smoothing) + smoothing / C).double().log()
    floor = reference(loss, "floor", DataSpec(classes=C))
    assert floor == pytest.approx(loss(best, torch.arange(C)).item())
    assert loss(best + 0.1 * torch.randn(C, C), torch.arange(C)) > floor


def test_regression_and_binary_losses() -> None:
    assert bound("loss", "mse")(torch.tensor([1.0, 3.0]), torch.tensor([1, 1])).item() == 2.0
    out, y = torch.randn(8), torch.randint(0, 2, (8,))
    assert torch.equal(bound("loss", "bce")(out, y), F.binary_cross_entropy_with_logits(out, y.float()))


@pytest.mark.parametrize("name", ["mse", "bce", "mae", "r2"])
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    part: Any = bound("loss", name) if name in ("mse", "bce") else bound("metric", name)
    with pytest.raises(ValueError, match=rf"{name}: outputs \[4, 1\] and targets \[4\] must have one shape") as caught:
        part(torch.zeros(4, 1), torch.zeros(4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("out", "y"),
    [
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.long)),
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.long)),
        (torch.zeros(4, 5, 3), torch.zeros(4, 3, dtype=torch.long)),
    ],
)
def test_cross_entropy_refuses_what_does_not_fit(out: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match=r"found logits .* and targets"):
        bound("loss", "cross_entropy")(out, y)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "bce"])
def test_a_tuple_of_outputs_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="found tuple and Tensor"):
        bound("loss", name)((torch.zeros(2), torch.zeros(2)), torch.zeros(2))


# metrics


def test_every_metric_says_what_is_better() -> None:
    better = {name: registry.get("metric", name).best for name in registry.builtin_names("metric")}
    down = {"mae", "perplexity", "bits_per_byte", "nll", "brier", "calibration_error", "mse", "rmse", "energy_distance"}
    assert better == {name: "min" if name in down else "max" for name in better}


@pytest.mark.parametrize("seed", range(3))
def test_class_metrics_are_those_of_scikit_learn(seed: int) -> None:
    out, y = data(seed)
    predicted = out.argmax(1)
    assert in_batches("accuracy", out, y) == pytest.approx(sk.accuracy_score(y, predicted), abs=1e-12)
    recalls = sk.recall_score(y, predicted, average=None, labels=np.unique(y))
    assert in_batches("worst_recall", out, y) == pytest.approx(recalls.min(), abs=1e-12)
    assert in_batches("f1", out, y) == pytest.approx(sk.f1_score(y, predicted, average="macro", zero_division=0), abs=1e-12)
    assert in_batches("perplexity", out, y) == pytest.approx(exp(sk.log_loss(y, out.double().softmax(1), labels=range(C))), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.long, torch.float32])
def test_binary_metrics_read_one_logit_a_row(dtype: torch.dtype) -> None:
    out, y = torch.randn(N), torch.randint(0, 2, (N,))
    predicted = (out > 0).long()
    assert in_batches("accuracy", out, y.to(dtype)) == pytest.approx(sk.accuracy_score(y, predicted))
    assert in_batches("worst_recall", out, y.to(dtype)) == pytest.approx(sk.recall_score(y, predicted, average=None).min())
    assert in_batches("f1", out, y.to(dtype)) == pytest.approx(sk.f1_score(y, predicted, average="macro"))


@pytest.mark.parametrize("shape", [(N,), (N, 3)])
def test_regression_metrics_are_those_of_scikit_learn(shape: tuple[int, ...]) -> None:
    out = torch.randn(shape, dtype=torch.float64)
    y = out + torch.randn(shape, dtype=torch.float64)
    assert in_batches("mae", out, y) == pytest.approx(sk.mean_absolute_error(y, out), abs=1e-12)
    assert in_batches("r2", out, y) == pytest.approx(sk.r2_score(y, out), abs=1e-12)
    assert in_batches("r2", y.mean(0).expand_as(y), y) == pytest.approx(0, abs=1e-12)
    assert in_batches("r2", y, y) == 1
    constant = torch.ones_like(y)
    assert in_batches("r2", constant, constant) == 1 and in_batches("r2", y, constant) == 0


def test_masked_tokens_are_not_counted() -> None:
    out, y = torch.randn(N, 4, C), torch.randint(0, C, (N, 4))
    y[::3, 2:], y[60:] = -100, -100
    kept = y != -100
    flat, classes = out[kept], y[kept]
    assert in_batches("accuracy", out, y) == pytest.approx(sk.accuracy_score(classes, flat.argmax(1)))
    assert in_batches("worst_recall", out, y) == pytest.approx(sk.recall_score(classes, flat.argmax(1), average=None).min())
    assert in_batches("f1", out, y) == pytest.approx(sk.f1_score(classes, flat.argmax(1), average="macro"))
    assert in_batches("perplexity", out, y) == pytest.approx(exp(sk.log_loss(classes, flat.double().softmax(1), labels=range(C))), rel=1e-5)


def test_soft_targets_count_by_their_largest_entry() -> None:
    out, y = data()
    soft = F.one_hot(y, C).float() * 0.7 + 0.06
    assert in_batches("accuracy", out, soft) == in_batches("accuracy", out, y)
    assert in_batches("worst_recall", out, soft) == in_batches("worst_recall", out, y)


def test_limits() -> None:
    y = torch.arange(N) % C
    perfect = F.one_hot(y, C).float()
    assert [in_batches(name, perfect, y) for name in ("accuracy", "worst_recall", "f1")] == [1.0, 1.0, 1.0]
    assert in_batches("perplexity", torch.zeros(N, C), y) == pytest.approx(C)
    assert in_batches("perplexity", perfect * -1e6, y) == float("inf")
    one = torch.zeros(N, C)
    one[:, 0] = 1  # always the first class: accuracy its share, worst recall 0
    assert in_batches("accuracy", one, y) == pytest.approx(float((y == 0).double().mean())) and in_batches("worst_recall", one, y) == 0
    nothing = torch.full((N,), -100)
    assert all(np.isnan(in_batches(name, perfect, nothing)) for name in ("accuracy", "worst_recall", "f1", "perplexity"))


def test_metrics_do_not_depend_on_the_order_of_rows() -> None:
    out, y = data()
    order = torch.randperm(N)
    for name in ("accuracy", "worst_recall", "f1", "perplexity"):
        assert in_batches(name, out[order], y[order]) == pytest.approx(in_batches(name, out, y), rel=1e-6)


def test_accuracy_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"found \[4, 3\] and \[3\]"):
        metric("accuracy")(torch.zeros(4, 3), torch.zeros(3), 4)
    with pytest.raises(ValueError, match=r"found \[4, 3\] and \[3\]"):
        metric("perplexity")(torch.zeros(4, 3), torch.zeros(3), 4)


def test_sums_stay_on_the_device_as_tensors() -> None:
    """Reading a number would make a step wait for the device; `value` alone does."""
    value = metric("accuracy")(*data(), N)
    assert isinstance(value, Mean) and isinstance(value.sum, Tensor)
    masked = metric("accuracy")(data()[0], data()[1].index_fill(0, torch.tensor([0]), -100), N)
    assert isinstance(masked, Mean) and isinstance(masked.count, Tensor) and int(masked.count) == len(data()[1]) - 1


# the ring


def test_the_rings_centres_lie_evenly_on_a_circle() -> None:
    at = centres(8, 2.0)
    torch.testing.assert_close(at.norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(at.roll(-1, 0), at @ torch.tensor([[0.5, 0.5], [-0.5, 0.5]]) * 2**0.5, atol=1e-5, rtol=0)


def test_coverage_counts_modes_with_enough_near_samples() -> None:
    at = centres(8, 2.0)
    samples = torch.cat([at[:5].repeat_interleave(10, 0), at[5:6].repeat(9, 1), at[6:7].repeat(10, 1) + torch.tensor([0.07, 0.0])])
    assert hits(samples, at, 0.02).tolist() == [10.0] * 5 + [9.0, 0.0, 0.0]
    assert covered(samples, at, 0.02, 10) == 5 and covered(samples, at, 0.02, 1) == 6
    assert high_quality(samples, at, 0.02) == pytest.approx(59 / 69)
    assert hits(samples, at, 0.03).tolist()[6] == 10  # 0.07 lies within three times 0.03


def test_true_samples_cover_the_ring_at_the_share_known_for_a_gaussian() -> None:
    """1 - exp(-9/2) = 0.989 of a plane Gaussian lies within three deviations; rows in place of centres give nearly the same."""
    torch.manual_seed(0)
    label = torch.arange(8000) % 8
    draw = lambda: centres(8, 2.0)[label] + 0.02 * torch.randn(8000, 2)  # noqa: E731
    at, std = fitted(draw(), label)
    torch.testing.assert_close(at, centres(8, 2.0).double(), atol=3e-3, rtol=0)
    torch.testing.assert_close(std, torch.full((8,), 0.02, dtype=torch.float64), atol=0, rtol=0.06)
    real = torch.cat((draw(), label[:, None].float()), 1)
    out = draw()
    cuts = [(0, 37), (37, 5000), (5000, 8000)]
    for name, expected in (("high_quality", 1 - exp(-4.5)), ("modes_covered", 8)):
        made = metric(name)
        total = functools.reduce(lambda a, b: a + b, [made(out[a:b], real[a:b], b - a) for a, b in cuts])  # type: ignore[arg-type, return-value, operator]
        assert total.value() == pytest.approx(expected, abs=0.005)
    one = metric("modes_covered")(out[label == 3], real, 1000)
    assert one.value() == 1
