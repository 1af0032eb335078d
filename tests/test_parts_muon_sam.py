"""Muon: torch.optim.Muon's numbers, what is a hidden matrix, AdamW for the rest. SAM: the papers' formulas, and the loop's two passes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import runs
import torch
from parts import model, options
from torch import Tensor, nn

from dlrun import registry
from dlrun.config import compose
from dlrun.functional.newton_schulz import orthogonalised
from dlrun.matrices import hidden_matrices
from dlrun.nn import fused
from dlrun.preflight import optimizer_lines
from dlrun.train import build_run

NS: dict[str, Any] = {"steps": 5, "coefficients": (3.4445, -4.775, 2.0315), "eps": 1e-7}


def built(*words: str) -> Any:
    return build_run(compose([*runs.QUIET, *words]))


def make(name: str, named: Any, hidden: Any = None, **changed: Any) -> Any:
    part, values = registry.get("optimizer", name), options("optimizer", name, **changed)
    return part(list(named), hidden, **values) if name == "muon" else part(list(named), **values)


def fill(net: nn.Module, step: int) -> None:
    for n, p in enumerate(net.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + n), dtype=p.dtype)


# -- Muon


@pytest.mark.parametrize("shape", [(40, 40), (64, 20), (20, 90)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int], dtype: torch.dtype | None) -> None:
    """Singular values from a twentieth of the largest on land in [0.65, 1.25], whatever the size of the matrix."""
    generator, least = torch.Generator().manual_seed(0), min(shape)
    u, _ = torch.linalg.qr(torch.randn(shape[0], least, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(shape[1], least, generator=generator))
    for size in (1e-3, 1.0, 1e4):
        out = orthogonalised((u * torch.linspace(0.05, 1, least) * size) @ v.T, dtype=dtype, **NS).float()
        values = torch.linalg.svdvals(out)
        assert float(values.min()) > 0.65 and float(values.max()) < 1.25
        inside = u.T @ out @ v
        assert float((inside - inside.diag().diag()).abs().max()) < (0.05 if dtype else 1e-4)


def test_the_iteration_is_the_polynomial_on_singular_values() -> None:
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / matrix.norm()
    for _ in range(3):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    out = orthogonalised(matrix, dtype=None, **{**NS, "steps": 3})
    torch.testing.assert_close(out, u @ torch.diag(s) @ v, rtol=0, atol=1e-12)
    assert not orthogonalised(torch.zeros(3, 2), **NS).any()


@pytest.mark.parametrize("changed", [{}, {"nesterov": False, "momentum": 0.8}, {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3}])
def test_twenty_steps_are_torchs_muon_bit_for_bit(changed: dict[str, Any]) -> None:
    nets = [nn.Sequential(nn.Linear(9, 16, bias=False), nn.Linear(16, 5, bias=False)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    mine = make("muon", nets[0].named_parameters(), **changed)
    names = ("lr", "momentum", "nesterov", "weight_decay", "ns_steps", "ns_coefficients", "eps", "adjust_lr_fn")
    torchs = torch.optim.Muon(nets[1].parameters(), **{name: mine.param_groups[0][name] for name in names})
    for step in range(20):
        for net, optimizer in zip(nets, (mine, torchs), strict=True):
            fill(net, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    buffers = [[entry["momentum_buffer"] for entry in optimizer.state_dict()["state"].values()] for optimizer in (mine, torchs)]
    assert all(torch.equal(a, b) for a, b in zip(*buffers, strict=True))


def test_a_step_has_the_spectral_norm_it_promises_and_kernels_are_flattened() -> None:
    for shape, kind, expected in (
        ((64, 16), "original", 2.0),
        ((16, 64), "original", 1.0),
        ((8, 4, 3, 3), "original", 1.0),
        ((16, 64), "match_rms_adamw", 1.6),
    ):
        weight = nn.Parameter(torch.zeros(shape))
        optimizer = make("muon", [("w", weight)], lr=0.5, adjust_lr_fn=kind, ns_dtype="parameter")
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        values = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.5 * expected)
        assert 0.6 < float(values.min()) and float(values.max()) < 1.25


def test_the_rest_is_torchs_adamw() -> None:
    nets = [nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    named = dict(nets[1].named_parameters())
    mine = make("muon", nets[0].named_parameters(), {"0.weight"}, adamw_lr=0.03, adamw_weight_decay=0.2)
    matrix, vectors = [named.pop("0.weight"), named.pop("2.weight")][1], list(named.values())
    groups = [{"params": [matrix], "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, lr=0.03, fused=True)
    for step in range(10):
        fill(nets[0], step), fill(nets[1], step)
        mine.step(), torchs.step()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b) == (name != "0.weight")


def test_without_the_fused_kernel_the_rest_is_adamw_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = [make("muon", net.named_parameters(), {"0.weight"}) for net in nets]
    for served in (True, False):
        monkeypatch.setattr("dlrun.optimizers.muon.served", lambda *_, served=served: served)
        for step in range(6):
            fill(nets[served], step)
            optimizers[served].step()
    torch.testing.assert_close(dict(nets[0].state_dict()), dict(nets[1].state_dict()))
    assert fused.served("adamw", "cpu", torch.float32) and not fused.served("adamw", "meta", torch.float32)


class Odd(nn.Module):
    """What a user's network may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.position, self.cls_token = nn.Embedding(7, 8), nn.Parameter(torch.zeros(5, 8)), nn.Parameter(torch.zeros(1, 1, 8))
        self.map, self.norm, self.one = nn.Parameter(torch.zeros(8, 8)), nn.LayerNorm((4, 8)), nn.Linear(1, 8)
        self.attention, self.gru = nn.MultiheadAttention(8, 2), nn.GRU(8, 8)
        self.conv, self.depthwise = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4)
        self.head = nn.Linear(8, 7)
        self.tied = nn.Linear(8, 7, bias=False)
        self.tied.weight = self.table.weight


def named(**modules: nn.Module) -> Any:
    return [(f"{name}.{key}", p) for name, module in modules.items() for key, p in module.named_parameters()]


def test_what_is_a_hidden_matrix() -> None:
    net, tied = Odd(), Odd()
    del net.tied
    found = {name.removeprefix("net.") for name in hidden_matrices({"net": net}, named(net=net))}
    expected = {"map", "attention.in_proj_weight", "attention.out_proj.weight", "gru.weight_ih_l0", "gru.weight_hh_l0"}
    assert found == {*expected, "conv.weight", "depthwise.weight"}
    found = hidden_matrices({"net": tied}, named(net=tied))
    assert "net.table.weight" not in found and "net.head.weight" in found  # the layer that shares the table is the readout there
    loss = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert not hidden_matrices({"loss": loss}, named(loss=loss)) and hidden_matrices({"net": loss}, named(net=loss))


@pytest.mark.parametrize(
    ("name", "shape", "changed", "rest"),
    [
        ("mlp", (6,), {"width": 8}, {"model.5.weight"}),
        ("linear", (6,), {}, {"model.1.weight"}),
        ("cnn", (1, 8, 8), {"channels": [4]}, {"model.6.weight"}),
        ("resnet", (3, 8, 8), {"depth": 8}, {"model.readout.weight"}),
    ],
)
def test_the_readout_of_our_networks_is_left_to_adamw(name: str, shape: tuple[int, ...], changed: dict[str, Any], rest: set[str]) -> None:
    net = model(name, shape, (3,), **changed)
    everything = {full for full, p in named(model=net) if p.dim() >= 2}
    left = everything - hidden_matrices({"model": net}, named(model=net))
    assert {full for full in left if full in rest} == rest and len(left) == len(rest), left


def test_one_word_is_enough_and_says_what_went_where() -> None:
    line = optimizer_lines(built("optimizer=muon"))[0]
    assert "Muon steps model.1.weight, model.3.weight; AdamW steps model.5.weight and 3 vectors" in line
    run = built("optimizer=muon", "model=linear")
    assert "no hidden matrix for Muon; AdamW steps model.1.weight and 1 vector" in optimizer_lines(run)[0]


def test_two_optimizers_that_say_what_they_own() -> None:
    globs = ("optimizer.matrices.owns=['model.[13].weight']", "optimizer.rest.owns=['*.bias','model.5.weight']")
    run = built("optimizer.matrices=muon", "optimizer.rest=adamw", *globs, "schedule=cosine")
    assert [name for name, _ in run.owned["matrices"]] == ["model.1.weight", "model.3.weight"]
    lines = optimizer_lines(run)
    assert "Muon steps model.1.weight, model.3.weight)" in lines[0] and "optimizer rest: adamw" in lines[1]
    assert all("schedule cosine: rate x 1 at step 1, 0.5 at step 301, 6.854e-06 at step 600" in line for line in lines)
    readout = built("optimizer=muon", "optimizer.owns=['model.*']")
    assert "Muon steps model.1.weight, model.3.weight, model.5.weight; AdamW steps 3 vectors" in optimizer_lines(readout)[0]


# -- SAM


def sam_in_numpy(w: Any, slope: Any, steps: int, rho: float, lr: float, momentum: float, wd: float, adaptive: bool) -> Any:
    velocity = np.zeros_like(w)
    for _ in range(steps):
        g = slope(w)
        size = np.abs(w) if adaptive else 1.0
        up = w + rho * size**2 * g / np.linalg.norm(size * g)
        velocity = momentum * velocity + slope(up) + wd * w
        w = w - lr * velocity
    return w


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_is_the_papers(adaptive: bool) -> None:
    """On w^T H w / 2 + sum of w^4 over two parameters, whose gradients' norm is one."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    curvature = root @ root.T / 5
    start = torch.randn(5, dtype=torch.float64, generator=generator)
    parts = [nn.Parameter(start[:2].clone()), nn.Parameter(start[2:].clone())]
    changed = {"rho": 0.2, "lr": 0.03, "momentum": 0.7, "weight_decay": 0.1, "adaptive": adaptive}
    optimizer = make("sam", [("a", parts[0]), ("b", parts[1])], **changed)
    for _ in range(24):
        optimizer.zero_grad()
        w = torch.cat(parts)
        (w @ curvature @ w / 2 + w.pow(4).sum()).backward()
        optimizer.step()
    h = curvature.numpy()
    expected = sam_in_numpy(start.numpy(), lambda w: h @ w + 4 * w**3, 12, 0.2, 0.03, 0.7, 0.1, adaptive)
    np.testing.assert_allclose(torch.cat(parts).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_with_adamw_the_step_is_adamws_at_the_gradient_above() -> None:
    w, other = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    optimizer = make("sam", [("w", w)], base="adamw", lr=0.1, weight_decay=0.2, rho=0.5)
    adamw = torch.optim.AdamW([other], lr=0.1, weight_decay=0.2, fused=True)
    for step in range(3):
        fill(nn.ParameterList([w]), 50 + step)
        optimizer.step()
        before = other.detach()
        assert float((w.detach() - before).norm()) == pytest.approx(0.5, rel=1e-5)
        fill(nn.ParameterList([w]), step), fill(nn.ParameterList([other]), step)
        optimizer.step(), adamw.step()
        assert torch.equal(w, other)


def test_a_gradient_of_zero_climbs_nowhere() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = make("sam", [("w", w)])
    for _ in range(2):
        w.grad = torch.zeros(2)
        optimizer.step()
    assert w.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"base": "sgd", "betas": [0.9, 0.99]}, "betas is no option of base=sgd: leave it null, or say base=adamw"),
        ({"base": "adamw", "momentum": 0.5}, "momentum is no option of base=adamw: leave it null, or say base=sgd"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs momentum > 0"),
    ],
)
def test_options_of_the_other_base_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("sam", [("w", nn.Parameter(torch.ones(2)))], **words)


def test_small_steps_of_sam_lower_the_loss_at_the_worst_point() -> None:
    """rho towards 0 is plain SGD: the difference of both falls in proportion to rho."""

    def after(rho: float | None) -> Tensor:
        w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        changed = {"lr": 0.1, "momentum": 0.0}
        optimizer = make("sgd", [("w", w)], **changed) if rho is None else make("sam", [("w", w)], rho=rho, **changed)
        for _ in range(getattr(optimizer, "passes", 1)):
            optimizer.zero_grad()
            (w[0] ** 2 + 2 * w[1] ** 4).backward()
            optimizer.step()
        return w.detach()

    gaps = [float((after(rho) - after(None)).norm()) for rho in (1e-2, 1e-3, 1e-4)]
    assert all(a / b == pytest.approx(10, rel=0.05) for a, b in pairwise(gaps))
