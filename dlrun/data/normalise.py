"""What happens to a batch on the device before anything else: uint8 inputs become (x / 255 - mean) / std in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dlrun.batch import Leaf, leaves, map_leaves
from dlrun.types import DataSpec


def _is_input(name: str) -> bool:
    return name == "x" or (name[0] == "x" and name[1:].isdigit())


def _scaler(spec: DataSpec, rows: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
    """(x / 255 - mean) / std as one conversion and two kernels in place; without mean and std x / 255."""
    if spec.mean is None or spec.std is None:
        return lambda x: x.to(torch.float32).div_(255)
    if min(spec.std) <= 0:
        raise ValueError(f"the std of the dataset's spec is {spec.std}: expected numbers above 0")
    if len(spec.mean) == 1:
        low, factor = 255 * spec.mean[0], 1 / (255 * spec.std[0])
        return lambda x: x.to(torch.float32).sub_(low).mul_(factor)
    if rows.dim() < 2 or len(spec.mean) != rows.shape[1] or len(spec.std) != rows.shape[1]:
        found = f"{len(spec.mean)} means and {len(spec.std)} stds for rows of shape {tuple(rows.shape[1:])}"
        raise ValueError(f"the dataset's spec has {found}: expected one of each, or one a channel (first axis)")
    shape = (len(spec.mean),) + (1,) * (rows.dim() - 2)
    lows = torch.tensor(spec.mean, device=device).mul_(255).view(shape)
    factors = torch.tensor(spec.std, device=device).mul_(255).reciprocal_().view(shape)
    return lambda x: x.to(torch.float32).sub_(lows).mul_(factors)


Leaves = dict[str, Leaf]


def normaliser(spec: DataSpec, sample: Mapping[str, Leaf], device: torch.device, notes: list[str]) -> Callable[[Leaves], Leaves]:
    """The function from raw leaves to normalised ones; what it will do is added to `notes`."""
    bytes_in = {name: [t for t in leaves(leaf) if t.dtype == torch.uint8] for name, leaf in sample.items() if _is_input(name)}
    names = [name for name, found in bytes_in.items() if found]
    if spec.kind == "language_model":
        return lambda batch: {name: map_leaves(_tokens, leaf) for name, leaf in batch.items()} if names else batch
    if not names:
        if spec.mean is not None:
            notes.append("data: mean and std of the spec have no effect: x is not uint8")
        return lambda batch: batch
    if spec.mean is None:
        notes.append(f"data: {', '.join(names)} is uint8 and becomes float32 in 0..1 (the spec has no mean and std)")
    scale = _scaler(spec, bytes_in[names[0]][0], device)

    def normalise(batch: Leaves) -> Leaves:
        for name in names:
            leaf = batch[name]
            batch[name] = scale(leaf) if isinstance(leaf, Tensor) else map_leaves(lambda t: scale(t) if t.dtype == torch.uint8 else t, leaf)
        return batch

    return normalise


def _tokens(tensor: Tensor) -> Tensor:
    return tensor.long() if tensor.dtype == torch.uint8 else tensor
