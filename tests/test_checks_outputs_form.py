"""What the network gives beside what the loss takes: softmax twice, bounds, rectifiers; sizes, small dimensions, casts, tuples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from torch import Tensor, nn

LABELS = ("dataset=several_labels", "task=supervised")
QUANTITIES = ("dataset=near_targets", "task=supervised")
COUNTS = ("dataset=counts", "task=supervised")


def ends_in(function: Callable[[Tensor], Tensor], outputs: int = 4) -> Callable[[], nn.Module]:
    """A network with `function` behind its last layer."""

    class Ends(Net):
        def forward(self, x: Tensor) -> Tensor:
            return function(super().forward(x))

    return lambda: Ends(8, outputs)


def clamped(out: Tensor, y: Tensor) -> Tensor:
    p = out.clamp(1e-7, 1 - 1e-7)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


FAULTS: dict[str, tuple[Any, Any, tuple[str, ...], str]] = {
    "softmax": (lambda z: z.softmax(1), None, CLOUDS, "that sum to 1, and the loss takes logits: the best of them cost 0.744"),
    "sigmoid": (lambda z: z.sigmoid(), None, CLOUDS, "bounded to 0 .. 1, and the loss takes logits"),
    "softmax_over_batch": (lambda z: z.softmax(0), None, CLOUDS, "sum to 1 over the rows of the batch"),
    "softmax_in_loss": (None, lambda out, y: F.cross_entropy(out.softmax(1), y), CLOUDS, "none cost less than 0.744"),
    "sigmoid_in_loss": (None, lambda out, y: F.cross_entropy(out.sigmoid(), y), CLOUDS, "none cost less than 0.744"),
    "tanh_in_loss": (None, lambda out, y: F.cross_entropy(out.tanh(), y), CLOUDS, "none cost less than 0.341"),
    "softmax_and_weights": (
        None, lambda out, y: F.cross_entropy(out.softmax(1), y, weight=torch.tensor([1.0, 2, 3, 4])), CLOUDS, "none cost less than 0.744",
    ),
    "sigmoid_of_labels": (lambda z: z.sigmoid()[:, :3], None, LABELS, "bounded to 0 .. 1, and the loss takes logits"),
    "sigmoid_of_labels_in_loss": (
        lambda z: z[:, :3], lambda out, y: F.binary_cross_entropy_with_logits(out.sigmoid(), y), LABELS, "before its sigmoid",
    ),
    "sigmoid_of_one_side": (lambda z: (z[:, :3] - 2).sigmoid(), None, LABELS, "bounded to 0 .. 1, and the loss takes logits"),
    "softmax_of_labels": (lambda z: z[:, :3].softmax(1), lambda out, y: F.binary_cross_entropy(out, y), LABELS, "rows have 0 to 2 of them"),
    "relu_of_positive": (lambda z: (z[:, 0] + 2).relu(), None, QUANTITIES, "never below 0, targets go from -3.31"),
    "relu_of_labels": (lambda z: z.relu()[:, :3], None, LABELS, "never below 0"),
    "tanh_of_quantities": (lambda z: 0.5 * z[:, 0].tanh(), None, QUANTITIES, "bounded to -0.5 .. 0.5, targets go from -3.31 to 3.59"),
    "relu_of_quantities": (lambda z: z[:, 0].relu(), None, QUANTITIES, "never below 0, targets go from -3.31"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_outputs_that_do_not_fit_the_loss(case: str) -> None:
    ends, loss, words, said = FAULTS[case]
    plug("model", "ends", ends_in(ends or (lambda z: z)))
    if loss is not None:
        plug("loss", "mine", loss)
        words = (*words, "loss=mine")
    finding = judged("output_form", *words, "model=ends")
    assert finding.level == "error" and said in finding.message and finding.cause and finding.next


HEALTHY: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "logits": (lambda z: z, None, CLOUDS),
    "log_softmax": (lambda z: z.log_softmax(1), lambda out, y: F.nll_loss(out, y), CLOUDS),
    "softmax_and_log": (lambda z: z.softmax(1), lambda out, y: F.nll_loss(out.log(), y), CLOUDS),
    "softmax_and_squares": (lambda z: z.softmax(1), lambda out, y: F.mse_loss(out, F.one_hot(y, 4).float()), CLOUDS),
    "one_minus_p": (lambda z: z, lambda out, y: (1 - out.softmax(1).gather(1, y[:, None])).mean(), CLOUDS),
    "smoothing": (lambda z: z, lambda out, y: F.cross_entropy(out, y, label_smoothing=0.3), CLOUDS),
    "soft_capped": (lambda z: 30 * (z / 30).tanh(), None, CLOUDS),
    "aux": (lambda z: z, lambda out, y: F.cross_entropy(out, y) + 3.0, CLOUDS),
    "sigmoid_and_bce": (lambda z: z.sigmoid()[:, :3], lambda out, y: F.binary_cross_entropy(out, y), LABELS),
    "sigmoid_and_clamp": (lambda z: z.sigmoid()[:, :3], clamped, LABELS),
    "relu_and_squares_of_labels": (lambda z: z.relu()[:, :3], lambda out, y: F.mse_loss(out, y), LABELS),
    "tanh_and_squares_of_labels": (lambda z: z.tanh()[:, :3], lambda out, y: F.mse_loss(out, y), LABELS),
    "tanh_in_reach": (lambda z: 4 * z[:, 0].tanh(), None, QUANTITIES),
    "softplus_poisson": (lambda z: F.softplus(z[:, 0]), lambda out, y: F.poisson_nll_loss(out, y.float(), log_input=False), COUNTS),
    "relu_poisson": (lambda z: z[:, 0].relu(), lambda out, y: F.poisson_nll_loss(out, y.float(), log_input=False), COUNTS),
    "log_poisson": (lambda z: z[:, 0], lambda out, y: F.poisson_nll_loss(out, y.float()), COUNTS),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_outputs_that_fit(case: str) -> None:
    ends, loss, words = HEALTHY[case]
    plug("model", "ends", ends_in(ends))
    if loss is not None:
        plug("loss", "mine", loss)
        words = (*words, "loss=mine")
    findings = found(*words, "model=ends", "optimizer.lr=0.001")
    assert findings["output_form"].level == "ok" and first_loud(findings) == ""


def test_a_softmax_is_the_first_that_is_said() -> None:
    plug("model", "ends", ends_in(lambda z: z.softmax(1)))
    assert first_loud(found(*CLOUDS, "model=ends")) == "output_form"


def test_a_log_softmax_before_cross_entropy_is_a_note() -> None:
    plug("model", "ends", ends_in(lambda z: z.log_softmax(1)))
    finding = judged("output_form", *CLOUDS, "model=ends")
    assert finding.level == "info" and "harmless" in finding.message


def test_rectified_logits() -> None:
    plug("model", "ends", ends_in(lambda z: z.relu()))
    finding = judged("output_form", *CLOUDS, "model=ends")
    assert finding.level == "warning" and "exactly 0" in finding.message and finding.numbers["zeros"] > 0.25


def test_a_batch_size_that_is_written_into_the_network() -> None:
    class Fixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(64, -1)) if self.training or len(x) != 32 else super().forward(x)

    plug("model", "fixed", lambda: Fixed(8, 4))
    finding = judged("prime_dims", *CLOUDS, "model=fixed")
    assert finding.level == "error" and "takes 64 rows, but not 7" in finding.message and "batch size" in finding.cause
    assert judged("prime_dims", *CLOUDS).level == "ok"


def test_rows_that_become_fewer() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if len(x) > 8 else self.layer(x.repeat(2, 1))

    plug("model", "mixed", Mixed)
    finding = judged("prime_dims", *CLOUDS, "model=mixed")
    assert finding.level == "warning" and "7 rows give an output of 14 rows" in finding.message


def test_a_norm_over_one_number() -> None:
    plug("model", "normed", lambda: nn.Sequential(nn.Linear(8, 16), nn.GroupNorm(16, 16), nn.ReLU(), nn.Linear(16, 4)))
    finding = judged("small_dims", *CLOUDS, "model=normed")
    assert finding.level == "warning" and "model.1 has one number in a group" in finding.message
    plug("model", "normed", lambda: nn.Sequential(nn.Linear(8, 16), nn.GroupNorm(4, 16), nn.ReLU(), nn.Linear(16, 4)))
    finding = judged("small_dims", *CLOUDS, "model=normed")
    assert finding.level == "info" and finding.numbers["smallest_norm"] == 4
    plug("model", "normed", lambda: nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)))
    assert judged("small_dims", *CLOUDS, "model=normed").level == "ok"


def test_a_cast_that_loses_the_input() -> None:
    class Whole(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x / 4).long().float())

    class Tokens(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.round().long().float())

    plug("model", "whole", lambda: Whole(8, 4))
    finding = judged("dtype_path", *CLOUDS, "model=whole")
    assert finding.level == "warning" and "the network casts float32 to int64" in finding.message and finding.numbers["lost"] > 0.3
    plug("model", "tokens", lambda: Tokens(8, 4))
    assert judged("dtype_path", *CLOUDS, "model=tokens").level == "ok"


def test_a_cast_of_targets_inside_the_loss() -> None:
    plug("loss", "mine", lambda out, y: F.mse_loss(out.squeeze(-1), (y / 4).int().float()))
    finding = judged("dtype_path", *QUANTITIES, "model=column", "loss=mine")
    assert finding.level == "warning" and "the loss casts float32 to int32" in finding.message


def test_shapes_inside_a_tuple() -> None:
    class Both(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x

    plug("model", "both", lambda: Both(8, 1))
    plug("loss", "mine", lambda out, y: (out[0] - y).square().mean())
    finding = judged("shape_contract", *QUANTITIES, "model=both", "loss=mine")
    assert finding.level == "error" and "broadcast" in finding.message
    plug("loss", "mine", lambda out, y: (out[0].squeeze(1) - y).square().mean())
    assert judged("shape_contract", *QUANTITIES, "model=both", "loss=mine").level == "ok"
