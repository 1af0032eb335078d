"""Optimizers that need a step's gradient at several points: what the loop repeats, what it counts once, what it refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

from dlrun import registry
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.finite import Watch
from dlrun.loop import train_step
from dlrun.passes import check_passes
from dlrun.steplog import StepLog
from dlrun.train import build_run

SAM = ("optimizer=sam", "optimizer.rho=0.3", "model.width=16")


def built(*words: str) -> Any:
    return build_run(compose([*runs.QUIET, *words]))


def trained(run: Any, steps: int = 3, log: StepLog | None = None) -> Tensor:
    """All weights after `steps` steps in float64."""
    log = log or StepLog()
    for module in run.modules.values():
        module.double().train()
    for step in range(steps):
        log.begin(True)
        batches = [batch.map(lambda t: t.double() if t.is_floating_point() else t) for batch in run.data.batches(step)]
        train_step(run, step, batches, log, Watch(run.device))
    return torch.cat([p.detach().flatten() for module in run.modules.values() for p in module.parameters()])


@pytest.mark.parametrize("name", registry.builtin_names("optimizer"))
@pytest.mark.parametrize("clip", ["null", "0.1"])
def test_four_micro_batches_equal_one_batch(name: str, clip: str) -> None:
    more = ("optimizer.ns_dtype=parameter",) if name == "muon" else ()
    words = ("model.width=16", "train.batch_size=16", f"train.clip_norm={clip}", f"optimizer={name}", *more)
    one, four = (trained(built(*words, f"train.accumulate={parts}")) for parts in (1, 4))
    assert float((one - four).abs().max()) < 1e-10


def by_hand(run: Any, steps: int, clip: float | None) -> Tensor:
    """SAM over SGD with momentum, written out: two gradients a step on the same batch."""
    net = run.modules["model"].double().train()
    momentum = {p: torch.zeros_like(p) for p in net.parameters()}
    for step in range(steps):
        batch = run.data.batches(step)[0]
        x, y = batch["x"].double(), batch["y"]

        def gradient(x: Tensor = x, y: Tensor = y) -> list[Tensor]:
            return list(torch.autograd.grad(nn.functional.cross_entropy(net(x), y), list(net.parameters())))

        before, slope = [p.detach().clone() for p in net.parameters()], gradient()
        norm = torch.cat([g.flatten() for g in slope]).norm()
        with torch.no_grad():
            for p, g in zip(net.parameters(), slope, strict=True):
                p.add_(0.3 * g / norm)
        above = gradient()
        norm = torch.cat([g.flatten() for g in above]).norm()
        with torch.no_grad():
            for p, old, g in zip(net.parameters(), before, above, strict=True):
                momentum[p].mul_(0.9).add_(g * (min(1.0, clip / float(norm)) if clip else 1.0))
                p.copy_(old - 0.1 * momentum[p])
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_loop_does_what_is_written_out_by_hand(clip: float | None) -> None:
    words = (*SAM, f"train.clip_norm={clip or 'null'}")
    torch.testing.assert_close(trained(built(*words)), by_hand(built(*words), 3, clip), rtol=0, atol=1e-6 if clip else 1e-12)


def test_both_passes_see_the_same_noise_and_rows_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor] = []

    class noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            masks.append(torch.rand(5))
            return self.layer(x.flatten(1))  # type: ignore[no-any-return]

    monkeypatch.setitem(registry.PLUGINS["model"], "noisy", noisy)
    run, log = built("model=noisy", "optimizer=sam", "train.clip_norm=1e-6"), StepLog()
    masks.clear()
    first = run.data.batches(0)[0]
    start = float(nn.functional.cross_entropy(run.modules["model"].double()(first["x"].double()), first["y"]).detach())
    masks.clear()
    trained(run, 1, log)
    assert len(masks) == 2 and torch.equal(masks[0], masks[1])
    row = log.values()
    assert float(row["loss"]) == pytest.approx(start)  # type: ignore[arg-type]
    assert row["clipped"] == 1.0 and log.state_dict()["before"] == [1.0, 1.0]
    assert (log.first_pass, log.last_pass) == (False, True)
    plain, other = built("model=noisy", "optimizer=sgd"), StepLog()
    trained(plain, 1, other)
    assert (other.first_pass, other.last_pass) == (True, True)


def test_grad_norm_is_that_of_the_gradient_that_steps() -> None:
    """With a rate of 1 and no momentum the weights move by exactly the clipped norm."""
    run, log = built(*SAM, "optimizer.lr=1.0", "optimizer.momentum=0.0", "train.clip_norm=0.01"), StepLog()
    before = torch.cat([p.detach().double().flatten() for p in run.modules["model"].parameters()])
    moved = float((trained(run, 1, log) - before).norm())
    assert moved == pytest.approx(0.01, rel=1e-4)
    assert float(log.values()["grad_norm"]) > 0.01  # type: ignore[arg-type]


def test_running_means_are_those_at_the_weights() -> None:
    """Batch norm's buffers after a step equal those of a plain optimizer, and count one batch."""
    buffers = []
    for optimizer in ("sgd", "sam"):
        run = built(f"optimizer={optimizer}", "model.width=16", "model.norm=batch")
        trained(run, 1)
        buffers.append(dict(run.modules["model"].named_buffers()))
    assert len(buffers[0]) == 6 and all(torch.equal(buffers[0][key], buffers[1][key]) for key in buffers[0])
    assert int(buffers[1]["2.num_batches_tracked"]) == 1


def test_a_schedule_and_an_average_move_once_a_step() -> None:
    run = built(*SAM, "schedule=linear", "train.steps=4", "train.ema=0.5")
    expected = torch.cat([p.detach().flatten() for p in run.modules["model"].parameters()])
    for step, rate in enumerate((0.1, 0.075, 0.05)):
        train_step(run, step, run.data.batches(step), StepLog(), Watch(run.device))
        assert run.optimizers["optimizer"].param_groups[0]["lr"] == pytest.approx(rate)
        expected = 0.5 * expected + 0.5 * torch.cat([p.detach().flatten() for p in run.modules["model"].parameters()])
    average = torch.cat([p.detach().flatten() for p in run.ema.modules["model"].parameters()])
    torch.testing.assert_close(average, expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task=gan", "dataset=ring", "optimizer.generator=sam", "optimizer.critic=sam"), "task gan has objectives of its own"),
        (("optimizer.a=sam", "optimizer.a.owns=['*.weight']", "optimizer.b=sgd", "optimizer.b.owns=['*.bias']"), "optimizer.b once"),
    ],
)
def test_what_does_not_go_with_several_passes_is_refused_in_a_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        built(*words)
    assert len(str(caught.value).splitlines()) == 1


def test_fp16_is_refused() -> None:
    run = built(*SAM)
    check_passes(run)
    run.precision = SimpleNamespace(scaler=object())
    with pytest.raises(UsageError, match=r"train\.precision=bf16"):
        check_passes(run)


def test_two_optimizers_of_two_passes_each_go_together() -> None:
    run = built("optimizer.a=sam", "optimizer.a.owns=['*.weight']", "optimizer.b=sam", "optimizer.b.owns=['*.bias']")
    assert run.passes == 2 and torch.isfinite(trained(run, 2)).all()
