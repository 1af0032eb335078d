"""Terms of a VAE's loss, targets of a denoiser, and metrics on known answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import blobs
from sklearn.datasets import load_digits
from torch import Tensor, nn

from dlrun import Splits
from dlrun.registry import facts

DIGITS = torch.tensor(load_digits().data / 16).float()
VAE = ("dataset=rows", "model=vae", "task=supervised", "task.kind=vae", "loss=mine")


class Vae(nn.Module):
    def __init__(self, bounded: bool = False, width: int = 64) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decode = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, width))
        self.bounded = bounded

    def forward(self, x: Tensor) -> Any:
        mu, logvar = self.encode(x).chunk(2, 1)
        back = self.decode(mu + torch.randn_like(mu) * (logvar / 2).exp())
        return back.sigmoid() if self.bounded else back, mu, logvar


def kl(out: Any) -> Tensor:
    return -0.5 * (1 + out[2] - out[1].square() - out[2].exp()).sum(1).mean()


def per_row(out: Any, y: Tensor) -> Tensor:
    return (out[0] - y).square().sum(1).mean()


class Warmed(nn.Module):
    """The KL term begins after 20 calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, out: Any, y: Tensor) -> Tensor:
        self.calls += 1
        return per_row(out, y) + min(1.0, max(0.0, (self.calls - 20) / 100)) * kl(out)


VAES: dict[str, tuple[bool, Any, str, str]] = {
    "elbo": (False, lambda out, y: per_row(out, y) + kl(out), "ok", "a nat of KL costs 1"),
    "mean_and_sum": (False, lambda out, y: F.mse_loss(out[0], y) + kl(out), "warning", "all units will collapse"),
    "ten_times": (False, lambda out, y: 10 * F.mse_loss(out[0], y) + kl(out), "warning", "all units will collapse"),
    "hundred_times": (False, lambda out, y: 100 * F.mse_loss(out[0], y) + kl(out), "ok", "a nat of KL costs 1"),
    "small_weight": (False, lambda out, y: F.mse_loss(out[0], y) + 1e-3 * kl(out), "ok", "a nat of KL costs 0.001"),
    "shares": (True, lambda out, y: F.binary_cross_entropy(out[0], y, reduction="sum") / len(y) + kl(out), "ok", "a nat of KL costs 1"),
    "shares_mean": (True, lambda out, y: F.binary_cross_entropy(out[0], y) + kl(out), "warning", "all units will collapse"),
    "no_kl": (False, per_row, "warning", "there is no KL term"),
    "minus_kl": (False, lambda out, y: per_row(out, y) - kl(out), "error", "away from the prior"),
    "warmed": (False, Warmed, "info", "does not hang on mu now"),
}


@pytest.mark.parametrize("case", VAES)
def test_terms_of_a_vae(case: str) -> None:
    bounded, loss, level, said = VAES[case]
    plug("dataset", "rows", lambda: Splits((DIGITS, DIGITS), (DIGITS[:99], DIGITS[:99])))
    plug("model", "vae", lambda: Vae(bounded)), plug("loss", "mine", loss)
    finding = judged("loss_terms", *VAE)
    assert finding.level == level and said in finding.message
    for check in ("output_form", "loss_direction", "loss_coverage", "row_separable", "reduction", "shape_contract"):
        assert judged(check, *VAE).level in ("ok", "info", "not_applicable")


def test_logits_of_shares_behind_a_sigmoid() -> None:
    plug("dataset", "rows", lambda: Splits((DIGITS, DIGITS), (DIGITS[:99], DIGITS[:99])))
    plug("model", "vae", lambda: Vae(True))
    plug("loss", "mine", lambda out, y: F.binary_cross_entropy_with_logits(out[0], y, reduction="sum") / len(y) + kl(out))
    finding = judged("output_form", *VAE)
    assert finding.level == "error" and "the loss takes logits" in finding.message


def test_a_draw_that_is_cut_off_from_the_encoder() -> None:
    class Cut(Vae):
        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.encode(x).chunk(2, 1)
            return self.decode(torch.distributions.Normal(mu, (logvar / 2).exp()).sample()), mu, logvar

    class Cloned(Vae):
        def forward(self, x: Tensor) -> Any:
            back, mu, logvar = super().forward(x)
            return back, mu.clone(), logvar.clone()

    plug("dataset", "rows", lambda: Splits((DIGITS, DIGITS), (DIGITS[:99], DIGITS[:99])))
    plug("loss", "mine", lambda out, y: per_row(out, y) + kl(out))
    plug("model", "vae", lambda: Cut())
    finding = judged("loss_terms", *VAE)
    assert finding.level == "error" and "behind mu and logvar" in finding.message and "cut off" in finding.cause
    plug("model", "vae", lambda: Cloned())
    assert judged("loss_terms", *VAE).level == "ok"


def test_a_reconstruction_that_is_driven_away() -> None:
    plug("dataset", "rows", lambda: Splits((DIGITS, DIGITS), (DIGITS[:99], DIGITS[:99])))
    plug("model", "vae", lambda: Vae()), plug("loss", "mine", lambda out, y: -per_row(out, y) + kl(out))
    assert judged("loss_direction", *VAE).level == "error"


@pytest.mark.slow
def test_a_collapse_that_is_foretold_comes(rows: int = 64, steps: int = 800) -> None:
    """The weight of the KL term at which the first direction is given up lies between 1 and 2 for digits, as r < c / 2 says."""
    spread = {}
    for weight in (0.5, 4.0):
        torch.manual_seed(0)
        net = Vae()
        learn = torch.optim.Adam(net.parameters(), 2e-3)
        for step in range(steps):
            x = DIGITS[torch.arange(step * rows, (step + 1) * rows) % len(DIGITS)]
            out = net(x)
            learn.zero_grad()
            (per_row(out, x) + weight * kl(out)).backward()
            learn.step()
        spread[weight] = kl(net(DIGITS)).item()
    assert spread[0.5] > 0.3 and spread[4.0] < 0.05


# -- denoisers ------------------------------------------------------------------------------------------------------------------------


def noised() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(3)
    x, _ = blobs(512)
    t, noise, other = torch.rand(512, 1, generator=draw), *(torch.randn(512, 8, generator=draw) for _ in range(2))
    a = (1 - t.square()).sqrt()
    return {"x": (a * x + t * noise, t), "noise": noise, "clean": x, "v": a * noise - t * x, "flow": noise - x, "other": other}


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Any) -> Tensor:
        return self.net(torch.cat(x, 1))


@pytest.mark.parametrize("target", ["noise", "clean", "v", "flow", "other"])
def test_targets_of_noised_data(target: str) -> None:
    data = noised()
    plug("dataset", "noised", lambda: Splits({"x": data["x"], "y": data[target]}, None))
    plug("model", "denoiser", Denoiser)
    finding = judged("diffusion_target", "dataset=noised", "model=denoiser", "task=supervised", "task.kind=diffusion", "loss=mse")
    assert finding.level == ("warning" if target == "other" else "ok"), finding


@pytest.mark.parametrize("target", ["noise", "clean", "v", "other", "rolled"])
def test_targets_that_a_network_makes(target: str) -> None:
    class Both(Denoiser):
        def forward(self, x: Any) -> Any:
            t, noise = torch.rand(len(x), 1), torch.randn_like(x)
            a = (1 - t.square()).sqrt()
            made = {"noise": noise, "clean": x, "v": a * noise - t * x, "other": torch.randn_like(x), "rolled": noise.roll(1, 0)}
            return super().forward((a * x + t * noise, t)), made[target]

    plug("model", "denoiser", Both)
    plug("loss", "mine", lambda out, y: F.mse_loss(out[0], out[1]))
    finding = judged("diffusion_target", "dataset=only_x", "model=denoiser", "task=supervised", "task.kind=diffusion", "loss=mine")
    assert finding.level == ("error" if target in ("other", "rolled") else "ok"), finding


# -- metrics --------------------------------------------------------------------------------------------------------------------------

QUANTITIES = ("dataset=near_targets", "task=supervised", "model=column", "loss=squeezes")
LABELS = ("dataset=several_labels", "task=supervised")
METRICS: dict[str, tuple[str | None, tuple[str, ...], Any, str, str]] = {
    "accuracy": ("max", CLOUDS, lambda out, y: (out.argmax(1) == y).float().mean(), "ok", ""),
    "accuracy_min": ("min", CLOUDS, lambda out, y: (out.argmax(1) == y).float().mean(), "error", "perfect outputs score 1"),
    "error_max": ("max", CLOUDS, lambda out, y: (out.argmax(1) != y).float().mean(), "error", "perfect outputs score 0"),
    "argmin": ("max", CLOUDS, lambda out, y: (out.argmin(1) == y).float().mean(), "error", "perfect outputs score 0"),
    "first_rows": ("max", CLOUDS, lambda out, y: (out[:4].argmax(1) == y[:4]).float().mean(), "error", "in another order"),
    "labels": ("max", LABELS, lambda out, y: ((out > 0).float() == y).float().mean(), "ok", ""),
    "labels_half": ("max", LABELS, lambda out, y: ((out > 0.5).float() == y).float().mean(), "warning", "logits of 0.3"),
    "absolute": ("min", QUANTITIES, lambda out, y: (out.squeeze(-1) - y).abs().mean(), "ok", ""),
    "root": ("min", QUANTITIES, lambda out, y: (out.squeeze(-1) - y).square().mean().sqrt(), "ok", ""),
    "broadcast": ("min", QUANTITIES, lambda out, y: (out - y).abs().mean(), "error", "and best is min"),
    "confidence": (None, CLOUDS, lambda out, y: out.softmax(1).amax(1).mean(), "ok", ""),
}


@pytest.mark.parametrize("case", METRICS)
def test_metrics_on_known_answers(case: str) -> None:
    best, words, metric, level, said = METRICS[case]
    plug("metric", "mine", facts(best=best)(metric))
    finding = judged("metric_recheck", *words, "metric=mine")
    assert finding.level == level and said in finding.message, finding
    if level != "ok":
        assert finding.message.startswith("metric mine: ")


def test_accuracy_reads_probabilities_as_the_loss_does() -> None:
    """Sigmoids before a loss of shares: the metric that came along with the task agrees with what perfect outputs are."""
    plug("model", "shares", lambda: nn.Sequential(nn.Linear(8, 3), nn.Sigmoid()))
    plug("loss", "mine", lambda out, y: F.binary_cross_entropy(out, y))
    finding = judged("metric_recheck", *LABELS, "model=shares", "loss=mine")
    assert finding.level == "ok", finding
