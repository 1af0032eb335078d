"""train() and eval(): dropout that never rests, methods that swallow the switch, layers nobody calls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, big, built, first_loud, found, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from torch import Tensor, nn


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
