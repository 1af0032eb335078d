"""Optimizers written by hand: what no descent does is said, what odd but sound ones do is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks_found import CLOUDS, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_steppers import asked
from torch import Tensor

State = dict[str, Any]


class by_hand(torch.optim.Optimizer):
    """Calls `rule(optimizer, group, p, gradient, state)` for each parameter."""

    def __init__(self, rule: Callable[..., None], named: Any, lr: float, decay: float) -> None:
        super().__init__([p for _, p in named], {"lr": lr, "weight_decay": decay})
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.rule(self, group, p, p.grad, self.state[p])


def moments(state: State, slope: Tensor) -> tuple[Tensor, Tensor, int]:
    """Running means of a gradient and its square, not yet corrected, and the number of the step."""
    m, v = (state.setdefault(key, torch.zeros_like(slope)) for key in "mv")
    m.lerp_(slope, 0.1), v.lerp_(slope * slope, 0.001)
    state["t"] = state.get("t", 0) + 1
    return m, v, state["t"]


def to(p: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    p.sub_(lr * m / (v.sqrt() + 1e-8))


def adam(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    m, v, t = moments(state, g)
    to(p, m / (1 - 0.9**t), v / (1 - 0.999**t), group["lr"])


def bias_times_t(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    m, v, t = moments(state, g)
    to(p, m / (1 - 0.9 * t), v / (1 - 0.999**t), group["lr"])


def no_root(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    v = state.setdefault("v", torch.zeros_like(g))
    v.lerp_(g * g, 0.1)
    p.sub_(group["lr"] * g / (v + 1e-8))


def trust_upside_down(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g * (g.norm() / (p.norm() + 1e-9)))


def counter_of_all(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    m, v, _ = moments(state, g)
    o.t = getattr(o, "t", 0) + 1
    to(p, m / (1 - 0.9**o.t), v / (1 - 0.999**o.t), group["lr"])


def one_momentum(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    held: Tensor = o.__dict__.setdefault("held", {}).setdefault(p.shape, torch.zeros_like(p))
    p.sub_(group["lr"] * held.mul_(0.9).add_(g))


def positive_alone(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g.clamp(0, 1))


def of_size(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    adam(o, group, p, g.abs(), state)


def of_squares(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    _, v, t = moments(state, g)
    to(p, v / (1 - 0.999**t), v / (1 - 0.999**t), group["lr"])


def rate_twice(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    held = state.setdefault("held", torch.zeros_like(p))
    p.sub_(group["lr"] * held.mul_(0.9).add_(group["lr"] * g))


def decay_enlarges(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    adam(o, group, p, g - group["weight_decay"] * p, state)


def grows_unasked(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.mul_(1 + 1e-4)
    adam(o, group, p, g, state)


WRONG = {
    bias_times_t: ("error", "steps 2 to 10 move"), no_root: ("warning", "a step of 0.1 times the size"),
    trust_upside_down: ("warning", "grows with more than the gradient itself"),
    counter_of_all: ("error", "made equal and given equal gradients"),
    one_momentum: ("error", "made equal and given equal gradients"), positive_alone: ("error", "opposite gradient"),
    of_size: ("error", "nothing to do with its gradient"), of_squares: ("error", "up it"),
    rate_twice: ("warning", "a step of 0.25 times the size"),
    decay_enlarges: ("error", "weight decay of group 0 makes weights larger"), grows_unasked: ("error", "without any gradient"),
}  # fmt: skip


def made(rule: Callable[..., None], decay: float = 0.01) -> Any:
    plug("optimizer", "hand", lambda named_parameters: by_hand(rule, named_parameters, 0.003, decay))
    return asked("optimizer_drill", "optimizer=hand")


@pytest.mark.parametrize("rule", WRONG, ids=lambda rule: rule.__name__)
def test_what_no_descent_does(rule: Callable[..., None]) -> None:
    finding = made(rule)
    level, text = WRONG[rule]
    assert finding.level == level and text in finding.message, finding


def signs(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g.sign())


def uncorrected(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    m, v, _ = moments(state, g)
    to(p, m, v, group["lr"])


def trust(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g * (p.norm() / (g.norm() + 1e-9) if p.ndim > 1 else 1.0))


def clipped(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    every = torch.sqrt(sum(q.grad.square().sum() for q in group["params"] if q.grad is not None))
    p.sub_(group["lr"] * g / every.clamp(min=1.0))


def looks_ahead(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    slow = state.setdefault("slow", p.clone())
    adam(o, group, p, g, state)
    if state["t"] % 5 == 0:
        p.copy_(slow.lerp_(p, 0.5))


def with_noise(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g).add_(1e-4 * torch.randn_like(p))


def decays(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.mul_(1 - group["lr"] * group["weight_decay"])
    adam(o, group, p, g, state)


def on_the_sphere(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    p.sub_(group["lr"] * g)
    if p.ndim > 1:
        p.div_(p.norm(dim=1, keepdim=True).clamp(min=1e-9))


def orthogonal(o: Any, group: Any, p: Tensor, g: Tensor, state: State) -> None:
    if p.ndim == 2:
        u, _, w = torch.linalg.svd(g, full_matrices=False)
        g = u @ w
    p.sub_(group["lr"] * g)


SOUND = (adam, signs, uncorrected, trust, clipped, looks_ahead, with_noise, decays, on_the_sphere, orthogonal)


@pytest.mark.parametrize("rule", SOUND, ids=lambda rule: rule.__name__)
def test_what_is_odd_but_sound(rule: Callable[..., None]) -> None:
    finding = made(rule)
    assert finding.level == "ok", finding


def test_steps_that_are_next_to_nothing_of_what_they_should_be() -> None:
    class averaged(torch.optim.Adam):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            old = [p.clone() for p in self.param_groups[0]["params"]]
            super().step()
            for p, before in zip(self.param_groups[0]["params"], old, strict=True):
                p.copy_(before.lerp(p, 0.0001))

    plug("optimizer", "averaged", lambda named_parameters: averaged([p for _, p in named_parameters], lr=0.003))
    finding = asked("lr_sanity", "optimizer=averaged")
    assert finding.level == "warning", finding.numbers


def test_attributes_of_an_optimizer_of_ones_own_are_copied_with_it() -> None:
    class keeps_numbers(torch.optim.SGD):
        def __init__(self, named: Any, beta: float) -> None:
            super().__init__([p for _, p in named], lr=0.05)
            self.beta, self.inner = beta, torch.optim.SGD([p for _, p in named], lr=0.0)
            self.inner.scale = beta  # type: ignore[attr-defined]

        def step(self, closure: Any = None) -> None:
            assert self.beta == self.inner.scale  # type: ignore[attr-defined]
            assert self.inner.param_groups[0]["params"][0] is self.param_groups[0]["params"][0]
            super().step()

    plug("optimizer", "numbers", lambda named_parameters: keeps_numbers(named_parameters, 0.9))
    findings = found(*CLOUDS, "optimizer=numbers", "schedule=one_cycle", level="check")
    assert first_loud(findings) == "", findings[first_loud(findings)]


def test_a_fused_step_is_asked_with_gradients_in_the_layout_of_its_weights() -> None:
    """Fused steps read memory: a gradient in another layout than its channels_last kernel is another gradient to them."""
    words = ("dataset=digits", "model=cnn", "train.channels_last=true", "train.batch_size=32", "train.steps=20")
    verdict = judged("optimizer_drill", *words)
    assert verdict.level == "ok", verdict.message
