"""Where gradients go: cut paths, unregistered layers, depth that lets nothing through, dead and equal units, odd initial scales."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import Splits, asked
from checks_found import CLOUDS, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from checks_networks import Deep, Does, Mixture, found
from torch import Tensor, nn


class Listed(nn.Module):
    """Hidden layers in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = [nn.Linear(8, 32), nn.Linear(32, 32)], nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)  # type: ignore[no-any-return]


class Anew(Net):
    """A layer is made in forward."""

    def __init__(self) -> None:
        super().__init__(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.Linear(8, 8)(x))


class Begins(nn.Module):
    """A recurrent layer whose first state, zeros, is made a parameter in forward: needless, and no layer made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.cell, self.head = nn.Linear(8, 16), nn.GRUCell(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = nn.Parameter(torch.zeros(len(x), 16))
        return self.head(self.cell(self.inward(x), state))  # type: ignore[no-any-return]


class Spare(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.spare = nn.Linear(32, 32)


class Skips(Deep):
    """Leaves layers out at random while it trains (stochastic depth)."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for layer in self.layers:
            x = x if self.training and torch.rand(()) < 0.3 else x + self.act(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


class Scaled(Deep):
    """Each branch times a learned number that starts at `value`."""

    def __init__(self, depth: int, value: float) -> None:
        super().__init__(depth)
        self.scale = nn.Parameter(torch.full((depth,), value))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for scale, layer in zip(self.scale, self.layers, strict=True):
            x = x + scale * self.act(layer(x))
        return self.head(x)  # type: ignore[no-any-return]


def filled(value: float | None = None, std: float = 0.0, drop: float = 0.0) -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(drop), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    for p in net.parameters():
        nn.init.constant_(p, value) if value is not None else nn.init.normal_(p, std=std if p.dim() > 1 else 0.0)
    return net


def small(depth: int, norm: bool) -> nn.Module:
    """Hidden layers of which each scales by 0.1."""
    layers = [part for _ in range(depth) for part in (nn.Linear(32, 32), *([nn.LayerNorm(32)] if norm else []), nn.Tanh())]
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), *layers, nn.Linear(32, 4))
    for part in net.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.1 / part.in_features**0.5)
    return net


def biased() -> Net:
    net = Net(8, 4)
    nn.init.constant_(net.body[0].bias, -20.0)  # type: ignore[arg-type]
    return net


class Tied(nn.Module):
    """A readout with the weights of a layer before it: by one parameter, or by its memory alone."""

    def __init__(self, memory: bool) -> None:
        super().__init__()
        self.inward, self.back, self.head = nn.Linear(8, 32), nn.Linear(32, 8), nn.Linear(8, 4)
        self.outward = nn.Linear(8, 32)
        if memory:
            self.outward.weight.data = self.inward.weight.data
        else:
            self.outward.weight = self.inward.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(self.outward(self.back(self.inward(x).relu())).relu()))  # type: ignore[no-any-return]


class LeftOver(Net):
    """A norm that forward does not call."""

    def __init__(self) -> None:
        super().__init__(8, 4, width=64)
        self.norm = nn.LayerNorm(8)


class Cells(nn.Module):
    """A recurrent cell, step by step, whose state is detached every `every` steps."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.cell, self.head, self.every = nn.GRUCell(4, 16), nn.Linear(16, 4), every

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 16)
        for number, step in enumerate(x.unbind(1)):
            state = self.cell(step, state if number % self.every else state.detach())
        return self.head(state)  # type: ignore[no-any-return]


class Tagger(nn.Module):
    """Tokens and a tag for each, by a plain recurrence over them."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.look, self.cell, self.head, self.cut = nn.Embedding(20, 8), nn.RNNCell(8, 16), nn.Linear(16, 4), cut

    def forward(self, x: Tensor) -> Tensor:
        state, out = torch.zeros(len(x), 16), []
        for step in self.look(x).unbind(1):
            state = self.cell(step, state.detach() if self.cut else state)
            out.append(self.head(state))
        return torch.stack(out, 1)


SERIES = torch.randn(300, 20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 4
TOKENS = torch.randint(20, (300, 12), generator=torch.Generator().manual_seed(0))
STATES = {
    "each_step": (lambda: Cells(1), SERIES, "warning"),
    "each_tenth": (lambda: Cells(10), SERIES, "ok"),
    "never": (lambda: Cells(1000), SERIES, "ok"),
    "tags_cut": (lambda: Tagger(True), (TOKENS, TOKENS % 4), "warning"),
    "tags": (lambda: Tagger(False), (TOKENS, TOKENS % 4), "ok"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_that_is_detached_from_step_to_step(case: str) -> None:
    make, given, level = STATES[case]
    plug("model", "mine", make)
    tags = given[1].dim() > 1
    plug("loss", "by_step", lambda out, y: nn.functional.cross_entropy(out.flatten(0, -2), y.flatten()))
    finding = asked(
        "graph_reach",
        lambda: Splits(given, given, given),
        "model=mine",
        "loss=by_step",
        f"task.kind={'sequence' if tags else 'classification'}",
    )
    assert finding.level == level and (level == "ok" or "comes to 1 of" in finding.message), finding


FAULTS: dict[str, tuple[Any, str, str, str]] = {
    "detached": (lambda: Does(between=torch.detach), "graph_reach", "error", "never reaches 4 of 6"),
    "data": (lambda: Does(between=lambda h: h.data), "graph_reach", "error", "never reaches 4 of 6"),
    "cut_off": (lambda: Does(after=torch.detach), "graph_reach", "error", "no gradient at all"),
    "rounded": (lambda: Does(between=torch.round), "graph_reach", "error", "exactly 0"),
    "plain_list": (Listed, "graph_reach", "error", "model.layers[0].weight"),
    "made_in_forward": (Anew, "graph_reach", "error", "drawn anew in every step"),
    "tied_by_memory": (lambda: Tied(True), "shared_modules", "warning", "two parameters on one memory"),
    "never_called": (Spare, "graph_reach", "warning", "model.spare.weight"),
    "sigmoids": (lambda: Deep(15, nn.Sigmoid), "gradient_profile", "error", "vanishes"),
    "some_sigmoids": (lambda: Deep(5, nn.Sigmoid), "gradient_profile", "warning", "with SiLU for sigmoid and tanh"),
    "small_tanh": (lambda: Deep(10, nn.Tanh, std=0.02), "init_scale", "warning", "with weights that scale by 1"),
    "dead": (biased, "dead_units", "error", "100% of its 32 units"),
    "constant": (lambda: filled(0.1), "unit_symmetry", "error", "stay equal"),
    "constant_with_dropout": (lambda: filled(0.1, drop=0.3), "unit_symmetry", "error", "stay equal"),
    "all_zero": (lambda: filled(0.0), "unit_symmetry", "error", "stay equal"),
    "tiny": (lambda: filled(std=1e-3), "init_scale", "warning", "shrinks"),
    "huge": (lambda: filled(std=10.0), "init_loss", "error", "first loss"),
    "repeated": (
        lambda: nn.Sequential(nn.Linear(8, 32), *[nn.Linear(32, 32)] * 3, nn.Linear(32, 4)),
        "shared_modules",
        "warning",
        "3 times",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_found_first_and_named(case: str) -> None:
    make, check, level, text = FAULTS[case]
    plug("model", "mine", make)
    findings = found(*CLOUDS, "model=mine")
    loud = [f"{name} {f.level}: {f.message}" for name, f in findings.items() if f.level in ("warning", "error")]
    assert loud and loud[0].startswith(f"{check} {level}"), loud
    assert text in findings[check].message and findings[check].cause and findings[check].next


HEALTHY: dict[str, Any] = {
    "left_over_norm": LeftOver,
    "small_but_normed": lambda: small(4, True),
    "small_that_learns": lambda: small(3, False),
    "state_of_zeros": Begins,
    "tied": lambda: Tied(False),
    "mixture": lambda: Mixture(),
    "stochastic_depth": lambda: Skips(6),
    "gates_of_zero": lambda: Scaled(12, 0.0),
    "gates_of_a_millionth": lambda: Scaled(12, 1e-6),
    "eight_layers": lambda: Deep(8),
    "three_sigmoids": lambda: Deep(2, nn.Sigmoid),
    "five_tanh": lambda: Deep(5, nn.Tanh),
    "spectral": lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 32)), nn.ReLU(), nn.Linear(32, 4)),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_odd_but_right_networks(case: str) -> None:
    plug("model", "mine", HEALTHY[case])
    findings = found(*CLOUDS, "model=mine")
    assert {name: f.message for name, f in findings.items() if f.level in ("warning", "error")} == {}
