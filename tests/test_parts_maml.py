"""Meta-learning: its gradient against one unrolled by hand, the first-order one, joint training as its limit, and its tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parts import bound, options
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.datasets.sine_tasks import sine_tasks
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.tasks.maml import maml
from dlrun.types import DataSpec, Networks

LR = 0.05


def made(**changed: Any) -> maml:
    task = maml(**options("task", "maml", **{"inner_lr": LR, **changed}))
    task.bind(DataSpec(in_shape=(1,), out_shape=(1,)), bound("loss", "mse"), {})
    return task


def few(tasks: int = 5) -> Batch:
    splits = sine_tasks(**options("dataset", "sine_tasks", n=20))
    return Batch(splits.train)[:tasks].map(torch.Tensor.double)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def by_hand(net: nn.Module, batch: Batch, steps: int, first_order: bool) -> Tensor:
    """The meta-loss task by task, inner steps written out with autograd."""
    losses = []
    for row in range(len(batch)):
        w1, b1, w2, b2 = net.parameters()
        for _ in range(steps):
            out = (batch["support_x"][row] @ w1.T + b1).tanh() @ w2.T + b2
            inner = (out - batch["support_y"][row]).square().mean()
            slopes = torch.autograd.grad(inner, (w1, b1, w2, b2), create_graph=not first_order)
            w1, b1, w2, b2 = (w - LR * slope for w, slope in zip((w1, b1, w2, b2), slopes, strict=True))
        out = (batch["query_x"][row] @ w1.T + b1).tanh() @ w2.T + b2
        losses.append((out - batch["query_y"][row]).square().mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_loss_and_meta_gradient_are_those_unrolled_by_hand(steps: int, first_order: bool) -> None:
    task, net, batch = made(inner_steps=steps, first_order=first_order), network(), few()
    (objective,) = task.objectives(Networks({"model": net}), batch)
    known = by_hand(net, batch, steps, first_order)
    assert torch.allclose(objective.loss, known, rtol=1e-12) and float(objective.count) == 5
    found, expected = (torch.autograd.grad(loss, list(net.parameters())) for loss in (objective.loss, known))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_second_derivative_counts() -> None:
    """One weight, y = w x at x = 1: w' = w - 2 a (w - s), so that d/dw (w' - q)^2 = 2 (w' - q) (1 - 2 a); first order: no factor."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, 0.3)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    batch = Batch({"support_x": one, "support_y": 2 * one, "query_x": one, "query_y": -one})
    moved = 0.3 - 2 * LR * (0.3 - 2)
    for first_order, factor in ((False, 1 - 2 * LR), (True, 1.0)):
        (objective,) = made(first_order=first_order).objectives(Networks({"model": net}), batch)
        (slope,) = torch.autograd.grad(objective.loss, [net.weight])
        assert float(slope) == pytest.approx(2 * (moved + 1) * factor, rel=1e-12)


def test_evaluation_adapts_without_gradients_and_leaves_the_weights() -> None:
    task, net, batch = made(inner_steps=1, steps_shown=[0, 3]), network(), few()
    before = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        found = {name: value.value() for name, value in task.evaluate(Networks({"model": net}), batch).items()}
    assert set(found) == {"loss", "after_0", "after_3"}
    for name, steps in (("loss", 1), ("after_0", 0), ("after_3", 3)):
        assert found[name] == pytest.approx(float(by_hand(net, batch, steps, True).detach()), rel=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_tasks_are_sines_of_one_amplitude_and_phase_each() -> None:
    splits = sine_tasks(**options("dataset", "sine_tasks", n=400, support=7, query=4, unit=5.0))
    train = splits.train
    assert train["support_x"].shape == (400, 7, 1) and train["query_y"].shape == (400, 4, 1) and len(splits.test["query_x"]) == 20
    x = torch.cat((train["support_x"], train["query_x"]), 1).double() * 5
    y = torch.cat((train["support_y"], train["query_y"]), 1).double()
    waves = torch.cat((x.sin(), x.cos()), 2)
    weights = torch.linalg.lstsq(waves, y).solution
    assert (waves @ weights - y).abs().max() < 1e-4
    amplitude = weights.norm(dim=1)
    assert 0.1 <= float(amplitude.min()) and float(amplitude.max()) <= 5 and float(x.abs().max()) <= 5
    assert float(amplitude.mean()) == pytest.approx(2.55, abs=0.25)


def test_what_is_no_task_is_refused() -> None:
    with pytest.raises(UsageError, match="support_x, support_y, query_x, query_y; this dataset gives x, y"):
        made().prepare(Batch({"x": torch.zeros(3, 2), "y": torch.zeros(3)}), Noise(0, 0))
    with pytest.raises(ValueError, match="at least 20 tasks"):
        sine_tasks(**options("dataset", "sine_tasks", n=4))
