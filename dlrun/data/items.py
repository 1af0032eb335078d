"""From a user's items to tensors: what `dataset[i]` may hold, how it is named, and how items are read under seeds of their own.

An item is (x, y), a dict of named values, or a single x. Values are tensors, numpy arrays, PIL images, python numbers, or tuples and dicts
of them. Every item is read with python's, numpy's and torch's generators seeded from (seed, "item", epoch, index) in whatever process
reads it: the number of workers, the order of reading and a resume cannot change what an item's random transforms draw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrun.batch import Leaf, map_leaves
from dlrun.errors import MissingError
from dlrun.noise import seed_generators

Key = tuple[int | str, int]
"""(epoch, index) of a training item, (split, index) of an item read for evaluation."""


class DataError(MissingError, ValueError):
    """Rows that cannot become a batch (exit 3): one line that says which and what to do."""


def is_image(value: Any) -> bool:
    """Whether `value` is a PIL image (found without importing pillow)."""
    return any(kind.__module__.startswith("PIL.") and kind.__name__ == "Image" for kind in type(value).__mro__)


def image_tensor(image: Any) -> Tensor:
    """A PIL image as [C, H, W]: uint8 (scaled to 0..1 on the device later), or float32 for the modes that hold more than 8 bits."""
    if image.mode.startswith("I"):
        return torch.from_numpy(np.asarray(image).astype(np.float32) / np.float32(65535))[None]
    if image.mode == "F":
        return torch.from_numpy(np.array(image, dtype=np.float32))[None]
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def to_leaf(value: Any, where: str) -> Leaf:
    """`value` of one item, or of a whole split, as tensors; DataError that names `where` for what cannot become one."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in "fiub":
            raise DataError(f"{where} is a numpy array of {value.dtype}: give numbers, or a collate function in Splits")
        return torch.as_tensor(value if isinstance(value, np.generic) or value.flags.writeable else value.copy())
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value)
    if is_image(value):
        return image_tensor(value)
    if isinstance(value, Mapping):
        return {str(key): to_leaf(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(to_leaf(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise DataError(
        f"{where} is a {type(value).__name__}: expected a tensor, an array, a PIL image, a number, or tuples and dicts of them; "
        "convert it in the dataset, or give a collate function in Splits"
    )


def named(item: Any, where: str) -> dict[str, Any]:
    """An item, or a split given as tensors, by name: (x, y) and a dict of two other names become x and y, a lone value x."""
    if isinstance(item, Mapping):
        if "x" in item or len(item) > 2:
            return {str(key): value for key, value in item.items()}
        return dict(zip(("x", "y"), item.values()))
    if not isinstance(item, (tuple, list)):
        return {"x": item}
    if not 1 <= len(item) <= 2:
        raise DataError(f"{where} is a {type(item).__name__} of {len(item)} values: expected (x, y), or a dict that names its values")
    return dict(zip(("x", "y"), item))


def cast(name: str, tensor: Tensor) -> Tensor:
    """The dtype a batch holds: floats float32; integers int64, except uint8 inputs, scaled on the device; bool targets float32."""
    if tensor.is_floating_point():
        return tensor.float()
    if name == "y" and tensor.dtype == torch.bool:
        return tensor.float()
    if tensor.dtype in (torch.bool, torch.int64) or (tensor.dtype == torch.uint8 and name != "y"):
        return tensor
    return tensor.long()


def cast_all(leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """`cast` over every tensor of a named set."""
    return {name: map_leaves(lambda tensor: cast(name, tensor), leaf) for name, leaf in leaves.items()}  # noqa: B023 (called at once)


def _stack(name: str, parts: Sequence[Leaf], indices: Sequence[int]) -> Leaf:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _stack(f"{name}.{key}", [part[key] for part in parts], indices) for key in first}
    if isinstance(first, tuple):
        return tuple(_stack(f"{name}[{i}]", [part[i] for part in parts], indices) for i in range(len(first)))
    for index, part in zip(indices, parts):
        if part.shape != first.shape:
            raise DataError(
                f"items {indices[0]} and {index} differ in shape under {name}: {tuple(first.shape)} and {tuple(part.shape)}; "
                "pad them in the dataset, or give a collate function in Splits"
            )
    return torch.stack(list(parts))


def collate(items: Sequence[Any], indices: Sequence[int], own: Callable[[list[Any]], Any] | None) -> dict[str, Leaf]:
    """Items as named tensors with rows on axis 0, through the user's own collate function where there is one."""
    if own is not None:
        batch = named(own(list(items)), "what the collate function returns")
        return cast_all({name: to_leaf(value, name) for name, value in batch.items()})
    pairs = [(f"item {index}", item) for index, item in zip(indices, items)]
    rows = [{name: to_leaf(value, f"{where}: {name}") for name, value in named(item, where).items()} for where, item in pairs]
    names = rows[0].keys()
    for index, row in zip(indices, rows):
        if row.keys() != names:
            raise DataError(f"items {indices[0]} and {index} differ in names: {', '.join(names)} and {', '.join(row)}")
    return cast_all({name: _stack(name, [row[name] for row in rows], indices) for name in names})


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever is drawn inside, the default generators of python, numpy and torch (CPU) stand afterwards as they stood before."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def read(dataset: Any, keys: Sequence[Key], seed: int, own: Callable[[list[Any]], Any] | None) -> dict[str, Leaf]:
    """The items of `keys`, each read under its own seeds, collated under the seeds of the first."""
    items = []
    with generators_kept():
        for epoch, index in keys:
            seed_generators(seed, "item", epoch, index)
            items.append(dataset[index])
        seed_generators(seed, "collate", *keys[0])
        return collate(items, [index for _, index in keys], own)
