"""Adversarial training: its inner maximum against a closed form, its box, and what a trained network withstands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import parts
import pytest
import runs
import torch
import torch.nn.functional as F
from torch import nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.attacks import ball, uphill
from dlrun.loading import load
from dlrun.noise import Noise
from dlrun.types import DataSpec, Networks

SPEC = DataSpec(in_shape=(3,), out_shape=(2,), kind="classification", classes=2)


def made(spec: DataSpec = SPEC, **changed: Any) -> Any:
    return parts.task("adversarial", spec, **changed)


def rows() -> tuple[Networks, Batch, nn.Linear]:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    return Networks({"model": net}), Batch({"x": torch.randn(20, 3), "y": torch.arange(20) % 2}), net


@pytest.mark.parametrize(("attack", "random_start"), [("fgsm", False), ("pgd", False), ("pgd", True)])
def test_the_loss_of_a_linear_classifier_is_that_of_margins_less_eps_times_the_1_norm(attack: str, random_start: bool) -> None:
    """Goodfellow et al. 2015, section 5: the worst move is -eps sign(w) for the right class; w: one class's weights less the other's."""
    nets, batch, net = rows()
    task = made(eps=0.2, attack=attack, steps=20, random_start=random_start)
    (objective,) = task.objectives(nets, task.prepare(batch, Noise(0, "here")))
    w, b = net.weight[1] - net.weight[0], net.bias[1] - net.bias[0]
    sign = 2 * batch["y"] - 1
    known = F.softplus(-(sign * (batch["x"] @ w + b) - 0.2 * w.abs().sum())).mean()
    assert objective.loss.item() == pytest.approx(known.item(), rel=1e-5)
    slopes = [torch.autograd.grad(loss, net.weight, retain_graph=True)[0] for loss in (objective.loss, known)]
    assert torch.allclose(*slopes, atol=1e-5), "the worst move is a constant to the weights (Danskin)"


def test_without_room_it_is_plain_training_and_evaluation_never_attacks() -> None:
    nets, batch, _ = rows()
    plain = F.cross_entropy(nets.model(batch["x"]), batch["y"]).item()
    (objective,) = made(eps=0.0, random_start=False).objectives(nets, batch)
    assert objective.loss.item() == pytest.approx(plain, rel=1e-6) and objective.count == 20
    with torch.no_grad():
        assert made(eps=5.0).evaluate(nets, batch)["loss"].value() == pytest.approx(plain, rel=1e-6)


def test_moves_stay_within_eps_and_bounds_in_the_units_of_the_input() -> None:
    spec = DataSpec(in_shape=(2, 4, 4), out_shape=(2,), kind="classification", classes=2, mean=(0.2, 0.5), std=(0.1, 0.4))
    torch.manual_seed(0)
    raw = torch.rand(8, 2, 4, 4)
    mean, std = (torch.tensor(fact).view(2, 1, 1) for fact in (spec.mean, spec.std))
    batch = Batch({"x": (raw - mean) / std, "y": torch.arange(8) % 2})
    nets = Networks({"model": nn.Sequential(nn.Flatten(), nn.Linear(32, 2))})
    for bounds, least, largest in ((None, 0.0, 1.0), ([0.3, 0.6], 0.3, 0.6)):
        task = made(spec, eps=0.1, steps=5, bounds=bounds)
        moved = task.attacked(nets, task.prepare(batch, Noise(0, "here"))) * std + mean
        assert moved.min() >= least - 1e-6 and moved.max() <= largest + 1e-6
        inside = (raw >= 0.1 + least) & (raw <= largest - 0.1)
        assert ((moved - raw).abs()[inside] <= 0.1 + 1e-6).all() and (moved - raw).abs()[inside].max() > 0.099


def test_wrong_bounds_and_rows_that_are_no_numbers_are_told() -> None:
    with pytest.raises(ValueError, match=r"bounds=\[1.0, 0.0\]: expected \[least, largest\]"):
        ball(torch.zeros(1, 3), 0.1, 0.1, [1.0, 0.0], None, None)
    with pytest.raises(UsageError, match="rows of numbers with classes"):
        made().networks(DataSpec(in_shape=(3,), out_shape=(), kind="regression"))
    with pytest.raises(UsageError, match="moves x, a tensor of numbers"):
        made().prepare(Batch({"x": torch.zeros(2, 3, dtype=torch.int64)}), Noise(0, "here"))


def test_many_small_steps_find_a_maximum_inside_the_box() -> None:
    box = ball(torch.zeros(1, 2), 1.0, 0.01, None, None, None)
    found = uphill(lambda moved: -(moved - torch.tensor([0.3, 5.0])).square().sum(), torch.zeros(1, 2), torch.zeros(1, 2), box, 150)
    assert found[0, 0].item() == pytest.approx(0.3, abs=0.011) and found[0, 1].item() == 1.0


@pytest.mark.slow
def test_trained_so_a_network_withstands_what_fools_another(tmp_path: Path) -> None:
    from dlrun.probes.adversarial import adversarial

    words = ("dataset=digits", "train.steps=300", "model.width=64", "optimizer.lr=0.003")
    found = {}
    for name, task in (("plain", ("task=classification",)), ("hard", ("task=adversarial", "task.eps=0.3"))):
        path, _, code = runs.start(tmp_path / name, *words, *task)
        assert code == 0
        options = parts.options("probe", "adversarial", eps=0.3)
        found[name] = adversarial([load(path)], Noise(0, "probe"), **options)[0]
    assert found["hard"]["accuracy"] > found["plain"]["accuracy"] + 0.1, found
