"""Message passing over graphs: each node learns from what an aggregation of its neighbours' messages says.

Source: Gilmer et al. 2017, "Neural Message Passing for Quantum Chemistry", section 2; what sum, mean and max tell apart: Xu et al. 2019,
"How Powerful are Graph Neural Networks?", section 5; min as Bellman-Ford's relaxation: Xu et al. 2020, "What Can Neural Networks Reason
About?", section 3. B graphs, N nodes, F features, W width.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dlrun.nn.init import kaiming_
from dlrun.nn.layers import ACTIVATIONS, Readout, shape_text
from dlrun.ranges import Count

Aggregate = Literal["sum", "mean", "max", "min"]


def aggregated(values: Tensor, counts: Tensor, how: str) -> Tensor:
    """values [..., N, W] over N where counts [..., N] is true; zeros where it never is."""
    keep = counts[..., None]
    if how in ("sum", "mean"):
        total = (values * keep).sum(-2)
        return total if how == "sum" else total / keep.sum(-2).clamp(min=1)
    worst = -torch.inf if how == "max" else torch.inf
    filled = values.masked_fill(~keep, worst)
    best = filled.amax(-2) if how == "max" else filled.amin(-2)
    return best.masked_fill(~keep.any(-2), 0.0)


class Layer(nn.Module):
    """h_i + update(h_i, aggregate over neighbours j of message(h_j, weight_ij)): [B, N, W] -> [B, N, W]."""

    def __init__(self, width: int, how: str, activation: str, nodes: int, branch: float) -> None:
        super().__init__()
        self.how = how
        self.message, self.edge = nn.Linear(width, width), nn.Linear(1, width, bias=False)
        self.up, self.down = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.act = ACTIVATIONS[activation]()
        kaiming_(self.message, "linear", sqrt(0.5))  # two terms of equal size meet in a message
        kaiming_(self.edge, "linear", sqrt(0.5))
        kaiming_(self.up, activation)
        kaiming_(self.down, "linear", branch)
        if how == "sum":  # starts as a mean over all nodes would, or it grew N-fold in every layer
            with torch.no_grad():
                self.up.weight[:, width:] /= nodes

    def forward(self, h: Tensor, weights: Tensor, edges: Tensor) -> Tensor:
        """h [B, N, W], weights [B, N, N], edges bool [B, N, N]: whether i hears j."""
        messages = self.act(self.message(h)[:, None] + self.edge(weights[..., None]))  # [B, i, j, W]
        heard = aggregated(messages, edges, self.how)
        out: Tensor = h + self.down(self.act(self.up(torch.cat((h, heard), -1))))
        return out


class Gnn(nn.Module):
    """x = {nodes [B, N, F], adjacency [B, N, N], mask [B, N]} or a tuple of these -> [B, N, ...] or [B, ...]."""

    takes_mask = True

    def __init__(
        self, features: int, nodes: int, final: tuple[int, ...], pool: bool, width: int, depth: int, how: str, activation: str, shared: bool
    ) -> None:
        super().__init__()
        self.features, self.how, self.pool, self.rounds = features, how, pool, depth
        self.encode = nn.Linear(features, width)
        kaiming_(self.encode, "linear")
        branch = 1 / sqrt(depth)
        self.layers = nn.ModuleList(Layer(width, how, activation, nodes, branch) for _ in range(1 if shared else depth))
        self.last, self.act = nn.Linear(width, width), ACTIVATIONS[activation]()
        kaiming_(self.last, activation, 1 / nodes if pool and how == "sum" else 1.0)
        self.readout = Readout(width, final)

    def forward(self, x: Any) -> Tensor:
        nodes, weights, mask = _parts(x, self.features)
        edges = (weights != 0) & mask[:, :, None] & mask[:, None, :]
        hidden = self.embed(nodes, weights, edges)
        if self.pool:
            hidden = aggregated(hidden, mask, self.how)
        features = self.act(self.last(hidden))
        if self.pool:
            return self.readout(features)  # type: ignore[no-any-return]
        flat: Tensor = self.readout(features.flatten(0, 1)).unflatten(0, mask.shape)
        return flat * mask.reshape(*mask.shape, *(1,) * (flat.dim() - 2))

    def embed(self, nodes: Tensor, weights: Tensor, edges: Tensor) -> Tensor:
        """The nodes' features after all rounds of messages: [B, N, W]."""
        h: Tensor = self.encode(nodes)
        for number in range(self.rounds):
            h = self.layers[number % len(self.layers)](h, weights, edges)
        return h


def _parts(x: Any, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """(nodes, weights, mask) of a batch of graphs; ValueError where x is no such thing."""
    if isinstance(x, dict) and {"nodes", "adjacency"} <= x.keys():
        found = [x["nodes"], x["adjacency"], x.get("mask")]
    elif isinstance(x, (tuple, list)) and len(x) in (2, 3):
        found = [*x, None][:3]
    else:
        what = ", ".join(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"gnn takes x as nodes, adjacency and perhaps mask, a dict of these names or a tuple; found {what}")
    nodes, weights, mask = found
    fits = nodes.dim() == 3 and nodes.shape[2] == features and weights.shape == (*nodes.shape[:2], nodes.shape[1])
    if not fits or (mask is not None and mask.shape != nodes.shape[:2]):
        shapes = " and ".join(str(list(part.shape)) for part in found if part is not None)
        raise ValueError(f"gnn takes nodes [B, N, {features}], adjacency [B, N, N] and mask [B, N]; found {shapes}")
    if mask is None:
        mask = torch.ones(nodes.shape[:2], dtype=torch.bool, device=nodes.device)
    return nodes.float(), weights.to(nodes.dtype if nodes.is_floating_point() else torch.float32), mask.bool()


def gnn(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    classes: int | None,
    *,
    width: Count,
    depth: Count,
    aggregate: Literal["sum", "mean", "max", "min"],
    readout: Literal["node", "graph"] | None,
    activation: Literal["relu", "gelu", "silu", "tanh"],
    shared: bool,
) -> nn.Module:
    """x = {nodes [B, N, F], adjacency [B, N, N], mask bool [B, N]} (or a tuple; mask may be absent) -> [B, N, ...] or [B, ...].

    adjacency holds the weight of the edge by which i hears j, 0 for none. N may differ from batch to batch; padded nodes (mask false) send
    nothing and give zeros. Nodes in another order give outputs in that order. Readout null: node where out_shape begins with the N of
    in_shape (N, F) and is no vector of classes. Raises ValueError where rows are no graphs or `readout` does not go with out_shape.
    """
    if len(in_shape) != 2:
        raise ValueError(f"gnn takes graphs, rows of N nodes with F features each; this dataset's rows are {shape_text(in_shape)}")
    nodes, features = in_shape
    of_nodes = bool(out_shape) and out_shape[0] == nodes and not (len(out_shape) == 1 and classes == nodes)
    if readout == "node" and not of_nodes:
        raise ValueError(f"readout=node gives one output a node, {nodes}; this dataset's targets are {shape_text(out_shape)} a graph")
    pool = not of_nodes if readout is None else readout == "graph"
    final = out_shape if pool else out_shape[1:]
    return Gnn(features, nodes, final, pool, width, depth, aggregate, activation, shared)
