"""Which parameters are hidden matrices: linear maps from features to features, neither embeddings nor the readout.

Some optimizers measure a matrix as a map, which makes no sense for a table whose rows are looked up, and do worse than Adam on the readout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.modules.conv import _ConvNd

from dlrun.nn.layers import Readout
from dlrun.run import Named

TABLES = (nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.LayerNorm, nn.RMSNorm)
MAPS = (nn.Linear, _ConvNd, nn.Bilinear)
"""Layers that can be a network's last one."""
OTHERS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
TABLE_NAMES = re.compile(r"emb|pos|tok|cls")


def hidden_matrices(modules: Mapping[str, nn.Module], named: Named) -> set[str]:
    """Names among `named` (network.key) of hidden matrices, as the layers that hold them tell.

    Counted are weights of linear, convolutional, recurrent and attention layers, and bare parameters with two axes whose names do not speak
    of an embedding or position, if both sides of the matrix (one row an output) have two entries or more. Left out are embeddings, also
    where a readout shares them, norms, parameters of a loss, and a network's readout: its `Readout` layers, else its last linear or
    convolutional layer in the order of registration.
    """
    found: set[int] = set()
    for name, module in modules.items():
        if name != "loss":
            found |= {id(parameter) for parameter in _candidates(module) if parameter.dim() >= 2 and _sides(parameter) >= 2}
    tables = {id(p) for module in modules.values() for layer in module.modules() if isinstance(layer, TABLES) for p in layer.parameters()}
    ends = {id(p) for name, module in modules.items() if name != "loss" for layer in _readouts(module) for p in layer.parameters()}
    return {full for full, parameter in named if id(parameter) in found - tables - ends}


def _sides(parameter: nn.Parameter) -> int:
    """The smaller side of the matrix with one row an output."""
    return min(len(parameter), parameter[0].numel()) if parameter.numel() else 0


def _candidates(network: nn.Module) -> Iterator[nn.Parameter]:
    for layer in network.modules():
        for key, parameter in layer.named_parameters(recurse=False):
            known = isinstance(layer, (*MAPS, *OTHERS))
            if known or (parameter.dim() == 2 and not isinstance(layer, NORMS) and not TABLE_NAMES.search(key.lower())):
                yield parameter


def _readouts(network: nn.Module) -> list[nn.Module]:
    layers = list(network.modules())
    maps: list[nn.Module] = [layer for layer in layers if isinstance(layer, MAPS)]
    return [layer for layer in layers if isinstance(layer, Readout)] or maps[-1:]
