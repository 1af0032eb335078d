"""Losses that look like faults and are none, and two faults behind such looks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from checks_found import first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import of_blobs
from torch import Tensor, nn

from dlrun import DataSpec


def test_a_softmax_along_the_columns_of_a_picture_is_none_along_its_classes() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 8, 10, generator=draw)
    spec = DataSpec((1, 8, 10), (4, 8, 10), "other")
    plug("dataset", "mine", of_blobs(lambda a, b: (x, (x[:, 0] > 0).long() + 2 * (x[:, 0].abs() > 1).long()), spec=spec))
    plug("model", "mine", lambda: nn.Conv2d(1, 4, 3, padding=1))
    for axis, level in ((1, "ok"), (3, "error")):
        plug("loss", "mine", lambda out, y, axis=axis: F.nll_loss(out.log_softmax(axis), y))
        finding = judged("ce_gradient_signature", "dataset=mine", "task=supervised", "task.kind=other", "model=mine", "loss=mine")
        assert finding.level == level and ("along axis 3" in finding.message) == (axis == 3), finding


def test_a_rare_class_of_which_a_batch_has_none_is_no_fault_of_the_loss() -> None:
    x = torch.randn(512, 6, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(512)
    y[-3:] = 1
    plug("dataset", "mine", of_blobs(lambda a, b: (x, y), spec=DataSpec((6,), (), "other")))
    plug("model", "mine", lambda: nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)))
    plug("loss", "mine", lambda out, y: F.binary_cross_entropy_with_logits(out, y))
    finding = judged("loss_direction", "dataset=mine", "task=supervised", "model=mine", "loss=mine", "train.batch_size=32")
    assert finding.level not in ("warning", "error"), finding


def test_baskets_said_again_are_counts_of_a_multinomial() -> None:
    x = (torch.rand(256, 12, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    x[:, 0] = 1
    for y, level in ((x, "info"), (x.flip(1), "error")):
        plug("dataset", "mine", of_blobs(lambda a, b, y=y: (x, y), spec=DataSpec((12,), (12,), "other")))
        plug("model", "mine", lambda: nn.Linear(12, 12))
        plug("loss", "mine", lambda out, y: -(out.log_softmax(1) * y).sum(1).mean())
        finding = judged("ce_gradient_signature", "dataset=mine", "task=supervised", "task.kind=other", "model=mine", "loss=mine")
        assert finding.level == level, finding


def test_a_rounded_output_is_told_by_its_gradient() -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.round(self.body(x)).squeeze(-1)

    plug("dataset", "mine", of_blobs(lambda x, y: (x, x.sum(1) / 3), spec=DataSpec((8,), (), "regression")))
    plug("model", "mine", Rounded)
    assert first_loud(found("dataset=mine", "task=supervised", "model=mine", "loss=mse", level="check", folded=True)) == "graph_reach"


def test_codes_of_the_built_in_autoencoder_are_drawn_anew() -> None:
    finding = judged("loss_terms", "dataset=digits", "task=vae", "task.weight=100")
    assert "same noise" not in finding.message and finding.level != "warning", finding
