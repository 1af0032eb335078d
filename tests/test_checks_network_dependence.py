"""What outputs depend on: ignored inputs, mixed rows, leaks of the future, unseen parts of the input, modes that do not switch."""

from __future__ import annotations

from typing import Any

import checks_networks
import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, PARTS, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, of_blobs
from checks_networks import Attends, Does, Recurs, Sees, found
from torch import Tensor, nn

from dlrun import DataSpec

SERIES = ("dataset=series_classes", "task=supervised")
TOKENS = ("dataset=token_classes", "task=supervised", "task.kind=classification")
LM = ("dataset=next_tokens", "task=language_model")
PAIRS = ("dataset=pairs", "task=supervised")
SHIFTS = ("dataset=same_tokens", "task=supervised", "task.kind=language_model", "loss=shifted_inside")


@pytest.fixture(autouse=True)
def data(parts: None) -> None:  # noqa: F811
    PARTS["dataset"].update(checks_networks.DATASETS)
    PARTS["loss"].update(checks_networks.LOSSES)


class Carries(Net):
    """Keeps hidden values from one call to the next, as an attribute or, with `buffer`, as running statistics."""

    def __init__(self, buffer: bool) -> None:
        super().__init__(8, 4)
        self.kept: Tensor | None = None
        self.buffer = buffer
        self.register_buffer("mean", torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        if self.buffer:
            self.mean = 0.9 * self.mean + 0.1 * hidden.mean(0).detach()
            return self.head(hidden - self.mean)  # type: ignore[no-any-return]
        out = hidden if self.kept is None or self.kept.shape != hidden.shape else hidden + 0.5 * self.kept
        self.kept = hidden.detach()
        return self.head(out)  # type: ignore[no-any-return]


class Pair(nn.Module):
    def __init__(self, both: bool) -> None:
        super().__init__()
        self.net, self.both = Net(16 if both else 8, 4), both

    def forward(self, x: Any) -> Tensor:
        return self.net(torch.cat((x["a"], x["b"]), 1) if self.both else x["a"])  # type: ignore[no-any-return]


class Late(Recurs):
    """Shifts its inputs once more."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x[:, :-1], (1, 0)))


class Deaf(Net):
    def train(self, mode: bool = True) -> Deaf:
        return super().train(False)


class Rests(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.eval()
        return super().forward(x)


class Drops(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(super().forward(x))  # type: ignore[no-any-return]


def still(momentum: float) -> Net:
    net = Net(8, 4, norm=True)
    net.body[1].momentum = momentum  # type: ignore[assignment]
    return net


FAULTS: dict[str, tuple[tuple[str, ...], Any, str, str, str]] = {
    "ignored": (CLOUDS, lambda: Does(before=torch.ones_like), "input_matters", "error", "do not depend on the input"),
    "size_one": (
        CLOUDS,
        lambda: Does(after=lambda o: o[..., None].softmax(-1)[..., 0]),
        "input_matters",
        "error",
        "every row gets the same",
    ),
    "one_of_two": (PAIRS, lambda: Pair(False), "input_matters", "warning", "x[b]"),
    "softmax_over_rows": (CLOUDS, lambda: Does(between=lambda h: h.softmax(0)), "sample_independence", "error", "another row of the batch"),
    "mean_over_rows": (CLOUDS, lambda: Does(between=lambda h: h - h.mean(0)), "sample_independence", "error", "another row"),
    "view": (CLOUDS, lambda: Does(before=lambda x: x.T.reshape(x.shape)), "sample_independence", "error", "another row"),
    "lstm_time_first": (SERIES, lambda: Recurs(2, 3, "last", nn.LSTM, batch_first=False), "sample_independence", "error", "another row"),
    "attention_time_first": (TOKENS, lambda: Attends("none", False, "mean"), "sample_independence", "error", "another row"),
    "carried": (CLOUDS, lambda: Carries(False), "sample_independence", "error", "after another batch"),
    "statistics": (CLOUDS, lambda: Carries(True), "mode_switch", "error", "an evaluation changes model.mean"),
    "both_ways": (LM, lambda: Recurs(10, bidirectional=True), "causality", "error", "sees the future"),
    "no_mask": (LM, lambda: Attends("none"), "causality", "error", "sees the future"),
    "late_mask": (LM, lambda: Attends("late"), "causality", "error", "step 2 changes"),
    "turned_mask": (LM, lambda: Attends("turned"), "causality", "error", "sees the future"),
    "diagonal_mask": (LM, lambda: Attends("itself"), "receptive_field", "warning", "depends on the input at that position alone"),
    "shifted_in_loss": (SHIFTS, lambda: Attends("none"), "causality", "error", "sees the future"),
    "next_values": (
        ("dataset=next_values", "task=supervised"),
        lambda: Recurs(3, 3, bidirectional=True),
        "causality",
        "error",
        "the future",
    ),
    "shifted_twice": (LM, lambda: Late(10), "causality", "warning", "of that very step"),
    "first_token": (TOKENS, lambda: Attends("right", True, "first"), "receptive_field", "warning", "only 8% of the steps"),
    "first_step": (SERIES, lambda: Recurs(2, 3, "first"), "receptive_field", "warning", "only 8% of the steps"),
    "first_column": (
        CLOUDS,
        lambda: Does(before=lambda x: F.pad(x[:, :1], (0, 7))),
        "receptive_field",
        "warning",
        "only 12% of the columns",
    ),
    "first_channel": (("dataset=colours", "task=supervised"), lambda: Sees(lambda x: x[:, :1]), "receptive_field", "warning", "channels"),
    "corner": (
        ("dataset=pictures", "task=supervised"),
        lambda: Sees(pool=lambda h: h[:, :, 0, 0]),
        "receptive_field",
        "warning",
        "regions",
    ),
    "deaf": (CLOUDS, lambda: Deaf(8, 4, drop=0.3), "mode_switch", "error", "after train() model.body.2 is still in eval mode"),
    "deaf_norm": (CLOUDS, lambda: Deaf(8, 4, norm=True), "mode_switch", "error", "after train() model.body.1"),
    "rests": (CLOUDS, lambda: Rests(8, 4, drop=0.3), "mode_switch", "error", "forward leaves model.body.2 in eval mode"),
    "momentum_0": (CLOUDS, lambda: still(0.0), "mode_switch", "error", "never move (momentum 0.0)"),
    "momentum_small": (CLOUDS, lambda: still(1e-4), "mode_switch", "warning", "of their first values after"),
    "drops_all": (CLOUDS, lambda: Net(8, 4, drop=1.0), "mode_switch", "error", "drops everything"),
    "drops_outputs": (CLOUDS, Drops, "mode_switch", "warning", "of the network's outputs"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_found_first_and_named(case: str) -> None:
    words, make, check, level, text = FAULTS[case]
    plug("model", "mine", make)
    findings = found(*words, "model=mine")
    loud = [f"{name} {f.level}: {f.message}" for name, f in findings.items() if f.level in ("warning", "error")]
    assert loud and loud[0].startswith(f"{check} {level}"), loud
    finding = findings[check]
    assert text in finding.message and finding.cause and finding.next and finding.threshold and finding.numbers


def test_time_first_is_named_as_the_cause() -> None:
    plug("model", "mine", lambda: Recurs(2, 3, "last", nn.LSTM, batch_first=False))
    assert found(*SERIES, "model=mine")["sample_independence"].cause.startswith("model.mix reads axis 0")


def test_what_is_declared_is_held_to() -> None:
    plug("model", "mine", lambda: Does(between=lambda h: h - h.mean(0)))
    assert found(*CLOUDS, "model=mine", "expects.rows_interact=true")["sample_independence"].level == "ok"
    plain = found(*CLOUDS, "model=zero_head", "expects.rows_interact=true")["sample_independence"]
    assert plain.level == "info" and "rows_interact" in plain.message
    plug("model", "tags", lambda: Recurs(3, 3, bidirectional=True))
    finding = found("dataset=next_values", "task=supervised", "model=tags", "expects.causal=true")["causality"]
    assert finding.level == "error"


HEALTHY: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "masked_model": (
        ("dataset=gapped_tokens", "task=supervised", "task.kind=language_model", "loss=per_token"), lambda: Attends("none"), "causality",
    ),
    "causal": (LM, lambda: Attends("right"), "causality"),
    "bigram": (LM, lambda: nn.Sequential(nn.Embedding(10, 32), nn.Linear(32, 10)), "receptive_field"),
    "shift_in_loss": (SHIFTS, lambda: Attends("right"), "causality"),
    "first_of_all": (TOKENS, lambda: Attends("none", pool="first"), "receptive_field"),
    "last_of_causal": (TOKENS, lambda: Attends("right", pool="last"), "receptive_field"),
    "both_ways": (SERIES, lambda: Recurs(2, 3, "last", nn.LSTM, bidirectional=True), "sample_independence"),
    "forgets": (("dataset=long_series", "task=supervised"), lambda: Recurs(2, 3, "last", nn.RNN), "receptive_field"),
    "pictures": (("dataset=pictures", "task=supervised"), lambda: Sees(), "receptive_field"),
    "pairs": (PAIRS, lambda: Pair(True), "input_matters"),
    "batch_of_one": ((*CLOUDS, "train.batch_size=1"), lambda: Net(8, 4), "sample_independence"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_networks_that_see_what_they_should(case: str) -> None:
    words, make, check = HEALTHY[case]
    plug("model", "mine", make)
    findings = found(*words, "model=mine")
    assert {name: f.message for name, f in findings.items() if f.level in ("warning", "error")} == {}
    assert "could not be tried" not in findings[check].message


class Pooled(nn.Module):
    """Attention over steps of which some fill up the row, and a mean of the others; `turned` hides the others instead."""

    def __init__(self, turned: bool, masked: bool) -> None:
        super().__init__()
        self.into, self.mix, self.head = nn.Linear(3, 16), nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)
        self.turned, self.masked, self.place = turned, masked, nn.Parameter(torch.randn(12, 16))

    def forward(self, x: Any) -> Tensor:
        given = isinstance(x, dict)
        way = x["way"] if given else x
        there = torch.arange(way.shape[1]) < x["length"][:, None] if given else (way != 0).any(-1)
        hidden = (there if self.turned else ~there) & torch.tensor(self.masked)
        hidden = hidden & ~hidden.all(1, keepdim=True)
        h = self.into(way) + self.place
        h = h + self.mix(h, h, h, key_padding_mask=hidden)[0]
        return self.head((h * ~hidden[..., None]).sum(1) / (~hidden).sum(1, keepdim=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("turned", "masked"), [(True, True), (False, True), (False, False)])
def test_a_mask_that_shows_what_fills_up_rows(turned: bool, masked: bool) -> None:
    lengths = 3 + torch.arange(256) % 7
    x = torch.randn(256, 12, 3, generator=torch.Generator().manual_seed(0)) * (torch.arange(12) < lengths[:, None])[..., None]
    words = ("dataset=mine", "task=supervised", "model=mine")
    plug("dataset", "mine", of_blobs(lambda _, y: {"x": {"way": x, "length": lengths}, "y": y}))
    plug("model", "mine", lambda: Pooled(turned, masked))
    finding = judged("receptive_field", *words)
    assert (finding.level == "warning" and "recorded steps hardly do" in finding.message) == turned, finding
    plug("dataset", "mine", of_blobs(lambda _, y: (x, y)))  # lengths are read off the filler
    plug("model", "mine", lambda: Pooled(False, masked))
    assert judged("receptive_field", *words).level == "ok"


def test_a_prefix_that_is_no_target_may_see_itself() -> None:
    class Prefix(nn.Module):
        def __init__(self, vocab: int) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(vocab, 16), nn.Linear(16, vocab)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            seen = torch.ones(x.shape[1], x.shape[1]).tril()
            seen[:4, :4] = 1
            return self.head((seen / seen.sum(1, keepdim=True)) @ h + h)

    tokens = torch.randint(12, (64, 11), generator=torch.Generator().manual_seed(0))
    plug("model", "mine", lambda vocab: Prefix(vocab))
    words = ("dataset=mine", "task=supervised", "task.kind=language_model", "model=mine", "loss=mine")
    plug("loss", "mine", lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()))
    for hidden, level in ((3, "ok"), (0, "error")):
        y = tokens[:, 1:].clone()
        y[:, :hidden] = -100
        data = {"x": tokens[:, :-1], "y": y}
        spec = DataSpec((10,), (10, 12), "language_model", vocab=12)
        plug("dataset", "mine", of_blobs(lambda x, _, data=data: {k: v.clone() for k, v in data.items()}, rows=64, spec=spec))
        finding = judged("causality", *words)
        assert finding.level == level, finding


def test_a_readout_that_the_task_computes_is_asked_after_its_zeros_were_filled() -> None:
    words = ("dataset=digits", "task=least_squares", "model=random_features", "train.batch_size=full", "train.steps=1")
    findings = found(*words, "train.clip_norm=null")
    assert findings["input_matters"].level == "ok", findings["input_matters"].message
    assert {name: f.message for name, f in findings.items() if f.level in ("warning", "error")} == {}
