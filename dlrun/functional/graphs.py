"""Facts of many graphs at once, from padded adjacency matrices [B, N, N]: distances, triangles, connectedness.

adjacency[b, i, j] is the weight of the edge between i and j of graph b, 0 where there is none; padded nodes have no edges.
"""

from __future__ import annotations

import torch
from torch import Tensor


def relax(adjacency: Tensor, distance: Tensor) -> Tensor:
    """One round of Bellman and Ford: distance [B, N] (inf: not reached) -> min over i itself and neighbours j of distance j + weight ij.

    Source: Bellman 1958, "On a Routing Problem", eq. 3.
    """
    through = torch.where(adjacency > 0, adjacency, torch.inf) + distance[:, None, :]
    return torch.minimum(distance, through.min(-1).values)


def distances(adjacency: Tensor, source: Tensor) -> list[Tensor]:
    """Distances [B, N] from node source[b] after 0, 1, 2 ... rounds of `relax`, until nothing changes; inf: not reached."""
    start = torch.full(adjacency.shape[:2], torch.inf, dtype=adjacency.dtype)
    start[torch.arange(len(start)), source] = 0.0
    rounds = [start]
    while True:
        after = relax(adjacency, rounds[-1])
        if torch.equal(after, rounds[-1]):
            return rounds
        rounds.append(after)


def all_distances(adjacency: Tensor) -> Tensor:
    """Distances [B, N, N] between all nodes, inf where there is no way.

    Source: Floyd 1962, "Algorithm 97: Shortest Path".
    """
    far = torch.where(adjacency > 0, adjacency, torch.inf)
    far.diagonal(dim1=1, dim2=2).zero_()
    for middle in range(far.shape[1]):
        far = torch.minimum(far, far[:, :, middle, None] + far[:, None, middle])
    return far


def triangles(adjacency: Tensor) -> Tensor:
    """Triangles [B] of each graph: closed walks of three edges are counted six times in the trace of A^3."""
    edges = (adjacency > 0).to(torch.float64)
    return torch.einsum("bij,bjk,bki->b", edges, edges, edges).round() / 6


def connected(adjacency: Tensor, mask: Tensor) -> Tensor:
    """Whether every node that counts (mask [B, N]) is reached from every other: bool [B]."""
    first = mask.int().argmax(1)
    edges = (adjacency > 0).to(torch.float64)
    return (torch.isfinite(distances(edges, first)[-1]) | ~mask).all(1)
