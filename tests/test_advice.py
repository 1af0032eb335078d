"""Messages of PyTorch that are known: each is provoked, so that a new wording in torch is noticed, and explained in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, found, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun.advice import KNOWN, advice
from dlrun.cli import main


def leaf_in_place() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight += 1


def twice() -> None:
    loss = (torch.ones(2, requires_grad=True) ** 2).sum()
    loss.backward()
    loss.backward()


def overwritten() -> None:
    hidden = torch.ones(2, requires_grad=True).sigmoid()
    hidden += 1
    hidden.sum().backward()


def conv(x: Tensor) -> Tensor:
    return nn.Conv2d(3, 4, 3)(x)  # type: ignore[no-any-return]


PROVOKED: dict[str, tuple[Callable[[], Any], str]] = {
    "leaf in place": (leaf_in_place, "under torch.no_grad()"),
    "backward twice": (twice, "detach() whatever is kept"),
    "overwritten": (overwritten, "write the result to a new tensor"),
    "no grad": (lambda: torch.ones(1).sum().backward(), "no trainable parameter"),
    "no scalar": (lambda: torch.ones(2, requires_grad=True).exp().backward(), "take its mean()"),
    "linear": (lambda: nn.Linear(10, 2)(torch.ones(3, 7)), "of 10 inputs got rows of 7 numbers"),
    "channels": (lambda: conv(torch.ones(2, 8, 8, 3)), "for 3 channels got 8"),
    "batch sizes": (lambda: F.cross_entropy(torch.ones(6, 3), torch.zeros(4).long()), "6 rows of outputs against 4 targets"),
    "sizes": (lambda: torch.ones(2, 3) + torch.ones(2, 4), "differ on axis 1 (3 and 4)"),
    "reshape": (lambda: torch.ones(6).reshape(4, 2), "another number of elements"),
    "view": (lambda: torch.ones(2, 3).T.view(6), "use reshape()"),
    "class": (lambda: F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 3])), "classes count from 0"),
    "token": (lambda: nn.Embedding(4, 2)(torch.tensor([4])), "embedding has rows"),
    "one axis too many": (lambda: F.cross_entropy(torch.ones(2, 3), torch.zeros(2, 1).long()), "squeeze(1)"),
    "classes as floats": (lambda: F.nll_loss(torch.ones(2, 3), torch.zeros(2)), ".long()"),
    "tokens as floats": (lambda: nn.Embedding(4, 2)(torch.ones(2)), ".long()"),
    "doubles": (lambda: nn.Linear(2, 2)(torch.ones(2, 2).double()), "say .float()"),
    "doubles in a convolution": (lambda: conv(torch.ones(2, 3, 8, 8).double()), "say .float()"),
    "devices": (lambda: torch.ones(2, device="meta") @ torch.ones(2), "device=x.device"),
    "devices of another kernel": (lambda: torch.ones(2, device="meta") + torch.ones(2), "device=x.device"),
    "batch norm": (lambda: nn.BatchNorm1d(3)(torch.ones(1, 3)), "a batch of 1"),
    "numpy": (lambda: np.asarray(torch.ones(2, requires_grad=True).numpy()), ".detach()"),
    "truth": (lambda: bool(torch.ones(2) > 0), ".any() or .all()"),
    "probabilities": (lambda: F.binary_cross_entropy(torch.full((2,), 3.0), torch.ones(2)), "takes logits"),
    "rows of many sizes": (lambda: torch.stack([torch.ones(2), torch.ones(3)]), "cut or pad"),
}


@pytest.mark.parametrize("case", PROVOKED)
def test_a_known_message_is_explained(case: str) -> None:
    provoke, expected = PROVOKED[case]
    with pytest.raises(Exception) as caught:
        provoke()
    said = advice(caught.value)
    assert expected in said, f"{caught.value}: {said!r}"
    assert "\n" not in said and "{" not in said


def test_every_pattern_is_provoked() -> None:
    hit = set()
    for provoke, _ in PROVOKED.values():
        with pytest.raises(Exception) as caught:
            provoke()
        hit.add(advice(caught.value).split(":")[0])
    assert len(hit) == len(KNOWN)


def test_other_errors_are_left_alone() -> None:
    assert advice(ValueError("lr must be positive")) == advice(KeyError("x")) == advice("") == ""


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def test_a_training_that_ends_so_says_the_cause_below_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plug("model", "narrow", Narrow)
    assert main(["train", "dataset=clouds", "task=supervised", "model=narrow", "checks=none", "log.wandb.mode=disabled", "device=cpu"]) == 3
    last = capsys.readouterr().err.splitlines()[-2:]
    assert last[0].startswith("error: RuntimeError: mat1 and mat2") and last[1].startswith(
        "probable cause: a linear layer of 3 inputs got rows of 8"
    )


def test_a_check_names_it_as_the_cause() -> None:
    plug("model", "narrow", Narrow)
    blocking = [finding for finding in found(*CLOUDS, "model=narrow").values() if finding.level == "error"]
    assert len(blocking) == 1 and blocking[0].cause.startswith("a linear layer of 3 inputs got rows of 8")
