"""Two players: their order, what each moves, losses of the papers, and metrics that know a perfect and a collapsed generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from parts import CLASSES, RING, B, built, metric, task
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.functional.ring import centres
from dlrun.noise import Noise
from dlrun.types import Mean, Networks, Objective


def players() -> tuple[Any, Networks, Batch]:
    return built("gan", RING, {"critic_steps": 2})


def test_the_critic_plays_first_and_each_moves_only_itself() -> None:
    made, nets, batch = players()
    order = []
    for objective in made.objectives(nets, batch):
        order.append(objective.update)
        (other,) = {"generator", "critic"} - set(objective.update)
        reached = torch.autograd.grad(objective.loss, list(nets[other].parameters()), allow_unused=True)
        # The generator's loss runs through the critic, which the loop leaves alone; the critic's must not reach the generator at all.
        assert (other == "critic") == any(gradient is not None for gradient in reached)
    assert order == [("critic",), ("critic",), ("generator",)]


def test_below_a_yield_the_updated_weights_are_seen() -> None:
    made, nets, batch = players()
    generator: Iterator[Objective] = made.objectives(nets, batch)
    first = next(generator)
    with torch.no_grad():
        for p in nets.critic.parameters():
            p.zero_()
    second, third = next(generator), next(generator)
    assert first.loss.item() != second.loss.item()
    assert second.loss.item() == pytest.approx(2 * math.log(2)) and third.loss.item() == pytest.approx(math.log(2))


def test_the_gans_losses_are_those_of_the_paper() -> None:
    made, nets, batch = built("gan", RING, {})
    critic, generator = (objective.loss.item() for objective in made.objectives(nets, batch))
    fake_logits = nets.critic(nets.generator(batch["z"])).sigmoid()
    assert generator == pytest.approx(-fake_logits.log().mean().item(), rel=1e-5)
    fake = nets.critic(nets.generator(batch["critic_z"][:, 0])).sigmoid()
    real = nets.critic(batch["x"]).sigmoid()
    assert critic == pytest.approx(-(real.log().mean() + (1 - fake).log().mean()).item(), rel=1e-5)


def test_r1_is_half_the_squared_slope_on_data() -> None:
    made, nets, batch = built("gan", RING, {"r1": 3.0})
    plain = task("gan", RING)
    linear = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))  # its slope is its weight
    with torch.no_grad():
        linear[0].weight.copy_(torch.tensor([[0.3, -0.4]]))  # type: ignore[operator]
    nets = Networks({"generator": nets.generator.module, "critic": linear})
    one, two = next(made.objectives(nets, batch)), next(plain.objectives(nets, batch))
    assert one.terms["r1_penalty"].item() == pytest.approx(0.25)
    assert (one.loss - two.loss).item() == pytest.approx(3.0 / 2 * 0.25)


def test_the_gans_metrics_know_a_perfect_and_a_collapsed_generator() -> None:
    torch.manual_seed(0)
    label = torch.arange(400) % 8
    x = centres(8, 2.0)[label] + 0.02 * torch.randn(400, 2)
    made = task("gan", RING)
    batch = made.prepare(Batch({"x": x, "y": label}), Noise(0))
    perfect = Networks({"generator": Fixed(x), "critic": Fixed(torch.zeros(400))})
    found = {key: value.value() for key, value in made.evaluate(perfect, batch).items()}
    assert found["modes_covered"] == 8 and found["high_quality"] > 0.96
    assert found["critic_loss"] == pytest.approx(2 * math.log(2)) and found["generator_loss"] == pytest.approx(math.log(2))
    collapsed = Networks({"generator": Fixed(x[:1].expand(400, 2)), "critic": Fixed(torch.zeros(400))})
    assert made.evaluate(collapsed, batch)["modes_covered"].value() == 1
    look = made.look(perfect, batch)["samples"]
    assert look.kind == "scatter" and torch.equal(look.data["generated"], x)


class Fixed(nn.Module):
    """A network that says the same whatever it is given."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Tensor:
        return self.value


def test_the_gan_learns_on_images_without_the_rings_metrics() -> None:
    made, nets, batch = built("gan", CLASSES, {})
    assert made.default_metrics(CLASSES) == ()
    assert set(made.evaluate(nets, batch)) == {"generator_loss", "critic_loss", "critic_accuracy"}
    assert made.look(nets, batch)["samples"].kind == "images"


def test_a_metric_of_the_users_own_sees_samples_and_data() -> None:
    made, nets, batch = built("gan", CLASSES, {})
    seen: list[tuple[Any, Any]] = []
    mine = metric("accuracy")
    mine = type(mine)("mine", lambda out, y: seen.append((out.shape, y.shape)) or Mean(1.0, 1.0))
    made.bind(CLASSES, None, {"mine": mine})
    assert made.evaluate(nets, batch)["mine"].value() == 1
    assert seen == [((B, 1, 8, 8), (B, 1, 8, 8))]
