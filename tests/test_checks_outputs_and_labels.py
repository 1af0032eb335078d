"""Outputs that lean to one side or are read off filler, tables asked twice, labels of pairs and pixels that cost nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import of_blobs
from torch import Tensor, nn

from dlrun import DataSpec

MINE = ("dataset=mine", "task=supervised", "model=mine", "loss=mine")


def given(x: Any, y: Any, spec: DataSpec) -> None:
    plug("dataset", "mine", of_blobs(lambda a, b: (x, y), spec=spec))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("clean", "end", "level"),
    [(0.0, F.relu, "error"), (0.0, lambda n: n, "ok"), (-9.0, F.relu, "ok")],
)
def test_noise_that_is_taken_from_a_picture_has_either_sign(clean: float, end: Any, level: str) -> None:
    class Cleaner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            left: Tensor = x - end(self.noise(x))
            return left

    x = drawn(64, 1, 8, 8)
    given(x, 0.3 * x if clean == 0 else x - x.abs(), DataSpec((1, 8, 8), (1, 8, 8), "regression"))
    plug("model", "mine", Cleaner)
    plug("loss", "mine", lambda out, y: F.mse_loss(out, y))
    finding = judged("output_form", *MINE)
    assert finding.level == level and ("never above the input" in finding.message) == (level == "error"), finding


@pytest.mark.parametrize(("end", "level"), [(torch.exp, "error"), (torch.abs, "error"), (lambda z: z, "ok")])
def test_outputs_that_cannot_fall_below_0_do_not_reach_targets_that_do(end: Any, level: str) -> None:
    given(x := drawn(128, 8), x[:, 0] + 0.1 * x[:, 1], DataSpec((8,), (), "regression"))
    plug("model", "mine", lambda: nn.Sequential(nn.Linear(8, 1), nn.Flatten(0), Ending(end)))
    plug("loss", "mine", lambda out, y: F.mse_loss(out, y))
    assert judged("output_form", *MINE).level == level


class Ending(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.end = end

    def forward(self, z: Tensor) -> Any:
        return self.end(z)


@pytest.mark.parametrize(("asked", "level"), [("item", "ok"), ("user", "warning"), ("none", "info")])
def test_a_table_asked_with_the_numbers_of_another_column(asked: str, level: str) -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items, self.score = nn.Embedding(30, 4), nn.Embedding(30, 4), nn.Linear(8, 1)

        def forward(self, x: dict[str, Tensor]) -> Tensor:
            item = self.users(x["user"]) if asked == "none" else self.items(x[asked])
            score: Tensor = self.score(torch.cat([self.users(x["user"]), item], 1)).squeeze(1)
            return score

    draw = torch.Generator().manual_seed(0)
    x = {name: torch.randint(0, 30, (128,), generator=draw) for name in ("user", "item")}
    plug("dataset", "mine", of_blobs(lambda a, b: (x, drawn(128)), spec=DataSpec((2,), (), "regression")))
    plug("model", "mine", Tables)
    plug("loss", "mine", lambda out, y: F.mse_loss(out, y))
    finding = judged("input_matters", *MINE)
    assert finding.level == level and ("asked with the same numbers" in finding.message) == (level == "warning"), finding


class Reader(nn.Module):
    """Reads rows of words that end in zeros, by a GRU or by attention; one `how` is right of each."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(24 if how == "features" else 8, 3)
        if how in ("last", "end", "front"):
            self.gru = nn.GRU(8, 8, batch_first=True)
        if how.startswith("both"):
            self.gru = nn.GRU(8, 4, batch_first=True, bidirectional=True)
        if "attention" in how:
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        h, there = self.words(x), x != 0
        at = torch.arange(len(x)), there.sum(1) - 1
        reads = {
            "last": lambda: self.gru(h)[0][:, -1],
            "front": lambda: self.gru(h)[0][:, -1],
            "end": lambda: self.gru(h)[0][at],
            "both last": lambda: self.gru(h)[0][:, -1],
            "attention": lambda: h[:, 0] + self.attention(h, h, h, key_padding_mask=~there)[0][:, 0],
            "attention upside down": lambda: h[:, 0] + self.attention(h, h, h, key_padding_mask=there)[0][:, 0],
            "mean of filler": lambda: (h * ~there[..., None]).sum(1) / (~there).sum(1, keepdim=True),
            "features": lambda: h.mean(-1),
        }
        return self.head(reads[self.how]())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("last", "recorded steps hardly do"),
        ("front", ""),
        ("end", ""),
        ("both last", ""),
        ("attention", ""),
        ("attention upside down", "of the recorded steps one"),
        ("mean of filler", "of the recorded steps none"),
        ("features", "only their mean is read"),
    ],
)
def test_what_is_read_off_rows_that_were_filled_up(how: str, said: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, ends = torch.randint(1, 20, (128, 24), generator=draw), torch.randint(4, 12, (128, 1), generator=draw)
    x = torch.where(torch.arange(24)[None] < (24 if how == "both last" else ends), x, 0)
    given(x.flip(1) if how == "front" else x, x[:, 0] % 3, DataSpec((24,), (3,), "classification", classes=3))
    plug("model", "mine", lambda: Reader(how))
    plug("loss", "mine", lambda out, y: F.cross_entropy(out, y))
    findings = [judged(name, *MINE) for name in ("input_matters", "receptive_field")]
    loud = [finding for finding in findings if finding.level in ("warning", "error")]
    assert any(said in finding.message for finding in loud) if said else not loud, findings


@pytest.mark.parametrize(("no", "way", "said"), [(-1, 0, ""), (0, 0, "cost nothing"), (0, 1, ""), (0, -1, "lie farther apart")])
def test_pairs_of_each_label_are_drawn_together_or_pushed_apart(no: int, way: int, said: str) -> None:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        if way == 0:
            return F.cosine_embedding_loss(out[:, 0], out[:, 1], y, margin=0.2)
        apart, y = (out[:, 0] - out[:, 1]).square().sum(1), y if way == 1 else 1 - y
        return (y * apart + (1 - y) * F.relu(2 - apart)).mean()

    same = drawn(256, seed=1) > 0
    one = drawn(256, 1, 6)
    x = torch.cat([one, torch.where(same[:, None, None], one, drawn(256, 1, 6, seed=2))], 1) + 0.1 * drawn(256, 2, 6, seed=3)
    given(x, torch.where(same, 1.0, float(no)), DataSpec((2, 6), (2, 4), "other"))
    plug("model", "mine", lambda: nn.Linear(6, 4))
    plug("loss", "mine", loss)
    finding = judged("loss_coverage", *MINE, "task.kind=other")
    assert said in finding.message and (finding.level == "error") == bool(said), finding


@pytest.mark.parametrize(("told", "level"), [(True, "warning"), (False, "info")])
def test_a_ground_that_is_left_out_of_pictures_is_one_that_pictures_tell(told: bool, level: str) -> None:
    x = drawn(64, 1, 10, 10)
    y = 1 + (x[:, 0] > 1).long()
    given(x, torch.where(x[:, 0] < 0.3 if told else drawn(64, 10, 10, seed=1) < 0.3, 0, y), DataSpec((1, 10, 10), (3, 10, 10), "other"))
    plug("model", "mine", lambda: nn.Conv2d(1, 3, 3, padding=1))
    plug("loss", "mine", lambda out, y: F.cross_entropy(out, y, ignore_index=0))
    assert judged("loss_coverage", *MINE, "task.kind=other").level == level
