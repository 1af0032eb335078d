"""Graphs from networkx's generators as padded dense batches, with targets that are computed exactly.

Source: Battaglia et al. 2018, "Relational inductive biases, deep learning, and graph networks", section 3; relaxation: Xu et al.
2020, "What Can Neural Networks Reason About?", section 4.3; generators: Hagberg, Schult, Swart 2008 (NetworkX) and the papers named there.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dlrun.datasets._graphs import Drawn, Kinds, draw_graphs
from dlrun.functional.graphs import all_distances, connected, distances, laplacian_vectors, relax, triangles
from dlrun.ranges import Count, Index, Positive, Seed
from dlrun.types import DataSpec, Splits

NODE_TARGETS = ("shortest_path", "relaxation", "degree")
"""Targets that every node has; the others belong to a whole graph."""


def _on_nodes(graphs: Drawn, target: str, far: float, draw: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(feature [B, N], y [B, N], which nodes count [B, N]) of a target that every node has."""
    edges = (graphs.adjacency > 0).double()
    if target == "degree":
        return graphs.mask.double(), edges.sum(-1), graphs.mask
    source = torch.from_numpy((draw.random(len(edges)) * graphs.mask.sum(1).numpy()).astype(np.int64))
    rounds = distances(graphs.adjacency, source)
    if target == "shortest_path":
        flag = torch.nn.functional.one_hot(source, edges.shape[1]).double()
        return flag, rounds[-1].nan_to_num(posinf=0.0), graphs.mask & torch.isfinite(rounds[-1])
    useful = torch.stack([(a != b).any(1) for a, b in zip(rounds, rounds[1:])]).sum(0) if len(rounds) > 1 else torch.zeros(len(edges))
    done = torch.from_numpy((draw.random(len(edges)) * useful.numpy()).astype(np.int64))
    now = torch.stack(rounds)[done, torch.arange(len(edges))]
    known = [torch.where(graphs.mask, part.nan_to_num(posinf=far), 0.0) for part in (now, relax(graphs.adjacency, now))]
    return known[0], known[1], graphs.mask


def _of_graph(graphs: Drawn, target: str) -> Tensor:
    """y [B] of a target that a whole graph has."""
    if target == "generator":
        return graphs.kind
    if target == "connected":
        return connected(graphs.adjacency, graphs.mask).long()
    return triangles(graphs.adjacency) if target == "triangles" else graphs.mask.sum(1).double()


def _split(graphs: Drawn, target: str, far: float, more: tuple[int, int], draw: np.random.Generator) -> dict[str, Any]:
    """x, y and mask of a split; `more`: how many random features, and how many of the Laplacian."""
    rows, most = graphs.mask.shape
    counted = None
    if target in NODE_TARGETS:
        feature, y, counted = _on_nodes(graphs, target, far, draw)
    else:
        feature, y = graphs.mask.double(), _of_graph(graphs, target)
    noise = torch.from_numpy(draw.standard_normal((rows, most, more[0]))) * graphs.mask[..., None]
    waves = laplacian_vectors((graphs.adjacency > 0).double(), graphs.mask, more[1])
    signs = torch.from_numpy(draw.integers(0, 2, (rows, 1, more[1])) * 2.0 - 1)
    nodes = torch.cat((feature[..., None], noise, waves * signs), -1)
    x = {"nodes": nodes.float(), "adjacency": graphs.adjacency.float(), "mask": graphs.mask}
    split: dict[str, Any] = {"x": x, "y": y.float() if y.is_floating_point() else y}
    return split if counted is None else {**split, "mask": counted}


def _spec(graphs: list[Drawn], target: str, kinds: Kinds, features: int, far: float, seed: int) -> DataSpec:
    most = graphs[0].mask.shape[1]
    names = kinds.names if target == "generator" else ("disconnected", "connected") if target == "connected" else ()
    counts = [len(part.mask) for part in graphs]
    sizes = [f"{int(part.mask.sum(1).min())} to {part.mask.shape[1]}" for part in graphs]
    said = [f"data: {', '.join(kinds.names)}: nodes of a graph in train, val, test: {', '.join(sizes)}; {kinds.said}"]
    if target == "connected":
        shares = [float(connected(part.adjacency, part.mask).double().mean()) for part in graphs]
        said.append(f"data: connected graphs in train, val, test: {', '.join(f'{share:.1%}' for share in shares)}")
    if target == "shortest_path":
        said.append("data: nodes that the source does not reach have no target and count nowhere")
    if target == "relaxation":
        said.append(f"data: nodes not reached yet have the distance {far:g}, twice the largest there is")
    return DataSpec(
        in_shape=(most, 1 + features),
        out_shape=(most,) if target in NODE_TARGETS else (len(names),) if names else (),
        kind="graph",
        classes=len(names) or None,
        names=names,
        split_rule=f"{' / '.join(map(str, counts))} graphs, drawn with dataset seed {seed}",
        source="drawn",
        notes=tuple(said),
        sizes_differ=True,
    )


def graphs(
    *,
    generator: Literal[
        "erdos_renyi", "barabasi_albert", "watts_strogatz", "regular", "tree", "grid", "cycle", "two_cycles", "path", "star", "complete"
    ]
    | list[
        Literal[
            "erdos_renyi", "barabasi_albert", "watts_strogatz", "regular", "tree", "grid", "cycle", "two_cycles", "path", "star", "complete"
        ]
    ],
    target: Literal["shortest_path", "relaxation", "degree", "triangles", "node_count", "connected", "generator"],
    nodes: Count,
    nodes_min: Count | None,
    test_nodes: Count | None,
    degree: Positive,
    weights: list[Positive] | None,
    random_features: Index,
    laplacian_features: Index,
    n: Count,
    seed: Seed,
) -> Splits:
    """x = {nodes float32 [N, F], adjacency float32 [N, N], mask bool [N]}; padded nodes are zero and have no edges.

    F = 1 + random_features + laplacian_features, in this order; the Laplacian is that of the edges without their weights.
    Of a node (y [N], and `mask` says which count): shortest_path, the distance from the node whose first feature is 1 (others 0);
    relaxation, the distance one Bellman-Ford round on from the first feature; degree. Of a graph: triangles, node_count (float),
    connected, generator (classes). Nodes are numbered at random. n train graphs, a quarter as many in val and in test. Raises ValueError
    where no such graph exists.
    """
    kinds = Kinds(tuple([generator] if isinstance(generator, str) else generator), degree)
    if target == "generator" and len(kinds.names) < 2:
        raise ValueError("target generator tells generators apart: name several, like generator=[cycle,tree]")
    if weights is not None and (len(weights) != 2 or weights[0] > weights[1]):
        raise ValueError(f"weights is {weights}: expected [least, largest]")
    if n < 4:
        raise ValueError(f"n is {n}: expected at least 4 graphs, a quarter as many go to val and to test")
    sources = np.random.SeedSequence(seed).spawn(3)
    draws = [np.random.Generator(np.random.PCG64(source)) for source in sources]
    sizes = [(nodes_min or nodes, nodes), (nodes_min or nodes, nodes), (test_nodes or nodes_min or nodes, test_nodes or nodes)]
    drawn = [draw_graphs(kinds, rows, *size, weights, draw) for rows, size, draw in zip((n, n // 4, n // 4), sizes, draws)]
    far = _far(drawn) if target == "relaxation" else 0.0
    more = (random_features, laplacian_features)
    parts = [_split(part, target, far, more, draw) for part, draw in zip(drawn, draws)]
    return Splits(parts[0], parts[1], parts[2], _spec(drawn, target, kinds, sum(more), far, seed))


def _far(drawn: list[Drawn]) -> float:
    """Twice the largest distance between any two nodes that have one."""
    return 2 * max(float(every[torch.isfinite(every)].max()) for every in (all_distances(part.adjacency) for part in drawn))
