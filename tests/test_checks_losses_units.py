"""Several targets in one loss: one in a unit of its own, whose numbers drown the others, and ones that are alike or weighed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits


class Heads(nn.Module):
    """A trunk and two answers: two tensors, or two columns of one."""

    def __init__(self, columns: bool) -> None:
        super().__init__()
        self.trunk, self.heads, self.columns = nn.Linear(8, 16), nn.Linear(16, 2), columns

    def forward(self, x: Tensor) -> Any:
        out = self.heads(torch.relu(self.trunk(x)))
        return out if self.columns else (out[:, 0], out[:, 1])


CASES = {"standard": (1.0, 1.0, False), "weighed": (1.0, 1e-4, False), "seconds": (500.0, 1.0, True), "both": (500.0, 0.0, False)}


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_target_in_a_unit_of_its_own(case: str, columns: bool) -> None:
    unit, weight, loud = CASES[case]
    x = torch.randn(600, 8, generator=draw())
    home, time = (x[:, 0] > 0).float(), unit * (4 + x[:, 1])
    y: Any = torch.stack((home, time), 1) if columns else {"home": home, "time": time}

    def loss(out: Any, y: Any) -> Tensor:
        answers, wanted = (out.unbind(1), y.unbind(1)) if columns else (out, (y["home"], y["time"]))
        first = F.binary_cross_entropy_with_logits(answers[0], wanted[0]) if weight else F.mse_loss(answers[0], wanted[1] / 2)
        return (weight or 1.0) * first + F.mse_loss(answers[1], wanted[1])

    plug("loss", "mine", lambda: loss)
    plug("model", "heads", lambda: Heads(columns))
    rows = {"x": x, "y": y}
    finding = asked(
        "loss_terms", lambda: Splits(rows, rows, spec=DataSpec((8,), (2,), "other")), "task.kind=other", "model=heads", "loss=mine"
    )
    assert (finding.level == "warning") == loud, finding
    assert not loud or "its targets spread by" in finding.message
