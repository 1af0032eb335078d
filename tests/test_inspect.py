"""`inspect_data` on known values, and the network's summary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dlrun.batch import Batch
from dlrun.inspect import describe, describe_lines, inspect_data
from dlrun.sinks.terminal import number
from dlrun.summary import summary_lines


def test_a_tensor_of_known_values(capsys: pytest.CaptureFixture[str]) -> None:
    facts = inspect_data(torch.tensor([[1.0, 2.0], [3.0, math.nan]], requires_grad=True))
    assert facts == {
        "type": "Tensor", "shape": (2, 2), "dtype": "float32", "device": "cpu", "requires_grad": True,
        "min": 1.0, "max": 3.0, "mean": 2.0, "var": pytest.approx(2 / 3), "nan_share": 0.25,
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "25.0 %" in printed and "2×2" in printed and "\x1b" not in printed


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint16", "uint64", "float16", "bfloat16", "float64", "float8_e4m3fn"])
def test_every_kind_of_number_has_its_range(dtype: str) -> None:
    facts = describe(torch.tensor([0.0, 2.0, 4.0]).to(getattr(torch, dtype)))[0]
    assert (facts["min"], facts["max"], facts["mean"], facts["var"], facts["nan_share"]) == (0, 4, 2, pytest.approx(8 / 3), 0)


def test_what_is_special() -> None:
    assert describe(torch.tensor([True, False, True, True]))[0] | {"type": ""} == {
        "name": "", "type": "", "shape": (4,), "dtype": "bool", "device": "cpu", "requires_grad": False,
        "min": 0, "max": 1, "mean": 0.75, "var": 0.1875, "nan_share": 0,
    }  # fmt: skip
    empty = describe(torch.empty(0, 3))[0]
    assert (empty["shape"], empty["min"], empty["mean"], empty["nan_share"]) == ((0, 3), None, None, 0)
    gone = describe(torch.full((3,), math.nan))[0]
    assert (gone["min"], gone["mean"], gone["nan_share"]) == (None, None, 1)
    both = describe(torch.tensor([1.0, math.inf]))[0]
    assert (both["min"], both["max"], both["mean"]) == (1, math.inf, math.inf) and math.isnan(both["var"])
    wide = describe(torch.tensor([1 + 1j, 3 + 1j]))[0]
    assert (wide["min"], wide["mean"], wide["var"]) == (None, 2 + 1j, 1)
    assert describe(torch.empty(2, device="meta"))[0]["min"] is None
    assert describe(torch.eye(2).to_sparse())[0]["min"] is None
    large = describe(torch.full((100_000,), 1e8) + torch.tensor([0.0, 8.0]).repeat(50_000))[0]
    assert large["var"] == pytest.approx(16) and large["mean"] == 1e8 + 4  # float32 sums would give neither


@pytest.mark.parametrize(
    ("x", "kind", "shape", "dtype"),
    [
        (np.arange(6, dtype=np.uint16).reshape(2, 3)[:, ::-1], "ndarray", (2, 3), "uint16"),
        (np.arange(6, dtype=">f4").reshape(2, 3), "ndarray", (2, 3), ">f4"),
        (np.broadcast_to(np.arange(6.0), (2, 6)), "ndarray", (2, 6), "float64"),
        (np.arange(6, dtype=np.longdouble), "ndarray", (6,), str(np.dtype(np.longdouble))),
        (np.arange(6, dtype=np.uint64), "ndarray", (6,), "uint64"),
        (Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)), "Image L", (2, 3), "uint8"),
        ([0, 1, 2, 3, 4, 5] * 3, "list", (18,), "int64"),
    ],
)
def test_arrays_images_and_lists(x: object, kind: str, shape: tuple[int, ...], dtype: str) -> None:
    facts = describe(x)[0]
    assert (facts["type"], facts["shape"], facts["dtype"]) == (kind, shape, dtype)
    assert (facts["min"], facts["max"], facts["mean"]) == (0, 5, 2.5) and facts["var"] == pytest.approx(35 / 12)


def test_numbers_texts_and_nests() -> None:
    x = {"pair": (torch.zeros(2), [1.5, True]), "batch": Batch({"x": torch.ones(3, 2)}), "text": "abc", "none": None, "empty": []}
    facts = inspect_data(x)
    assert facts["pair"][0]["shape"] == (2,) and facts["pair"][1][0]["mean"] == 1.5 and facts["batch"]["x"]["mean"] == 1
    paths = ["pair[0]", "pair[1][0]", "pair[1][1]", "batch.x", "text", "none", "empty"]
    assert [row["name"] for row in describe(x, "d")] == [f"d.{path}" for path in paths]
    assert facts["none"]["type"] == "NoneType" and facts["text"]["shape"] == (3,)
    loop: list[object] = []
    loop.append(loop)
    assert describe(loop)[0]["type"] == "list"
    assert len(describe([torch.zeros(1)] * 1000)) == 201
    assert "[/x]\\x1b" in describe_lines({"[/x]\x1b": 1})[2]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.linear(x))


def test_summary_counts_folds_and_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Sequential(*[Block() for _ in range(5)]), nn.Dropout(0.5), nn.Linear(8, 2))
    network[0].requires_grad_(False)
    network[2].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lines = summary_lines("model", network, torch.randn(16, 4))
    text = "\n".join(lines)
    assert re_row("0", "Linear", "16×8", "40", "frozen") in normal(text)
    assert re_row("1 … 4", "4 more Block", number(4 * (72 + 16))) in normal(text)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert f"model Sequential: {total} parameters (40 frozen" in text and "4 modules like the one above" in text
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [part.training for part in network] == [True, True, False, True] and network[1][0].norm.training
    assert not any(part._forward_hooks for part in network.modules())


def re_row(*cells: str) -> str:
    return " ".join(cells)


def normal(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_summary_stays_short_and_survives_what_it_cannot_run() -> None:
    many = summary_lines("model", nn.Sequential(*[nn.Linear(i + 1, i + 2) for i in range(100)]), torch.randn(2, 1))
    assert len(many) <= 30 and "74 further rows are left out" in many[-1]
    assert "forward pass failed" in summary_lines("model", nn.Linear(3, 4), torch.randn(2, 5))[-1]
    assert "output" not in summary_lines("model", nn.Linear(3, 4), None)[0]
    tied = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    tied[1].weight = tied[0].weight
    assert "model Sequential: 40 parameters" in summary_lines("model", tied, torch.zeros(2, 3, dtype=torch.long))[-1]


def test_summary_takes_several_inputs_and_shows_what_comes_out() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.scale = nn.LSTM(3, 5, batch_first=True), nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": self.a(x)[0] * self.scale + y}

    lines = normal("\n".join(summary_lines("model", Two(), (torch.zeros(2, 7, 3), torch.zeros(1)))))
    assert "own parameters 1" in lines and "a LSTM (2×7×5, (1×2×5, 1×2×5)) 200 trainable" in lines
