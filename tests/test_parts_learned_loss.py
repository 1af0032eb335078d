"""A learned loss: with the cross-entropy for one it is the plain GAN bit for bit, and its gradient is that through a step of the critic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parts import RING, built
from runs import QUIET
from torch import Tensor, nn

from dlrun import registry
from dlrun.batch import Batch
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.finite import Watch
from dlrun.loop import train_step
from dlrun.steplog import StepLog
from dlrun.train import build_run
from dlrun.types import Networks

RATE = 0.3
PLAYERS = ("generator", "critic")


class Product(nn.Module):
    """-scale x label x logit: at scale 1 its softplus is the cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return -self.scale * x[:, 1] * x[:, 0]


def game(**changed: Any) -> tuple[Any, Networks, Batch]:
    """The task on 24 rows in float64, with smooth networks, so that differences are exact enough."""
    torch.manual_seed(0)
    made, nets, batch = built("learned_loss_gan", RING, {"inner_lr": RATE, **changed})
    smooth = {name: nn.Sequential(*(nn.Tanh() if isinstance(part, nn.ReLU) else part for part in net.module)) for name, net in nets.items()}
    nets = Networks({name: net.double() for name, net in smooth.items()})
    return made, nets, batch.map(lambda value: value.double() if value.is_floating_point() else value)


def trained(*words: str) -> dict[str, Tensor]:
    """Weights of both players after four steps."""
    run = build_run(compose([*QUIET, "dataset=ring", "dataset.n=200", "train.clip_norm=null", *words]))
    drawn = torch.Generator().manual_seed(0)
    for parameter in (parameter for name in PLAYERS for parameter in run.modules[name].parameters()):
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=drawn))
    log = StepLog()
    for step in range(4):
        log.begin(False)
        train_step(run, step, run.data.batches(step), log, Watch(run.device))
    return {f"{name}.{key}": value for name in PLAYERS for key, value in run.modules[name].state_dict().items()}


def test_with_the_cross_entropy_for_a_loss_it_is_the_plain_gan_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["model"], "product", Product)
    words = ("task=learned_loss_gan", "model.loss_net=product", "optimizer.loss_net.lr=")
    plain, same, other = trained("task=gan"), trained(*words[:2], f"{words[2]}0"), trained(*words[:2], f"{words[2]}0.5")
    assert all(torch.equal(plain[name], same[name]) for name in plain)
    assert not all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_outer_loss_is_that_of_the_critic_after_a_step_of_sgd() -> None:
    made, nets, batch = game()
    real, fake = batch["x"], nets.generator(batch["critic_z"][:, 0]).detach()
    stepped = copy.deepcopy(nets.critic.module)
    rows = [torch.stack((stepped(x[::2]), torch.full((12,), label, dtype=torch.float64)), 1) for x, label in ((real, 1.0), (fake, -1.0))]
    sum(F.softplus(nets.loss_net(row)).mean() for row in rows).backward()  # type: ignore[union-attr]
    torch.optim.SGD(stepped.parameters(), lr=RATE).step()
    targets = torch.cat((torch.ones(12), torch.zeros(12))).double()
    expected = 2 * F.binary_cross_entropy_with_logits(stepped(torch.cat((real[1::2], fake[1::2]))), targets)
    assert next(made.objectives(nets, batch)).loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_loss_learns_by_the_gradient_through_that_step() -> None:
    made, nets, batch = game()
    objective = next(made.objectives(nets, batch))
    assert objective.update == ("loss_net",)
    weights = list(nets.loss_net.parameters())
    for weight, slope in zip(weights, torch.autograd.grad(objective.loss, weights), strict=True):
        flat, h = weight.data.view(-1), 1e-5
        for place in (0, flat.numel() - 1):
            held, ends = flat[place].item(), []
            for moved in (held + h, held - h):
                flat[place] = moved
                ends.append(next(made.objectives(nets, batch)).loss.item())
            flat[place] = held
            found, difference = slope.flatten()[place].item(), (ends[0] - ends[1]) / (2 * h)
            assert found == pytest.approx(difference, rel=1e-5, abs=1e-10) and found != 0


def test_the_loss_plays_first_and_each_moves_only_itself() -> None:
    made, nets, batch = game()
    reached: dict[str, set[str]] = {}
    for objective in made.objectives(nets, batch):
        names = [name for name in nets for _ in nets[name].parameters()]
        slopes = torch.autograd.grad(objective.loss, [p for name in nets for p in nets[name].parameters()], allow_unused=True)
        (own,) = objective.update
        reached[own] = {name for name, slope in zip(names, slopes, strict=True) if slope is not None}
        assert own in reached[own]
    assert list(reached) == ["loss_net", "critic", "generator"]
    assert "generator" not in reached["loss_net"] | reached["critic"] and "loss_net" not in reached["generator"]


def test_accumulation_is_refused() -> None:
    with pytest.raises(UsageError, match="accumulate"):
        build_run(compose([*QUIET, "dataset=ring", "task=learned_loss_gan", "train.accumulate=2"]))


@torch.no_grad()
def test_its_picture_holds_the_loss_against_the_cross_entropy() -> None:
    made, nets, batch = game()
    curves = made.look(Networks({**{name: nets[name].module for name in PLAYERS}, "loss_net": Product().double()}), batch)["loss"].data
    for name in ("data", "samples"):
        assert curves[f"learned, {name}"] == curves[f"cross-entropy, {name}"]
    own = made.look(nets, batch)["loss"].data
    assert own["learned, data"][0] == own["cross-entropy, data"][0] and own["learned, data"][1] != own["cross-entropy, data"][1]
