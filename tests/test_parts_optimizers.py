"""Optimizers: bit for bit torch's fused ones, states exchanged with torch's in both directions, without importing torch._dynamo."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parts import options
from torch import Tensor, nn

from dlrun import defaults, registry
from dlrun.nn import fused, stepper

TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
OTHERS = {"adagrad", "lion", "muon", "rmsprop", "sam", "sign_sgd"}
"""Tried in test_parts_optimizers_own.py and test_parts_muon_sam.py."""
CASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"momentum": 0.0}),
    ("sgd", {"weight_decay": 0.1}),
    ("sgd", {"nesterov": True, "weight_decay": 0.1}),
    ("sgd", {"dampening": 0.5}),
    ("adam", {"weight_decay": 0.1}),
    ("adam", {"amsgrad": True, "betas": [0.5, 0.9]}),
    ("adamw", {"weight_decay": 0.1, "decay": "all"}),
    ("adamw", {"amsgrad": True, "decay": "all", "eps": 1e-4}),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))


def make(name: str, net: nn.Module, **changed: Any) -> Any:
    return registry.get("optimizer", name)(list(net.named_parameters()), **options("optimizer", name, **changed))


def twin(name: str, net: nn.Module, **changed: Any) -> torch.optim.Optimizer:
    """torch's own, fused."""
    values = options("optimizer", name, **changed)
    values.pop("decay", None)
    return TORCH[name](net.named_parameters(), fused=True, **values)


def train(net: nn.Module, optimizer: Any, steps: int = 20, seed: int = 0) -> list[Tensor]:
    """Some steps with changing rates and a gradient that is missing at times; the parameters after them."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + step % 3)
        net(torch.randn(8, 6, generator=generator)).square().mean().backward()
        if step % 4 == 1 or step == 0:
            net[3].bias.grad = None  # type: ignore[index]
        optimizer.step()
        optimizer.zero_grad()
        assert all(p.grad is None for p in net.parameters())
    return [p.detach().clone() for p in net.parameters()]


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def test_every_optimizer_is_tried() -> None:
    assert {name for name, _ in CASES} == set(TORCH)
    assert {*TORCH, *OTHERS} == set(registry.builtin_names("optimizer"))


@pytest.mark.parametrize(("name", "changed"), CASES)
def test_twenty_steps_are_bit_for_bit_torchs(name: str, changed: dict[str, Any]) -> None:
    net, other = network(), network()
    optimizer, torchs = make(name, net, **changed), twin(name, other, **changed)
    assert isinstance(optimizer, fused.Fused) and optimizer.note == ""
    if name == "sgd" and optimizer.param_groups[0]["momentum"]:
        # torch's fused SGD fails where a first gradient comes late; its plain form says what is right.
        torchs.param_groups[0]["fused"] = False
        torch.testing.assert_close(train(net, optimizer), train(other, torchs))
        net, other = network(), network()
        net[3].bias.requires_grad_(False), other[3].bias.requires_grad_(False)  # type: ignore[index]
        optimizer, torchs = make(name, net, **changed), twin(name, other, **changed)
    assert same(train(net, optimizer), train(other, torchs))
    mine, theirs = optimizer.state_dict(), torchs.state_dict()
    assert same(mine["state"], theirs["state"])
    assert same(mine["param_groups"], theirs["param_groups"])


@pytest.mark.parametrize(("name", "changed"), CASES)
def test_state_goes_to_torch_and_back(name: str, changed: dict[str, Any]) -> None:
    net = network()
    net[3].bias.requires_grad_(False)  # type: ignore[index]
    optimizer = make(name, net, **changed)
    train(net, optimizer, 5)
    other, third = copy.deepcopy(net), copy.deepcopy(net)
    torchs, mine = twin(name, other, **changed), make(name, third, **changed)
    torchs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    mine.load_state_dict(torchs.state_dict())
    after = train(net, optimizer, 5, seed=1)
    assert same(after, train(other, torchs, 5, seed=1))
    assert same(after, train(third, mine, 5, seed=1))


@pytest.mark.parametrize("name", TORCH)
def test_loading_copies_and_refuses_what_does_not_fit(name: str) -> None:
    net = network()
    optimizer = make(name, net)
    train(net, optimizer, 3)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = make(name, copy.deepcopy(net))
    other.load_state_dict(saved)
    other.param_groups[0]["lr"] = 5.0
    for entry in other.state.values():
        for tensor in entry.values():
            tensor.add_(1)
    assert same(saved, before) and same(optimizer.state_dict(), before)
    with pytest.raises(ValueError, match=r"doesn't match the size|different number"):
        make(name, nn.Linear(2, 2)).load_state_dict(saved)


@pytest.mark.parametrize("name", TORCH)
def test_a_state_from_an_unfused_optimizer_of_torch_is_taken(name: str) -> None:
    net, other = network(), network()
    values = options("optimizer", name)
    values.pop("decay", None)
    plain = TORCH[name](net.named_parameters(), foreach=False, **values)
    changed = {"decay": "all"} if name == "adamw" else {}
    mine = make(name, other, **changed)
    train(net, plain, 3)
    train(other, mine, 3)
    mine.load_state_dict(plain.state_dict())
    assert all(group["fused"] for group in mine.param_groups)
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(train(net, plain, 3), train(other, mine, 3))


@pytest.mark.parametrize("name", TORCH)
def test_copies_are_independent_and_exact(name: str) -> None:
    net = network()
    optimizer = make(name, net)
    train(net, optimizer, 3)
    net_copy, copied = copy.deepcopy((net, optimizer))
    assert copied.param_groups[0]["params"][0] is next(net_copy.parameters())
    before, state = [p.detach().clone() for p in net.parameters()], copy.deepcopy(optimizer.state_dict())
    after = train(net_copy, copied, 3, seed=1)
    assert same([p.detach() for p in net.parameters()], before) and same(optimizer.state_dict(), state)
    assert same(after, train(net, optimizer, 3, seed=1))


@pytest.mark.parametrize("name", TORCH)
def test_torchs_schedulers_drive_them(name: str) -> None:
    net = network()
    optimizer = make(name, net, lr=1.0)
    assert isinstance(optimizer, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        net(torch.ones(1, 6)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    assert rates == pytest.approx([(1 + torch.cos(torch.tensor(torch.pi * t / 10)).item()) / 2 for t in range(10)], abs=1e-6)


def test_hooks_and_closures_are_called() -> None:
    net = network()
    optimizer, calls = make("adam", net), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> Tensor:
        loss: Tensor = net(torch.ones(2, 6)).square().sum()
        loss.backward()
        calls.append("closure")
        return loss

    assert float(optimizer.step(closure).detach()) > 0
    assert calls == ["closure", "before", "after"]


def test_zero_grad_can_keep_the_tensors() -> None:
    net = network()
    optimizer = make("adam", net)
    net(torch.ones(2, 6)).sum().backward()
    kept = net[0].weight.grad  # type: ignore[index, union-attr]
    optimizer.zero_grad(set_to_none=False)
    assert net[0].weight.grad is kept and not kept.any()  # type: ignore[index, union-attr]


def test_mixed_dtypes_go_through_kernels_of_their_own() -> None:
    one, two = nn.Linear(3, 3), nn.Linear(3, 3).double()
    both = nn.ModuleList([one, two])
    mine, theirs = copy.deepcopy(both), copy.deepcopy(both)
    for net, optimizer in ((mine, make("adam", mine)), (theirs, twin("adam", theirs))):
        for part in net:
            part(torch.ones(2, 3, dtype=part.weight.dtype)).sum().backward()  # type: ignore[union-attr, arg-type]
        optimizer.step()
    assert same(dict(mine.state_dict()), dict(theirs.state_dict()))
    buckets = stepper._buckets([*both.parameters()])
    assert [[p.dtype for p in bucket] for bucket in buckets] == [[torch.float32] * 2, [torch.float64] * 2]


def test_adamw_spares_biases_and_norms() -> None:
    net = network()
    optimizer = make("adamw", net, lr=0.1, weight_decay=0.5)
    names = [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
    assert names == [(["0.weight", "3.weight"], 0.5), (["0.bias", "1.weight", "1.bias", "3.bias"], 0.0)]
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for key, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[key] * (0.95 if p.dim() == 2 else 1.0))


def test_decay_of_nothing_makes_no_empty_group() -> None:
    norm = nn.LayerNorm(4)
    assert [group["weight_decay"] for group in make("adamw", norm).param_groups] == [0.0]


@pytest.mark.parametrize("name", TORCH)
def test_without_the_kernels_torchs_own_class_is_taken_and_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = fused.KERNELS[name][0]
    expected = train(network_ := network(), make(name, network_))
    monkeypatch.setitem(fused.KERNELS, name, (kernel, "self grads something_else"))
    net = network()
    optimizer = make(name, net)
    assert type(optimizer) is TORCH[name]
    assert kernel in optimizer.note and "other arguments" in optimizer.note
    torch.testing.assert_close(train(net, optimizer), expected)
    monkeypatch.setitem(fused.KERNELS, name, ("_fused_gone_", ""))
    assert "has no _fused_gone_" in make(name, network()).note


def test_what_the_kernels_do_not_serve_is_found() -> None:
    assert "on meta" in fused.unserved("adam", [torch.zeros(1, device="meta")])
    assert "complex64 on cpu" in fused.unserved("sgd", [torch.zeros(1, dtype=torch.complex64)])
    assert fused.unserved("adamw", [torch.zeros(1)]) == ""
    odd: Any = SimpleNamespace(device=SimpleNamespace(type="tpu"), dtype=torch.float32)
    assert "float32 on tpu" in fused.unserved("adam", [odd])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs momentum > 0 and dampening 0; found momentum=0, dampening=0"):
        make("sgd", network(), nesterov=True, momentum=0.0)
    with pytest.raises(ValueError, match="no trainable parameter"):
        registry.get("optimizer", "adam")([], **options("optimizer", "adam"))


def test_a_training_imports_no_dynamo() -> None:
    """It would cost a second of CPU at every start: construct, step, save, load, copy, schedule, each alone can bring it in."""
    code = """
import copy, sys, torch
from torch import nn
from dlrun.optimizers.adamw import adamw
from dlrun.optimizers.sgd import sgd
net = nn.Linear(3, 2)
for make, options in ((adamw, dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, amsgrad=False, decay="matrices")),
                      (sgd, dict(momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False))):
    optimizer = make(list(net.named_parameters()), lr=0.1, **options)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step(); scheduler.step(); optimizer.zero_grad(); optimizer.zero_grad(set_to_none=False)
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())
found = [name for name in sys.modules if name.startswith(("torch._dynamo", "sympy"))]
sys.exit(f"imported {found[:3]}" if found else 0)
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_graph_that_needs_weights_from_before_the_step_is_refused(name: str) -> None:
    """torch's fused kernels do not raise a tensor's version: with them alone such a backward gives a wrong gradient and no error."""
    weight, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = registry.get("optimizer", name)([("weight", weight)], **defaults(f"optimizer/{name}"))
    needs_old_weight = (weight * other).sum()
    weight.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        needs_old_weight.backward()
