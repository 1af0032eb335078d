"""What losses ask of outputs that may go anywhere: each with its own target, rows with their own, no constant, no fall without end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import built, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, of_blobs
from torch import Tensor, nn

from dlrun import DataSpec, registry
from dlrun.checks import Subject
from dlrun.registry import facts

OTHER = ("task=supervised", "task.kind=other", "model=mine", "loss=mine", "dataset=mine")
NUMBERS = ("task=supervised", "task.kind=regression", "model=mine", "loss=mine", "dataset=mine")


def place(x: Tensor, y: Tensor) -> Any:
    return x, torch.stack([x[:, 0] * x[:, 1], (x[:, 2] + x[:, 3]).sin(), x[:, 4].cos()], 1)


def patients(x: Tensor, y: Tensor) -> Any:
    time = (-torch.rand(len(x), generator=torch.Generator().manual_seed(5)).log()) * (-x[:, 0]).exp()
    return x, torch.stack([time.clamp(max=1.5), (time < 1.5).float()], 1)


def grades(x: Tensor, y: Tensor) -> Any:
    return x, (x[:, 0] + 2).clamp(0, 4.9).long()


def holes(x: Tensor, y: Tensor) -> Any:
    """Rows of eight numbers, some hidden; what is hidden is asked for."""
    hidden = (torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    return torch.cat([x * (1 - hidden), hidden], 1), torch.stack([x, hidden], 2)


def prepared(make: Any, loss: Any, outputs: int = 3, inputs: int = 8, model: Any = None, kind: str = "regression") -> None:
    plug("dataset", "mine", of_blobs(make, spec=DataSpec((inputs,), (outputs,), kind)))
    plug("model", "mine", model or (lambda: Net(inputs, outputs)))
    plug("loss", "mine", loss)


def cox(out: Tensor, y: Tensor, risk: bool = True, seen: bool = True) -> Tensor:
    order = y[:, 0].argsort(descending=True)
    r, e = (out[order, 0] if risk else out[:, 0]), (y[order, 1] if seen else y[:, 1])
    return -((r - r.logcumsumexp(0)) * e).sum() / e.sum().clamp(min=1)


def by_pairs(out: Tensor, y: Tensor, sign: float = 1.0) -> Tensor:
    o, t = out[:, 0], y[:, 0]
    return F.softplus(-sign * (o[:, None] - o[None]) * (t[:, None] - t[None]).sign()).mean()


def levels(out: Tensor, y: Tensor, least: int = 0) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, (y[:, None] > torch.arange(4) - least).float())


COLUMNS = {
    "each": (lambda out, y: F.mse_loss(out, y), ""),
    "absolute": (lambda out, y: F.l1_loss(out, y), ""),
    "unlike_weights": (lambda out, y: ((out - y).square() * torch.tensor([1.0, 50.0, 0.1])).mean(), ""),
    "cosine": (lambda out, y: 1 - F.cosine_similarity(out, y).mean(), ""),
    "of_length": (lambda out, y: (out - y).norm(dim=1).mean(), ""),
    "hardest_rows": (lambda out, y: (out - y).square().mean(1).topk(8).values.mean(), ""),
    "cancel": (lambda out, y: (out - y).sum(1).square().mean(), "alike"),
    "pasted": (lambda out, y: F.mse_loss(out[:, :2], y[:, :2]) + F.mse_loss(out[:, 2], y[:, 1]), "drawn to column 1"),
    "reversed": (lambda out, y: F.mse_loss(out, y.flip(1)), "drawn to column 2"),
    "one": (lambda out, y: F.mse_loss(out[:, 1], y[:, 1]), "only column 1"),
    "easiest_rows": (lambda out, y: (out - y).square().mean(1).topk(4, largest=False).values.mean(), "do not count"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_column_is_compared_with_its_own(name: str) -> None:
    loss, words = COLUMNS[name]
    prepared(place, loss)
    finding = judged("loss_coverage", *NUMBERS)
    assert (finding.level in ("warning", "error")) == bool(words) and words in finding.message, finding.message


@pytest.mark.parametrize(
    ("name", "loss", "loud"),
    [
        ("cox", cox, False),
        ("adjacent_rows", lambda out, y: F.softplus(-(out - out.roll(1, 0))[:, 0] * (y - y.roll(1, 0))[:, 0].sign()).mean(), False),
        ("marks_unsorted", lambda out, y: cox(out, y, seen=False), True),
        ("risks_unsorted", lambda out, y: cox(out, y, risk=False), True),
    ],
)
def test_targets_act_on_their_own_row(name: str, loss: Any, loud: bool) -> None:
    prepared(patients, loss, outputs=1)
    finding = judged("row_separable", *NUMBERS, "expects={batch_coupled_loss: true}")
    assert (finding.level == "error") == loud and (not loud or "another row" in finding.message), finding.message


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("hidden", lambda out, y: ((out - y[..., 0])[y[..., 1] > 0]).square().mean(), ""),
        ("all", lambda out, y: (out - y[..., 0]).square().mean(), ""),
        ("given", lambda out, y: ((out - y[..., 0])[y[..., 1] < 1]).square().mean(), "stand in x"),
        ("summed", lambda out, y: (out - y[..., 0]).mean(1).square().mean(), "fixed proportions"),
    ],
)
def test_what_counts_is_what_is_asked_for(name: str, loss: Any, words: str) -> None:
    prepared(holes, loss, outputs=8, inputs=16)
    finding = judged("loss_coverage", *NUMBERS)
    assert (finding.level == "error") == bool(words) and words in finding.message, finding.message


def test_a_mask_over_filler() -> None:
    """Targets behind a row's end are 0: a loss that counts them alone has its mask upside down."""

    def tails(x: Tensor, y: Tensor) -> Any:
        inside = (torch.arange(8) < 2 + torch.arange(len(x))[:, None] % 6).float()
        return x * inside, torch.stack([x.sin() * inside, inside], 2)

    for sign, loud in ((1.0, False), (0.0, True)):
        prepared(tails, lambda out, y, sign=sign: (out - y[..., 0])[y[..., 1] == sign].square().mean(), outputs=8)
        finding = judged("loss_coverage", *NUMBERS)
        assert (finding.level == "error" and "inverted" in str(finding.cause)) == loud, finding.message


@pytest.mark.parametrize(("least", "loud"), [(0, False), (1, True), (-3, True)])
def test_ordinal_levels_tell_all_grades_apart(least: int, loud: bool) -> None:
    prepared(grades, lambda out, y: levels(out, y, least), outputs=4, kind="other")
    finding = judged("loss_coverage", *OTHER)
    assert ("cannot tell" in finding.message) == loud, finding.message


class Heads(Net):
    def __init__(self) -> None:
        super().__init__(8, 2)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).unbind(1)


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("own", lambda out, y: F.mse_loss(out[0], y[0]) + F.mse_loss(out[1], y[1]), ""),
        ("pasted", lambda out, y: F.mse_loss(out[0], y[0]) + F.mse_loss(out[1], y[0]), "target 2 is not read"),
        ("detached", lambda out, y: F.mse_loss(out[0], y[0]) + F.mse_loss(out[1].detach(), y[1]), "no slope at it"),
    ],
)
def test_two_terms_of_two_heads(name: str, loss: Any, words: str) -> None:
    prepared(lambda x, y: {"x": x, "y": (x[:, 0].sin(), x[:, 1] * x[:, 2])}, loss, model=Heads, kind="other")
    finding = judged("loss_coverage", *OTHER)
    assert (finding.level in ("warning", "error")) == bool(words) and words in finding.message, finding.message


class Scores(nn.Module):
    """A score for data and one for noise, from one network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net(8, 1)

    def forward(self, x: Any) -> Any:
        return self.net(x[0])[:, 0], self.net(x[1])[:, 0]


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("contrast", lambda out, y=None: F.softplus(-out[0]).mean() + F.softplus(out[1]).mean(), ""),
        ("ranking", lambda out, y=None: F.softplus(out[1] - out[0]).mean(), ""),
        ("critic", lambda out, y=None: out[1].mean() - out[0].mean(), ""),
        ("alike", lambda out, y=None: F.softplus(-out[0]).mean() + F.softplus(-out[1]).mean(), "constant is as good"),
        ("hinges_alike", lambda out, y=None: F.relu(1 - out[0]).mean() + F.relu(1 - out[1]).mean(), "constant is as good"),
        ("turned", lambda out, y=None: F.logsigmoid(out[0] - out[1]).mean(), "no lower bound"),
    ],
)
def test_data_and_noise_are_told_apart(name: str, loss: Any, words: str) -> None:
    prepared(lambda x, y: {"x": (x, 2 * x.flip(0) + 1)}, loss, model=Scores, kind="other")
    finding = judged("loss_direction", *OTHER)
    assert (finding.level == "error") == bool(words) and words in finding.message, finding.message


@pytest.mark.parametrize(
    ("name", "loss", "words"),
    [
        ("each", lambda out, y: F.mse_loss(out, y), ""),
        ("lengths", lambda out, y: (out.norm(dim=1) - y.norm(dim=1)).square().mean(), "do not come to the targets"),
        ("unread", lambda out, y: out.square().mean(), "whatever the targets are"),
        ("linear", lambda out, y: F.poisson_nll_loss(y.relu(), out), "no lower bound"),
    ],
)
def test_free_outputs_come_to_their_targets(name: str, loss: Any, words: str) -> None:
    prepared(place, loss)
    finding = judged("loss_direction", *NUMBERS)
    assert (finding.level == "error") == bool(words) and words in finding.message, finding.message


def test_shares_as_targets() -> None:
    """kl_div of probabilities, not of their logarithms, is best with all of the weight on one class."""
    losses = {
        "cross_entropy": F.cross_entropy,
        "reverse": lambda out, y: F.kl_div(y.log(), out.softmax(1), reduction="batchmean"),
        "no_log": lambda out, y: F.kl_div(out.softmax(1), y, reduction="batchmean"),
    }
    for name, loss in losses.items():
        prepared(lambda x, y: (x, (0.5 * x[:, :4]).softmax(1)), loss, outputs=4, kind="classification")
        words = ("dataset=mine", "model=mine", "loss=mine", "task=supervised", "task.kind=classification")
        finding = judged("loss_direction", *words)
        assert (finding.level == "error") == (name == "no_log"), (name, finding.message)


@facts(best="max")
def in_order(out: Tensor, y: Tensor) -> Tensor:
    """Share of pairs in the right order."""
    o, t = out[:, 0], y[:, 0]
    return ((o[:, None] - o[None]) * (t[:, None] - t[None]) > 0).float().mean()


@pytest.mark.parametrize(("sign", "loud"), [(1.0, False), (-1.0, True)])
def test_descending_the_loss_must_not_worsen_the_metric(sign: float, loud: bool) -> None:
    prepared(lambda x, y: (x, x[:, :1] - x[:, 1:2]), lambda out, y: by_pairs(out, y, sign), outputs=1)
    plug("metric", "mine", in_order)
    finding = judged("metric_recheck", *NUMBERS, "metric=mine", "expects={batch_coupled_loss: true}")
    assert (finding.level == "error") == loud and ("descend the loss" in finding.message) == loud, finding.message


def test_a_constant_fits_a_one_sided_quantile() -> None:
    """Of the two sides of a quantile loss one was cut off: a large constant costs nothing."""
    q = torch.tensor([0.1, 0.5, 0.9])
    sides = {
        False: lambda out, y: torch.maximum(q * (y[:, None] - out), (q - 1) * (y[:, None] - out)).mean(),
        True: lambda out, y: (q * (y[:, None] - out).clamp(min=0)).mean(),
    }
    for loud, loss in sides.items():
        prepared(lambda x, y: (x, x[:, 0] * 2), loss)
        finding = Subject(built(*NUMBERS)).judge("loss_direction", registry.get("check", "loss_direction"))
        assert (finding.level == "error") == loud, finding.message
