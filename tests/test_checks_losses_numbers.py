"""Losses over quantities and labels: direction, rows that hang together, means and sums, temperatures of contrastive losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

QUANTITIES = ("dataset=near_targets", "task=supervised", "model=column")
FLAT = ("dataset=near_targets", "task=supervised", "model=flat")
LABELS = ("dataset=several_labels", "task=supervised")
VIEWS = ("dataset=two_views", "task=supervised", "task.kind=contrastive", "model=views")


def row(out: Tensor) -> Tensor:
    return out.squeeze(-1)


FAULTS: dict[str, tuple[str, tuple[str, ...], Any, str]] = {
    "negated": ("loss_direction", QUANTITIES, lambda out, y: -F.mse_loss(row(out), y), "move away from their targets"),
    "negated_labels": ("loss_direction", LABELS, lambda out, y: -F.binary_cross_entropy_with_logits(out, y), "move away"),
    "row_before": ("loss_direction", QUANTITIES, lambda out, y: F.mse_loss(row(out), y.roll(1)), "row i with the target of row i-1"),
    "no_target": ("loss_direction", QUANTITIES, lambda out, y: out.square().mean(), "the same whatever the targets are"),
    "no_shares": ("loss_direction", QUANTITIES, lambda out, y: F.binary_cross_entropy_with_logits(row(out), y), "no lower bound"),
    "signed": ("loss_direction", FLAT, lambda out, y: (out - y).mean(), "falls without end"),
    "means": ("row_separable", FLAT, lambda out, y: (out.mean() - y.mean()).square(), "every row is pulled the same way"),
    "half": ("loss_coverage", QUANTITIES, lambda out, y: F.mse_loss(row(out)[:9], y[:9]), "rows do not count"),
}


FIRST = {"row_before": "row_separable"}
"""Faults that another check names before: there a target acts on another row's slope."""


@pytest.mark.parametrize("case", FAULTS)
def test_losses_that_go_the_wrong_way(case: str) -> None:
    check, words, loss, said = FAULTS[case]
    plug("loss", "mine", loss)
    finding = judged(check, *words, "loss=mine")
    assert finding.level == "error" and said in finding.message and finding.cause and finding.next
    assert first_loud(found(*words, "loss=mine", level="check")) == FIRST.get(case, check)


def pinball(out: Tensor, y: Tensor) -> Tensor:
    gap = y - row(out)
    return torch.maximum(0.9 * gap, -0.1 * gap).mean()


def ranks(out: Tensor, y: Tensor) -> Tensor:
    return F.softplus(-(out - out.T) * (y[:, None] - y[None]).sign()).mean()


class Weighed(nn.Module):
    """Squares at a learned variance."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return ((row(out) - y).square() / self.log_variance.exp() + self.log_variance).mean()


def drawn(out: Tensor, y: Tensor) -> Tensor:
    keep = (torch.rand(len(y)) < 0.7).float()
    return ((row(out) - y).square() * keep).sum() / keep.sum().clamp(min=1)


HEALTHY: dict[str, Any] = {
    "squares": lambda out, y: F.mse_loss(row(out), y),
    "absolute": lambda out, y: F.l1_loss(row(out), y),
    "huber": lambda out, y: F.smooth_l1_loss(row(out), y),
    "pinball": pinball,
    "ranks": ranks,
    "correlation": lambda out, y: -F.cosine_similarity(row(out) - out.mean(), y - y.mean(), dim=0),
    "log_cosh": lambda out, y: (row(out) - y).cosh().log().mean(),
    "learned_variance": Weighed,
    "drawn": drawn,
    "weights_of_rows": lambda out, y: ((row(out) - y).square() * (1 + y.abs())).mean(),
    "root": lambda out, y: F.mse_loss(row(out), y).sqrt(),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_losses_over_quantities_that_are_sound(case: str) -> None:
    plug("loss", "mine", HEALTHY[case])
    for check in ("output_form", "loss_coverage", "loss_direction", "row_separable", "reduction", "metric_recheck", "shape_contract"):
        finding = judged(check, *QUANTITIES, "loss=mine")
        assert finding.level in ("ok", "info", "not_applicable"), finding


def test_counts_with_a_log_link_are_pulled_up_by_larger_counts() -> None:
    plug("loss", "mine", lambda out, y: F.poisson_nll_loss(row(out), y.float()))
    finding = judged("loss_direction", "dataset=counts", "task=supervised", "model=column", "loss=mine")
    assert finding.level == "ok" and finding.numbers["correlation"] < -0.9


def test_rows_that_hang_together_are_said_and_can_be_declared() -> None:
    plug("loss", "mine", ranks)
    assert "declare" in judged("row_separable", *QUANTITIES, "loss=mine").next
    declared = judged("row_separable", *QUANTITIES, "loss=mine", "expects.batch_coupled_loss=true")
    assert declared.level == "ok" and declared.numbers["by_outputs"] > 1e-3
    plug("loss", "mine", HEALTHY["squares"])
    declared = judged("row_separable", *QUANTITIES, "loss=mine", "expects.batch_coupled_loss=true")
    assert declared.level == "info" and "declared" in declared.message


def test_class_weights_do_not_couple_rows() -> None:
    for loss in (lambda out, y: F.cross_entropy(out, y, weight=torch.tensor([5.0, 1, 1, 0.1])), lambda out, y: F.cross_entropy(out, y)):
        plug("loss", "mine", loss)
        finding = judged("row_separable", "dataset=clouds", "task=supervised", "loss=mine")
        assert finding.level == "ok" and finding.numbers["by_outputs"] < 1e-6


SUM = (*QUANTITIES, "loss=mine", "train.clip_norm=null")


def test_a_sum_is_loud_where_it_makes_steps_too_large() -> None:
    plug("loss", "mine", lambda out, y: F.mse_loss(row(out), y, reduction="sum"))
    loud = judged("reduction", *SUM, "optimizer=sgd", "optimizer.lr=0.1")
    assert loud.level == "warning" and loud.numbers["ratio"] == pytest.approx(2, abs=1e-3) and "sum over rows" in loud.message
    assert judged("reduction", *SUM, "optimizer=sgd", "optimizer.lr=0.001").level == "info"  # a rate made for it
    adam = judged("reduction", *SUM, "optimizer=adam", "optimizer.lr=0.1")
    assert adam.level == "info" and adam.numbers["steps_grow"] is False
    plug("loss", "mine", HEALTHY["squares"])
    assert judged("reduction", *SUM, "optimizer=sgd", "optimizer.lr=0.1").level == "ok"


def nce(out: Tensor, own: bool = False, labels: str = "other", sign: float = 1.0) -> Tensor:
    likeness = out @ out.T / 0.5
    if not own:
        likeness = likeness.masked_fill(torch.eye(len(out), dtype=torch.bool), -1e9)
    rows = torch.arange(len(out))
    named = {"other": rows.roll(len(out) // 2), "next": rows.roll(len(out) // 2 + 1), "own": rows}[labels]
    return sign * F.cross_entropy(likeness, named)


CONTRASTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "sound": ({}, "ok", "views that agree lower the loss"),
    "negated": ({"sign": -1.0}, "error", "nothing draws them together"),
    "wrong_pairs": ({"labels": "next"}, "warning", "nothing draws them together"),
    "pairs_with_itself": ({"own": True, "labels": "own"}, "error", "nothing draws them together"),
    "candidate_for_itself": ({"own": True}, "warning", "ln 64"),
}


@pytest.mark.parametrize("case", CONTRASTS)
def test_contrastive_losses(case: str) -> None:
    options, level, said = CONTRASTS[case]
    plug("loss", "mine", lambda out, y: nce(out, **options))
    finding = judged("loss_direction", *VIEWS, "loss=mine")
    assert finding.level == level and said in finding.message


def test_views_in_another_order_than_the_loss_takes_them() -> None:
    def neighbours(out: Tensor, y: Any) -> Tensor:
        rows = torch.arange(len(out))
        return F.cross_entropy((out @ out.T / 0.5).masked_fill(torch.eye(len(out), dtype=torch.bool), -1e9), rows + 1 - 2 * (rows % 2))

    plug("loss", "mine", neighbours)
    finding = judged("loss_direction", *VIEWS, "loss=mine")
    assert finding.level == "error" and "gives its views stacked" in finding.message


def test_views_that_only_attract_collapse() -> None:
    """Nothing is held still and nothing keeps rows apart: all the same is best (Wang and Isola 2020, alignment alone)."""
    plug("loss", "mine", lambda out, y: -F.cosine_similarity(out[: len(out) // 2], out[len(out) // 2 :]).mean())
    finding = judged("loss_direction", *VIEWS, "loss=mine")
    assert finding.level == "error" and "all rows have the same embedding" in finding.message
