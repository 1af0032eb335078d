"""Two players in one network with one loss: the right half trains the right player, or the other one as well."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_data import asked, draw
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from test_checks_players import Turned
from torch import Tensor, nn

from dlrun import DataSpec, Splits


class Pair(nn.Module):
    """Scores of data, of samples for the critic, of samples for the maker (None where one call serves both)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
        self.critic, self.how = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)), how

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        made = self.maker(torch.randn(len(x), 3))
        if self.how in ("turned", "not turned"):
            return self.critic(x), self.critic(Turned.apply(made) if self.how == "turned" else made), None
        first = self.critic(made if self.how == "attached" else made.detach())
        self.critic.requires_grad_(self.how == "not held")
        second = self.critic(made)
        self.critic.requires_grad_(True)
        return self.critic(x), first, second


def scored(data: float = 1.0, samples: float = 0.0, wanted: float = 1.0, squares: bool = False) -> Any:
    def one(score: Tensor, label: float) -> Tensor:
        like = torch.full_like(score, label)
        return F.mse_loss(score, like) if squares else F.binary_cross_entropy_with_logits(score, like)

    def loss(out: Any, y: Any) -> Tensor:
        first = one(out[0], data) + one(out[1], samples)
        return first if out[2] is None else first + one(out[2], wanted)

    return lambda: loss


CASES: dict[str, tuple[str, Any, str]] = {
    "sound": ("held", scored(), ""),
    "smoothed": ("held", scored(data=0.9), ""),
    "squares": ("held", scored(squares=True), ""),
    "data_low": ("held", scored(0.0, 1.0, 0.0), ""),
    "turned": ("turned", scored(), ""),
    "not_turned": ("not turned", scored(), "trains the maker as well"),
    "attached": ("attached", scored(), "not cut off there"),
    "not_held": ("not held", scored(), "trains model.critic as well"),
    "not_held_squares": ("not held", scored(squares=True), "trains model.critic as well"),
    "alike": ("held", scored(samples=1.0), "the same way"),
    "told_wrong": ("held", scored(wanted=0.0), "scored away from"),
    "exchanged": ("held", scored(0.0, 1.0, 1.0), "scored away from"),
}


@pytest.mark.parametrize("case", CASES)
def test_halves_of_one_loss(case: str) -> None:
    how, loss, words = CASES[case]
    plug("model", "pair", lambda: Pair(how))
    plug("loss", "halves", loss)
    rows = {"x": torch.randn(400, 2, generator=draw()) + 1}
    data = lambda: Splits(rows, None, spec=DataSpec((2,), (2,), "gan"))  # noqa: E731
    finding = asked("loss_direction", data, "task.kind=gan", "model=pair", "loss=halves")
    assert (finding.level == "error") == bool(words) and words in finding.message, finding
