"""What the tests of data share: a map-style dataset over a function, `prepare` with short settings, and checks of notes and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.data import Dataset

from dlrun.data import Data, prepare
from dlrun.types import Splits


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
