"""Awkward items: pictures, dicts, doubles, tensors of many shapes, bytes, the user's own collate function, rows cut on demand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from data_rows import Rows, data_of, first, has_note, refused
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from dlrun.data.sources import Tensors
from dlrun.types import DataSpec


def image(index: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (6, 4), color=index * 10 if mode == "L" else (index * 10, 0, 255))


@pytest.mark.parametrize("workers", [0, 1])
def test_pil_images_become_float_images(workers: int) -> None:
    data = data_of(Rows(lambda i: (image(i), i % 2)), Rows(lambda i: (image(i), i % 2), 8), workers=workers)
    batch = next(data.stream(0))[0]
    assert batch["x"].dtype == torch.float32 and batch["x"].shape == (4, 3, 4, 6)
    assert torch.equal(first(data)["x"][:, 0, 0, 0], torch.tensor([0, 10, 20, 30]) / 255)
    assert float(batch["x"][:, 2].min()) == 1.0
    assert has_note(data, "x is a PIL image (RGB)", "float32 [C, H, W]") and has_note(data, "0..1")
    assert (data.spec.kind, data.spec.classes, data.spec.in_shape, data.spec.out_shape) == ("classification", 2, (3, 4, 6), (2,))


@pytest.mark.parametrize(
    ("mode", "channels", "value"), [("L", 1, 40 / 255), ("1", 1, 1.0), ("RGBA", 4, 40 / 255), ("P", 3, 40 / 255), ("I;16", 1, 1.0)]
)
def test_every_mode_of_picture_becomes_0_to_1(mode: str, channels: int, value: float) -> None:
    made = (
        Image.new("RGB", (3, 3), (40, 40, 40)).quantize(4)
        if mode == "P"
        else Image.new(mode, (3, 3), {"1": 1, "I;16": 65535, "L": 40}.get(mode, (40, 0, 0, 0)))
    )
    x = first(data_of(Rows(lambda i: (made, i % 2)), Rows(lambda i: (made, 0), 4)))["x"]
    assert x.shape == (4, channels, 3, 3) and float(x[0, 0, 0, 0]) == pytest.approx(value)


def test_dicts_keep_their_names_and_a_pair_without_x_becomes_x_and_y() -> None:
    named = Rows(
        lambda i: {"x": {"nodes": torch.ones(3, 2) * i, "mask": torch.ones(3, dtype=torch.bool)}, "y": float(i), "extra": (i, [i, i])}
    )
    batch = first(data_of(named, named))
    assert batch["x"]["nodes"].shape == (4, 3, 2) and batch["x"]["mask"].dtype == torch.bool
    assert [tensor.tolist() for tensor in (batch["extra"][0], batch["extra"][1][1])] == [[0, 1, 2, 3], [0, 1, 2, 3]]
    other = Rows(lambda i: {"picture": np.full((2, 2), i), "label": i % 2})
    data = data_of(other, other)
    assert has_note(data, "picture is read as x", "label is read as y")
    assert first(data)["x"].shape == (4, 2, 2) and first(data)["x"].dtype == torch.int64


def test_float64_becomes_float32_said_once_for_each_name() -> None:
    x, y = torch.rand(20, 3, dtype=torch.float64), np.random.default_rng(0).random(20)
    for data in (data_of((x, y), (x, y)), data_of(Rows(lambda i: (x[i], np.float64(y[i]))), Rows(lambda i: (x[i], y[i]), 5))):
        batch = first(data)
        assert batch["x"].dtype == batch["y"].dtype == torch.float32
        assert [sum(f"{name} is float64" in note for note in data.notes) for name in "xy"] == [1, 1], data.notes
        assert data.spec.kind == "regression" and data.spec.out_shape == ()


@pytest.mark.parametrize("wrap", [lambda x, y: (x, y), lambda x, y: {"x": x, "y": y}, TensorDataset, lambda x, y: (x.numpy(), y.numpy())])
def test_tensors_in_memory_come_in_many_shapes(wrap: Any) -> None:
    data = data_of(wrap(torch.rand(20, 3), torch.arange(20) % 4), wrap(torch.rand(5, 3), torch.arange(5) % 4), workers=2)
    assert data.raw("train").in_memory and has_note(data, "train.workers=2 has no effect")
    assert data.spec.classes == 4 and data.targets("val").tolist() == [0, 1, 2, 3, 0]  # type: ignore[union-attr]


def test_a_subset_of_tensors_in_memory_is_opened_without_a_copy() -> None:
    """What random_split gives: item by item it would be read 50 times slower."""
    x, y = torch.rand(20, 3), torch.arange(20) % 4
    whole = TensorDataset(x, y)
    rows, kept = [7, 4, -1, 12, 0], Subset(whole, [1, 2, 3, 5, 6, 8, 9, 10])
    data = data_of(kept, Subset(whole, rows))
    train = data.raw("train")
    assert isinstance(train, Tensors) and train.leaves["x"].data_ptr() == x.data_ptr()  # type: ignore[union-attr]
    assert torch.equal(next(data.evaluation("val"))["x"], x[rows]) and data.targets("val").tolist() == y[rows].tolist()  # type: ignore[union-attr]
    moved = train.to("meta")
    assert len(moved) == 8 and next(iter(moved.leaves.values())).shape == (8, 3)  # type: ignore[union-attr]
    refused(Subset(whole, [1, 20]), "rows 1 to 20 of a TensorDataset of 20 rows")
    padded = data_of(
        kept, kept, collate=lambda items: {"x": torch.stack([item[0] for item in items]) + 1, "y": torch.stack([i[1] for i in items])}
    )
    assert not padded.raw("train").in_memory and torch.equal(next(padded.evaluation("val"))["x"], x[kept.indices] + 1)


def test_bytes_stay_bytes_until_they_are_in_a_batch() -> None:
    x = torch.arange(20 * 12, dtype=torch.uint8).view(20, 3, 2, 2)
    spec = DataSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    data = data_of((x, torch.arange(20) % 2), (x, torch.arange(20) % 2), spec=spec)
    assert data.raw("train").take(torch.arange(2))["x"].dtype == torch.uint8
    expected = (x[:4].double() / 255 - torch.tensor(spec.mean).double().view(3, 1, 1)) / torch.tensor(spec.std).double().view(3, 1, 1)
    torch.testing.assert_close(first(data)["x"].double(), expected, rtol=0, atol=1e-6)
    one = data_of((x, torch.arange(20) % 2), (x, torch.arange(20) % 2), spec=DataSpec(mean=(0.1,), std=(0.5,)))
    torch.testing.assert_close(first(one)["x"].double(), (x[:4].double() / 255 - 0.1) / 0.5, rtol=0, atol=1e-6)
    assert has_note(data_of((x, torch.arange(20) % 2), (x, torch.arange(20) % 2)), "x is uint8 and becomes float32 in 0..1")
    refused((x, torch.arange(20) % 2), "2 means", "one a channel", spec=DataSpec(mean=(0.1, 0.2), std=(1.0, 1.0)))
    assert has_note(data_of((x.float(), x.float()), (x.float(), x.float()), spec=spec), "mean and std of the spec have no effect")


def test_a_collate_function_of_the_users_is_called() -> None:
    def pad(items: list[Any]) -> dict[str, Tensor]:
        longest = max(len(item) for item in items)
        return {
            "x": torch.stack([torch.cat([item, torch.zeros(longest - len(item))]) for item in items]),
            "y": torch.zeros(len(items), dtype=torch.float64),
        }

    ragged = Rows(lambda i: torch.ones(i + 1))
    data = data_of(ragged, Rows(lambda i: torch.ones(i + 1), 5), collate=pad)
    assert first(data)["x"].shape == (4, 4) and first(data)["y"].dtype == torch.float32 and has_note(data, "own collate function pad")
    refused(ragged, "items 0 and 1 differ in shape under x", "collate function", val=Rows(lambda i: torch.ones(3)))
    refused((torch.rand(9, 2), torch.rand(9)), "held in memory", "collate", collate=pad)


def test_rows_cut_on_demand() -> None:
    class Windows:
        def __len__(self) -> int:
            return 12

        def take(self, indices: Tensor) -> dict[str, Tensor]:
            window = indices[:, None] + torch.arange(5)
            return {"x": window[:, :-1], "y": window[:, 1:]}

    data = data_of(Windows(), Windows())
    assert (data.spec.kind, data.spec.in_shape, data.spec.out_shape) == ("language_model", (4,), (4, data.spec.vocab))
    assert first(data)["y"].tolist()[3] == [4, 5, 6, 7] and sorted(int(b["x"][0, 0]) for b in data.evaluation("train", 1)) == list(
        range(12)
    )


def test_a_val_cut_from_train_draws_its_own_noise_whoever_reads_it() -> None:
    rows = Rows(lambda i: (torch.randn(3), i % 2), 40)
    cut, by_workers = data_of(rows), data_of(rows, workers=1)
    one, two = (torch.cat([batch["x"] for batch in data.evaluation("val", 2)]) for data in (cut, by_workers))
    by_workers.close()
    assert torch.equal(one, two) and not torch.equal(one, next(cut.evaluation("train", len(one)))["x"])
