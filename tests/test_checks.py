"""Each check on a set-up that must fail it and on one that must pass: level, numbers, words; and that no check leaves a trace."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import checks_healthy
import numpy as np
import pytest
import runs
import torch
import torch.nn.functional as F
from checks_healthy import Net, blobs, of_blobs
from torch import Tensor, nn

from dlrun import registry
from dlrun.checks import Finding, run_checks
from dlrun.checks._frame import Finding as Raw
from dlrun.checks._frame import plain
from dlrun.cli import main
from dlrun.config import compose
from dlrun.models.mlp import mlp
from dlrun.run import Run
from dlrun.train import build_run

PARTS = registry.PLUGINS
CLOUDS = ("dataset=clouds", "task=supervised")


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    saved = {group: dict(known) for group, known in registry.PLUGINS.items()}
    checks_healthy.add()
    yield
    for group, known in saved.items():
        registry.PLUGINS[group] = known


def built(*words: str) -> Run:
    return build_run(compose([*runs.QUIET, *words]))


def found(*words: str, level: str = "fast") -> dict[str, Finding]:
    return {finding.check: finding for finding in run_checks(built(*words), level)}


def first_loud(findings: dict[str, Finding]) -> str:
    return next((name for name, finding in findings.items() if finding.level in ("warning", "error")), "")


def plug(group: str, name: str, part: Any) -> None:
    PARTS[group][name] = part


class big(nn.Module):
    """The built-in mlp with its last layer scaled by `factor`."""

    def __init__(self, in_shape: Any, out_shape: Any, *, factor: float = 30.0) -> None:
        super().__init__()
        self.net = mlp(in_shape, out_shape, width=256, depth=2, activation="relu", norm="none", dropout=0.0)
        with torch.no_grad():
            list(self.net.children())[-1].weight.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class times(big):
    """The same by scaling outputs instead of weights."""

    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__(in_shape, out_shape, factor=1.0)
        self.scale = nn.Parameter(torch.tensor(30.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


@pytest.mark.parametrize("seed", range(8))
def test_a_last_layer_scaled_by_30_is_an_error_of_the_first_loss(seed: int) -> None:
    plug("model", "big", big)
    findings = found("dataset=moons", "model=big", f"seed={seed}")
    first = findings["initial_loss"]
    assert first_loud(findings) == "initial_loss"
    assert first.level == "error" and "first loss" in first.message and "last layer" in first.cause
    assert 2.6 < first.numbers["last_layer_gain"] < 3.4 and first.numbers["expected"] == pytest.approx(math.log(2))


def test_weights_that_learned_elsewhere_are_no_luck() -> None:
    """A network that its author trained: as sure of itself as one that is scaled, but right, whatever the seed."""
    weights = big((2,), (2,), factor=10.0)
    from sklearn.datasets import make_moons

    x, y = (torch.as_tensor(part) for part in make_moons(400, noise=0.1, random_state=3))
    learn = torch.optim.Adam(weights.parameters(), lr=3e-3)
    for _ in range(60):
        learn.zero_grad()
        F.cross_entropy(weights(x.float()), y).backward()
        learn.step()
    with torch.no_grad():
        list(weights.net.children())[-1].weight.mul_(3)
    plug("model", "known", lambda: copy.deepcopy(weights))
    first = found("dataset=moons", "model=known")["initial_loss"]
    assert first.level == "info" and first.numbers["last_layer_gain"] > 2.4
    assert first.numbers["other_seeds"] == pytest.approx(first.numbers["loss"], rel=1e-4) and "lower than" in first.message


def test_kaiming_heads_are_none(seeds: int = 3) -> None:
    """A last layer with He's own scale is 14 times the built-in one's: usual elsewhere, so no error even where the loss starts high."""
    plug("model", "big", big)
    for seed in range(seeds):
        first = found("dataset=moons", "model=big", "model.factor=14.1", f"seed={seed}")["initial_loss"]
        assert first.level in ("ok", "info", "warning"), first
        assert first_loud(found("dataset=digits", "model=big", "model.factor=5.8", f"seed={seed}")) == ""


def test_scaled_outputs_are_found_as_well() -> None:
    plug("model", "times", times)
    assert found("dataset=moons", "model=times")["initial_loss"].level == "error"


def test_the_first_loss_beside_ln_c() -> None:
    for dataset, classes in (("moons", 2), ("digits", 10)):
        first = found(f"dataset={dataset}")["initial_loss"]
        assert first.level == "ok" and f"(ln {classes})" in first.message
        assert first.numbers["loss"] == pytest.approx(math.log(classes), abs=0.05)


def test_a_loss_that_is_no_number_from_the_start() -> None:
    plug("loss", "root", lambda out, y: (out.mean(1) * 0 - 1).sqrt().mean())
    first = found(*CLOUDS, "loss=root")["initial_loss"]
    assert first.level == "error" and "nan" in first.message


NEGATED = {
    "classes": ("clouds", lambda out, y: -F.cross_entropy(out, y)),
    "quantities": ("near_targets", lambda out, y: -(out.squeeze(-1) - y).square().mean()),
    "labels": ("several_labels", lambda out, y: -F.binary_cross_entropy_with_logits(out, y)),
}


@pytest.mark.parametrize("case", NEGATED)
def test_a_negated_loss(case: str) -> None:
    dataset, loss = NEGATED[case]
    plug("loss", "negated", loss)
    model = ["model=flat"] if case == "quantities" else []
    findings = found(f"dataset={dataset}", "task=supervised", "loss=negated", *model)
    assert first_loud(findings) == "initial_loss"
    assert "sign" in findings["initial_loss"].cause and findings["initial_loss"].numbers["driven_away"] > 0.95


@pytest.mark.parametrize("column", [0, 5])
def test_nan_in_a_column(column: int) -> None:
    x, y = blobs(256)
    x[100, column] = float("nan")
    plug("dataset", "holed", of_blobs(lambda *_: (x, y)))
    findings = found("dataset=holed", "task=supervised")
    first = findings["finite_data"]
    assert first_loud(findings) == "finite_data" and first.level == "error"
    assert f"x of row 100 is nan at column {column}" in first.message
    assert (first.numbers["row"], first.numbers["column"]) == (100, [column])


def test_infinity_in_the_validation_split_is_found_and_clean_data_are_counted() -> None:
    (x, y), (clean, _) = blobs(64), blobs(64)
    x[7] = float("inf")
    plug("dataset", "holed", lambda: checks_healthy.Splits((clean, y), (x, y)))
    assert "split val: x of row 7 is inf" in found("dataset=holed", "task=supervised")["finite_data"].message
    assert found(*CLOUDS)["finite_data"].numbers == {"rows": {"train": 256, "val": 256, "test": 256}}


def test_targets_that_are_left_out_by_the_loss_may_be_nan() -> None:
    finding = found("dataset=gaps", "task=supervised", "model=three", "loss=skips_gaps")["finite_data"]
    assert finding.level == "info" and "nan in y of train leaves the loss finite" in finding.message


LIKE_MSE = {
    "mean": lambda out, y: ((out - y) ** 2).mean(),
    "huber": lambda out, y: torch.where((out - y).abs() < 1, (out - y) ** 2 / 2, (out - y).abs() - 0.5).mean(),
    "torch": lambda out, y: F.l1_loss(out, y),
    "by_class": lambda out, y: -(y * F.logsigmoid(out) + (1 - y) * F.logsigmoid(-out)).mean(),
}


@pytest.mark.parametrize("case", LIKE_MSE)
def test_columns_against_rows(case: str) -> None:
    plug("loss", "mine", LIKE_MSE[case])
    dataset = "zero_one" if case == "by_class" else "near_targets"
    findings = found(f"dataset={dataset}", "task=supervised", "model=column", "loss=mine")
    assert first_loud(findings) == "shapes" and findings["shapes"].level == "error"
    assert "outputs (64, 1) and targets (64,) broadcast" in findings["shapes"].message


def test_columns_against_rows_where_the_loss_takes_care() -> None:
    findings = found("dataset=near_targets", "task=supervised", "model=column", "loss=squeezes")
    assert findings["shapes"].level == "ok" and findings["shapes"].numbers["outputs"] == [[64, 1]]


def test_a_ranking_loss_may_broadcast() -> None:
    """It compares every row with every other and means it: which target belongs to which row still matters."""

    def ranks(out: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-(out - out.T) * (y[:, None] - y[None]).sign()).mean()

    plug("loss", "ranks", ranks)
    assert first_loud(found("dataset=near_targets", "task=supervised", "model=column", "loss=ranks")) == ""


def test_labels_that_start_at_one_against_a_head_of_the_right_size() -> None:
    plug("dataset", "from_one", of_blobs(lambda x, y: (x, y + 1)))
    plug("model", "four", lambda: Net(8, 4))
    findings = found("dataset=from_one", "task=supervised", "model=four")
    shapes = findings["shapes"]
    assert first_loud(findings) == "shapes" and shapes.level == "error" and "targets go from 1 to 4" in shapes.message
    assert "start at 1" in shapes.cause and findings["initial_loss"].level == "not_applicable"


def test_labels_that_start_at_one_where_classes_are_inferred() -> None:
    plug("dataset", "from_one", of_blobs(lambda x, y: (x, y + 1)))
    findings = found("dataset=from_one", "task=supervised")
    assert first_loud(findings) == "shapes" and findings["shapes"].level == "warning"
    assert "labels go from 1 to 4" in findings["shapes"].message


def test_a_class_too_many_for_images_of_classes() -> None:
    plug("model", "narrow", lambda: nn.Conv2d(1, 2, 1))
    x = torch.randn(64, 1, 5, 5)
    y = torch.arange(64 * 25).reshape(64, 5, 5) % 3
    plug("dataset", "areas", lambda: checks_healthy.Splits((x, y), (x, y), spec=checks_healthy.DataSpec((1, 5, 5), (2, 5, 5), "other")))
    shapes = found("dataset=areas", "task=supervised", "model=narrow", "loss=over_classes")["shapes"]
    assert shapes.level == "error" and "targets go from 0 to 2, the outputs have 2 classes" in shapes.message


def test_a_loss_that_is_not_reduced() -> None:
    plug("loss", "rows", lambda out, y: F.cross_entropy(out, y, reduction="none"))
    findings = found(*CLOUDS, "loss=rows")
    shapes = findings["shapes"]
    assert shapes.level == "error" and "the loss has shape (64,)" in shapes.message and shapes.numbers["loss"] == [64]
    assert findings["loss_falls"].level == "not_applicable"


def test_a_crash_is_one_finding_and_the_rest_says_so() -> None:
    plug("model", "wrong", lambda: nn.Linear(5, 4))
    findings = found(*CLOUDS, "model=wrong", level="check")
    assert [f.level for f in findings.values()].count("error") == 1 and "RuntimeError" in findings["shapes"].message
    assert findings["overfit_batch"].message == "not run: shapes found that the set-up cannot run"


class Dropped(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.body(x), 0.3))  # type: ignore[no-any-return]


class Attends(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x).unflatten(1, (4, 8))
        return self.head(F.scaled_dot_product_attention(hidden, hidden, hidden, dropout_p=0.2).flatten(1))  # type: ignore[no-any-return]


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


class Swallows(Net):
    def train(self, mode: bool = True) -> Swallows:
        return super().train(True)


class Forgets(Net):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.unused = nn.Dropout(0.3)


class ByName(Forgets):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.body(x), self.unused.p, self.training))  # type: ignore[no-any-return]


MODES = {
    "functional": (lambda: Dropped(8, 4), "error", "two evaluations of the same batch differ", "dropout is active"),
    "attention": (lambda: Attends(8, 4), "error", "two evaluations", "dropout is active"),
    "noise": (lambda: Noisy(8, 4), "warning", "two evaluations", "drawn at random"),
    "swallowed": (lambda: Swallows(8, 4, drop=0.3), "error", "still in train mode", "train() method"),
    "swallowed_norm": (lambda: Swallows(8, 4, norm=True), "error", "model.body.1 is still in train mode", "train() method"),
    "forgotten": (lambda: Forgets(8, 4), "warning", "1 dropout layers that forward never calls", "forgotten"),
    "by_name": (lambda: ByName(8, 4), "ok", "evaluation repeats itself", ""),
    "right": (lambda: Net(8, 4, drop=0.5, norm=True), "ok", "evaluation repeats itself", ""),
}


@pytest.mark.parametrize("case", MODES)
def test_train_and_eval(case: str) -> None:
    make, level, words, cause = MODES[case]
    plug("model", "mine", make)
    findings = found(*CLOUDS, "model=mine")
    finding = findings["mode_switch"]
    assert finding.level == level and words in finding.message and cause in finding.cause
    assert first_loud(findings) == ("" if level == "ok" else "mode_switch")
    assert (finding.numbers["difference"] > finding.numbers["bound"]) == (case in ("functional", "attention", "noise", "swallowed"))


def test_declared_noise_is_held_to_its_declaration() -> None:
    plug("model", "mine", lambda: Noisy(8, 4))
    assert found(*CLOUDS, "model=mine", "expects.stochastic_eval=true")["mode_switch"].level == "ok"
    still = found(*CLOUDS, "model=heavy_dropout", "expects.stochastic_eval=true")["mode_switch"]
    assert still.level == "warning" and "repeats itself" in still.message


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
    assert findings["ownership"].level == level and words in findings["ownership"].message
    assert first_loud(findings) == ("ownership" if level == "error" else "")


def test_one_flat_tensor_owns_what_lies_in_it() -> None:
    plug("optimizer", "flat", flat)
    assert found(*CLOUDS, "optimizer=flat")["ownership"].level == "ok"


def test_parameters_held_twice() -> None:
    class Twice(torch.optim.SGD):
        def __init__(self, named: Any) -> None:
            super().__init__([p for _, p in named], lr=0.1)
            self.param_groups.append({**self.param_groups[0], "params": [named[0][1]]})

    plug("optimizer", "twice", lambda named_parameters: Twice(named_parameters))
    finding = found(*CLOUDS, "optimizer=twice")["ownership"]
    assert finding.level == "error" and len(finding.numbers["twice"]) == 1


def test_what_is_declared_frozen() -> None:
    plug("optimizer", "mine", OWNERS["first_layer"][0])
    assert found(*CLOUDS, "optimizer=mine", "expects.frozen=[model.2.*,model.4.*]")["ownership"].level in ("ok", "error")
    moving = found(*CLOUDS, "expects.frozen=['model.1.*']")["ownership"]
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
    "uphill": (("optimizer=uphill",), "error", "uphill"),
    "no_gradient": (("model=detached",), "error", "no gradient reaches"),
    "copy": (("optimizer=of_copy",), "error", "no gradient reaches"),
    "right": ((), "ok", ""),
    "right_sgd": (("optimizer=sgd",), "ok", ""),
}


@pytest.mark.parametrize("case", FALLS)
def test_the_loss_falls_on_one_batch(case: str) -> None:
    words, level, cause = FALLS[case]
    plug("optimizer", "uphill", uphill)
    plug("optimizer", "of_copy", OWNERS["copy"][0])
    plug("model", "detached", lambda: detached(8, 4))
    findings = found(*CLOUDS, *words)
    finding = findings["loss_falls"]
    assert finding.level == level and cause in finding.cause, finding
    assert first_loud(findings) == {"ok": "", "error": "ownership" if case == "copy" else "loss_falls"}[level]
    assert level == "error" or finding.numbers["after"] < 0.8 * finding.numbers["before"]


def test_time_cannot_change_the_verdict_of_a_healthy_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import dlrun.checks.loss_falls as module

    verdicts = []
    for seconds in (0.0, 100.0):
        monkeypatch.setattr(module.loss_falls.__globals__["time"], "perf_counter", iter(range(0, 10**6, 1 + int(seconds == 0))).__next__)
        verdicts.append([found("dataset=moons", f"optimizer={o}")["loss_falls"].level for o in ("sgd", "adamw")])
    assert verdicts == [["ok", "ok"]] * 2


class Same(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(x))


def test_one_batch_is_overfitted() -> None:
    for dataset in ("moons", "digits"):
        finding = found(f"dataset={dataset}", level="check")["overfit_batch"]
        assert finding.level == "ok" and finding.message.startswith("overfitted one batch of 32 rows: loss ")
        assert finding.message.endswith(f"in {finding.numbers['steps']} steps") and " -> " in finding.message
        assert finding.numbers["after"] <= 0.05 * finding.numbers["before"]


def test_one_batch_is_not_overfitted() -> None:
    plug("model", "same", lambda: Same(8, 4))
    finding = found(*CLOUDS, "model=same", level="check")["overfit_batch"]
    assert finding.level == "error" and "every row gets the same output" in finding.message
    assert len(finding.numbers["tries"]) == 3


def test_a_floor_that_the_model_cannot_reach_is_no_fault() -> None:
    finding = found("dataset=moons", "model=linear", level="check")["overfit_batch"]
    assert finding.level in ("ok", "info") and finding.numbers["after"] < 0.7 * finding.numbers["before"]


def test_slow_networks_are_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlrun.checks.overfit_batch import overfit_batch

    monkeypatch.setitem(overfit_batch.__globals__, "SECONDS", 0.0)
    finding = found("dataset=moons", level="check")["overfit_batch"]
    assert finding.level in ("info", "warning") and "stopped after 0 s" in finding.message and finding.numbers["steps"] == 1


def test_what_cannot_be_copied_is_not_applicable() -> None:
    class Locked(Net):
        def __init__(self) -> None:
            super().__init__(8, 4)
            self.lock = threading.Lock()

    plug("model", "locked", Locked)
    findings = found(*CLOUDS, "model=locked", level="check")
    assert {f.level for f in findings.values()} == {"ok", "not_applicable"}
    assert findings["ownership"].level == findings["finite_data"].level == "ok"
    assert "the networks cannot be copied (TypeError: cannot pickle" in findings["loss_falls"].message


def test_json_has_the_contract_s_keys_and_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "dataset=moons", "device=cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True and document["seconds"] > 0
    assert [finding["check"] for finding in document["findings"]] == [
        "finite_data", "shapes", "initial_loss", "mode_switch", "ownership", "loss_falls", "overfit_batch",
    ]  # fmt: skip
    for finding in document["findings"]:
        assert list(finding)[:7] == ["check", "level", "message", "cause", "next", "numbers", "threshold"]


def test_an_error_exits_1_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    plug("model", "big", big)
    words = ["dataset=moons", "model=big", "device=cpu"]
    assert main(["check", *words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    loud = [f for f in document["findings"] if f["level"] in ("warning", "error")]
    assert document["ok"] is False and loud[0]["check"] == "initial_loss" and loud[0]["cause"] and loud[0]["next"] and loud[0]["threshold"]
    assert main(["check", *words]) == 1
    assert "check initial_loss: ERROR: first loss" in capsys.readouterr().out


def test_numbers_become_plain() -> None:
    numbers = {"a": torch.tensor(2), "b": np.float32(0.5), "c": [torch.ones(2)], 3: torch.float32, "d": {"e": (None, True)}}
    assert Raw("ok", "x", numbers=numbers).as_json()["numbers"] == plain(numbers)
    assert json.loads(json.dumps(plain(numbers))) == {"a": 2, "b": 0.5, "c": [[1.0, 1.0]], "3": "torch.float32", "d": {"e": [None, True]}}
