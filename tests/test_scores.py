"""What outputs stand for: the loss is asked, and dlrun's metrics of classes give the numbers that scikit-learn gives of them."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import pytest
import runs
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import Splits, registry
from dlrun.baselines import baselines
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.evaluate import evaluate
from dlrun.functional.classes import all_count
from dlrun.functional.scores import Scores
from dlrun.run import Run
from dlrun.scoring import of_classes, of_labels
from dlrun.train import build_run

SIDES = torch.tensor([1.0, 0.0])
HOT = F.one_hot(torch.tensor([2, 0]), 3).double()
Y = HOT.argmax(1)


def by_hand(p: Tensor, y: Tensor) -> Tensor:
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def clamped(p: Tensor, y: Tensor) -> Tensor:
    return by_hand(p.clamp(1e-6, 1 - 1e-6), y)


def cut(p: Tensor, y: Tensor) -> Tensor:
    return torch.where(y > 0, -p.log(), -(1 - p).log()).mean()


def focal(z: Tensor, y: Tensor) -> Tensor:
    nats = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    return ((1 - (-nats).exp()) ** 5 * nats).mean()


LABELS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str | None]] = {
    "torch": (F.binary_cross_entropy, "probabilities"),
    "by_hand": (by_hand, "probabilities"),
    "clamped": (clamped, "probabilities"),
    "cut": (cut, "probabilities"),
    "smoothed": (lambda p, y: F.binary_cross_entropy(p, 0.9 * y + 0.05), "probabilities"),
    "weighted": (lambda p, y: F.binary_cross_entropy(p, y, weight=1 + 9 * y), "probabilities"),
    "with_logits": (F.binary_cross_entropy_with_logits, "logits"),
    "weighted_logits": (lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(0.05)), "logits"),
    "sigmoid_inside": (lambda z, y: F.binary_cross_entropy(z.sigmoid(), y), "logits"),
    "squares_of_a_sigmoid": (lambda z, y: (z.sigmoid() - y).square().mean(), "logits"),
    "focal": (focal, "logits"),
    "hinge": (lambda z, y: (1 - z * (2 * y - 1)).clamp(min=0).mean(), "logits"),
    "squares": (F.mse_loss, "numbers"),
    "blind": (lambda p, y: p.sum() * 0, None),
}


def cost_of(loss: Callable[[Tensor, Tensor], Tensor], y: Tensor) -> Callable[[Tensor], float | None]:
    def cost(made: Tensor) -> float | None:
        try:
            value = float(loss(made.to(torch.float32), y))
        except RuntimeError:
            return None
        return value if abs(value) < float("inf") else None

    return cost


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("sides", [SIDES, SIDES[:1], SIDES[1:]], ids=["both", "ones", "zeros"])
def test_a_loss_over_labels_says_what_it_takes(name: str, sides: Tensor) -> None:
    loss, expected = LABELS[name]
    assert of_labels(cost_of(loss, sides), sides.double(), False) == expected


SIGNED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "hinge": (lambda z, y: (1 - z * y).clamp(min=0).mean(), "logits"),
    "soft_margin": (F.soft_margin_loss, "logits"),
    "squares_of_a_tanh": (F.mse_loss, "numbers"),
    "probabilities": (lambda p, y: F.binary_cross_entropy(p, (y + 1) / 2), "probabilities"),
}


@pytest.mark.parametrize("name", SIGNED)
def test_so_does_one_over_labels_of_both_signs(name: str) -> None:
    loss, expected = SIGNED[name]
    assert of_labels(cost_of(loss, 2 * SIDES - 1), SIDES.double(), True) == expected


CLASSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "log_of_shares": (lambda p, y: F.nll_loss(p.log(), y), "probabilities"),
    "log_of_a_bit_more": (lambda p, y: F.nll_loss((p + 1e-8).log(), y), "probabilities"),
    "clamped": (lambda p, y: F.nll_loss(p.clamp(min=1e-9).log(), y), "probabilities"),
    "each_by_itself": (lambda p, y: F.binary_cross_entropy(p, F.one_hot(y, 3).float()), "probabilities"),
    "nll": (F.nll_loss, "logits"),
    "cross_entropy": (F.cross_entropy, "logits"),
    "margin": (F.multi_margin_loss, "logits"),
    "squares": (lambda z, y: F.mse_loss(z, F.one_hot(y, 3).float()), "numbers"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_loss_over_classes_says_what_it_takes(name: str) -> None:
    loss, expected = CLASSES[name]
    assert of_classes(cost_of(loss, Y), HOT) == expected


def test_probabilities_and_logits_are_each_others_inverse() -> None:
    z, y = torch.linspace(-9, 9, 19).double(), torch.ones(19)
    assert torch.allclose(Scores("probabilities").logits(z.sigmoid(), y, "binary"), z)
    assert torch.allclose(Scores("probabilities").outputs(z, y, "binary"), z.sigmoid())
    sure = Scores("probabilities").logits(torch.tensor([0.0, 1.0]), torch.ones(2), "binary")
    assert sure.tolist() == [-100.0, 100.0]  # as torch's binary_cross_entropy
    assert Scores("logits", True).targets(torch.tensor([-1, 1])).tolist() == [0, 1]


X = torch.linspace(-2, 2, 80)[:, None].repeat(1, 2)


def mixed(y: Tensor) -> Splits:
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    return Splits((X[order], y[order]), (X, y))


class Fixed(nn.Module):
    """p = sigmoid(x - 1/2) of a label, or of each; some lie on the wrong side."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.shift, self.end = nn.Parameter(torch.tensor(0.5)), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x - self.shift)


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": lambda x: x[:, 0].sigmoid(),
    "column": lambda x: x[:, :1].sigmoid(),
    "several": lambda x: torch.stack((x[:, 0].sigmoid(), (-x[:, 1]).sigmoid(), (x[:, 0] + 1).sigmoid()), 1),
    "shares": lambda x: torch.stack((-x[:, 0], x[:, 0], 0.2 * x[:, 0] ** 2), 1).softmax(1),
    "plain": lambda x: x[:, 0],
    "pair": lambda x: torch.stack((-x[:, 0], x[:, 0]), 1),
}
ONE = (X[:, 0] > 0.1).float()
SEVERAL = torch.stack((ONE, 1 - ONE, (X[:, 0] > 1).float()), 1)
THREE = (X[:, 0] > -0.5).long() + (X[:, 0] > 1.2).long()


def nll_of_shares(out: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(out.log(), y)


def bce_of_shares(out: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(out.reshape(y.shape), y.float())


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    def build(end: str, y: Tensor, loss: Any, *words: str) -> Run:
        monkeypatch.setitem(registry.PLUGINS["dataset"], "mine", lambda: mixed(y))
        monkeypatch.setitem(registry.PLUGINS["model"], "mine", lambda: Fixed(ENDS[end]))
        monkeypatch.setitem(registry.PLUGINS["loss"], "mine", loss)
        named = ["loss=mine"] if loss is not None else []
        return build_run(compose([*runs.QUIET, "dataset=mine", "model=mine", "task=supervised", *named, *words]))

    return build


METRICS = [f"metric.{name}={name}" for name in ("accuracy", "auc", "f1", "nll", "brier", "calibration_error")]


@pytest.mark.parametrize(("end", "y"), [("flat", ONE), ("flat", ONE.long()), ("column", ONE), ("column", ONE[:, None])])
def test_metrics_of_probabilities_are_scikit_learns(end: str, y: Tensor, built: Callable[..., Run]) -> None:
    run = built(end, y, bce_of_shares, "task.kind=binary", *METRICS)
    found, p, true = evaluate(run, run.modules, "val", 0), (X[:, 0] - 0.5).sigmoid().double().numpy(), y.flatten().numpy()
    assert 0.5 < sk.accuracy_score(true, p > 0.5) < 1 and sk.accuracy_score(true, p > 0) < 0.6  # the wrong reading would show
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, p > 0.5))
    assert found["f1"] == pytest.approx(sk.f1_score(true, p > 0.5, average="macro"))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(true, p))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(true, p), rel=1e-5)
    assert found["nll"] == pytest.approx(found["loss"], rel=1e-5)
    assert any("as probabilities" in note for note in run.notes)


def test_several_labels_a_row_are_cut_at_one_half(built: Callable[..., Run]) -> None:
    run = built("several", SEVERAL, bce_of_shares, "metric=f1")
    found, p = evaluate(run, run.modules, "val", 0), run.modules["model"](X).detach().numpy()
    assert found["accuracy"] == pytest.approx(((p > 0.5) == SEVERAL.numpy()).mean())
    assert found["f1"] == pytest.approx(sk.f1_score(SEVERAL.numpy(), p > 0.5, average="macro"))


def test_shares_of_classes_are_not_put_through_a_softmax_again(built: Callable[..., Run]) -> None:
    run = built("shares", THREE, nll_of_shares, *METRICS)
    found, p = evaluate(run, run.modules, "val", 0), run.modules["model"](X).detach().double().numpy()
    hot = F.one_hot(THREE, 3).numpy()
    assert found["nll"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["brier"] == pytest.approx(((p - hot) ** 2).sum(1).mean(), rel=1e-5)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(THREE.numpy(), p / p.sum(1, keepdims=True), multi_class="ovr"))
    assert found["accuracy"] == pytest.approx((p.argmax(1) == THREE.numpy()).mean())


def hinge_of_signs(out: Tensor, y: Tensor) -> Tensor:
    return (1 - out * y).clamp(min=0).mean()


@pytest.mark.parametrize("y", [2 * ONE - 1, 2 * ONE.long() - 1])
def test_labels_of_both_signs_all_count(y: Tensor, built: Callable[..., Run]) -> None:
    run = built("plain", y, hinge_of_signs, "task.kind=binary")
    found = evaluate(run, run.modules, "val", 0)
    assert found["accuracy"] == pytest.approx(((X[:, 0] > 0.5) == (ONE > 0)).float().mean())
    assert found["worst_recall"] < 1
    majority = max(ONE.mean().item(), 1 - ONE.mean().item())
    assert baselines(run).values["val/majority_accuracy"] == pytest.approx(majority)


def test_two_logits_of_a_binary_kind_are_two_classes(built: Callable[..., Run]) -> None:
    run = built("pair", ONE, lambda out, y: F.cross_entropy(out, y.long()), "task.kind=binary", "metric=nll")
    found = evaluate(run, run.modules, "val", 0)
    assert found["nll"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["accuracy"] == pytest.approx(((X[:, 0] > 0.5) == (ONE > 0)).float().mean())


def test_numbers_are_cut_between_the_targets_and_are_no_probabilities(built: Callable[..., Run]) -> None:
    run = built("flat", ONE, lambda out, y: (out - y).square().mean(), "task.kind=binary")
    assert evaluate(run, run.modules, "val", 0)["accuracy"] == pytest.approx(((X[:, 0] > 0.5) == (ONE > 0)).float().mean())
    with pytest.raises(UsageError, match=r"metric nll needs probabilities.*task\.scores=probabilities"):
        built("flat", ONE, lambda out, y: (out - y).square().mean(), "task.kind=binary", "metric=nll")
    said = built("flat", ONE, lambda out, y: (out - y).square().mean(), "task.kind=binary", "metric=brier", "task.scores=probabilities")
    found = evaluate(said, said.modules, "val", 0)
    assert found["brier"] == pytest.approx(found["loss"], rel=1e-5)


@pytest.mark.parametrize("loss", ["bce", "hinge", "focal"])
def test_losses_over_zero_and_one_refuse_labels_of_both_signs(loss: str, built: Callable[..., Run]) -> None:
    with pytest.raises(UsageError, match=f"loss {loss} takes labels of 0 and 1, this dataset gives -1 and 1"):
        built("plain", 2 * ONE - 1, None, f"loss={loss}", "task.kind=binary")


def test_baselines_are_read_like_the_network(built: Callable[..., Run]) -> None:
    found = baselines(built("flat", ONE, bce_of_shares, "metric=nll")).values
    share = ONE.double().mean()
    assert found["val/majority_nll"] == pytest.approx(float(-(share * share.log() + (1 - share) * (1 - share).log())), rel=1e-5)
    assert found["val/linear_accuracy"] > 0.9


@pytest.mark.parametrize("loss", ["bce", "mse", "hinge"])
def test_baselines_of_whole_number_labels_have_a_loss_too(loss: str, built: Callable[..., Run]) -> None:
    found = baselines(built("plain", ONE.long(), None, f"loss={loss}", "task.kind=binary"))
    share = float(ONE.mean())
    cost = {"bce": -(share * log(share) + (1 - share) * log(1 - share)), "mse": share * (1 - share)}
    assert not found.skipped and found.values["val/majority_accuracy"] == pytest.approx(max(share, 1 - share))
    assert loss not in cost or found.values["val/prior_loss"] == pytest.approx(cost[loss], rel=1e-4)


def test_a_users_metric_gets_what_the_network_gives(built: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def mean_of(out: Tensor, y: Tensor) -> Tensor:
        seen.append(out)
        return out.mean()

    monkeypatch.setitem(registry.PLUGINS["metric"], "mean_of", mean_of)
    run = built("flat", ONE, bce_of_shares, "metric=mean_of")
    assert evaluate(run, run.modules, "val", 0)["mean_of"] == pytest.approx(float((X[:, 0] - 0.5).sigmoid().mean()))
    monkeypatch.setattr(mean_of, "logits", True, raising=False)  # as an ejected copy of one of dlrun's says
    run = built("flat", ONE, bce_of_shares, "metric=mean_of")
    assert evaluate(run, run.modules, "val", 0)["mean_of"] == pytest.approx(float((X[:, 0] - 0.5).mean()), abs=1e-6)


def test_a_function_without_outputs_gives_the_loss(built: Callable[..., Run]) -> None:
    run = built("column", ONE[:, None], lambda: nn.BCELoss())
    assert isinstance(run.task.criterion, nn.BCELoss) and run.scores.name == "probabilities"


def test_masked_targets_are_seen_again_once_they_are_changed() -> None:
    y = torch.tensor([0, 1, 2])
    assert all_count(y) and all_count(y)
    y[1] = -100
    assert not all_count(y)
    with torch.inference_mode():
        z = torch.tensor([0, 1])
        assert all_count(z)
        z[0] = -1
        assert not all_count(z)
    assert not all_count(torch.tensor([0.0, float("nan")])) and not all_count(torch.zeros(0))
