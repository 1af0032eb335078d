"""Players of a task of several objectives: each by itself, against each other, and what they can give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import built, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun.checks import Finding, run_checks
from dlrun.tasks.gan import gan
from dlrun.types import Objective

RING = ("dataset=ring", "task=gan")
Score = Callable[[Tensor, Tensor], Tensor]


def soft(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def squares(real: Tensor, fake: Tensor) -> Tensor:
    return (real - 1).square().mean() + fake.square().mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def apart(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def shares(real: Tensor, fake: Tensor) -> Tensor:
    return -(real.clamp(min=1e-6).log().mean() + (1 - fake).clamp(min=1e-6).log().mean())


FORMS: dict[str, tuple[Score, Callable[[Tensor], Tensor]]] = {
    "not_saturating": (soft, lambda fake: F.softplus(-fake).mean()),
    "minimax": (soft, lambda fake: -F.softplus(fake).mean()),
    "squares": (squares, lambda fake: (fake - 1).square().mean()),
    "hinge": (hinge, lambda fake: -fake.mean()),
    "wasserstein": (apart, lambda fake: -fake.mean()),
    "data_low": (lambda real, fake: soft(fake, real), lambda fake: F.softplus(fake).mean()),
    "shares": (shares, lambda fake: -fake.clamp(min=1e-6).log().mean()),
    "maker_helps": (soft, lambda fake: F.softplus(fake).mean()),
    "exchanged": (lambda real, fake: soft(fake, real), lambda fake: F.softplus(-fake).mean()),
    "alike": (lambda real, fake: F.softplus(-real).mean() + F.softplus(-fake).mean(), lambda fake: F.softplus(-fake).mean()),
}


class Turned(torch.autograd.Function):
    """The value as it is, its gradient turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope


class game(gan):
    """A task gan with losses by name; `joint` updates both players by the critic's loss, `turned` with gradients turned round between."""

    def __init__(
        self, *, form: str = "not_saturating", joint: bool = False, turned: bool = False, beside: bool = False, turns: str = "both"
    ) -> None:
        super().__init__(latent=2, critic_steps=1, r1=0.0)
        self.form, self.joint, self.turned, self.beside, self.played = FORMS[form], joint, turned, beside, turns

    def objectives(self, nets: Any, batch: Any) -> Iterator[Objective]:
        fake = nets.generator(batch["critic_z"][:, 0])
        fake = Turned.apply(fake) if self.turned else fake if self.joint else fake.detach()
        scores = nets.critic(torch.cat((batch["x"], fake))).chunk(2) if self.beside else (nets.critic(batch["x"]), nets.critic(fake))
        yield Objective(self.form[0](*scores), ("critic", "generator") if self.joint else ("critic",))
        if not self.joint and self.played == "both":
            yield Objective(self.form[1](nets.critic(nets.generator(batch["z"]))), ("generator",))


def stack(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 32), nn.LeakyReLU(0.2), nn.Linear(32, outputs), *last)


def asked(check: str, *words: str, generator: Any = None, critic: Any = None) -> Finding:
    return judged(check, *players(generator, critic), *words)


def players(generator: Any = None, critic: Any = None, task: str = "game") -> tuple[str, ...]:
    plug("task", "game", game)
    plug("model", "maker", generator or (lambda in_shape, out_shape: stack(in_shape[0], out_shape[0])))
    plug("model", "judge", critic or (lambda in_shape, out_shape: nn.Sequential(stack(in_shape[0], 1), nn.Flatten(0))))
    each = ("model.generator=maker", "model.critic=judge", "optimizer.generator=adam", "optimizer.critic=adam")
    return ("dataset=ring", f"task={task}", *each)


def probabilities(in_shape: Any, out_shape: Any) -> nn.Module:
    return nn.Sequential(stack(in_shape[0], 1, nn.Sigmoid()), nn.Flatten(0))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("form", ["not_saturating", "minimax", "squares", "hinge", "wasserstein", "data_low"])
def test_players_that_oppose_each_other(form: str, beside: bool) -> None:
    assert asked("loss_direction", f"task.form={form}", f"task.beside={beside}").level == "ok"
    assert asked("output_form", f"task.form={form}", f"task.beside={beside}").level == "ok"


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("form", "words"), [("maker_helps", "worse"), ("exchanged", "worse"), ("alike", "the same way")])
def test_players_that_help_each_other(form: str, words: str, beside: bool) -> None:
    finding = asked("loss_direction", f"task.form={form}", f"task.beside={beside}")
    assert finding.level == "error" and words in finding.message


def test_samples_that_are_not_detached_in_the_critics_turn() -> None:
    finding = asked("loss_direction", "task.joint=true")
    assert finding.level == "error" and "not detached" in finding.cause
    assert asked("loss_direction", "task.joint=true", "task.turned=true").level == "ok"


class told(game):
    """The critic's loss is made of its scores by a third network, which pulls both down; it is trained, or it is not."""

    slots = MappingProxyType(dict.fromkeys(("model", "optimizer"), ("generator", "critic", "teller")))

    def networks(self, spec: Any) -> Any:
        return {**super().networks(spec), "teller": ((1,), ())}

    def objectives(self, nets: Any, batch: Any) -> Iterator[Objective]:
        fake = nets.generator(batch["critic_z"][:, 0]).detach()
        if self.played == "both":
            yield Objective((nets.teller(nets.critic(fake)[:, None]).mean() - 1).square(), ("teller",))
        scores = torch.cat((nets.critic(batch["x"]), nets.critic(fake)))
        yield Objective(nets.teller(scores[:, None]).mean(), ("critic",))
        yield Objective(F.softplus(-nets.critic(nets.generator(batch["z"]))).mean(), ("generator",))


def down(in_shape: Any, out_shape: Any) -> nn.Module:
    net = nn.Linear(in_shape[0], 1)
    nn.init.ones_(net.weight)
    return nn.Sequential(net, nn.Flatten(0))


def test_a_loss_that_is_learned_pulls_nowhere_yet() -> None:
    words = players()[2:]
    plug("task", "told", told)
    plug("model", "down", down)
    third = ("dataset=ring", "task=told", "model.teller=down", "optimizer.teller=adam", *words)
    finding = judged("loss_direction", *third)
    assert finding.level == "info" and "teller" in finding.message
    assert judged("loss_direction", *third, "task.turns=critic").level == "error"  # fixed as it is: it labels both alike
    assert judged("loss_direction", "dataset=ring", "task=learned_loss_gan").level == "info"


def test_built_in_players_and_probabilities_for_a_loss_of_probabilities() -> None:
    assert judged("loss_direction", *RING).level == "ok" and judged("output_form", *RING).level == "ok"
    assert asked("loss_direction", "task.form=shares", critic=probabilities).level == "ok"
    assert asked("output_form", "task.form=shares", critic=probabilities).level == "ok"
    assert asked("output_form", "task.form=squares", critic=probabilities).level == "ok"


@pytest.mark.parametrize("form", ["not_saturating", "hinge", "wasserstein", "data_low"])
def test_a_squashed_critic_before_a_loss_of_free_scores(form: str) -> None:
    finding = asked("output_form", f"task.form={form}", critic=probabilities)
    assert finding.level == "error" and "sigmoid" in finding.cause


def test_a_generator_that_cannot_reach_the_data() -> None:
    for last, level in ((nn.Tanh(), "error"), (nn.Sigmoid(), "error"), (nn.ReLU(), "error"), (nn.Identity(), "ok")):
        finding = asked("output_form", generator=ends_in(last))
        assert finding.level == level and ("out of reach" in finding.message) == (level == "error")
    assert asked("output_form", generator=ends_in(nn.Sequential(nn.Tanh(), nn.Linear(2, 2)))).level == "ok"


def ends_in(last: nn.Module) -> Any:
    return lambda in_shape, out_shape: stack(in_shape[0], 2, last)


class Constant(nn.Module):
    """Makes the same of any noise."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack(2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(0 * z)  # type: ignore[no-any-return]


class Draws(Constant):
    """Draws its noise by itself; z tells how many."""

    def forward(self, z: Tensor) -> Tensor:
        return self.net(torch.randn_like(z))  # type: ignore[no-any-return]


class Mixes(Constant):
    def forward(self, z: Tensor) -> Tensor:
        made = self.net(z)
        return made - made.mean(0)  # type: ignore[no-any-return]


class Compares(nn.Module):
    """A critic that looks at how far the rows of a batch lie apart."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat((x, x.std(0).mean().expand(len(x), 1)), 1))[:, 0]  # type: ignore[no-any-return]


class Sized(Constant):
    """Has the size of the batch written into it."""

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).view(SIZE, 2)  # type: ignore[no-any-return]


SIZE = 64


def quiet(in_shape: Any, out_shape: Any) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    nn.init.constant_(net[0].bias, -30.0)  # type: ignore[arg-type]
    return net


class Stuck(nn.Sequential):
    def train(self, mode: bool = True) -> Stuck:
        return self


EACH: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "no_noise": ("input_matters", {"generator": Constant}, "error", "generator: the outputs do not depend"),
    "blind_critic": ("receptive_field", {"critic": lambda: Half()}, "warning", "critic: only 50%"),
    "mixed_rows": ("sample_independence", {"generator": Mixes}, "error", "generator: in eval mode"),
    "size_of_the_batch": ("prime_dims", {"generator": Sized}, "error", "generator: the network takes 64 rows"),
    "dead": ("dead_units", {"generator": quiet}, "error", "generator: the ReLU"),
    "train_swallowed": ("mode_switch", {"generator": lambda: Stuck(nn.Linear(2, 32), nn.Dropout(0.5), nn.Linear(32, 2))}, "error", "train"),
    "cast": ("dtype_path", {"generator": lambda: Cast()}, "warning", "a step casts"),
}


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = stack(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, :1])[:, 0]  # type: ignore[no-any-return]


class Cast(Constant):
    def forward(self, z: Tensor) -> Tensor:
        return self.net(z.sigmoid().long().float() + z)  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", EACH)
def test_each_player_is_asked_by_itself(case: str) -> None:
    check, networks, level, words = EACH[case]
    finding = asked(check, "train.batch_size=64", **networks)
    assert finding.level == level and words in finding.message
    assert asked(check, "train.batch_size=64").level == "ok" or check == "dead_units"


def test_what_may_be_meant_is_no_fault_of_a_player() -> None:
    assert asked("input_matters", generator=Draws).level == "info"
    assert asked("sample_independence", critic=Compares).level == "info"
    noisy = lambda: stack(2, 2, Always())  # noqa: E731
    assert asked("mode_switch", generator=noisy).level == "info"


class Always(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3)


def test_a_player_that_is_never_updated() -> None:
    findings = found(*players(), "task.turns=critic", level="check", folded=True)
    assert first_loud(findings) in ("graph_reach", "update_size", "optimizer_owns")


@pytest.mark.parametrize("form", ["not_saturating", "squares", "hinge", "wasserstein"])
def test_nothing_is_said_of_sound_players(form: str) -> None:
    loud = [
        f"{f.check}: {f.message}" for f in run_checks(built(*players(), f"task.form={form}"), "check") if f.level in ("warning", "error")
    ]
    assert loud == []
