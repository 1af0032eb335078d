"""Random graphs from networkx, one by one, as padded adjacency matrices with their nodes numbered at random."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEAST = {"cycle": 3, "two_cycles": 6, "star": 2, "barabasi_albert": 2, "watts_strogatz": 3}
"""Fewest nodes a generator is made for; others take any number."""
BY_DEGREE = ("erdos_renyi", "barabasi_albert", "watts_strogatz", "regular")
"""Generators that ask how many neighbours a node has."""
REWIRED = 0.1
"""Share of edges that watts_strogatz rewires: small worlds lie between 0.01 and 0.3 (Watts, Strogatz 1998, figure 2)."""


@dataclass(frozen=True)
class Drawn:
    """Graphs: adjacency float64 [B, N, N] (weights, 0 for no edge), mask bool [B, N] (true for real nodes), kind int64 [B]."""

    adjacency: Tensor
    mask: Tensor
    kind: Tensor


@dataclass(frozen=True)
class Kinds:
    """Generators by name, and the degree for those that ask for one."""

    names: tuple[str, ...]
    degree: float

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"generator is {list(self.names)}: expected one or several different ones")
        whole = [name for name in self.names if name in BY_DEGREE[1:]]
        if whole and self.degree % 1:
            raise ValueError(f"degree is {self.degree:g}: {whole[0]} takes whole numbers")
        even = [name for name in self.names if name in BY_DEGREE[1:3]]
        if even and self.degree % 2:
            raise ValueError(f"degree is {self.degree:g}: {even[0]} takes even numbers, half of the edges begin at each node")

    @property
    def said(self) -> str:
        """What `degree` does."""
        asking = [name for name in self.names if name in BY_DEGREE]
        return f"degree {self.degree:g} is that of {', '.join(asking)}" if asking else "degree has no effect"

    def fits(self, name: str, nodes: int) -> None:
        """ValueError where `name` makes no graph of so many nodes."""
        least = max(LEAST.get(name, 1), int(self.degree) + 1 if name in BY_DEGREE[2:] else 1)
        if nodes < least:
            raise ValueError(f"a graph of {nodes} nodes is too small for {name}, which needs {least}: raise nodes_min or nodes")
        if name == "regular" and nodes * self.degree % 2:
            raise ValueError(f"no graph of {nodes} nodes is {self.degree:g}-regular: say an even degree, or an even number of nodes")


def draw_graphs(kinds: Kinds, rows: int, least: int, most: int, weights: list[float] | None, draw: np.random.Generator) -> Drawn:
    """`rows` graphs of `least` to `most` nodes, padded to `most`; the generators take turns, edges weigh 1 or uniformly in `weights`."""
    if least > most:
        raise ValueError(f"nodes_min is {least}, more than the largest number of nodes, {most}")
    adjacency, mask = np.zeros((rows, most, most)), np.zeros((rows, most), dtype=bool)
    sizes = draw.integers(least, most + 1, rows)
    if "regular" in kinds.names and kinds.degree % 2 and least < most:
        sizes -= (sizes % 2) * (sizes > least)  # an odd degree needs an even number of nodes
    for row, size in enumerate(sizes.tolist()):
        name = kinds.names[row % len(kinds.names)]
        kinds.fits(name, size)
        edges = _edges(name, size, kinds.degree, int(draw.integers(2**32)))
        at, to = draw.permutation(size)[edges.T] if len(edges) else np.zeros((2, 0), dtype=np.int64)
        weight = np.ones(len(edges)) if weights is None else draw.uniform(weights[0], weights[1], len(edges))
        adjacency[row, at, to] = adjacency[row, to, at] = weight
        mask[row, :size] = True
    kind = torch.arange(rows) % len(kinds.names)
    return Drawn(torch.from_numpy(adjacency), torch.from_numpy(mask), kind)


def _edges(name: str, nodes: int, degree: float, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Edges [E, 2] of one graph of the generator `name`."""
    import networkx as nx

    whole = int(degree)
    if name == "two_cycles":
        first = nodes // 2
        graph = nx.disjoint_union(nx.cycle_graph(first), nx.cycle_graph(nodes - first))
    elif name == "grid":
        wide = -(-nodes // max(isqrt(nodes), 1))
        return np.array([(i, j) for i in range(nodes) for j in (i + 1, i + wide) if j < nodes and (j != i + 1 or j % wide)]).reshape(-1, 2)
    elif name in BY_DEGREE:
        graph = {
            "erdos_renyi": lambda: nx.gnp_random_graph(nodes, min(degree / max(nodes - 1, 1), 1.0), seed),
            "barabasi_albert": lambda: nx.barabasi_albert_graph(nodes, min(whole // 2, nodes - 1), seed),
            "watts_strogatz": lambda: nx.watts_strogatz_graph(nodes, whole, REWIRED, seed),
            "regular": lambda: nx.random_regular_graph(whole, nodes, seed),
        }[name]()
    elif name == "tree":
        graph = nx.random_labeled_tree(nodes, seed=seed)
    else:
        graph = {"cycle": nx.cycle_graph, "path": nx.path_graph, "complete": nx.complete_graph, "star": lambda n: nx.star_graph(n - 1)}[
            name
        ](nodes)
    return np.array(graph.edges, dtype=np.int64).reshape(-1, 2)
