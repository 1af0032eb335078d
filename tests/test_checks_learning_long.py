"""What shows over several steps: memory of an optimizer, resume, determinism, kept graphs, players, the ladder, range test, baselines."""

from __future__ import annotations

from typing import Any

import pytest
import runs
import torch
import torch.nn.functional as F
from checks_found import built, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from checks_steppers import asked
from torch import Tensor, nn

from dlrun import registry
from dlrun.checks import Finding, Subject
from dlrun.checks.determinism import built as fresh_build
from dlrun.config import compose
from dlrun.train import build_run

CASES = {
    "memory": ("optimizer_drill", ("optimizer=with_momentum",), "ok", "as a descent does"),
    "no_memory": ("optimizer_drill", ("optimizer=forgets",), "warning", "the momentum does nothing"),
    "no_memory_adam": ("optimizer_drill", ("optimizer=stuck_adam",), "warning", "the momentum does nothing"),
    "endless_memory": ("optimizer_drill", ("optimizer=sums",), "warning", "the optimizer never forgets"),
    "saved": ("checkpoint_round_trip", ("optimizer=saved_momentum",), "ok", "the same bits 2 steps later"),
    "unsaved": ("checkpoint_round_trip", ("optimizer=with_momentum",), "error", "the weights after it are not"),
    "unloaded": ("checkpoint_round_trip", ("optimizer=unloaded_momentum",), "error", "the weights after it are not"),
    "unsavable": ("checkpoint_round_trip", ("optimizer=object_in_state",), "error", "cannot be saved"),
    "attribute": ("checkpoint_round_trip", ("model=drifts",), "error", "differs 2 steps later"),
    "harmless_attribute": ("checkpoint_round_trip", ("model=counts",), "ok", "the same bits 2 steps later"),
    "resumed_schedule": ("checkpoint_round_trip", ("schedule=one_cycle",), "ok", "the same bits 2 steps later"),
    "repeats": ("determinism", (), "ok", "equal to the bit"),
    "does_not_repeat": ("determinism", ("model=unseeded",), "warning", "start with other weights (model.head.weight"),
    "declared": ("determinism", ("model=unseeded", "expects.stochastic_train=true"), "not_applicable", "declared"),
    "clean": ("memory_slope", (), "ok", "steps leave nothing behind"),
    "graphs": ("memory_slope", ("model=keeps_graphs",), "warning", "every step leaves its graph behind"),
    "values": ("memory_slope", ("model=keeps_values",), "ok", "steps leave nothing behind"),
    "time": ("throughput", (), "ok", "a step takes"),
    "one_player": ("gan_balance", (), "not_applicable", "one player"),
    "possible": ("too_good", (), "ok", "least loss"),
}  # fmt: skip


LONG = ("no_memory_adam", "unloaded", "attribute", "harmless_attribute", "values", "declared")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] if case in LONG else []) for case in CASES])
def test_over_several_steps(case: str) -> None:
    name, words, level, text = CASES[case]
    finding = asked(name, *words)
    assert finding.level == level and text in finding.message, finding


def test_where_lost_state_was() -> None:
    assert "the optimizer" in asked("checkpoint_round_trip", "optimizer=with_momentum").cause
    assert "the network, loss or task" in asked("checkpoint_round_trip", "model=drifts").cause


def test_a_network_outside_its_factory_is_left_as_it_was() -> None:
    one = Net(8, 4)

    def again() -> nn.Module:
        nn.init.normal_(one.head.weight)
        return one

    plug("model", "outside", again)
    run = built("dataset=clouds", "task=supervised", "model=outside")
    before = one.head.weight.detach().clone()
    for name, level in (("determinism", "info"), ("checkpoint_round_trip", "not_applicable")):
        assert Subject(run, 5.0).judge(name, registry.get("check", name)).level == level
        assert torch.equal(one.head.weight, before)


def test_a_loss_below_its_floor() -> None:
    from dlrun.registry import facts

    @facts(floor=lambda spec: 0.0)
    def flipped(out: Tensor, y: Tensor) -> Tensor:
        return -F.cross_entropy(out, y)

    plug("loss", "flipped", flipped)
    finding = asked("too_good", "loss=flipped")
    assert finding.level == "warning" and "below 0.0000, which is not possible" in finding.message


def judged(name: str, *words: str, patience: float = 20.0) -> Any:
    return Subject(built(*words), patience).judge(name, registry.get("check", name))


def test_players_that_get_no_gradient() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.detach()).squeeze(-1)  # type: ignore[no-any-return]

    gan = ("dataset=ring", "task=gan")
    assert judged("gan_balance", *gan).level == "ok"
    plug("model", "deaf", Deaf)
    finding = judged("gan_balance", *gan, "model.critic=deaf", "task.r1=0")
    assert finding.level == "error" and "generator gets no gradient" in finding.message


def test_the_ladder_says_where_a_network_falls() -> None:
    class Same(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.zeros_like(x))

    plug("model", "same", lambda: Same(8, 4))
    finding = asked("overfit_1_batch_few", "model=same")
    assert finding.level == "error" and "rows are not told apart" in finding.cause
    assert finding.numbers["rungs"][1]["reached"] and not finding.numbers["rungs"][8]["reached"]
    plug("loss", "constant", lambda out, y: F.cross_entropy(out, y).detach() + 0 * out.sum())
    assert "not even a single row" in asked("overfit_1_batch_few", "loss=constant").cause


def test_the_top_rung_is_climbed_with_deep() -> None:
    finding = judged("overfit_1_batch_few", "dataset=digits")
    assert finding.numbers["subset"]["rows"] == 256 and finding.numbers["subset"]["reached"] and "256 rows: learned" in finding.message


def test_the_range_test_finds_the_rate_and_leaves_the_run_alone() -> None:
    run = built("dataset=digits", "optimizer=sgd", "optimizer.lr=0.1", "train.clip_norm=null")
    before = [p.detach().clone() for p in run.modules["model"].parameters()]
    finding = Subject(run, 20.0).judge("lr_range", registry.get("check", "lr_range"))
    assert finding.level == "ok" and 0.01 < finding.numbers["steepest"] < finding.numbers["largest_stable"] < 10
    assert all(torch.equal(a, b) for a, b in zip(before, run.modules["model"].parameters(), strict=True))
    assert run.optimizers["optimizer"].param_groups[0]["lr"] == 0.1
    assert judged("lr_range", "dataset=digits", "optimizer=sgd", "optimizer.lr=100", "train.clip_norm=null").level == "warning"
    assert (
        "never diverges up to 0.1; yours peaks at 1e-05: far too low"
        in judged("lr_range", "dataset=digits", "optimizer=sgd", "optimizer.lr=1e-5", "train.clip_norm=null").message
    )


def test_inputs_against_none() -> None:
    def deeply(*words: str) -> Finding:
        run = build_run(compose([*runs.QUIET, *words]))
        return Subject(run, 20.0).judge("input_baseline", registry.get("check", "input_baseline"))

    finding = deeply("dataset=digits")
    assert finding.level == "ok" and "inputs are used" in finding.message

    class Same(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(0 * x)

    plug("model", "same", lambda: Same(8, 4))
    finding = deeply("dataset=clouds", "task=supervised", "model=same")
    assert finding.level == "info" and "zeros do as well" in finding.message


def test_another_memory_layout_is_built_again_too() -> None:
    """A fresh build in plain order took other kernels, whose rounding Adam makes large in biases before a batch norm."""
    words = ("dataset=digits", "model=cnn", "train.channels_last=true", "train.batch_size=16", "train.steps=20")
    made = fresh_build(Subject(build_run(compose([*runs.QUIET, *words]))))
    assert made is not None
    kernels = [p for p in made.modules["model"].parameters() if p.dim() == 4]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
