"""Losses over embeddings and codes: which rows they draw together, what keeps rows apart, what a KL term is lowest at; outputs cut off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, of_blobs
from torch import Tensor, nn

from dlrun import DataSpec

MINE = ("task=supervised", "model=mine", "loss=mine", "dataset=mine")


class Views(nn.Module):
    """One network on each of several inputs; `end`: what is done with each embedding."""

    def __init__(self, end: Any = None, stacked: bool = False) -> None:
        super().__init__()
        self.net, self.end, self.stacked = Net(8, 16), end or (lambda z: F.normalize(z, dim=1)), stacked
        self.last = nn.BatchNorm1d(16, affine=False) if end == "batch_norm" else None

    def forward(self, x: Any) -> Any:
        made = [self.net(part) for part in x]
        made = [self.last(z) for z in made] if self.last is not None else [self.end(z) for z in made]
        return torch.cat(made) if self.stacked else tuple(made)


def free(z: Tensor) -> Tensor:
    return z


def moved(x: Tensor, number: int) -> Tensor:
    return x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(number))


def two(x: Tensor, y: Tensor) -> Any:
    return {"x": (moved(x, 1), moved(x, 2))}


def three(x: Tensor, y: Tensor) -> Any:
    """Anchor, one of its class, one of the next class (rows of class k stand at k, k + 4, ...)."""
    return {"x": (x, x.roll(4, 0), x.roll(1, 0))}


def pairs(x: Tensor, y: Tensor) -> Any:
    same = (torch.arange(len(x)) // 4 % 2).float()
    return {"x": (x, torch.where(same[:, None] > 0, x.roll(4, 0), x.roll(1, 0))), "y": same}


def nt_xent(out: Tensor, wanted: Any, temperature: float = 0.2) -> Tensor:
    z = F.normalize(out, dim=1)
    n = len(z) // 2
    similar = (z @ z.T / temperature)[~torch.eye(2 * n, dtype=torch.bool)].view(2 * n, 2 * n - 1)
    return F.cross_entropy(similar, wanted(n))


def right(n: int) -> Tensor:
    return torch.cat([torch.arange(n) + n - 1, torch.arange(n)])


def one_off(n: int) -> Tensor:
    return torch.cat([(torch.arange(n) + n) % (2 * n - 1), torch.arange(n)])


def matched(out: Any, temperature: float = 0.1) -> Tensor:
    similar = out[0] @ out[1].T / temperature
    return F.cross_entropy(similar, torch.arange(len(similar)))


def spread(out: Any, sign: float = 1.0) -> Tensor:
    """Agreement, a hinge on the spread of each column, and no two columns alike."""
    loss = 25 * F.mse_loss(*out)
    for z in out:
        z = z - z.mean(0)
        cov = z.T @ z / (len(z) - 1)
        hinge = F.relu(sign * (1 - (z.var(0) + 1e-4).sqrt())).mean()
        loss = loss + 12 * hinge + (cov.square().sum() - cov.diagonal().square().sum()) / z.shape[1]
    return loss


def crossed(out: Any, sign: float = 1.0) -> Tensor:
    a, b = [(z - z.mean(0)) / (z.std(0) + 1e-5) for z in out]
    c = a.T @ b / len(a)
    return (c.diagonal() - 1).square().sum() + sign * 0.1 * (c.square().sum() - c.diagonal().square().sum())


def held(out: Any, y: Any = None) -> Tensor:
    return -F.cosine_similarity(out[0], out[1].detach()).mean()


def itself(out: Tensor) -> Tensor:
    return F.cross_entropy(out @ out.T - 1e9 * torch.eye(len(out)), torch.arange(len(out)))


def unlimited(out: Any) -> Tensor:
    return ((out[0] - out[1]).square() - (out[0] - out[2]).square()).mean()


VIEWS: dict[str, tuple[Any, Any, Any, str]] = {
    "matched": (two, lambda: Views(), lambda out, y=None: matched(out), ""),
    "stacked": (two, lambda: Views(stacked=True), lambda out, y=None: nt_xent(out, right), ""),
    "spread": (two, lambda: Views(free), lambda out, y=None: spread(out), ""),
    "crossed": (two, lambda: Views(free), lambda out, y=None: crossed(out), ""),
    "one_side_held": (two, lambda: Views(), held, ""),
    "agreement_of_batch_norm": (two, lambda: Views("batch_norm"), lambda out, y=None: F.mse_loss(*out), ""),
    "triplets": (three, lambda: Views(), lambda out, y=None: F.triplet_margin_loss(*out, margin=0.5), ""),
    "columns_moved": (two, lambda: Views(stacked=True), lambda out, y=None: nt_xent(out, one_off), "drawn to one of another row"),
    "hinge_turned": (two, lambda: Views(free), lambda out, y=None: spread(out, -1.0), "all rows have the same embedding"),
    "agreement_alone": (two, lambda: Views(), lambda out, y=None: F.mse_loss(*out), "all rows have the same embedding"),
    "columns_rewarded": (two, lambda: Views(free), lambda out, y=None: crossed(out, -1.0), "on one line"),
    "temperature_turned": (two, lambda: Views(), lambda out, y=None: matched(out, 10.0), "similarities hardly count"),
    "masked_positive": (two, lambda: Views(stacked=True), lambda out, y=None: itself(out), "masked"),
    "triplets_exchanged": (three, lambda: Views(), lambda out, y=None: F.triplet_margin_loss(*out[::2], out[1]), "more like it"),
    "no_margin": (three, lambda: Views(free), lambda out, y=None: unlimited(out), "no lower bound"),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_drawn_together_and_rows_apart(name: str) -> None:
    data, model, loss, words = VIEWS[name]
    plug("dataset", "mine", of_blobs(data, spec=DataSpec((8,), (16,), "contrastive")))
    plug("model", "mine", model)
    plug("loss", "mine", loss)
    finding = judged("loss_direction", *MINE, "task.kind=contrastive")
    assert (finding.level in ("warning", "error")) == bool(words) and words in finding.message, finding.message


@pytest.mark.parametrize(
    ("name", "label", "words"),
    [("right", lambda y: 2 * y - 1, ""), ("zero_one", lambda y: y, "do not count"), ("turned", lambda y: 1 - 2 * y, "further apart")],
)
def test_labels_of_pairs_mean_what_the_loss_takes_them_for(name: str, label: Any, words: str) -> None:
    plug("dataset", "mine", of_blobs(pairs, spec=DataSpec((8,), (16,), "contrastive")))
    plug("model", "mine", lambda: Views())
    plug("loss", "mine", lambda out, y: F.cosine_embedding_loss(out[0], out[1], label(y)))
    finding = judged("loss_direction", *MINE, "task.kind=contrastive")
    assert (finding.level in ("warning", "error")) == bool(words) and words in finding.message, finding.message


def hardest(out: Tensor, y: Tensor, turned: bool = False) -> Tensor:
    far, same = torch.cdist(out, out), y[:, None] == y[None]
    gap = (far * same).amax(1) - (far + 1e6 * same).amin(1)
    return F.relu((-gap if turned else gap) + 0.5).mean()


@pytest.mark.parametrize("turned", [False, True])
def test_rows_of_a_class_are_drawn_together(turned: bool) -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: {"x": x, "y": y}, spec=DataSpec((8,), (16,), "contrastive")))
    plug("model", "mine", lambda: Net(8, 16))
    plug("loss", "mine", lambda out, y: hardest(out, y, turned))
    finding = judged("loss_direction", *MINE, "task.kind=contrastive")
    assert (finding.level == "error") == turned and ("different classes" in finding.message) == turned, finding.message


class Codes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(8, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Any:
        mu, logvar = self.into(x).chunk(2, 1)
        return self.back(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar


KLS = {
    "kl": (lambda m, v: 0.5 * (m * m + v.exp() - v - 1), ""),
    "free_bits": (lambda m, v: (0.5 * (m * m + v.exp() - v - 1)).clamp(min=0.3), ""),
    "of_deviation": (lambda m, s: 0.5 * (m * m + s * s - (s * s).log() - 1), ""),
    "weak": (lambda m, v: 1e-3 * (m * m + v.exp() - v - 1), ""),
    "not_squared": (lambda m, v: 0.5 * (m + v.exp() - v - 1), "without end as mu"),
    "no_logarithm": (lambda m, v: 0.5 * (m * m + v.exp() - 1), "is no KL"),
    "exponential_turned": (lambda m, v: -0.5 * (1 + v - m * m + v.exp()), "is no KL"),
    "no_variance": (lambda m, v: 0.5 * (m * m + v - v), "does not hang on logvar"),
}


@pytest.mark.parametrize("name", KLS)
def test_a_kl_term_has_a_lowest_point(name: str) -> None:
    kl, words = KLS[name]
    plug("dataset", "mine", of_blobs(lambda x, y: (x, x), spec=DataSpec((8,), (8,), "vae")))
    plug("model", "mine", Codes)
    plug("loss", "mine", lambda out, y: 5 * (out[0] - y).square().sum(1).mean() + kl(out[1], out[2]).sum(1).mean())
    finding = judged("loss_terms", *MINE, "task.kind=vae")
    assert (finding.level in ("warning", "error")) == bool(words) and words in finding.message, finding.message


class Ended(Net):
    """Outputs with something behind the last layer."""

    def __init__(self, outputs: int, end: Any) -> None:
        super().__init__(8, outputs)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        out = self.end(super().forward(x))
        return out[:, 0] if out.shape[1] == 1 else out


@pytest.mark.parametrize(
    ("name", "end", "words"),
    [("sigmoid", torch.sigmoid, ""), ("hard_sigmoid", F.hardsigmoid, ""), ("cut", lambda z: z.clamp(0, 1), "no slope there")],
)
def test_outputs_are_not_cut_off(name: str, end: Any, words: str) -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: (x, (x[:, 0] > 0).float())))
    plug("model", "mine", lambda: Ended(1, end))
    plug("loss", "mine", lambda out, y: F.binary_cross_entropy(out, y))
    finding = judged("output_form", *MINE, "task.kind=binary")
    assert (finding.level == "error") == bool(words) and words in finding.message, finding.message


@pytest.mark.parametrize(
    ("name", "end", "words"),
    [
        ("plain", lambda z: z, ""),
        ("scaled", lambda z: 16 * F.normalize(z, dim=1), ""),
        ("layer_norm", lambda z: F.layer_norm(z, (6,)), ""),
        ("length_1", lambda z: F.normalize(z, dim=1), "have the length 1"),
    ],
)
def test_logits_can_grow(name: str, end: Any, words: str) -> None:
    plug("dataset", "mine", of_blobs(lambda x, y: (x, y % 6), spec=DataSpec((8,), (6,), "classification")))
    plug("model", "mine", lambda: Ended(6, end))
    finding = judged("output_form", "task=supervised", "model=mine", "dataset=mine")
    assert (finding.level == "warning") == bool(words) and words in finding.message, finding.message


@pytest.mark.parametrize(("axis", "loud"), [(2, False), (1, True)])
def test_log_probabilities_of_a_sequence_sum_over_its_classes(axis: int, loud: bool) -> None:
    class Tags(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[..., None]).log_softmax(axis)

    plug("dataset", "mine", of_blobs(lambda x, y: (x, (x > 0).long() + (x > 1).long())))
    plug("model", "mine", lambda: Tags(1, 3))
    plug("loss", "mine", lambda out, y: F.nll_loss(out.flatten(0, 1), y.flatten()))
    finding = judged("output_form", *MINE, "task.kind=sequence")
    assert (finding.level == "error") == loud and ("over axis 1" in finding.message) == loud, finding.message


DRAWS: dict[str, tuple[Any, str]] = {
    "sound": (lambda m, v: m + (v / 2).exp() * torch.randn_like(m), ""),
    "no_draw": (lambda m, v: m, ""),
    "of_one_row": (lambda m, v: m + (v / 2).exp() * torch.randn(m.shape[1]), "all rows of a batch"),
    "of_one_column": (lambda m, v: m + (v / 2).exp() * torch.randn(len(m), 1), "all numbers of a code"),
    "seeded": (lambda m, v: m + (v / 2).exp() * torch.randn(m.shape, generator=torch.Generator().manual_seed(1)), "at each call"),
    "uniform": (lambda m, v: m + (v / 2).exp() * torch.rand_like(m), "never negative"),
    "no_half": (lambda m, v: m + v.exp() * torch.randn_like(m), "for a log variance, the draw for a log deviation"),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_draw_of_a_code(name: str) -> None:
    draw, words = DRAWS[name]

    class Drawn(Codes):
        def __init__(self) -> None:
            super().__init__()
            self.into = nn.Linear(8, 8)
            self.back = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.into(x).chunk(2, 1)
            return self.back(draw(mu, logvar)), mu, logvar

    plug("dataset", "mine", of_blobs(lambda x, y: (x, x), spec=DataSpec((8,), (8,), "vae")))
    plug("model", "mine", Drawn)
    kl = lambda m, v: 0.5 * (m * m + v.exp() - v - 1)  # noqa: E731
    plug("loss", "mine", lambda out, y: 5 * (out[0] - y).square().sum(1).mean() + kl(out[1], out[2]).sum(1).mean())
    finding = judged("loss_terms", *MINE, "task.kind=vae")
    assert (finding.level == "warning") == bool(words) and words in finding.message, finding
