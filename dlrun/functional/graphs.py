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


def laplacian_vectors(adjacency: Tensor, mask: Tensor, count: int) -> Tensor:
    """Eigenvectors [B, N, count] of each graph's normalised Laplacian 1 - D^-1/2 A D^-1/2, those of the smallest eigenvalues but the first.

    Of length sqrt(nodes), so that entries are about 1; zero at padded nodes, and where a graph has too few. Signs, and directions within an
    eigenvalue that occurs several times, are as they come. Source: Dwivedi et al. 2023, "Benchmarking Graph Neural Networks", section 5.2.
    """
    degree = adjacency.sum(-1)
    root = torch.where(degree > 0, degree.clamp(min=1e-300).rsqrt(), 0.0)
    laplacian = torch.diag_embed((degree > 0).to(adjacency.dtype)) - root[:, :, None] * adjacency * root[:, None, :]
    behind = torch.diag_embed(torch.where(mask, 0.0, 3.0).to(adjacency.dtype))  # no eigenvalue of a Laplacian is above 2
    vectors = torch.linalg.eigh(laplacian + behind).eigenvectors[:, :, 1 : 1 + count]
    nodes = mask.sum(1)
    there = torch.arange(1, 1 + vectors.shape[2])[None] < nodes[:, None]
    found = vectors * nodes.sqrt()[:, None, None] * there[:, None, :] * mask[..., None]
    return torch.nn.functional.pad(found, (0, count - found.shape[2]))
