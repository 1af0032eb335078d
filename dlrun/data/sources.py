"""Where rows come from: `Tensors` in memory, `Taken` from an object that cuts rows on demand, `Items` of a user's map-style Dataset.

Each gives named leaves for a tensor of row numbers; each can be a selection of the rows of what it wraps, so that cutting a split copies
nothing. Tensors of a dataset live on the device, decoded: a batch is one index-select a leaf.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Leaf, leaves, map_leaves
from dlrun.data.items import Key, cast_all, named, read, to_leaf

ON_DEVICE_BYTES = 2**31
"""In-memory splits up to this size are moved to the accelerator once; larger ones stay in main memory and go there batch by batch."""


class Tensors:
    """A split in memory: named leaves with equally many rows, and optionally which of those rows (int64) belong to the split."""

    in_memory = True

    def __init__(self, named_leaves: Mapping[str, Leaf], rows: Tensor | None = None) -> None:
        self.leaves = dict(named_leaves)
        self.rows = rows

    def __len__(self) -> int:
        return len(next(leaves(self.leaves))) if self.rows is None else len(self.rows)

    def take(self, indices: Tensor) -> dict[str, Leaf]:
        """The rows `indices` (int64 [B], on the device of the data) of every leaf: fresh tensors."""
        if self.rows is not None:
            indices = self.rows.index_select(0, indices)
        select = torch.index_select
        return {
            name: select(leaf, 0, indices) if isinstance(leaf, Tensor) else map_leaves(lambda tensor: select(tensor, 0, indices), leaf)
            for name, leaf in self.leaves.items()
        }

    def keyed(self, keys: list[Key]) -> dict[str, Leaf]:
        """The same rows by (split, index)."""
        return self.take(torch.tensor([index for _, index in keys], device=self.device))

    def subset(self, rows: Tensor) -> Tensors:
        """Some of the rows, without a copy."""
        return Tensors(self.leaves, rows if self.rows is None else self.rows.index_select(0, rows))

    def nbytes(self) -> int:
        """Bytes of all leaves."""
        return sum(leaf.numel() * leaf.element_size() for leaf in leaves(self.leaves))

    @property
    def device(self) -> torch.device:
        return next(leaves(self.leaves)).device

    def to(self, device: torch.device | str) -> Tensors:
        """The split on `device`, unless it is too large to live there; of a selection only its own rows go."""
        rows = self.rows
        share = 1.0 if rows is None else len(rows) / len(next(leaves(self.leaves)))
        if torch.device(device).type == "cpu" or self.nbytes() * share > ON_DEVICE_BYTES:
            return self
        moved = {
            name: map_leaves(lambda tensor: (tensor if rows is None else tensor.index_select(0, rows)).to(device), leaf)
            for name, leaf in self.leaves.items()
        }
        return Tensors(moved)

    def targets(self) -> Tensor | None:
        """All y, one row each, or None where there is no single tensor of that name."""
        y = self.leaves.get("y")
        return None if not isinstance(y, Tensor) else (y if self.rows is None else y.index_select(0, self.rows))


class Taken:
    """An object with `__len__` and `take(indices)`: it cuts its rows when asked (windows of a token stream, a replay buffer)."""

    in_memory = True
    device = torch.device("cpu")

    def __init__(self, source: Any, rows: Tensor | None = None) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    def take(self, indices: Tensor) -> dict[str, Leaf]:
        """What the object gives for `indices`, as named tensors."""
        taken = named(self.source.take(indices if self.rows is None else self.rows.index_select(0, indices)), "what take() returns")
        return cast_all({name: to_leaf(value, name) for name, value in taken.items()})

    def keyed(self, keys: list[Key]) -> dict[str, Leaf]:
        return self.take(torch.tensor([index for _, index in keys]))

    def subset(self, rows: Tensor) -> Taken:
        return Taken(self.source, rows if self.rows is None else self.rows.index_select(0, rows))

    def to(self, device: torch.device | str) -> Taken:
        return self

    def targets(self) -> Tensor | None:
        return None


class Items:
    """A map-style Dataset of the user's: `dataset[i]` for i in 0..len-1, read one by one, each under its own seeds."""

    in_memory = False
    device = torch.device("cpu")

    def __init__(self, dataset: Any, split: str, seed: int, collate: Callable[[list[Any]], Any] | None, rows: Tensor | None = None) -> None:
        self.dataset, self.split, self.seed, self.collate, self.rows = dataset, split, seed, collate, rows
        self.known_targets: Tensor | None = getattr(dataset, "known_targets", None) if rows is None and collate is None else None

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """One item, untouched."""
        return self.dataset[index if self.rows is None else int(self.rows[index])]

    def keyed(self, keys: list[Key]) -> dict[str, Leaf]:
        """The items of `keys`, (epoch or split, index), collated."""
        return read(self, keys, self.seed, self.collate)

    def take(self, indices: Tensor) -> dict[str, Leaf]:
        """Items as an evaluation reads them."""
        return self.keyed([(self.split, index) for index in indices.tolist()])

    def subset(self, rows: Tensor) -> Items:
        part = Items(self.dataset, self.split, self.seed, self.collate, rows if self.rows is None else self.rows.index_select(0, rows))
        part.known_targets = None if self.known_targets is None else self.known_targets.index_select(0, rows)
        return part

    def to(self, device: torch.device | str) -> Items:
        return self

    def targets(self) -> Tensor | None:
        return self.known_targets


Source = Tensors | Taken | Items


def _in_memory(split: Any) -> Any:
    """The tensors of a split that is held in memory, else None. A plain TensorDataset is opened: item by item it would be 50x slower."""
    if _is_torchs(split, "TensorDataset"):
        return split.tensors
    if isinstance(split, (tuple, Mapping, Tensor)):
        return split
    return split if type(split).__module__ == "numpy" else None


def _is_torchs(split: Any, name: str) -> bool:
    """Whether `split` is torch's own Dataset class `name`, no subclass of it (found without importing torch.utils.data)."""
    return type(split).__name__ == name and type(split).__module__.startswith("torch.utils.data")


def _selection(split: Any) -> tuple[Any, Tensor | None]:
    """Of a Subset of a TensorDataset, as random_split gives, the whole and the rows (int64); of anything else itself."""
    if not _is_torchs(split, "Subset") or not _is_torchs(split.dataset, "TensorDataset"):
        return split, None
    rows = torch.as_tensor(split.indices, dtype=torch.int64)
    size = len(split.dataset)
    if len(rows) and (int(rows.min()) < -size or int(rows.max()) >= size):
        raise ValueError(f"a Subset names rows {int(rows.min())} to {int(rows.max())} of a TensorDataset of {size} rows")
    return split.dataset, rows % size


def _tensors(name: str, split: Any, notes: list[str]) -> Tensors:
    raw = {key: to_leaf(value, f"split {name}: {key}") for key, value in named(split, f"split {name}").items()}
    sizes = {key: [tensor.shape[0] if tensor.dim() else None for tensor in leaves(leaf)] for key, leaf in raw.items()}
    if any(None in counts for counts in sizes.values()) or not any(sizes.values()):
        raise ValueError(f"split {name}: every tensor has its rows on axis 0; found one without rows under {', '.join(sizes)}")
    if len({count for counts in sizes.values() for count in counts}) != 1:
        found = ", ".join(f"{key} {'/'.join(map(str, counts))}" for key, counts in sizes.items())
        raise ValueError(f"split {name}: all tensors need equally many rows; found {found}")
    for key, leaf in raw.items():
        note_float64(name, key, leaf, notes)
    return Tensors(cast_all(raw))


def note_float64(split: str, key: str, leaf: Leaf, notes: list[str]) -> None:
    """Say once for each name that float64 becomes float32."""
    line = f"data: {key} is float64 and becomes float32"
    if line not in notes and any(tensor.dtype == torch.float64 for tensor in leaves(leaf)):
        notes.append(line)


def _refuse(name: str, split: Any) -> None:
    data = sys.modules.get("torch.utils.data")  # an IterableDataset or a DataLoader cannot exist unless this is imported
    endless = data is not None and isinstance(split, (data.IterableDataset, data.DataLoader))
    if endless or not (hasattr(split, "__getitem__") and hasattr(split, "__len__")):
        raise ValueError(
            f"split {name} is a {type(split).__name__}, rows of which cannot be asked for by number: expected a map-style Dataset "
            "(__len__ and __getitem__), a pair or dict of tensors, or an object with take(indices)"
        )


def open_source(name: str, split: Any, seed: int, collate: Callable[[list[Any]], Any] | None, notes: list[str]) -> Source:
    """The source of split `name`; ValueError where rows cannot be read by number, differ in number, or are none."""
    source: Source
    split, rows = _selection(split) if collate is None else (split, None)
    held = _in_memory(split)
    if held is not None:
        source = _tensors(name, held, notes)
        source = source if rows is None else source.subset(rows)
        if collate is not None:
            raise ValueError(
                f"split {name} is held in memory: the collate function of Splits would never be called; give a map-style Dataset"
            )
    elif hasattr(split, "take") and hasattr(split, "__len__"):
        source = Taken(split)
    else:
        _refuse(name, split)
        source = Items(split, name, seed, collate)
    if len(source) == 0:
        raise ValueError(f"split {name} is empty: expected at least one row")
    return source
