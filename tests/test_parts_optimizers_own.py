"""adagrad and rmsprop against torch.optim bit for bit, lion and sign_sgd against the papers' formulas in numpy; what all of them share."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from parts import options
from torch import Tensor, nn

from dlrun import registry
from dlrun.state import lay_out

OWN = ("adagrad", "lion", "muon", "rmsprop", "sam", "sign_sgd")
TORCH: dict[str, Any] = {"adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("adagrad", {}),
    ("adagrad", {"lr_decay": 0.1, "weight_decay": 0.1}),
    ("adagrad", {"initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("rmsprop", {}),
    ("rmsprop", {"weight_decay": 0.1, "alpha": 0.9, "eps": 1e-4}),
    ("rmsprop", {"momentum": 0.9}),
    ("rmsprop", {"centered": True, "momentum": 0.5}),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))


def make(name: str, net: nn.Module, **changed: Any) -> Any:
    return registry.get("optimizer", name)(list(net.named_parameters()), **options("optimizer", name, **changed))


def gradients(net: nn.Module, step: int, seed: int = 0, size: float = 1.0) -> None:
    """Gradients of one step; the last bias has none at times."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    for p in net.parameters():
        p.grad = size * torch.randn(p.shape, generator=generator).to(p.dtype)
    if step % 4 in (0, 1):
        net[3].bias.grad = None  # type: ignore[index]


def train(net: nn.Module, optimizer: Any, steps: int = 12, seed: int = 0, size: float = 1.0) -> list[Tensor]:
    for step in range(steps):
        for _ in range(getattr(optimizer, "passes", 1)):
            gradients(net, step, seed, size)
            optimizer.step()
        optimizer.zero_grad()
    return [p.detach().clone() for p in net.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("name", "changed"), CASES)
def test_bit_for_bit_torchs_and_states_go_both_ways(name: str, changed: dict[str, Any]) -> None:
    net, other = network(), network()
    optimizer = make(name, net, **changed)
    torchs = TORCH[name](other.named_parameters(), foreach=True, **options("optimizer", name, **changed))
    assert same(train(net, optimizer), train(other, torchs))
    mine, theirs = optimizer.state_dict(), torchs.state_dict()
    assert {**theirs["param_groups"][0], "foreach": None} == mine["param_groups"][0]
    assert mine["state"].keys() == theirs["state"].keys()
    for key, entry in theirs["state"].items():
        assert {n: v.dtype for n, v in entry.items()} == {n: v.dtype for n, v in mine["state"][key].items()}
        assert all(torch.equal(v, mine["state"][key][n]) for n, v in entry.items())
    torchs.load_state_dict(copy.deepcopy(mine))
    optimizer.load_state_dict(theirs)
    assert same(train(net, optimizer, seed=1), train(other, torchs, seed=1))


def lion_in_numpy(w: Any, grads: list[Any], lr: float, b1: float, b2: float, wd: float) -> Any:
    m = np.zeros_like(w)
    for g in grads:
        c = b1 * m + (1 - b1) * g
        w = w - lr * (np.sign(c) + wd * w)
        m = b2 * m + (1 - b2) * g
    return w


def signum_in_numpy(w: Any, grads: list[Any], lr: float, momentum: float, wd: float) -> Any:
    m = np.zeros_like(w)
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        w = w - lr * (np.sign(m) + wd * w)
    return w


@pytest.mark.parametrize("name", ["lion", "sign_sgd", "plain"])
def test_the_papers_formulas(name: str) -> None:
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    start, grads = weight.detach().numpy().copy(), [np.random.default_rng(n).normal(size=(4, 3)) for n in range(15)]
    if name == "lion":
        changed: dict[str, Any] = {"lr": 0.02, "betas": [0.8, 0.95], "weight_decay": 0.3}
        expected = lion_in_numpy(start, grads, 0.02, 0.8, 0.95, 0.3)
    else:
        momentum = 0.0 if name == "plain" else 0.7
        changed = {"lr": 0.02, "momentum": momentum, "weight_decay": 0.3}
        expected = signum_in_numpy(start, grads, 0.02, momentum, 0.3)
    part = name if name == "lion" else "sign_sgd"
    optimizer = registry.get("optimizer", part)([("weight", weight)], **options("optimizer", part, **changed))
    for grad in grads:
        weight.grad = torch.from_numpy(grad)
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["lion", "sign_sgd", "muon", "sam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("size", [2.0**-20, 2.0**10])
def test_the_size_of_the_loss_does_not_matter(name: str, size: float) -> None:
    """Gradients times a power of two: the same weights, bit for bit where only signs count, closely where an eps stands in the way."""
    changed: dict[str, Any] = {"rmsprop": {"eps": 1e-30}, "adagrad": {"eps": 1e-30}, "muon": {"adamw_eps": 1e-30, "eps": 1e-30}}.get(
        name, {}
    )
    if name == "sam":  # its base does depend on the size: what does not is how far it climbs
        net = network()
        optimizer, before = make(name, net, rho=0.3), [p.detach().clone() for p in net.parameters()]
        gradients(net, 2, size=size)
        optimizer.step()
        moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(net.parameters(), before, strict=True)) ** 0.5
        assert moved == pytest.approx(0.3, rel=1e-5)
        return
    net, other = network(), network()
    one, two = train(net, make(name, net, **changed)), train(other, make(name, other, **changed), size=size)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if name in ("lion", "sign_sgd") else 1e-6)


@pytest.mark.parametrize("name", ["lion", "sign_sgd"])
def test_signs_move_every_weight_by_the_rate_and_decay_only_matrices(name: str) -> None:
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = make(name, net, lr=0.25, weight_decay=0.5)
    gradients(net, 2)
    optimizer.step()
    for p, b in zip(net.parameters(), before, strict=True):
        kept = b * (1 - 0.25 * 0.5) if p.dim() == 2 else b
        torch.testing.assert_close((p.detach() - kept).abs(), torch.full_like(b, 0.25))
    everything = make(name, network(), weight_decay=0.5, decay="all")
    assert [group["weight_decay"] for group in everything.param_groups] == [0.5]


def test_a_weight_without_gradient_stays() -> None:
    for name in ("lion", "sign_sgd"):
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = registry.get("optimizer", name)([("w", weight)], **options("optimizer", name, lr=0.5))
        weight.grad = torch.tensor([3.0, 0.0])
        optimizer.step()
        assert weight.tolist() == [0.5, 2.0]


@pytest.mark.parametrize("name", OWN)
def test_a_quadratic_is_brought_down(name: str) -> None:
    """|A w - b|^2 / 2 with condition number 25, to a hundredth of where it began, the rate falling to zero."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    matrix, goal = basis * torch.linspace(1, 5, 8, dtype=torch.float64), torch.randn(8, 4, generator=generator, dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(8, 4, dtype=torch.float64))
    rate = {"adagrad": 0.3, "sam": 0.01, "rmsprop": 0.02}.get(name, 0.02)
    optimizer = registry.get("optimizer", name)([("weight", weight)], **options("optimizer", name, lr=rate))
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    losses = []
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / 300)
        for _ in range(getattr(optimizer, "passes", 1)):
            optimizer.zero_grad()
            loss = (matrix @ weight - goal).square().sum() / 2
            loss.backward()
            losses.append(float(loss.detach()))
            optimizer.step()
    assert float((matrix @ weight.detach() - goal).square().sum() / 2) < 0.01 * losses[0]


@pytest.mark.parametrize("name", OWN)
def test_a_saved_state_goes_on_bit_for_bit_without_being_kept(name: str) -> None:
    net = network()
    optimizer = make(name, net)
    train(net, optimizer, 5)
    saved = copy.deepcopy(optimizer.state_dict())
    before = copy.deepcopy(saved)
    other = copy.deepcopy(net)
    fresh = make(name, other)
    fresh.load_state_dict(saved)
    after = train(net, optimizer, 5, seed=1)
    assert same(after, train(other, fresh, 5, seed=1))
    fresh.param_groups[0]["lr"] = 7.0
    assert saved["param_groups"] == before["param_groups"]
    for key, entry in before["state"].items():
        assert all(torch.equal(value, saved["state"][key][name]) for name, value in entry.items())


@pytest.mark.parametrize("name", OWN)
def test_copies_are_independent_and_exact(name: str) -> None:
    net = network()
    optimizer = make(name, net)
    train(net, optimizer, 3)
    net_copy, copied = copy.deepcopy((net, optimizer))
    assert type(copied) is type(optimizer) and getattr(copied, "passes", 1) == getattr(optimizer, "passes", 1)
    before = [p.detach().clone() for p in net.parameters()]
    after = train(net_copy, copied, 3, seed=1)
    assert same([p.detach() for p in net.parameters()], before)
    assert same(after, train(net, optimizer, 3, seed=1))


def fill(net: nn.Module, step: int, layout: torch.memory_format) -> None:
    """Gradients of one step in their parameters' layout."""
    for n, p in enumerate(net.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * step + n))
        p.grad = p.grad.to(memory_format=layout) if p.dim() == 4 else p.grad


def in_plain_order(state: Any) -> Any:
    """A state as a file gives it back."""
    entries = {key: {name: torch.as_tensor(value).contiguous() for name, value in entry.items()} for key, entry in state["state"].items()}
    return {**state, "state": entries}


@pytest.mark.parametrize("name", OWN)
def test_memory_layout_makes_no_difference(name: str) -> None:
    """channels_last against plain order, and a state restored from a file, which knows plain order only."""
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).to(memory_format=layout)
        optimizer = make(name, net, **({"ns_dtype": "parameter"} if name == "muon" else {}))
        for step in range(6):
            if step == 3:
                optimizer.load_state_dict(in_plain_order(optimizer.state_dict()))
                lay_out(optimizer)
            for _ in range(getattr(optimizer, "passes", 1)):
                fill(net, step, layout)
                optimizer.step()
        results.append([p.detach().clone() for p in net.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OWN)
def test_torchs_schedulers_and_hooks_go_with_them(name: str) -> None:
    net = network()
    optimizer, calls = make(name, net, lr=1.0), []
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    rates = []
    for step in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        for _ in range(getattr(optimizer, "passes", 1)):
            gradients(net, step)
            optimizer.step()
        scheduler.step()
    assert rates == [1.0, 1.0, 0.5, 0.5]
    assert calls == ["before", "after"] * 4


@pytest.mark.parametrize("name", OWN)
def test_what_cannot_be_optimised_is_refused_in_a_line(name: str) -> None:
    make_it, values = registry.get("optimizer", name), options("optimizer", name)
    with pytest.raises(ValueError, match="no trainable parameter"):
        make_it([], **values)
    with pytest.raises(ValueError, match="parameter w is complex64, expected real"):
        make_it([("w", nn.Parameter(torch.zeros(2, dtype=torch.complex64)))], **values)


def test_they_import_no_dynamo() -> None:
    values = {name: options("optimizer", name) for name in OWN}
    code = f"""
import copy, sys, torch
from torch import nn
from dlrun import registry
for name, values in {values!r}.items():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = registry.get("optimizer", name)(list(net.named_parameters()), **values)
    for _ in range(2):
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step(); optimizer.zero_grad()
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())
found = [name for name in sys.modules if name.startswith(("torch._dynamo", "sympy"))]
sys.exit(f"imported {{found[:3]}}" if found else 0)
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
