"""Columns that number the rows of a sorted file or hold targets of their own, windows that reach too far, decoders fed the answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, clouds, draw, numbers
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits


@pytest.mark.parametrize("data", [clouds, numbers])
@pytest.mark.parametrize("by_target", [True, False])
def test_the_number_of_the_row(data: Any, by_target: bool) -> None:
    x, y = data()
    x = x[:, :4]
    order = y.argsort() if by_target else torch.randperm(len(y), generator=draw(1))
    x, y = torch.cat((x[order], torch.arange(len(y))[:, None] / 300 - 1.5), 1), y[order]
    mixed = torch.randperm(len(y), generator=draw(2))
    finding = asked("target_in_input", (x[mixed], y[mixed]))
    assert finding.level == ("warning" if by_target else "ok") and ("x[4] numbers the rows" in finding.message) == by_target


def test_a_curve_over_time_and_a_threshold_are_meant() -> None:
    time = torch.arange(900)[torch.randperm(900, generator=draw(1))] / 900
    noise = torch.randn(900, 3, generator=draw(2))
    assert asked("target_in_input", (torch.cat((time[:, None], noise), 1), time.square())).level in ("ok", "info")
    x = torch.randn(900, 5, generator=draw(3))
    x[:, 1] += x[:, 0]
    assert asked("target_in_input", (x, (x[:, 0] > 0).long())).level == "ok"


def test_a_category_encoded_by_its_own_targets() -> None:
    x, _ = numbers()
    y = (x[:, 0] + torch.randn(900, generator=draw(1)) > 0).long()

    def encoded(own: bool) -> Any:
        where = torch.randint(600, (900,), generator=draw(2))
        seen = slice(None, 600) if own else slice(600, None)
        sums, count = (torch.zeros(600).index_add_(0, where[seen], part[seen].float()) for part in (y, torch.ones(900)))
        return torch.cat((x, torch.where(count > 0, sums / count.clamp(min=1), 0.5)[where][:, None]), 1), y

    finding = asked("target_in_input", encoded(True))
    assert finding.level == "warning" and finding.numbers["made_of_targets"] == "x[8]"
    assert asked("target_in_input", encoded(False)).level == "ok"


def series(reach: int) -> Any:
    noise = torch.randn(1500, generator=draw(1))
    walk = torch.stack([noise[t : t + 30] @ 0.9 ** torch.arange(30.0) for t in range(1400)])
    cut = walk.unfold(0, 13, 1)
    x, y = cut[:, reach : 12 + reach, None], cut[:, 12]
    return lambda: Splits((x[:900], y[:900]), (x[920:], y[920:]), spec=DataSpec((12, 1), (), "sequence"))


def test_windows_that_end_with_the_value_asked_for() -> None:
    finding = asked("target_in_input", series(1), "loss=mse")
    assert finding.level == "warning" and "x[11] is the target" in finding.message
    assert asked("target_in_input", series(0), "loss=mse").level == "ok"
    first = torch.randn(900, 8, 1, generator=draw(2))  # the first value is to be remembered
    spec = DataSpec((8, 1), (), "sequence")
    assert asked("target_in_input", lambda: Splits((first, first[:, 0, 0]), spec=spec), "loss=mse").level == "info"


class decoder(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any, *, shifts: bool = False, packs: bool = False) -> None:
        super().__init__()
        self.names = nn.Embedding(10, 16)
        self.shifts, self.packs = shifts, packs
        self.encoder, self.decoder = nn.GRU(16, 16, batch_first=True), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        _, state = self.encoder(self.names(x["source"]))
        told = self.names(x["written"])
        if self.shifts:
            told = torch.cat((torch.zeros_like(told[:, :1]), told[:, :-1]), 1)
        if self.packs:
            told = told.mean(1, keepdim=True).expand_as(told)
        out: Tensor = self.head(self.decoder(told, state)[0])
        return out


def steps(out: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out.transpose(1, 2), y)


@pytest.mark.parametrize(("behind", "words"), [(False, []), (True, []), (False, ["model.shifts=true"]), (False, ["model.packs=true"])])
def test_a_decoder_fed_the_answer(behind: bool, words: list[str]) -> None:
    source = torch.randint(2, 10, (400, 6), generator=draw(1))
    y = source.flip(1)
    written = torch.cat((torch.ones(400, 1, dtype=torch.long), y[:, :-1]), 1) if behind else y
    spec = DataSpec((6,), (6, 10), "sequence", vocab=10)
    plug("dataset", "turned", lambda: Splits({"x": {"source": source, "written": written}, "y": y}, spec=spec))
    plug("model", "decoder", decoder)
    plug("loss", "steps", steps)
    finding = judged("target_in_input", "dataset=turned", "task=supervised", "model=decoder", "loss=steps", *words)
    wrong = not behind and not words
    assert (finding.level == "error") == wrong and ("x.written equals the targets" in finding.message) == wrong, finding


class each_node(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.head(x["nodes"])
        return out


@pytest.mark.parametrize("leaked", [True, False])
def test_the_label_among_the_features_of_each_node(leaked: bool) -> None:
    y = torch.randint(3, (1, 300), generator=draw(1))
    words = nn.functional.one_hot(y, 3) + torch.randn(1, 300, 3, generator=draw(2))
    nodes = torch.cat((words, y[..., None].float() if leaked else torch.randn(1, 300, 1, generator=draw(3))), 2)
    split = {"x": {"nodes": nodes, "adj": torch.ones(1, 300, 300)}, "y": y, "mask": torch.rand(1, 300, generator=draw(4)) < 0.7}
    plug("dataset", "papers", lambda: Splits(split, split, spec=DataSpec((300, 4), (300, 3), "graph", classes=3)))
    plug("model", "each_node", each_node)
    plug("loss", "steps", steps)
    finding = judged("target_in_input", "dataset=papers", "task=supervised", "model=each_node", "loss=steps")
    assert (finding.level == "warning") == leaked and (finding.numbers["copies"] == ["x.nodes[..., 3]"]) == leaked, finding
