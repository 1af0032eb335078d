"""What `prepare` makes of datasets: the val rule, inference, fingerprints, and what it refuses in one line."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_rows import Rows, data_of, has_note, refused
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from dlrun.data import cache_root
from dlrun.errors import MissingError
from dlrun.types import DataSpec

NO_SCAN = DataSpec(kind="classification", classes=1)

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
