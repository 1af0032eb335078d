"""Owners of parameters, a loss that falls on one batch, one batch overfitted: faults and healthy opposites."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks_found import CLOUDS, big, built, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.checks._pairs import alone
from dlrun.checks.overfit_1_batch_few import Attempt, verdict


def adam(named: Any, lr: float = 1e-3) -> Any:
    return torch.optim.Adam([p for _, p in named], lr=lr)


def flat(named_parameters: Any) -> Any:
    """One tensor that all weights are views of: what fused optimizers keep."""
    whole = torch.cat([p.detach().reshape(-1) for _, p in named_parameters])
    whole.grad, at = torch.zeros_like(whole), 0
    for _, p in named_parameters:
        p.data, p.grad = whole[at : at + p.numel()].view_as(p), whole.grad[at : at + p.numel()].view_as(p)
        at += p.numel()
    return torch.optim.SGD([whole], lr=0.01)


OWNERS = {
    "first_layer": (lambda named_parameters: adam(named_parameters[:2]), "error", "4 of 6 trainable parameters are in no optimizer"),
    "copy": (lambda named_parameters: adam(copy.deepcopy(named_parameters)), "error", "hold 6 tensors that belong to no network"),
    "all": (lambda named_parameters: adam(named_parameters), "ok", "6 trainable parameters, each in one optimizer"),
    "one_more": (lambda named_parameters: adam([*named_parameters, ("own", nn.Parameter(torch.zeros(3)))]), "info", "1 more tensors"),
}


@pytest.mark.parametrize("case", OWNERS)
def test_who_owns_the_parameters(case: str) -> None:
    make, level, words = OWNERS[case]
    plug("optimizer", "mine", make)
    findings = found(*CLOUDS, "optimizer=mine")
    assert findings["optimizer_owns"].level == level and words in findings["optimizer_owns"].message
    assert first_loud(findings) == ("optimizer_owns" if level == "error" else "")


def test_one_flat_tensor_owns_what_lies_in_it() -> None:
    plug("optimizer", "flat", flat)
    assert found(*CLOUDS, "optimizer=flat")["optimizer_owns"].level == "ok"


def test_parameters_held_twice() -> None:
    class Twice(torch.optim.SGD):
        def __init__(self, named: Any) -> None:
            super().__init__([p for _, p in named], lr=0.1)
            self.param_groups.append({**self.param_groups[0], "params": [named[0][1]]})

    plug("optimizer", "twice", lambda named_parameters: Twice(named_parameters))
    finding = found(*CLOUDS, "optimizer=twice")["optimizer_owns"]
    assert finding.level == "error" and len(finding.numbers["twice"]) == 1


def test_what_is_declared_frozen() -> None:
    plug("optimizer", "mine", OWNERS["first_layer"][0])
    assert found(*CLOUDS, "optimizer=mine", "expects.frozen=[model.2.*,model.4.*]")["optimizer_owns"].level in ("ok", "error")
    moving = found(*CLOUDS, "expects.frozen=['model.1.*']")["optimizer_owns"]
    assert moving.level == "error" and "declared by expects.frozen" in moving.message


class uphill(torch.optim.SGD):
    """Gradient ascent."""

    def __init__(self, named_parameters: Any, *, lr: float = 0.1) -> None:
        super().__init__([p for _, p in named_parameters], lr=lr, maximize=True)


class detached(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach() + 0 * self.head.bias


FALLS = {
    "rate_1000": (("optimizer.lr=1000",), "error", "too large"),
    "rate_1000_sgd": (("optimizer=sgd", "optimizer.lr=1000", "train.clip_norm=null"), "error", "too large"),
    "uphill": (("optimizer=uphill",), "error", "far too large, or go uphill"),
    "uphill_slowly": (("optimizer=uphill", "optimizer.lr=0.002"), "error", "the steps go uphill"),
    "no_gradient": (("model=detached",), "error", "no gradient reaches"),
    "copy": (("optimizer=of_copy",), "error", "no gradient reaches"),
    "right": ((), "ok", ""),
    "right_sgd": (("optimizer=sgd",), "ok", ""),
}


ROOTS = {"copy": "optimizer_owns", "no_gradient": "graph_reach"}


@pytest.mark.parametrize("case", FALLS)
def test_the_loss_falls_on_one_batch(case: str) -> None:
    words, level, cause = FALLS[case]
    plug("optimizer", "uphill", uphill)
    plug("optimizer", "of_copy", OWNERS["copy"][0])
    plug("model", "detached", lambda: detached(8, 4))
    findings = found(*CLOUDS, *words)
    finding = findings["step_lowers_loss"]
    assert finding.level == level and cause in finding.cause, finding
    assert first_loud(findings) == {"ok": "", "error": ROOTS.get(case, "step_lowers_loss")}[level]
    assert level == "error" or finding.numbers["after"] < 0.8 * finding.numbers["before"]


def test_time_cannot_change_the_verdict_of_a_healthy_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = []
    for seconds in (0.0, 100.0):
        clock = iter(range(0, 10**6, 1 + int(seconds == 0))).__next__
        monkeypatch.setattr("dlrun.checks._trial.time", SimpleNamespace(thread_time=clock))
        verdicts.append([found("dataset=moons", f"optimizer={o}")["step_lowers_loss"].level for o in ("sgd", "adamw")])
    assert verdicts == [["ok", "ok"]] * 2


class Same(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(x))


def test_one_batch_is_overfitted() -> None:
    for dataset in ("moons", "digits"):
        finding = found(f"dataset={dataset}", level="check")["overfit_1_batch_few"]
        assert finding.level == "ok" and finding.message.startswith("overfitted one batch of 32 rows: loss ")
        assert f" in {finding.numbers['steps']} steps; 1 row: learned, " in finding.message and "; 8 rows: learned, " in finding.message
        assert finding.numbers["after"] <= 0.05 * finding.numbers["before"]


def test_one_batch_is_not_overfitted() -> None:
    plug("model", "same", lambda: Same(8, 4))
    finding = found(*CLOUDS, "model=same", level="check")["overfit_1_batch_few"]
    assert finding.level == "error" and "every row gets the same output" in finding.message
    assert len(finding.numbers["tries"]) == 3


def test_a_floor_that_the_model_cannot_reach_is_no_fault() -> None:
    finding = found("dataset=moons", "model=linear", level="check")["overfit_1_batch_few"]
    assert finding.level in ("ok", "info") and finding.numbers["after"] < 0.7 * finding.numbers["before"]


def test_slow_networks_are_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlrun.checks.overfit_1_batch_few import overfit_1_batch_few

    monkeypatch.setitem(overfit_1_batch_few.__globals__, "SECONDS", 0.0)
    finding = found("dataset=moons", level="check")["overfit_1_batch_few"]
    assert finding.level in ("info", "warning") and "stopped after 0 s" in finding.message and finding.numbers["steps"] == 1


@pytest.mark.parametrize(
    ("after", "falling", "floor", "level"),
    [
        (0.98, False, 0.0, "warning"),
        (0.8, False, 0.0, "warning"),
        (0.8, True, 0.0, "info"),
        (0.8, False, None, "info"),
        (0.6, False, 0.0, "info"),
    ],
)
def test_how_far_a_loss_has_to_fall(after: float, falling: bool, floor: float | None, level: str) -> None:
    entry = Attempt(1.0, 1.0, after, 300, falling=falling)
    assert verdict([entry], entry, floor)[0] == level


def test_a_loss_that_stays_where_it_was_is_an_error() -> None:
    entry = Attempt(1.0, 1.0, 0.995, 300)
    assert verdict([entry], entry, 0.0) == ("error", "it did not fall at any rate")
    assert verdict([entry, Attempt(3.0, 1.0, 0.9, 300, falling=True)], entry, 0.0)[0] != "error"


def test_what_a_token_says_of_the_next_is_its_conditional_entropy() -> None:
    batch = Batch({"x": torch.tensor([[0, 0, 1, 1]]), "y": torch.tensor([[1, 0, 1, 1]])})
    assert alone(batch) == pytest.approx(0.5 * math.log(2))
    assert alone(batch.replace(y=torch.tensor([[1, -100, 1, 1]]))) == pytest.approx(0, abs=1e-12)
    assert alone(batch.replace(x=batch["x"].float())) is None and alone(batch.replace(y=torch.tensor([1]))) is None


def test_a_network_that_looks_at_one_token_is_right_to_stay_at_what_that_says() -> None:
    """The zero-layer transformer is healthy; attention that sees itself alone is the business of receptive_field."""
    words = (
        "dataset=grammar",
        "dataset.n=400",
        "model=transformer",
        "model.depth=0",
        "model.positions=none",
        "task=language_model",
        "optimizer.lr=0.01",
    )
    finding = judged("overfit_1_batch_few", *words)
    assert finding.level == "info" and "each token says no more of the next" in finding.message
