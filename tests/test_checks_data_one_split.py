"""One split that is made otherwise than the other: scaled by a factor or row by row, targets on another scale, masks interpolated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import Parts, asked, clouds, draw, numbers, smooth
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from dlrun import Splits


def table(noise: float = 0.1) -> tuple[Tensor, Tensor]:
    x = torch.randn(900, 8, generator=draw(4)) * torch.arange(1, 9)
    return x, x[:, 0] - x[:, 1] / 2 + x[:, 4] / 5 + noise * torch.randn(900, generator=draw(5))


def of_val(change: Any, place: int = 0) -> Any:
    def spoil(cut: Parts) -> None:
        for split in ("val", "test"):
            cut[split][place] = change(cut[split][place])

    return spoil


def test_targets_on_another_scale_and_targets_that_drifted() -> None:
    for change in (lambda y: 3 * y, lambda y: y.sign() * y.abs().log1p() / 2):
        finding = asked("split_label_shift", table(), spoil=of_val(change, 1))
        assert finding.level == "warning" and "in one split only" in finding.cause
    assert asked("split_label_shift", table(), spoil=of_val(lambda y: 1.2 * y + 1, 1)).level in ("ok", "info")
    assert asked("split_label_shift", table(noise=3.0), spoil=of_val(lambda y: y, 1)).level == "ok"


def test_columns_of_targets_in_another_form() -> None:
    x = torch.randn(900, 6, generator=draw(4))
    y = torch.stack((x[:, 0], x[:, 1] + x[:, 2], x[:, 0] + x[:, 3], x[:, 1] + x[:, 2] + x[:, 4]), 1)
    sizes = lambda y: torch.cat((y[:, :2], y[:, 2:] - y[:, :2]), 1)  # noqa: E731
    finding = asked("split_label_shift", (x, y), spoil=of_val(sizes, 1))
    assert finding.level == "warning" and "another form" in finding.cause
    assert asked("split_label_shift", (x, y)).level == "ok"


def test_one_factor_for_all_pictures_and_a_shift_of_some_columns() -> None:
    finding = asked("split_input_shift", smooth(), spoil=of_val(lambda x: x / 5))
    assert finding.level == "warning" and "another number" in finding.cause
    uneven = torch.linspace(0.8, 4, 432).reshape(3, 12, 12)
    assert asked("split_input_shift", smooth(), spoil=of_val(lambda x: x * uneven)).level in ("ok", "info")


def levels() -> tuple[Tensor, Tensor]:
    """Series [900, 32] with levels of their own, and their kind."""
    y = torch.arange(900) % 3
    wave = torch.sin(torch.arange(32) * (1 + y[:, None]) / 3) + 0.3 * torch.randn(900, 32, generator=draw(2))
    return wave + 2 * torch.randn(900, 1, generator=draw(3)), y


def test_rows_of_val_scaled_one_by_one() -> None:
    own = lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)  # noqa: E731
    finding = asked("split_input_shift", levels(), spoil=of_val(own))
    assert finding.level == "warning" and "one by one" in finding.cause
    x, y = levels()
    assert asked("split_input_shift", (own(x), y)).level == "ok"


def test_columns_that_stand_still_in_val() -> None:
    finding = asked("split_input_shift", numbers(), spoil=of_val(lambda x: x * torch.tensor([0.0] * 6 + [1.0] * 2)))
    assert finding.level == "warning" and "the same in every row of val" in finding.message
    seldom = torch.cat((torch.randn(900, 3, generator=draw(1)), torch.eye(60)[torch.randint(60, (900,), generator=draw(2))]), 1)
    assert asked("split_input_shift", (seldom, seldom[:, 0])).level in ("ok", "info")


def masks(mode: str) -> Splits:
    """Pictures of squares of four classes and their masks; those of train are made larger."""
    mask = torch.zeros(300, 24, 24)
    for row, (top, left, kind) in enumerate(torch.randint(0, 12, (300, 3), generator=draw(1)).tolist()):
        mask[row, top : top + 10, left : left + 10] = kind % 4
    near = interpolate(mask[:200, None, 3:20, 3:20], (24, 24), mode=mode)[:, 0]
    y = torch.cat((near, mask[200:])).long()
    x = y[:, None] + 0.2 * torch.randn(300, 1, 24, 24, generator=draw(2))
    return Splits((x[:200], y[:200]), (x[200:], y[200:]))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_masks_that_were_interpolated(mode: str) -> None:
    plug("model", "of_pixels", lambda: nn.Conv2d(1, 4, 3, padding=1))
    finding = asked("augmentation_keeps_label", lambda: masks(mode), "model=of_pixels", "loss=cross_entropy")
    assert (finding.level == "warning" and "interpolation" in finding.cause) if mode == "bilinear" else finding.level != "warning"


@pytest.mark.parametrize("data", [clouds, table])
def test_a_part_of_train_that_slipped(data: Any) -> None:
    def slip(cut: Parts) -> None:
        cut["train"][1] = torch.cat((cut["train"][1][:350], cut["train"][1][350:].roll(1)))

    finding = asked("label_permutation", data(), spoil=slip)
    assert finding.level == "warning" and "a file that slipped" in finding.cause

    def sort(cut: Parts) -> None:
        order = cut["train"][1].argsort(stable=True)
        cut["train"] = [part[order] for part in cut["train"]]

    assert asked("label_permutation", data(), spoil=sort).level == "ok"


class Spots(Dataset[tuple[Tensor, Tensor]]):
    """Pictures of one to nine spots, and how many; read as they are, cropped and made large again, or brighter and flipped."""

    def __init__(self, seed: int, how: str = "") -> None:
        self.y = torch.randint(1, 10, (300, 1), generator=draw(seed)).float()
        self.x, self.how = 0.1 * torch.randn(300, 1, 16, 16, generator=draw(seed + 1)), how
        at = torch.randint(0, 15, (300, 10, 2), generator=draw(seed + 2)).tolist()
        for row, places in enumerate(at):
            for down, across in places[: int(self.y[row])]:
                self.x[row, 0, down : down + 2, across : across + 2] += 1

    def __len__(self) -> int:
        return 300

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x = self.x[i]
        if self.how == "cropped":
            down, across = torch.randint(0, 7, (2,)).tolist()
            x = interpolate(x[None, :, down : down + 10, across : across + 10], (16, 16), mode="bilinear")[0]
        if self.how == "brighter":
            x = (x * (0.5 + torch.rand(1))).flip(-1)
        return x, self.y[i]


@pytest.mark.parametrize("how", ["cropped", "brighter"])
def test_crops_that_lose_what_is_counted(how: str) -> None:
    plug("model", "counts", lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 1)))
    words = "model=counts", "loss=mse", "task.kind=regression"
    finding = asked("augmentation_keeps_label", lambda: Splits(Spots(1, how), Spots(5)), *words)
    assert (finding.level == "warning" and "random crops" in finding.cause) if how == "cropped" else finding.level != "warning"


def texts(split: str, how: str) -> tuple[Tensor, Tensor]:
    """Texts [300, 12] of 4 to 12 words of 60, filled up with 0."""
    x = torch.randint(2, 60, (300, 12), generator=draw(1 + len(split)))
    length = torch.randint(4, 13, (300, 1), generator=draw(2 + len(split)))
    x = torch.where(torch.arange(12) < length, x, 0)
    if split == "val" and how == "front":
        x = torch.stack([row.roll(12 - int(many)) for row, many in zip(x, length)])
    x = torch.where((x > 9) & (x < (45 if how == "unknown" and split == "val" else 11)), 1, x)
    x[:, 1:] = x[:, 1:] * (torch.arange(11) < 6) if split == "val" and how == "short" else x[:, 1:]
    return x, (x == 5).any(1).long()


@pytest.mark.parametrize(("how", "cause"), [("front", "different ends"), ("unknown", "unknown"), ("short", ""), ("", "")])
def test_tokens_that_fill_rows_otherwise(how: str, cause: str) -> None:
    plug("model", "of_words", lambda: nn.Sequential(nn.Embedding(60, 4), nn.Flatten(), nn.Linear(48, 2)))
    finding = asked("split_input_shift", lambda: Splits(texts("train", how), texts("val", how)), "model=of_words", "loss=cross_entropy")
    assert (finding.level == "warning" and cause in finding.cause) if cause else finding.level != "warning"


def coded(scaled: bool, read: bool) -> Splits:
    """Numbers in their units beside codes of categories; where `scaled`, train's alone are standardised."""
    x, y = table()
    x, codes = 40 * x + 500 * torch.arange(1, 9), torch.randint(5, (900, 2), generator=draw(6))
    own = (x[:600] - x[:600].mean(0)) / x[:600].std(0)
    pairs = [({"numbers": own if scaled else x[:600], "codes": codes[:600]}, y[:600])]
    pairs += [({"numbers": x[600:], "codes": codes[600:]}, y[600:])]
    return Splits(*(Read(*pair) if read else {"x": pair[0], "y": pair[1]} for pair in pairs))


class Read(Dataset[Any]):
    """Rows one by one."""

    def __init__(self, x: dict[str, Tensor], y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> Any:
        return {"x": {name: leaf[row] for name, leaf in self.x.items()}, "y": self.y[row]}


class Coded(nn.Module):
    """The numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 1)

    def forward(self, x: Any) -> Tensor:
        return self.head(x["numbers"]).squeeze(1)


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_numbers_beside_codes_scaled_in_train_alone(scaled: bool, read: bool) -> None:
    plug("model", "coded", Coded)
    finding = asked("split_input_shift", lambda: coded(scaled, read), "model=coded")
    assert finding.level == ("warning" if scaled else "ok"), finding.message


@pytest.mark.parametrize("how", ["sorted", "shuffled", "time"])
def test_a_table_sorted_by_its_target_and_cut_in_order(how: str) -> None:
    x, y = table()
    if how != "shuffled":
        x, y = x[y.argsort()], y.sort().values
    if how == "time":
        x[:, 3] = torch.arange(900) / 300
    pairs = [{"x": x[where], "y": y[where]} for where in (slice(0, 600), slice(600, 900))]
    finding = asked("split_label_shift", lambda: Splits(*pairs))
    assert (finding.level == "warning" and "sorted" in finding.cause) if how == "sorted" else finding.level in ("ok", "info"), (
        finding.message
    )
