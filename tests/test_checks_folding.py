"""One cause, one finding: what follows from a root stands under it; and a forward that writes into its input is named as such."""

from __future__ import annotations

from typing import Any

import torch
from checks_data import draw
from checks_found import CLOUDS, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import DataSpec, Net, Splits, blobs
from torch import Tensor, nn
from torch.utils.data import Dataset


def loud(words: tuple[str, ...]) -> tuple[str, list[str]]:
    """The first finding above info, and the checks whose findings were folded under another."""
    findings = found(*words, level="check", folded=True)
    return first_loud(findings), [name for name, finding in findings.items() if finding.follows]


def thousands() -> Splits:
    x, y = blobs(600)
    x = x.clone()
    x[:, -1] = 3000 * x[:, -1] + 20000
    return Splits((x[:400], y[:400]), (x[400:], y[400:]))


def test_a_first_loss_that_a_raw_column_makes_large_stands_under_the_column() -> None:
    plug("dataset", "thousands", thousands)
    plug("model", "plain_net", lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)))
    first, folded = loud(("dataset=thousands", "task=supervised", "model=plain_net"))
    assert first == "input_scale" and "init_loss" in folded


def signs() -> Splits:
    x = torch.randn(600, 4, generator=draw())
    y = x[:, 0].sign()
    return Splits((x[:400], y[:400]), (x[400:], y[400:]), spec=DataSpec((4,), (), "binary"))


def test_a_loss_without_an_end_stands_under_the_labels_that_make_it_so() -> None:
    plug("dataset", "signs", signs)
    plug("model", "one_number", lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0)))
    plug("loss", "shares_of_one", lambda: nn.functional.binary_cross_entropy_with_logits)
    first, folded = loud(("dataset=signs", "task=supervised", "model=one_number", "loss=shares_of_one"))
    assert first == "label_histogram" and "loss_direction" in folded


class Rests(Dataset[Any]):
    """Scales each item where it is kept, at every reading."""

    def __init__(self, rows: tuple[Tensor, Tensor]) -> None:
        self.x, self.y = 255 * rows[0].sigmoid(), rows[1]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index].div_(255).sub_(0.5).div_(0.25), int(self.y[index])


def test_what_changed_items_bring_about_stands_under_them() -> None:
    x, y = blobs(500)
    plug("dataset", "rests", lambda: Splits(Rests((x[:300], y[:300])), Rests((x[300:], y[300:]))))
    plug("model", "plain_net", lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)))
    findings = found("dataset=rests", "task=supervised", "model=plain_net", level="check", folded=True)
    assert [name for name, finding in findings.items() if finding.level in ("warning", "error")] == ["item_stability"]


class Writes(Net):
    """Subtracts the mean of each row in place; what it gives is held against what it was given."""

    def __init__(self, own: bool) -> None:
        super().__init__(8, 4)
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone() if self.own else x
        return super().forward(x.sub_(x.mean(1, keepdim=True)))


def writes(own: bool) -> Any:
    return lambda: Writes(own)


def unlabelled() -> Splits:
    x = torch.randn(300, 8, generator=draw()) + 1
    return Splits({"x": x[:200]}, {"x": x[200:]}, spec=DataSpec((8,), (8,), "other"))


def test_a_forward_that_writes_into_the_input_which_the_loss_reads() -> None:
    plug("dataset", "unlabelled", unlabelled)
    for own, level in ((False, "error"), (True, "ok")):
        plug("model", "writes", writes(own))
        plug("model", "back", lambda: nn.Linear(4, 8))
        words = ("task=autoencoder", "task.latent=4", "model.encoder=writes", "model.decoder=back")
        finding = judged("sample_independence", "dataset=unlabelled", *words)
        assert finding.level == level and ("writes into x" in finding.message) == (level == "error")
    plug("model", "writes", lambda: nn.Sequential(Subtracts(), nn.Linear(8, 4)))
    assert judged("sample_independence", *CLOUDS, "model=writes").level == "ok"  # the loss does not read the input


class Subtracts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(1.0)
