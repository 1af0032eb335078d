"""The loop: steps in parts equal whole ones for every task, several players, keyed noise, events, what is wrong said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import runs
import torch
from torch import nn

from dlrun import Batch, Objective, Splits, Task, registry
from dlrun.config import compose
from dlrun.errors import MissingError, UsageError
from dlrun.finite import Watch
from dlrun.functional.pong import play
from dlrun.loop import train_step
from dlrun.steplog import StepLog
from dlrun.train import build_run


def built(*overrides: str) -> Any:
    return build_run(compose([*runs.QUIET, *overrides]))


def trained(run: Any, steps: int = 3) -> tuple[torch.Tensor, list[float]]:
    """All weights after `steps` steps in float64, and the logged losses."""
    for module in run.modules.values():
        module.double().train()
    log, losses = StepLog(), []
    for step in range(steps):
        log.begin(True)
        batches = [batch.map(lambda t: t.double() if t.is_floating_point() else t) for batch in run.data.batches(step)]
        train_step(run, step, batches, log, Watch(run.device))
        losses += [float(value) for name, value in log.values().items() if name.endswith("loss")]  # type: ignore[arg-type]
    return torch.cat([p.detach().flatten() for module in run.modules.values() for p in module.parameters()]), losses


def masked_text() -> Splits:
    """Next-token targets of which a share that differs from row to row is not counted."""
    x = torch.randint(0, 7, (64, 10), generator=torch.Generator().manual_seed(0))
    y = x.roll(-1, 1).clone()
    y[torch.arange(64)[:, None] % 9 > torch.arange(10)[None]] = -100
    return Splits((x, y), (x, y))


TASKS: dict[str, tuple[str, ...]] = {
    "classification": (),
    "supervised": ("task.kind=classification",),
    "language_model": ("dataset=masked_text", "model=transformer", "model.width=16", "model.heads=2", "model.depth=1"),
    "gan": ("dataset=ring",),
    "autoencoder": (),
    "vae": ("task.latent=8",),
    "diffusion": ("dataset=ring",),
    "adversarial": ("task.random_start=false",),
    "maml": ("dataset=sine_tasks", "dataset.n=400", "model.activation=tanh", "model.width=16", "dataset.unit=5.0"),
}
TASKS["imitation"] = ("dataset=pong", "task.replay=40")
APART = {"distillation", "least_squares"}  # it starts from a run, with the loss of classification; it has no objective
COUPLED = {"contrastive", "learned_loss_gan"}  # their loss is of the whole batch: accumulation is refused (tests/test_parts_contrastive.py)


@pytest.mark.parametrize("task", sorted({*registry.builtin_names("task")} - COUPLED - APART))
def test_four_micro_batches_equal_one_batch(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, with noise that belongs to a row: weights and logged losses agree to 1e-10."""
    monkeypatch.setitem(registry.PLUGINS["dataset"], "masked_text", masked_text)

    def by_row(self: Task, batch: Batch, noise: Any) -> Batch:
        return batch.replace(z=batch["x"] * 3, critic_z=(batch["x"] * 7)[:, None])

    def noise_by_row(self: Any, batch: Batch, noise: Any) -> Batch:
        return batch.replace(y=batch["x"], noise=batch["x"].flatten(1)[:, : self.latent])

    def times_by_row(self: Any, batch: Batch, noise: Any) -> Batch:
        t = batch["y"] % self.T + 1
        return Batch({"x": self.noised(batch["x"], t, batch["x"] * 3), "t": t, "y": batch["x"] * 3, "real": batch["x"]})

    def first_frames(self: Any, batch: Batch, noise: Any) -> Batch:
        x = play(batch["x"], self.expert, self.half)[0][:, : self.replay]
        return batch.replace(serve=batch["x"], x=x, y=self.expert(x), weight=x[..., 1].abs(), place=torch.zeros_like(x[..., 0]).long())

    monkeypatch.setattr("dlrun.tasks.gan.gan.prepare", by_row)
    monkeypatch.setattr("dlrun.tasks.imitation.imitation.prepare", first_frames)
    monkeypatch.setattr("dlrun.tasks.diffusion.diffusion.prepare", times_by_row)
    monkeypatch.setattr("dlrun.tasks.vae.vae.prepare", noise_by_row)
    results = []
    for parts in (1, 4):
        words = (f"task={task}", "train.batch_size=16", f"train.accumulate={parts}", *TASKS[task])
        if "optimizer" not in str(TASKS[task]) and task != "gan":
            words += ("optimizer=sgd", "optimizer.lr=0.1")
        results.append(trained(built(*words)))
    assert (results[0][0] - results[1][0]).abs().max() < 1e-10
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-10)


def ones(batch: Batch) -> torch.Tensor:
    return torch.ones(1, 2, dtype=batch["x"].dtype)


class duel(Task):
    """Two one-weight players whose second loss reads the first one's weight after its update."""

    slots = MappingProxyType({"model": ("first", "second"), "optimizer": ("first", "second")})

    def networks(self, spec: Any) -> dict[str, Any]:
        return {"first": ((2,), ()), "second": ((2,), ())}

    def objectives(self, nets: Any, batch: Batch) -> Iterator[Objective]:
        before = nets.first(ones(batch)).detach()
        yield Objective(nets.first(ones(batch)).sum(), ("first",), 1.0)
        self.seen = (before, nets.first(ones(batch)).detach())
        yield Objective((nets.second(ones(batch)) * nets.first(ones(batch))).sum(), ("second",), 1.0)


def one_weight(in_shape: tuple[int, ...]) -> nn.Module:
    return nn.Linear(in_shape[0], 1, bias=False)


def duel_run(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setitem(registry.PLUGINS["task"], "duel", duel)
    monkeypatch.setitem(registry.PLUGINS["model"], "one_weight", one_weight)
    parts = ("model.first=one_weight", "model.second=one_weight", "optimizer.first=sgd", "optimizer.second=sgd", "optimizer.first.lr=0.5")
    return built("task=duel", "dataset=ring", *parts, "train.clip_norm=null", *words)


def test_a_yield_applies_the_update_before_the_next_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    run = duel_run(monkeypatch)
    first = run.modules["first"].weight.detach().clone()
    second = run.modules["second"].weight.detach().clone()
    trained(run, 1)
    before, after = run.task.seen
    assert float(before - after) == pytest.approx(1.0)  # lr 0.5 x gradient (1, 1) . (1, 1)
    assert torch.allclose(run.modules["first"].weight, first.double() - 0.5)  # the second objective left it alone
    assert not torch.equal(run.modules["second"].weight.float(), second)
    assert all(p.grad is None for module in run.modules.values() for p in module.parameters())


def test_players_are_logged_by_their_network(monkeypatch: pytest.MonkeyPatch) -> None:
    run = duel_run(monkeypatch)
    log = StepLog()
    log.begin(True)
    train_step(run, 0, run.data.batches(0), log, Watch(run.device))
    assert {"first_loss", "second_loss"} == {name for name in log.values() if name.endswith("loss")}


def test_one_optimizer_for_two_players_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["task"], "lone", type("lone", (duel,), {"slots": {"model": ("first", "second")}}))
    monkeypatch.setitem(registry.PLUGINS["model"], "one_weight", one_weight)
    run = built("task=lone", "dataset=ring", "model.first=one_weight", "model.second=one_weight", "optimizer=sgd")
    with pytest.raises(UsageError, match="give each network its own"):
        trained(run, 1)


def test_noise_is_a_function_of_the_step(tmp_path: Path) -> None:
    """Whatever draws between steps (an evaluation, a check, the user), dropout falls the same way."""
    words = ("model.width=16", "model.dropout=0.5")
    quiet = trained(built(*words))[0]
    run = built(*words)
    for module in run.modules.values():
        module.double().train()
    log = StepLog()
    for step in range(3):
        runs.scramble()
        log.begin(False)
        batches = [batch.map(lambda t: t.double() if t.is_floating_point() else t) for batch in run.data.batches(step)]
        train_step(run, step, batches, log, Watch(run.device))
    noisy = torch.cat([p.detach().flatten() for p in run.modules["model"].parameters()])
    assert torch.equal(quiet, noisy)


def test_events_name_the_first_step(tmp_path: Path) -> None:
    events = "events={low: 'train/loss < 1.0', never: 'train/loss < -1'}"
    run, summary, _ = runs.start(tmp_path, "train.steps=40", "train.log_every=1", "train.eval_every=0", events)
    first = next(row["step"] for row in runs.rows(run) if row.get("train/loss", 9) < 1.0)
    assert summary["events"] == {"low": first}


def test_an_event_that_cannot_be_read_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"events.*low"):
        runs.start(tmp_path, "events={low: 'loss about 1'}")
    assert not (tmp_path / "run").exists()


def test_out_of_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("tried to allocate 90 GiB")

    monkeypatch.setitem(registry.PLUGINS["loss"], "hungry", hungry)
    with pytest.raises(MissingError) as caught:
        runs.start(tmp_path, "loss=hungry", "train.batch_size=32")
    (line,) = caught.value.lines
    assert caught.value.code == 3 and "peak" in line and "batch of 32 rows" in line and "train.accumulate=2" in line


def test_a_loss_over_weights_that_changed_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second loss was computed before the first update and needs the weight that it changed."""

    class early(duel):
        def objectives(self, nets: Any, batch: Batch) -> Iterator[Objective]:
            both = nets.first(nets.second(ones(batch)).expand(-1, 2)).sum()  # its gradient needs the first one's weight
            yield Objective((nets.first(ones(batch)) ** 2).sum(), ("first",), 1.0)
            yield Objective(both, ("second",), 1.0)

    monkeypatch.setitem(registry.PLUGINS["task"], "early", early)
    monkeypatch.setitem(registry.PLUGINS["model"], "one_weight", one_weight)
    parts = ("model.first=one_weight", "model.second=one_weight", "optimizer.first=sgd", "optimizer.second=sgd")
    with pytest.raises(RuntimeError, match="compute this loss after the previous yield"):
        trained(built("task=early", "dataset=ring", *parts), 1)


def test_networks_as_a_task_sees_them_can_be_copied() -> None:
    """A task that keeps them in its state is copied with its run by the checks."""
    import copy

    run = built("model.width=8")
    twin = copy.deepcopy(run.nets)
    assert torch.equal(twin.model(torch.ones(1, 1, 8, 8)), run.nets.model(torch.ones(1, 1, 8, 8)))
    assert twin.model.module is not run.nets.model.module
