"""Networks of one's own matrices, states and positions: units that stay alike, steps out of reach, rows that are numbered."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from checks_found import CLOUDS, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, blobs
from torch import Tensor, nn

from dlrun import DataSpec, Splits


def said(check: str, model: Any, *words: str) -> tuple[str, str]:
    plug("model", "mine", model)
    finding = judged(check, *(words or CLOUDS), "model=mine")
    return finding.level, finding.message


class Clusters(nn.Module):
    """Log densities under each component of a mixture, without a layer."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means, self.log_std = nn.Parameter(means), nn.Parameter(torch.zeros(len(means), 8))

    def forward(self, x: Tensor) -> Tensor:
        z = (x[:, None] - self.means) / self.log_std.exp()
        return -0.5 * z.square().sum(2) - self.log_std.sum(1)


class Read(nn.Module):
    """Adds a table of zeros, of whose rows few are read, to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.net = nn.Parameter(torch.zeros(500, 8)), Net(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.table[(x[:, 0] * 4).long() + 100])  # type: ignore[no-any-return]


def test_components_that_start_alike_and_stay_alike() -> None:
    plug("loss", "likely", lambda out, y: -out.logsumexp(1).mean())
    draw = torch.Generator().manual_seed(0)
    words = (*CLOUDS, "loss=likely", "task.kind=other")
    level, text = said("unit_symmetry", lambda: Clusters(torch.zeros(6, 8)), *words)
    assert level == "error" and "model.means (rows)" in text
    assert said("unit_symmetry", lambda: Clusters(torch.randn(6, 8, generator=draw)), *words)[0] == "ok"
    assert said("unit_symmetry", Read)[0] == "ok"


class Steps(nn.Module):
    """A cell by hand; `kept` says whether its state is."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.cell, self.head, self.kept = nn.GRUCell(2, 16), nn.Linear(16, 3), kept

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 16)
        for step in x.unbind(1):
            h = self.cell(step, h if self.kept else torch.zeros(len(x), 16))
        return self.head(h)  # type: ignore[no-any-return]


def test_a_state_that_begins_anew_at_every_step() -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(256, 40, 2, generator=draw)
    plug("dataset", "long", lambda: Splits((x, torch.arange(256) % 3), (x[:64], torch.arange(64) % 3)))
    words = ("dataset=long", "task=supervised")
    level, text = said("receptive_field", lambda: Steps(False), *words)
    assert level == "warning" and "of the steps" in text
    assert said("receptive_field", lambda: Steps(True), *words)[0] == "ok"
    assert torch.get_default_dtype() == torch.float32


class Placed(Net):
    """Adds a vector by the number of something: of the row in the batch, or of the column that is largest."""

    def __init__(self, by_row: bool, noise: bool = False) -> None:
        super().__init__(8, 4)
        self.places, self.by_row, self.noise = nn.Embedding(64, 8), by_row, noise

    def forward(self, x: Tensor) -> Tensor:
        number = torch.arange(len(x)) if self.by_row else x.argmax(1)
        return super().forward(x + self.places(number) * (1 + self.noise * torch.randn(len(x), 1)))


def test_rows_that_are_numbered_by_their_place_in_the_batch() -> None:
    level, text = said("sample_independence", lambda: Placed(True))
    assert level == "error" and "change places" in text
    assert said("sample_independence", lambda: Placed(False))[0] == "ok"
    assert said("sample_independence", lambda: Placed(False, True), *CLOUDS, "expects.stochastic_eval=true")[0] == "ok"


class LogMatrices(nn.Module):
    """Two matrices of one's own before log-probabilities."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(8, 64) * scale), nn.Parameter(torch.randn(64, 4) * scale)

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(x @ self.one) @ self.two).log_softmax(1)


@pytest.mark.parametrize(("scale", "level"), [(1.0, "error"), (0.12, "ok")])
def test_log_probabilities_are_held_against_equal_ones(scale: float, level: str) -> None:
    got, text = said("init_loss", lambda: LogMatrices(scale), *CLOUDS, "loss=negative_log", "task.kind=classification")
    assert got == level and f"expected {math.log(4):.4f}" in text


def test_a_mask_of_the_inputs_hides_no_target() -> None:
    """Rows of steps with a mask, one class a row: what the mask says is for the network, and the softmax is seen all the same."""

    class Pooled(nn.Module):
        takes_mask = True

        def __init__(self, squash: bool) -> None:
            super().__init__()
            self.net, self.squash = Net(8, 4), squash

        def forward(self, given: tuple[Tensor, Tensor]) -> Tensor:
            x, mask = given
            out = self.net((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
            return out.softmax(1) if self.squash else out  # type: ignore[no-any-return]

    def rows(seed: int) -> dict[str, Any]:
        x, y = blobs(256, seed=seed)
        mask = torch.arange(5) < torch.randint(1, 6, (256, 1), generator=torch.Generator().manual_seed(seed))
        return {"x": x[:, None].expand(-1, 5, -1) + 0.1, "y": y, "mask": mask}

    plug("dataset", "steps", lambda: Splits(rows(2), rows(3), spec=DataSpec((5, 8), (4,), "classification")))
    words = ("dataset=steps", "task=supervised", "loss=cross_entropy")
    assert said("output_form", lambda: Pooled(True), *words)[0] == "error"
    assert said("output_form", lambda: Pooled(False), *words)[0] == "ok"


def of_signs(seed: int) -> tuple[Tensor, Tensor]:
    """The class is the sign of a product: no linear map tells it."""
    x = torch.randn(1024, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def test_layers_without_a_function_between_them() -> None:
    plug("dataset", "signs", lambda: Splits(of_signs(1), of_signs(2)))
    words = ("dataset=signs", "task=supervised", "loss=cross_entropy", "optimizer=adam", "optimizer.lr=0.003", "train.steps=300")

    def layers(act: type[nn.Module], width: int = 64, classes: int = 2) -> Any:
        return lambda: nn.Sequential(nn.Linear(8, width), act(), nn.Linear(width, 64), act(), nn.Linear(64, classes))

    level, text = said("dead_units", layers(nn.Identity), *words)
    assert level == "warning" and "one linear map, though it has 3 layers" in text
    assert said("dead_units", layers(nn.GELU), *words)[0] == "not_applicable"
    assert said("dead_units", layers(nn.Identity, 1), *words)[0] == "not_applicable"  # a factor of low rank
    assert said("dead_units", layers(nn.Identity, classes=4), *CLOUDS)[0] == "not_applicable"  # a linear map is all there is to learn


class Attends(nn.Module):
    """Attention by hand over steps; or an assignment of steps to clusters."""

    def __init__(self, axis: int, clusters: int = 0) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = nn.Linear(2, 16), nn.Linear(2, 16), nn.Linear(2, 16), nn.Linear(16, 3)
        self.axis, self.assign, self.drop = axis, nn.Linear(2, clusters) if clusters else None, nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.assign is not None:
            mixed = self.assign(x).softmax(-1).transpose(1, 2) @ self.v(x)
        else:
            mixed = self.drop((self.q(x) @ self.k(x).transpose(1, 2) / 4).softmax(self.axis)) @ self.v(x)
        return self.head(mixed.relu().mean(1))  # type: ignore[no-any-return]


def test_attention_weights_that_sum_to_one_over_the_wrong_axis() -> None:
    x = torch.randn(256, 12, 2, generator=torch.Generator().manual_seed(1))
    plug("dataset", "steps", lambda: Splits((x, torch.arange(256) % 3), (x[:64], torch.arange(64) % 3)))
    words = ("dataset=steps", "task=supervised")
    level, text = said("receptive_field", lambda: Attends(1), *words)
    assert level == "warning" and "softmax over axis 1, and are summed over axis 2" in text
    assert said("receptive_field", lambda: Attends(-1), *words)[0] == "ok"
    assert said("receptive_field", lambda: Attends(-1, 12), *words)[0] == "ok"  # as many clusters as steps, summed transposed
