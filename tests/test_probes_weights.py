"""Probes that read weights or move inputs: each against a closed form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from probed import REGRESSION, data, loaded, probe, probe_and_looks, set_linear
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from dlrun import LossTask, registry
from dlrun.probes._weights import mixture, refresh
from dlrun.probes.hessian import hessian_product, lanczos
from dlrun.probes.interpolation import along

TWO_CLASSES = ("task=classification", "model=linear")


def plane(rows: int = 60, width: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    return x, 1.5 * x[:, 0] - x[:, 1] + 0.1 * x.square().sum(1)


# -- the line between two runs ------------------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_path() -> None:
    shares = [0, 0.25, 0.5, 0.75, 1]
    loss = along(shares, [1.0, 2.0, 4.0, 2.5, 3.0], sign=-1)
    assert loss == {"first": 1, "second": 3, "midpoint": 4, "midpoint_minus_ends": 2, "barrier": 2, "barrier_at": 0.5}
    share = along(shares, [0.8, 0.9, 0.85, 0.5, 0.9], sign=1)
    assert share["barrier"] == pytest.approx(0.375) and share["barrier_at"] == 0.75 and share["midpoint_minus_ends"] == pytest.approx(0)
    assert along(shares, [1.0, 0.5, 0.2, 0.5, 1.0], sign=-1)["barrier"] == 0, "a valley has no barrier"
    assert along(shares, [1.0, 0.5, float("nan"), 0.5, 1.0], sign=-1)["barrier_at"] == 0.5


def test_a_quadratic_loss_on_the_line_is_a_parabola(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = plane()
    named = data(monkeypatch, "plane", (x, y))
    first, second = (loaded(named, *REGRESSION, seed=seed) for seed in (0, 1))
    a, b = torch.tensor([3.0, -1.0, 0.0]), torch.tensor([-2.0, 0.5, 1.0])
    set_linear(first, a)
    set_linear(second, b, 0.5)
    found, looks = probe_and_looks("interpolation", first, second, points=5)
    difference = (x @ (a - b) - 0.5).square().mean()
    ends = [float((x @ w + bias - y).square().mean()) for w, bias in ((a, 0.0), (b, 0.5))]
    assert found["loss_first"] == pytest.approx(ends[0], rel=1e-5) and found["loss_second"] == pytest.approx(ends[1], rel=1e-5)
    assert found["loss_midpoint_minus_ends"] == pytest.approx(-float(difference) / 4, rel=1e-4)
    assert [found[f"loss_at_{at}"] for at in ("0", "0.5", "1")] == [found[f"loss_{at}"] for at in ("first", "midpoint", "second")]
    assert found["loss_barrier"] == 0, "a convex loss has none"
    shares, values = looks["loss"].data["loss"]
    assert shares == [0, 0.25, 0.5, 0.75, 1] and len(values) == 5
    back = probe("interpolation", second, first, points=5)
    assert back["loss_midpoint"] == pytest.approx(found["loss_midpoint"], rel=1e-6) and back["loss_first"] == found["loss_second"]


def test_two_orders_of_the_same_units_have_a_barrier() -> None:
    first, second = (loaded("dataset=digits", "model=mlp", "model.width=16", "model.depth=1") for _ in range(2))
    hidden, readout = (part for part in second.model.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        for run in (first, second):
            layers = [part for part in run.model.modules() if isinstance(part, nn.Linear)]
            layers[0].weight.mul_(3)
            layers[1].weight.mul_(3)
        order = torch.arange(16).roll(1)
        hidden.weight.copy_(hidden.weight[order])
        hidden.bias.copy_(hidden.bias[order])
        readout.weight.copy_(readout.weight[:, order])
    found = probe("interpolation", first, second, points=3, split="train")
    assert found["loss_first"] == pytest.approx(found["loss_second"], rel=1e-5), "the same function"
    assert abs(found["loss_midpoint_minus_ends"]) > 0.01, "and another one in the middle"
    same = probe("interpolation", first, first, points=3)
    assert same["loss_first"] == same["loss_second"] == pytest.approx(same["loss_midpoint"]) and same["accuracy_barrier"] == 0


def test_statistics_of_batch_norms_are_those_of_the_mixed_network() -> None:
    first, second = (loaded("dataset=digits", "model=cnn", "model.channels=[4]", "train.batch_size=171", seed=seed) for seed in (0, 1))
    modules = mixture((first, second), (0.5, 0.5))
    other = mixture((first, second), (0.5, 0.5))["model"]
    refresh(first, modules, rows=1197)
    update_bn([batch["x"] for step in range(7) for batch in first.data.batches(step)], other)
    for mine, theirs in zip(modules["model"].buffers(), other.buffers(), strict=True):
        assert torch.allclose(mine.double(), theirs.double(), rtol=1e-5)
    assert not any(part.training for part in modules["model"].modules())
    plain = probe("interpolation", first, second, points=3, statistics_rows=None)
    assert plain["loss_first"] == pytest.approx(first.evaluate("test")["loss"], rel=1e-6), "an end is that run"
    assert plain["loss_midpoint"] != probe("interpolation", first, second, points=3)["loss_midpoint"]


def test_an_average_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = plane()
    named = data(monkeypatch, "plane", (x, y))
    trained = [loaded(named, *REGRESSION, seed=seed) for seed in range(3)]
    for run, row in zip(trained, torch.eye(3)):
        set_linear(run, 3 * row)
    found = probe("weight_average", *trained)
    assert found["loss"] == pytest.approx(float((x.sum(1) - y).square().mean()), rel=1e-5), "their mean is (1, 1, 1)"
    each = [float((3 * x[:, i] - y).square().mean()) for i in range(3)]
    assert found["loss_mean"] == pytest.approx(sum(each) / 3, rel=1e-5) and found["loss_best"] == pytest.approx(min(each), rel=1e-5)
    assert found["loss_gain"] == pytest.approx(found["loss"] - found["loss_mean"]) and found["loss_gain"] < 0


def test_runs_that_cannot_be_mixed_are_refused() -> None:
    first = loaded("dataset=digits", "model=mlp", "model.width=8")
    with pytest.raises(ValueError, match="differ in the form of model"):
        probe("interpolation", first, loaded("dataset=digits", "model=mlp", "model.width=9"))
    with pytest.raises(ValueError, match="trained on different data"):
        probe("interpolation", first, loaded("dataset=digits", "dataset.seed=1", "model=mlp", "model.width=8"))
    with pytest.raises(ValueError, match="points=4"):
        probe("interpolation", first, first, points=4)
    with pytest.raises(ValueError, match="name two or more"):
        probe("weight_average", first)


# -- attacks ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("random_start", [True, False])
def test_a_linear_classifier_loses_the_rows_within_eps(attack: str, random_start: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source: Goodfellow et al. 2015, section 5: the worst perturbation of a linear score w x is eps |w|_1."""
    x, _ = plane(400)
    w = torch.tensor([1.0, -2.0, 0.5])
    y = (x @ w > 0).long()
    run = loaded(data(monkeypatch, "sides", (x, y), kind="classification", classes=2, in_shape=(3,), out_shape=(2,)), *TWO_CLASSES)
    set_linear(run, torch.stack((-w, w)))
    found = probe("adversarial", run, attack=attack, eps=0.2, steps=10, random_start=random_start and attack == "pgd")
    beyond = float(((x @ w).abs() > 0.2 * w.abs().sum()).double().mean())
    assert found["clean_accuracy"] == 1 and found["accuracy"] == pytest.approx(beyond, abs=0.003)
    assert found["success_rate"] == pytest.approx(1 - found["accuracy"])
    assert probe("adversarial", run, eps=0.0)["accuracy"] == 1
    bounded = probe("adversarial", run, attack=attack, eps=9.0, bounds=[0.5, 0.501])
    assert bounded["accuracy"] == pytest.approx(float((y == 0).double().mean())), "all inputs at one point are of one class"


def test_eps_is_in_units_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes standardised as (x / 255 - mean) / std: eps counts before that, a channel of its own each, and stays within 0..1."""
    grey = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 2, 4, 4).contiguous()
    y = (torch.arange(256) >= 128).long()
    facts = {"kind": "classification", "classes": 2, "in_shape": (2, 4, 4), "out_shape": (2,), "mean": (0.3, 0.6), "std": (0.2, 0.05)}
    run = loaded(data(monkeypatch, "greys", (grey, y), **facts), *TWO_CLASSES)
    scale = torch.tensor(facts["std"]).view(2, 1, 1).expand(2, 4, 4).flatten() / 32  # weights that give the mean grey again
    shift = (torch.tensor(facts["mean"]).view(2, 1, 1).expand(2, 4, 4) / 32).sum() - 127.5 / 255
    set_linear(run, torch.stack((-scale, scale)), torch.stack((-shift, shift)))
    for eps in (0.0, 0.1, 0.3):
        found = probe("adversarial", run, eps=eps, steps=20)["accuracy"]
        assert found == pytest.approx(1 - min(256, 2 * int(eps * 255 + 0.5)) / 256, abs=0.01)
    moved = probe_and_looks("adversarial", run, eps=1.0, attack="fgsm")[1]
    assert not moved, "two channels are no picture"


def test_an_attack_on_one_run_is_tried_on_others() -> None:
    words = ("dataset=digits", "model=mlp", "model.width=32", "model.depth=1")
    first, other = loaded(*words), loaded(*words, seed=1)
    same = probe("adversarial", first, first, first, eps=0.3)
    assert same["transfer_accuracy"] == same["accuracy"] and same["transfer_clean_accuracy"] == same["clean_accuracy"]
    assert same["transfer_rate"] == 1 and 0 < same["success_rate"]
    assert probe("adversarial", first, other, eps=0.3)["transfer_rate"] != 1
    with pytest.raises(ValueError, match="expected \\[least, largest\\]"):
        probe("adversarial", first, bounds=[1.0, 0.0])


# -- gradients of terms, curvature ---------------------------------------------------------------------------------------------------------


class two_terms(LossTask):
    """loss = 2 f + 0.5 g, f = 3 w_0, g = 3 w_0 + 4 w_1, of mean inputs (1, 1)."""

    def networks(self, spec):  # type: ignore[no-untyped-def]
        return {"model": ((2,), (1,))}

    def loss(self, outputs, batch):  # type: ignore[no-untyped-def]
        f, g = outputs[:, 0].mean(), outputs[:, 1].mean()
        return 2 * f + 0.5 * g, {"f": f, "g": g, "told": f.detach()}

    def outputs(self, nets, batch):  # type: ignore[no-untyped-def]
        w = next(iter(nets.model.module.parameters()))[0]
        scale = batch["x"].mean(1)
        return torch.stack((3 * w[0] * scale, (3 * w[0] + 4 * w[1]) * scale), 1)

    def evaluate(self, nets, batch):  # type: ignore[no-untyped-def]
        return {}


def test_lengths_and_cosines_of_known_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["task"], "two_terms", two_terms)
    named = data(monkeypatch, "ones", (torch.ones(700, 2), torch.ones(700, 1)))
    found = probe("gradient_terms", loaded(named, "task=two_terms", "model=linear"))
    assert found["norm_f"] == pytest.approx(3) and found["norm_g"] == pytest.approx(5) and found["cosine_f_g"] == pytest.approx(0.6)
    assert found["norm_loss"] == pytest.approx((7.5**2 + 2**2) ** 0.5), "2 (3, 0) + 0.5 (3, 4)"
    assert found["weight_f"] == pytest.approx(2) and found["weight_g"] == pytest.approx(0.5) and found["unexplained"] < 1e-5
    assert found["norm_told"] == 0 and found["cosine_f_told"] != found["cosine_f_told"], "a term cut off from the weights pulls nowhere"


def test_the_weights_of_a_loss_are_found_again() -> None:
    run = loaded("dataset=digits", "task=vae", "task.latent=2", "task.weight=7")
    found = probe("gradient_terms", run, rows=100)
    assert found["weight_reconstruction"] == pytest.approx(7, rel=1e-4) and found["weight_kl"] == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="no terms to compare"):
        probe("gradient_terms", loaded("dataset=digits", "model=linear"))


def test_players_pull_their_own_networks() -> None:
    run = loaded("task=gan", "dataset=ring")
    before = {name: value.clone() for name, value in run.networks["critic"].state_dict().items()}
    found = probe("gradient_terms", run, rows=64)
    assert found["critic_norm_loss"] > 0 and found["generator_norm_loss"] > 0
    assert all(torch.equal(value, before[name]) for name, value in run.networks["critic"].state_dict().items()), "none is stepped"


def test_the_hessian_of_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = plane(200)
    run = loaded(data(monkeypatch, "plane", (x, y)), *REGRESSION)
    design = torch.cat((x, torch.ones(200, 1)), 1).double()
    truth = torch.linalg.eigvalsh(2 * design.T @ design / 200)
    for exact_below in (2000, 0):
        found = probe("hessian", run, exact_below=exact_below, top=2, draws=50, rows=None)
        assert found["exact"] == int(exact_below > 0) and found["parameters"] == 4
        assert found["eigenvalue_1"] == pytest.approx(float(truth[-1]), rel=1e-3)
        assert found["eigenvalue_2"] == pytest.approx(float(truth[-2]), rel=1e-3)
        assert found["smallest"] == pytest.approx(float(truth[0]), rel=1e-2)
        assert found["trace"] == pytest.approx(float(truth.sum()), rel=1e-5 if exact_below else 0.2)
        assert found["flat_share"] == 0 and found["negative_share"] == 0
    assert "outliers" not in found


def test_directions_that_nothing_depends_on_are_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = plane(100, width=9)
    x[:, 4:] = 0
    run = loaded(data(monkeypatch, "partly", (x, y)), *REGRESSION)
    exact, drawn = (probe("hessian", run, exact_below=below, top=3, draws=200) for below in (100, 0))
    assert exact["flat_share"] == pytest.approx(0.5) and exact["outliers"] == 5
    assert drawn["flat_share"] == pytest.approx(0.5, abs=0.1) and drawn["trace"] == pytest.approx(exact["trace"], rel=0.2)


def test_lanczos_finds_the_ends_of_a_known_spectrum() -> None:
    values = torch.cat((torch.linspace(-1, 1, 300), torch.tensor([50.0, 80.0, -20.0]))).double()
    for T, _ in lanczos(lambda v: values * v, torch.ones(303, dtype=torch.float64), 40):
        found = torch.linalg.eigvalsh(T)
    assert found[-2:].tolist() == pytest.approx([50, 80]) and float(found[0]) == pytest.approx(-20)
    steps = list(lanczos(lambda v: 2 * v, torch.ones(5, dtype=torch.float64), 5))
    assert len(steps) == 1 and steps[0][0].tolist() == [[pytest.approx(2)]], "one eigenvalue, found at once"


def test_the_product_is_the_second_derivative() -> None:
    run = loaded("dataset=digits", "model=mlp", "model.width=4", "model.depth=1", "model.activation=tanh")
    product, size = hessian_product(run, "train", 64)
    weights = list(run.model.parameters())
    batch = next(run.prepared("train", 64))
    flat = torch.cat([w.detach().flatten() for w in weights])

    def gradient(at: Tensor) -> Tensor:
        torch.nn.utils.vector_to_parameters(at, weights)
        loss = run.task.loss(run.task.outputs(run.nets, batch), batch)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss if isinstance(loss, Tensor) else loss[0], weights)])

    v = torch.randn(size, generator=torch.Generator().manual_seed(0))
    said = product(v.double()).float()
    numeric = (gradient(flat + 0.01 * v) - gradient(flat - 0.01 * v)) / 0.02
    assert torch.nn.functional.cosine_similarity(said, numeric, dim=0) > 0.99 and said.norm() / numeric.norm() == pytest.approx(1, abs=0.05)


def test_attention_can_be_derived_twice(tmp_path: Path) -> None:
    run = loaded("dataset=grammar", "dataset.n=64", "dataset.context=8", "task=language_model", "model=transformer", "model.width=8",
                 "model.heads=2", "model.depth=1")  # fmt: skip
    found = probe("hessian", run, rows=16, exact_below=0, top=1, draws=1, tolerance=0.05)
    assert found["eigenvalue_1"] > 0
    with pytest.raises(ValueError, match="say lanczos_steps=4"):
        probe("hessian", run, rows=16, exact_below=0, lanczos_steps=2)
