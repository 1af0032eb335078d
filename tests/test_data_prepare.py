"""What `prepare` makes of datasets: awkward items, the val rule, inference, fingerprints, and what it refuses in one line."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from dlrun.data import Data, cache_root, prepare
from dlrun.errors import MissingError
from dlrun.types import DataSpec, Splits

NO_SCAN = DataSpec(kind="classification", classes=1)


class Rows(Dataset[Any]):
    """A map-style Dataset over a function of the index."""

    def __init__(self, item: Callable[[int], Any], rows: int = 20) -> None:
        self.item, self.rows = item, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def data_of(train: Any, val: Any = None, test: Any = None, **changes: Any) -> Data:
    named = {key: changes.pop(key) for key in ("spec", "collate") if key in changes}
    settings: dict[str, Any] = {
        "seed": 3,
        "dataset_seed": 0,
        "batch_size": 4,
        "accumulate": 1,
        "workers": 0,
        "device": "cpu",
        "augments": (),
    }
    return prepare(Splits(train, val, test, **named), name="mine", **{**settings, **changes})


def first(data: Data, rows: int = 4) -> Any:
    return next(data.evaluation("train", rows))


def has_note(data: Data, *words: str) -> bool:
    return any(all(word in note for word in words) for note in data.notes)


def refused(train: Any, *words: str, **more: Any) -> None:
    with pytest.raises(ValueError) as caught:
        data_of(train, **more)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def image(index: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (6, 4), color=index * 10 if mode == "L" else (index * 10, 0, 255))


# -- awkward items --------------------------------------------------------------------------------------------------------------------


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


# -- what is inferred -----------------------------------------------------------------------------------------------------------------

INFERRED = [
    (torch.arange(20) % 5, ("classification", 5, (5,))),
    (torch.arange(20) * 1000, ("regression", None, ())),
    (torch.arange(20) - 3, ("regression", None, ())),
    (torch.linspace(0, 1, 60).view(20, 3), ("regression", None, (3,))),
    ((torch.arange(20) % 2).double(), ("binary", None, ())),
    ((torch.arange(20) % 2).bool(), ("binary", None, ())),
    ((torch.arange(20) % 2).float()[:, None], ("binary", None, (1,))),
    ((torch.arange(20) % 6).to(torch.uint8), ("classification", 6, (6,))),
]


@pytest.mark.parametrize(("y", "expected"), INFERRED, ids=lambda value: str(value)[:20])
def test_the_kind_of_target_is_inferred_and_said(y: Tensor, expected: tuple[Any, ...]) -> None:
    x = torch.rand(20, 2)
    for data in (data_of((x, y), (x, y)), data_of(Rows(lambda i: (x[i], y[i])), Rows(lambda i: (x[i], y[i])))):
        assert (data.spec.kind, data.spec.classes, data.spec.out_shape) == expected
        assert data.spec.in_shape == (2,) and has_note(data, "inferred from the first rows", f"kind {expected[0]}")


def test_what_the_spec_says_is_kept() -> None:
    pair = (torch.rand(20, 2), torch.arange(20) % 3)
    spec = data_of(pair, pair, spec=DataSpec(kind="classification", classes=7)).spec
    assert (spec.classes, spec.out_shape) == (7, (7,))
    spec = data_of(pair, pair, spec=DataSpec(kind="regression")).spec
    assert (spec.kind, spec.out_shape, spec.classes) == ("regression", (), None)
    only = data_of({"x": torch.rand(20, 2)}, {"x": torch.rand(5, 2)}).spec
    assert (only.kind, only.in_shape, only.out_shape) == ("other", (2,), (2,))


def test_a_large_dataset_is_read_in_part_and_that_is_said() -> None:
    read = []
    data = data_of(Rows(lambda i: read.append(i) or (torch.zeros(1), int(i == 0)), 50_000), Rows(lambda i: (torch.zeros(1), 0)))
    assert data.spec.classes == 2 and len(set(read)) < 1100 and has_note(data, "from 1024 items")


# -- the val rule ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_items", [False, True])
def test_without_val_a_stratified_tenth_of_train_is_cut(as_items: bool) -> None:
    x, y = torch.arange(100.0)[:, None], (torch.arange(100) % 10 == 0).long()
    train = Rows(lambda i: (x[i], int(y[i])), 100) if as_items else (x, y)
    data = data_of(train)
    assert data.rows == {"train": 90, "val": 10} and has_note(data, "10 of 100 rows of train, stratified by class, dataset seed 0")
    val, rest = ({int(row) for batch in data.evaluation(split) for row in batch["x"][:, 0]} for split in ("val", "train"))
    assert val | rest == set(range(100)) and not val & rest
    assert sum(int(batch["y"].sum()) for batch in data.evaluation("val")) == 1
    assert data.targets("val").tolist() == [int(y[row]) for row in sorted(val)]  # type: ignore[union-attr]
    assert {int(row) for batch in data_of(train, dataset_seed=1).evaluation("val") for row in batch["x"][:, 0]} != val
    assert {int(row) for batch in data_of(train, seed=77).evaluation("val") for row in batch["x"][:, 0]} == val
    assert has_note(data, "no test split", "no test metrics") and "test" not in data.rows
    rows = [int(row) for step, batches in zip(range(30), data.stream(0)) for row in batches[0]["x"][:, 0]]
    assert set(rows) == rest


def test_where_stratifying_is_not_feasible_the_cut_is_at_random() -> None:
    assert has_note(data_of((torch.rand(30, 1), torch.arange(30))), "3 of 30 rows of train, at random")
    assert has_note(data_of((torch.rand(30, 1), torch.rand(30))), "at random")
    assert data_of((torch.rand(2, 1), torch.rand(2))).rows == {"train": 1, "val": 1}
    refused((torch.rand(1, 1), torch.rand(1)), "1 row", "Splits(val=...)")


def test_test_rows_change_neither_train_nor_val() -> None:
    x, y = torch.rand(50, 2), torch.arange(50) % 5
    one, other = data_of((x, y), test=(x, y)), data_of((x, y), test=(x.flip(0) * 9, torch.full((50,), 4)))
    for split in ("train", "val"):
        assert all(torch.equal(a[k], b[k]) for a, b in zip(one.evaluation(split), other.evaluation(split), strict=True) for k in "xy")
    assert one.spec.classes == other.spec.classes == 5
    assert one.fingerprint != other.fingerprint


# -- fingerprints ---------------------------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_content_shape_and_type() -> None:
    x, y = torch.arange(40.0).view(20, 2), torch.arange(20) % 2
    print_of = lambda *pair: data_of(pair, pair).fingerprint  # noqa: E731
    assert print_of(x, y) == print_of(x.clone(), y.double().long()) and "all rows" in print_of(x, y)
    changed = x.clone()
    changed[19, 1] += 1e-6 * 40
    assert len({print_of(x, y), print_of(changed, y), print_of(x.view(20, 1, 2), y), print_of(x.long(), y), print_of(x, 1 - y)}) == 5
    items = [data_of(Rows(lambda i, at=at: (float(i == at), 0)), Rows(lambda i: (0.0, 0))).fingerprint for at in (3, 4, 19, 18)]
    assert items[0] != items[1] and items[2] == items[3] and "first 16 items" in items[0]


# -- refusals -------------------------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


def test_what_cannot_be_read_by_row_number_is_refused_in_one_line() -> None:
    good = (torch.rand(9, 2), torch.rand(9))
    refused(Stream(), "train is a Stream", "map-style Dataset")
    refused(DataLoader(TensorDataset(*good)), "train is a DataLoader")
    refused(iter([1]), "list_iterator")
    refused(good, "split val is empty", val=(torch.rand(0, 2), torch.rand(0)))
    refused(Rows(lambda i: (i, i), 0), "split train is empty")
    refused((torch.rand(9, 2), torch.rand(8)), "equally many rows", "x 9, y 8")
    refused({"x": torch.rand(9, 2), "y": torch.tensor(3.0)}, "rows on axis 0")
    refused(Rows(lambda i: (torch.rand(2), "cat")), "item 0: y is a str", "collate")
    refused(Rows(lambda i: (1, 2, 3)), "tuple of 3 values", "(x, y)")
    refused((np.array(["a", "b"]), np.zeros(2)), "numpy array of <U1")
    refused(good, "split val have shape", "under x", val=(torch.rand(9, 3), torch.rand(9)))
    refused(good, "split test holds x, train holds x, y", val=good, test={"x": torch.rand(3, 2)})
    refused(good, "train.accumulate is 5, a step has 4 rows", val=good, accumulate=5)
    refused(None, "no train split")


def test_labels_without_an_output_are_refused_in_whatever_split_they_are() -> None:
    x, y = torch.rand(20, 2), torch.arange(20) % 3
    refused((x, y), "split test has the label 3", "3 classes", val=(x, y), test=(x, y + 1))
    refused((x, y), "split train has the label 2", "2 classes", spec=DataSpec(kind="classification", classes=2))
    refused((x, y - 1), "has the label -1", spec=DataSpec(kind="classification", classes=3))
    assert data_of((x, torch.where(y == 2, -100, y)), spec=DataSpec(kind="classification", classes=2)).spec.classes == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_what_shows_only_in_training_is_one_line_too(workers: int) -> None:
    """From workers as from the main process: a label that the scanned items did not have, a row of another shape."""
    unseen = data_of(
        Rows(lambda i: (torch.zeros(1), 7 * (i == 1)), 4100), Rows(lambda i: (torch.zeros(1), 0)), workers=workers, batch_size=999
    )
    ragged = data_of(
        Rows(lambda i: (torch.zeros(1 + (i == 17)), 0), 30), Rows(lambda i: (torch.zeros(1), 0)), workers=workers, spec=NO_SCAN
    )
    for data, words in ((unseen, "label 7"), (ragged, "differ in shape under x")):
        with pytest.raises(MissingError, match=words) as caught:
            for _ in zip(range(20), data.stream(0)):
                pass
        assert "\n" not in str(caught.value)


def test_a_users_exception_keeps_its_own_words() -> None:
    def broken(index: int) -> Any:
        raise KeyError("my own mistake")

    with pytest.raises(KeyError, match="my own mistake"):
        data_of(Rows(broken), Rows(lambda i: (0.0, 0)))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLRUN_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("DLRUN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "dlrun"


def test_items_draw_anew_each_epoch_and_the_same_at_each_evaluation() -> None:
    data = data_of(Rows(lambda i: (torch.tensor([i, random.random()]), 0), 4), Rows(lambda i: (torch.rand(2), 0), 4))
    stream = data.stream(0)
    one, two = next(stream)[0]["x"], next(stream)[0]["x"]
    assert torch.equal(one[:, 0], two[:, 0]) and not torch.equal(one[:, 1], two[:, 1])
    assert torch.equal(next(data.evaluation("val"))["x"], next(data.evaluation("val"))["x"])
