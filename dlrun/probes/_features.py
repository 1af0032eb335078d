"""Frozen features: what a layer of a trained network gives for rows of the data, as one matrix with the rows' classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves
from dlrun.functional.masks import network_input
from dlrun.trained import Trained

Pool = Literal["flatten", "mean"]
INPUT = "input"
"""The layer that is none: x itself, the baseline of every probe on features."""


class Features(NamedTuple):
    """x [N, D] float64 and classes y [N], on the CPU."""

    x: Tensor
    y: Tensor


def features(run: Trained, split: str, most: int | None, network: str | None, layer: str | None, pool: Pool) -> Features:
    """Features of rows of `split` and their classes; where targets stand at every position so do the features, one row a position.

    Raises ValueError where network or layer is not there, or the targets are no classes.
    """
    found, classes = [], []
    with torch.no_grad(), reader(run, network, layer) as read:
        for batch in run.batches(split, most):
            x, y = _paired(read(batch), batch.get("y"), pool)
            found.append(x.detach().cpu().double())
            classes.append(y.cpu().long())
    x, y = torch.cat(found), torch.cat(classes)
    if not x.isfinite().all():
        raise ValueError(f"the features of {split} hold values that are not finite")
    return Features(x[y >= 0], y[y >= 0])


def _paired(z: Tensor, y: Any, pool: Pool) -> tuple[Tensor, Tensor]:
    """Features [N, D] beside classes [N] of a batch."""
    if not isinstance(y, Tensor) or y.is_floating_point():
        found = "no y" if y is None else f"y of {getattr(y, 'dtype', type(y).__name__)}"
        raise ValueError(f"needs a class for every row, y of whole numbers; this data has {str(found).replace('torch.', '')}")
    if y.dim() == 2 and z.dim() == 3 and z.shape[:2] == y.shape:
        return z.flatten(0, 1), y.flatten()
    if y.dim() != 1:
        raise ValueError(f"needs a class for every row, y [B], or at every position of features [B, T, D]; found {list(y.shape)}")
    return flat(z, pool), y


def flat(z: Tensor, pool: Pool) -> Tensor:
    """[B, ...] as [B, D]: flattened, or the mean over positions ([B, T, D]) or pixels ([B, C, H, W])."""
    if pool == "mean" and z.dim() == 3:
        return z.mean(1)
    if pool == "mean" and z.dim() == 4:
        return z.mean((2, 3))
    return z.flatten(1) if z.dim() > 1 else z[:, None]


@contextmanager
def reader(run: Trained, network: str | None, layer: str | None) -> Iterator[Callable[[Batch], Tensor]]:
    """A function from batches to the output of `layer`; null: an encoder's output, else what goes into a network's last linear layer."""
    if layer == INPUT:
        yield lambda batch: _tensor(batch["x"], "x")
        return
    name, module = chosen(run, network)
    seen: dict[str, Any] = {}
    hooks = []
    if layer is not None:
        hooks.append(_named(name, module, layer).register_forward_hook(lambda _, __, out: seen.update(z=out)))
    elif name != "encoder":
        linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise ValueError(f"network {name} has no linear layer at its end: name one, layer={_some(module)}")
        hooks += [part.register_forward_pre_hook(lambda _, inputs: seen.update(z=inputs[0])) for part in linear]

    def read(batch: Batch) -> Tensor:
        seen.clear()
        out = module(network_input(module, batch, run.config["task"]["name"]))
        if hooks and "z" not in seen:
            raise ValueError(f"layer {layer} of network {name} took no part in calling it")
        return _tensor(seen["z"] if hooks else out, layer or name)

    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()


def chosen(run: Trained, network: str | None) -> tuple[str, nn.Module]:
    """The network called `network`; null: the encoder where there is one, else the only network. Raises ValueError."""
    known: Mapping[str, nn.Module] = run.networks
    if network is None:
        network = "encoder" if "encoder" in known else next(iter(known)) if len(known) == 1 else None
    if network is None or network not in known:
        raise ValueError(f"this run has networks {', '.join(known)}: say network=ONE{f', not {network}' if network else ''}")
    return network, known[network]


def _named(name: str, module: nn.Module, layer: str) -> nn.Module:
    known: dict[str, nn.Module] = dict(module.named_modules())
    if layer not in known or not layer:
        match = get_close_matches(layer, list(known), 1)
        raise ValueError(f"network {name} has no layer {layer!r}; it has {_some(module)}{f'; did you mean {match[0]}?' if match else ''}")
    return known[layer]


def _some(module: nn.Module) -> str:
    names = [name for name, _ in module.named_modules() if name]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _tensor(out: Any, what: str) -> Tensor:
    """The first tensor of what a layer gives."""
    first = next(iter(leaves(out)), None)
    if not isinstance(first, Tensor):
        raise ValueError(f"{what} gives a {type(out).__name__}, expected a tensor")
    return first
