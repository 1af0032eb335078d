"""Two views of a row that are one and the same, where the network draws nothing that would tell them apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import draw
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits


class tower(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 8))

    def forward(self, x: Any) -> Tensor:
        out: Tensor = self.net(torch.stack(x, 1) if isinstance(x, (tuple, list)) else x)
        return out


def agree(out: Tensor, y: Any = None) -> Tensor:
    one, two = nn.functional.normalize(out, dim=-1).unbind(1)
    return nn.functional.cross_entropy(one @ two.T / 0.2, torch.arange(len(one)))


@pytest.mark.parametrize("form", ["stacked", "pair"])
@pytest.mark.parametrize(("copied", "dropout", "wrong"), [(True, 0.0, True), (True, 0.2, False), (False, 0.0, False)])
def test_a_view_used_twice(form: str, copied: bool, dropout: float, wrong: bool) -> None:
    one = torch.randn(400, 8, generator=draw(1))
    two = one if copied else one + 0.1 * torch.randn(400, 8, generator=draw(2))
    x = torch.stack((one, two), 1) if form == "stacked" else (one, two)
    plug("dataset", "recorded", lambda: Splits({"x": x}, spec=DataSpec((2, 8), (8,), "contrastive")))
    plug("model", "tower", tower)
    plug("loss", "agree", agree)
    words = ("task=supervised", "task.kind=contrastive", "model=tower", f"model.dropout={dropout}", "loss=agree")
    finding = judged("duplicates_within", "dataset=recorded", *words)
    assert (finding.level == "error") == wrong and ("both views of 100%" in finding.message) == wrong, finding
