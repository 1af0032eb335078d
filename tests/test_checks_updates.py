"""Checks of single updates: gradients cleared, weights that move and stay, rates, eps, decay, frozen weights: what must fail and pass."""

from __future__ import annotations

import pytest
import torch
from checks_found import CLOUDS, built, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from checks_steppers import add, asked
from torch import nn

from dlrun import registry
from dlrun.checks import Subject
from dlrun.checks._folding import fold, in_order
from dlrun.errors import UsageError

CASES = {
    "cleared": ("grads_cleared", ("optimizer=descends",), "ok", "zero_grad leaves no gradient"),
    "kept": ("grads_cleared", ("optimizer=keeps_gradients",), "error", "leaves the gradients of 6 of 6 parameters"),
    "some_kept": ("grads_cleared", ("optimizer=keeps_some",), "error", "leaves the gradients of 5 of 6 parameters"),
    "added_up": ("grads_cleared", ("optimizer=adds_up_four",), "info", "keep the weights still"),
    "moves": ("update_size", ("optimizer=descends",), "ok", "a step changes weights by"),
    "out_of_place": ("update_size", ("optimizer=out_of_place",), "error", "6 of 6 parameters have gradients and never move"),
    "biases": ("update_size", ("optimizer=without_biases",), "error", "3 of 6 parameters have gradients and never move: model.1.bias"),
    "cleared_early": ("update_size", ("optimizer=cleared_early",), "error", "gradients of 6 of 6 parameters have no effect"),
    "decays": ("update_size", ("optimizer=sgd", "optimizer.weight_decay=0.01"), "ok", "a step changes weights by"),
    "slow": ("update_size", ("optimizer=descends", "optimizer.lr=1e-30"), "info", "no weight moved"),
    "reset": ("update_size", ("model=resets",), "error", "model.body.0.weight holds as before the first step again"),
    "rebuilt": ("update_size", ("model=rebuilds",), "error", "1 parameters are other objects"),
    "normalised": ("update_size", ("model=on_sphere",), "ok", "a step changes weights by"),
    "up": ("lr_sanity", ("optimizer=goes_up",), "error", "goes up the gradient: cosine +1.00"),
    "down": ("lr_sanity", ("optimizer=descends",), "ok", "lr 0.05"),
    "deaf": ("lr_sanity", ("optimizer=own_rate", "schedule=cosine"), "error", "the schedule has no effect"),
    "deaf_but_constant": ("lr_sanity", ("optimizer=own_rate",), "ok", ""),
    "low": ("lr_sanity", ("optimizer.lr=1e-8",), "warning", "in 1000 steps the loss can fall by"),
    "low_and_pretrained": ("lr_sanity", ("optimizer.lr=1e-8", "expects.pretrained=true"), "ok", ""),
    "rather_low": ("lr_sanity", ("optimizer.lr=1e-5",), "ok", ""),
    "high": ("lr_sanity", ("optimizer.lr=1",), "warning", "the loss of new batches"),
    "rather_high": ("lr_sanity", ("optimizer.lr=0.1",), "ok", ""),
    "eps": ("lr_sanity", ("optimizer=adam", "optimizer.eps=10"), "warning", "eps=10: 60 steps on one batch"),
    "eps_for_its_rate": ("lr_sanity", ("optimizer=adam", "optimizer.eps=0.1", "optimizer.lr=0.05"), "ok", ""),
    "clip": ("lr_sanity", ("optimizer=sgd", "train.clip_norm=1e-7"), "warning", "times the rate takes it"),
    "decay": ("decay_groups", ("optimizer=sgd", "optimizer.weight_decay=10"), "warning", "without decay to 0.0"),
    "decay_adam": ("decay_groups", ("optimizer=adam", "optimizer.weight_decay=10"), "warning", "without decay to 0.0"),
    "decay_usual": ("decay_groups", ("optimizer.weight_decay=0.1",), "ok", "weight decay 0.1"),
    "decay_grokking": ("decay_groups", ("optimizer.weight_decay=1",), "ok", "weight decay 1"),
    "decay_lion": ("decay_groups", ("optimizer=lion", "optimizer.weight_decay=3"), "ok", "weight decay 3"),
    "thawed": ("frozen_report", (), "ok", "nothing is frozen"),
    "all_frozen": ("frozen_report", ("model=all_frozen",), "error", "nothing can be trained"),
    "middle_frozen": ("frozen_report", ("model=middle_frozen",), "warning", "model.body.3.weight stay as they were drawn"),
    "middle_declared": ("frozen_report", ("model=middle_frozen", "expects.frozen=['model.body.3.*']"), "info", "frozen: 69%"),
    "middle_pretrained": ("frozen_report", ("model=middle_frozen", "expects.pretrained=true"), "info", "frozen: 69%"),
    "matrices_frozen": ("frozen_report", ("model=matrices_frozen",), "warning", "only biases and norms train"),
    "first_frozen": ("frozen_report", ("model=first_frozen",), "info", "frozen:"),
    "body_frozen": ("frozen_report", ("model=frozen_body",), "info", "frozen:"),
    "untuned": ("frozen_report", ("model=untuned", "optimizer.lr=0.02"), "warning", "with them thawed to"),
    "untuned_declared": ("frozen_report", ("model=untuned", "expects.frozen=['model.body.*']"), "info", "frozen:"),
    "adapters": ("frozen_report", ("model=low_rank",), "info", "frozen:"),
    "glob_of_nothing": ("frozen_report", ("expects.frozen=['model.bodi.*']",), "warning", "there is no such parameter"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_updates(case: str) -> None:
    name, words, level, text = CASES[case]
    finding = asked(name, *words)
    assert finding.level == level and text in finding.message, finding
    assert level not in ("warning", "error") or (finding.cause and finding.next and finding.threshold and finding.numbers)


def test_what_makes_steps_small_is_named() -> None:
    assert "eps" in asked("lr_sanity", "optimizer=adam", "optimizer.eps=10").cause
    assert "clip_norm" in asked("lr_sanity", "optimizer=sgd", "train.clip_norm=1e-7").cause
    assert "learning rate" in asked("lr_sanity", "optimizer.lr=1e-8").cause


def test_a_network_that_has_learned_before_may_take_small_steps() -> None:
    torch.manual_seed(0)
    x, y = (leaf for leaf in _clouds())
    taught = nn.Sequential(nn.Flatten(), Net(8, 4))
    steps = torch.optim.Adam(taught.parameters(), lr=0.01)
    for _ in range(100):
        steps.zero_grad()
        nn.functional.cross_entropy(taught(x), y).backward()
        steps.step()
    plug("model", "taught", lambda: taught)
    assert asked("lr_sanity", "model=taught", "optimizer.lr=1e-8").level == "ok"
    plug("model", "untaught", lambda: nn.Sequential(nn.Flatten(), Net(8, 4)))
    assert asked("lr_sanity", "model=untaught", "optimizer.lr=1e-8").level == "warning"


def _clouds() -> tuple[torch.Tensor, torch.Tensor]:
    from checks_healthy import blobs

    return blobs(256)


ROOTS = {
    "keeps_gradients": "grads_cleared", "keeps_some": "grads_cleared", "goes_up": "lr_sanity", "out_of_place": "update_size",
    "without_biases": "update_size", "sums": "optimizer_drill", "forgets": "optimizer_drill", "with_momentum": "checkpoint_round_trip",
    "descends": "", "cleared_early": "update_size",
}  # fmt: skip


MINE = (
    "optimizer_owns", "frozen_report", "decay_groups", "lr_sanity", "schedule_preview", "update_size", "grads_cleared", "optimizer_drill",
    "step_lowers_loss",    "overfit_1_batch_few", "determinism", "checkpoint_round_trip", "memory_slope",
)  # fmt: skip


@pytest.mark.parametrize("optimizer", ROOTS)
def test_one_cause_is_one_finding(optimizer: str) -> None:
    add()
    subject, known = Subject(built(*CLOUDS, f"optimizer={optimizer}"), 5.0), {name: registry.get("check", name) for name in MINE}
    findings = [subject.judge(name, known[name]) for name in in_order(known)]
    fold(findings, known)
    loud = [finding.check for finding in findings if finding.level in ("warning", "error")]
    assert loud == [root for root in (ROOTS[optimizer],) if root]


def test_an_optimizer_that_chooses_no_parameter_is_refused_in_a_line() -> None:
    plug("optimizer", "of_heads", lambda named_parameters: torch.optim.SGD([p for name, p in named_parameters if "heads" in name], lr=0.1))
    with pytest.raises(UsageError, match="chooses none of the 6 parameters that it is given: model.1.weight"):
        built(*CLOUDS, "optimizer=of_heads")


def test_clipping_is_tried_without_where_larger_steps_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.get("check", "lr_sanity").__globals__, "WORKS", float("inf"))
    clipped = asked("lr_sanity", "optimizer=sgd", "train.clip_norm=1e-7")
    assert clipped.level == "warning" and "without clipping to" in clipped.message and "clip_norm=1e-07" in clipped.cause
    assert asked("lr_sanity", "optimizer=sgd", "optimizer.lr=1e-8").level == "info"
    assert asked("lr_sanity", "optimizer=adam", "train.clip_norm=1e-7").level == "ok"
