"""Losses that ask for what no network can or should give: no lower bound, another range, counts for weights, units, shares of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, of_blobs
from torch import Tensor, nn

from dlrun import DataSpec

OTHER = ("task=supervised", "task.kind=other")
NEAR = ("dataset=near_targets", "task=supervised", "model=mine", "loss=mine")


class Two(Net):
    """A mean and a log variance, or whatever the loss takes two columns for."""

    def forward(self, x: Tensor) -> Any:
        return tuple(super().forward(x).unbind(1))


class Coupling(nn.Module):
    """One affine coupling as a conditional flow has it: z and the log of the volume, which is paid for by z."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        scale, shift = self.net(x).unbind(1)
        return (x[:, 0] - x[:, 1]) * scale.exp() + shift, scale


class OfLeaves(Net):
    """Log-probabilities of four of eight classes: they never sum to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(1)[:, :4]


def gauss(out: Any, y: Tensor, sign: float = 1.0) -> Tensor:
    mean, s = out
    return 0.5 * (sign * s + (y - mean).square() * (-s).exp()).mean()


def mixture(out: Any, y: Tensor, sums: bool = True) -> Tensor:
    logits = torch.stack(out, 1)
    logits = logits.log_softmax(1) if sums else logits
    return -torch.logsumexp(logits - 0.5 * (y[:, None] - torch.tensor([-1.0, 1.0])).square(), 1).mean()


def advantage(out: Any, y: Tensor) -> Tensor:
    """Rewards about their mean times log-probabilities: without a floor by design."""
    logs = torch.stack(out, 1).log_softmax(1)
    return -(logs[:, 0] * (y - y.mean())).mean()


BOTTOMS: dict[str, tuple[Any, Any, bool]] = {
    "log_variance_turned": (Two, lambda out, y: gauss(out, y, -1.0), True),
    "weights_sum_to_anything": (Two, lambda out, y: mixture(out, y, False), True),
    "gauss": (Two, gauss, False),
    "mixture": (Two, mixture, False),
    "advantage": (Two, advantage, False),
    "flow": (lambda inputs, outputs: Coupling(), lambda out, y: (0.5 * (out[0] - y).square() - out[1]).mean(), False),
}


@pytest.mark.parametrize("case", BOTTOMS)
def test_a_loss_without_a_lower_bound(case: str) -> None:
    model, loss, wrong = BOTTOMS[case]
    plug("model", "mine", lambda: model(8, 2))
    plug("loss", "mine", loss)
    finding = judged("loss_direction", *NEAR)
    assert (finding.level == "error" and "no lower bound" in finding.message) == wrong
    assert wrong or finding.level in ("ok", "info", "not_applicable"), finding


RARE = DataSpec((8,), (), "regression")


def autoencoder(last: Any) -> Any:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8), last)

        def forward(self, x: Tensor) -> Any:
            return self.net(x), x

    return Mine


def rates(out: Tensor, y: Tensor, logs: bool) -> Tensor:
    return F.poisson_nll_loss(out.squeeze(-1), y, log_input=logs)


def clamped(out: Tensor, y: Tensor) -> Tensor:
    """The same of rates, defined below 0 by chance."""
    rate = out.squeeze(-1)
    return (rate - y * rate.clamp(min=1e-6).log()).mean()


def dice(out: Tensor, y: Tensor) -> Tensor:
    return 1 - 2 * (out.squeeze(-1) * y).sum() / (out.sum() + y.sum())


def column(last: nn.Module) -> Any:
    return lambda: nn.Sequential(Net(8, 1), last)


FORMS: dict[str, tuple[Any, Any, bool]] = {
    "rates_for_logs": (column(nn.Softplus()), lambda out, y: rates(out, y, True), True),
    "rates": (column(nn.Softplus()), lambda out, y: rates(out, y, False), False),
    "rates_clamped": (column(nn.ReLU()), clamped, False),
    "logs": (lambda: Net(8, 1), lambda out, y: rates(out, y, True), False),
    "overlap": (column(nn.Sigmoid()), dice, False),
}


@pytest.mark.parametrize("case", FORMS)
def test_rates_and_their_logarithms(case: str) -> None:
    model, loss, wrong = FORMS[case]
    most = 1.0 if case == "overlap" else 3.0
    plug("dataset", "few", of_blobs(lambda x, y: (x, x[:, 0].clamp(0, most) if most == 1 else x[:, 0].clamp(0, most).floor()), spec=RARE))
    plug("model", "mine", model)
    plug("loss", "mine", loss)
    finding = judged("output_form", "dataset=few", "task=supervised", "model=mine", "loss=mine")
    assert finding.level == ("error" if wrong else "ok"), finding
    assert not wrong or "the loss wants others" in finding.message


def test_pictures_of_another_range_than_the_last_function() -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: {"x": x.tanh()}, spec=DataSpec((8,), (8,), "other")))
    plug("loss", "mine", lambda out, y: F.mse_loss(*out))
    for last, level in ((nn.Sigmoid(), "error"), (nn.Tanh(), "info"), (nn.Identity(), "info")):
        plug("model", "mine", autoencoder(last))
        finding = judged("output_form", "dataset=mine", *OTHER, "model=mine", "loss=mine")
        assert finding.level == level, finding


COUNTS = torch.tensor([150, 60, 30, 16])


def uneven(x: Tensor, y: Tensor) -> Any:
    labels = torch.repeat_interleave(torch.arange(4), COUNTS)
    return torch.randn(256, 8, generator=torch.Generator().manual_seed(0)) + labels[:, None], labels


WEIGHTS: dict[str, tuple[Tensor | None, bool]] = {
    "counts": (4 * COUNTS / COUNTS.sum(), True),
    "inverse": (COUNTS.sum() / (4 * COUNTS), False),
    "root_of_inverse": (COUNTS.float().rsqrt(), False),
    "none": (None, False),
    "costs": (torch.tensor([3.0, 1.0, 2.0, 1.0]), False),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_of_classes_beside_their_counts(case: str) -> None:
    weight, wrong = WEIGHTS[case]
    plug("dataset", "mine", of_blobs(uneven))
    plug("loss", "mine", lambda out, y: F.cross_entropy(out, y, weight=weight))
    finding = judged("ce_gradient_signature", "dataset=mine", "task=supervised", "loss=mine")
    assert finding.level == ("error" if wrong else "ok"), finding
    assert not wrong or "weighs frequent classes more" in finding.message


@pytest.mark.parametrize("ratio", [4.0, 1.0, 0.25])
def test_the_weight_of_a_rare_label(ratio: float) -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: (x, (torch.arange(len(x)) % 5 == 0).float())))
    plug("loss", "mine", lambda out, y: F.binary_cross_entropy_with_logits(out, y, pos_weight=torch.tensor(ratio)))
    finding = judged("ce_gradient_signature", "dataset=mine", "task=supervised", "task.kind=binary", "model=flat", "loss=mine")
    assert (finding.level == "error") == (ratio == 0.25), finding


def test_log_probabilities_that_do_not_sum_to_1_have_a_floor() -> None:
    plug("model", "mine", lambda: OfLeaves(8, 8))
    words = ("dataset=clouds", "task=supervised", "loss=negative_log")
    assert judged("ce_gradient_signature", *words, "model=mine").level == "ok"
    plug("model", "mine", lambda: Net(8, 4))
    assert "no lower bound" in judged("ce_gradient_signature", *words, "model=mine").message


@pytest.mark.parametrize(("axis", "level"), [(0, "error"), (1, "ok")])
def test_a_softmax_over_the_batch_where_there_are_no_classes(axis: int, level: str) -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: (x, x[:, :5]), spec=DataSpec((8,), (5,), "other")))
    plug("loss", "mine", lambda out, y: -(y.softmax(1) * out.log_softmax(axis)).sum(1).mean())
    plug("model", "mine", lambda: Net(8, 5))
    finding = judged("row_separable", "dataset=mine", *OTHER, "model=mine", "loss=mine")
    assert finding.level == level, finding


@pytest.mark.parametrize(("unit", "level"), [(1.0, "not_applicable"), (1e4, "warning")])
def test_one_of_two_targets_in_a_unit_of_its_own(unit: float, level: str) -> None:
    class Both(Net):
        def forward(self, x: Tensor) -> Any:
            h = self.body(x)
            return self.head(h)[:, :4], self.head(h)[:, 4]

    plug("dataset", "mine", of_blobs(lambda x, y: {"x": x, "y": {"a": y, "b": unit * x[:, 0]}}, spec=DataSpec((8,), (4,), "other")))
    plug("model", "mine", lambda: Both(8, 5))
    plug("loss", "mine", lambda out, y: F.cross_entropy(out[0], y["a"]) + F.mse_loss(out[1], y["b"]))
    finding = judged("loss_terms", "dataset=mine", *OTHER, "model=mine", "loss=mine")
    assert finding.level == level, finding
    plug("dataset", "mine", of_blobs(lambda x, y: (x, torch.stack((x[:, 1], unit * x[:, 0]), 1)), spec=DataSpec((8,), (2,), "regression")))
    plug("model", "mine", lambda: Net(8, 2))
    plug("loss", "mine", lambda out, y: F.mse_loss(out, y))
    finding = judged("loss_terms", "dataset=mine", "task=supervised", "model=mine", "loss=mine")
    assert finding.level == level, finding


@pytest.mark.parametrize(("rate", "level"), [(0.1, "info"), (0.0005, "warning")])
def test_targets_that_the_steps_do_not_lead_to(rate: float, level: str) -> None:
    plug("loss", "mine", lambda out, y: F.mse_loss(out.squeeze(-1), y))
    words = ("dataset=far_targets", "task=supervised", "model=column", "loss=mine", "train.steps=100", f"optimizer.lr={rate}")
    finding = judged("init_loss", *words)
    assert finding.level == level, finding
    assert level == "info" or "all 100 steps on one batch" in finding.message


@pytest.mark.parametrize("codes", [nn.ReLU(), nn.Identity()])
def test_codes_that_lie_on_one_side(codes: nn.Module) -> None:
    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mu, self.logvar, self.back = nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(3, 8)

        def forward(self, x: Tensor) -> Any:
            mu, logvar = codes(self.mu(x)), codes(self.logvar(x))
            return self.back(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar, x

    plug("model", "mine", Coder)
    finding = judged("loss_terms", "dataset=only_x", "task=supervised", "task.kind=vae", "model=mine", "loss=evidence")
    assert (finding.level == "error" and "mu and logvar never fall below 0" in finding.message) == isinstance(codes, nn.ReLU), finding


@pytest.mark.parametrize("item", [0, 1])
def test_a_number_of_a_thing_that_is_asked_for_twice(item: int) -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(9, 4), nn.Embedding(9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.users(x[:, 0]) * self.items(x[:, item])).sum(-1)

    pairs = torch.randint(9, (256, 2), generator=torch.Generator().manual_seed(0))
    plug("dataset", "mine", of_blobs(lambda x, y: (pairs, x[:, 0]), spec=DataSpec((2,), (), "regression")))
    plug("model", "mine", Tables)
    plug("loss", "mine", lambda out, y: F.mse_loss(out, y))
    finding = judged("receptive_field", "dataset=mine", "task=supervised", "model=mine", "loss=mine")
    assert finding.level == ("ok" if item else "warning"), finding


@pytest.mark.parametrize(("created", "fed"), [(True, False), (False, False), (False, True)])
def test_a_slope_inside_the_loss(created: bool, fed: bool) -> None:
    """A penalty on a slope needs its graph; an input moved along one (Miyato et al. 2017) does not."""

    class Slope(Net):
        def forward(self, x: Tensor) -> Any:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                out = super().forward(x).squeeze(-1)
                (slope,) = torch.autograd.grad(out.sum(), x, create_graph=created, retain_graph=True)
            return (out, super().forward(x + 0.1 * slope / slope.norm()).squeeze(-1)) if fed else (out, slope)

    plug("model", "mine", lambda: Slope(8, 1))
    plug("loss", "mine", lambda out, y: F.mse_loss(out[0], y) + (out[1].square().mean() if not fed else F.mse_loss(out[1], y)))
    finding = judged("graph_reach", *NEAR, "task.kind=other")
    assert ("has no graph" in finding.message) == (not created and not fed), finding
