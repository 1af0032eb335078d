"""Graphs from generators: their shapes, and exact targets against networkx."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from parts import options

from dlrun.datasets.graphs import graphs
from dlrun.functional.graphs import all_distances, connected, distances, triangles
from dlrun.types import Splits

KINDS = ["erdos_renyi", "barabasi_albert", "watts_strogatz", "regular", "tree", "grid", "cycle", "two_cycles", "path", "star", "complete"]


def data(**changed: Any) -> Splits:
    return graphs(**options("dataset", "graphs", **{"n": 44, **changed}))


def networkx_of(split: Any, row: int) -> nx.Graph:
    size = int(split["x"]["mask"][row].sum())
    return nx.from_numpy_array(split["x"]["adjacency"][row, :size, :size].double().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_each_generator_gives_the_graphs_of_its_name(kind: str) -> None:
    split = data(generator=kind, target="node_count", nodes=12, nodes_min=6).train
    sizes = set()
    for row in range(44):
        graph = networkx_of(split, row)
        n, m = graph.number_of_nodes(), graph.number_of_edges()
        sizes.add(n)
        degrees = [degree for _, degree in graph.degree]
        edges = {"cycle": n, "two_cycles": n, "path": n - 1, "tree": n - 1, "star": n - 1, "complete": n * (n - 1) / 2, "regular": 2 * n}
        edges |= {"watts_strogatz": 2 * n, "barabasi_albert": 2 * (n - 2)}
        assert m == edges.get(kind, m) and nx.number_of_selfloops(graph) == 0
        assert nx.is_connected(graph) == (kind != "two_cycles") or kind in ("erdos_renyi", "regular", "watts_strogatz")
        assert kind not in ("cycle", "two_cycles") or set(degrees) == {2}
        assert (
            (kind != "regular" or set(degrees) == {4}) and (kind != "path" or max(degrees) == 2) and (kind != "grid" or max(degrees) <= 4)
        )
    assert sizes == set(range(6, 13))
    assert torch.equal(split["x"]["adjacency"], split["x"]["adjacency"].mT)


def test_nodes_are_numbered_at_random_and_the_degree_is_the_mean_number_of_neighbours() -> None:
    path = data(generator="path", target="degree").train
    assert len({tuple(row) for row in path["y"].tolist()}) > 20  # where the ends lie
    random = data(generator="erdos_renyi", target="degree", degree=3.0, n=800).train
    assert float(random["y"].mean()) == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_targets_are_those_of_networkx(weights: list[float] | None) -> None:
    common: dict[str, Any] = {"degree": 2.0, "nodes": 9, "nodes_min": 4, "weights": weights}
    of = {target: data(target=target, **common).train for target in ("shortest_path", "degree", "triangles", "connected", "node_count")}
    for row in range(44):
        graph = networkx_of(of["degree"], row)
        size = len(graph)
        assert of["degree"]["y"][row, :size].tolist() == [degree for _, degree in graph.degree]
        assert of["triangles"]["y"][row] == sum(nx.triangles(graph).values()) / 3
        assert of["connected"]["y"][row] == nx.is_connected(graph) and of["node_count"]["y"][row] == size
        graph = networkx_of(of["shortest_path"], row)
        known = nx.single_source_dijkstra_path_length(graph, int(of["shortest_path"]["x"]["nodes"][row, :, 0].argmax()))
        counted = of["shortest_path"]["mask"][row]
        assert set(counted.nonzero()[:, 0].tolist()) == set(known)
        assert {node: float(of["shortest_path"]["y"][row, node]) for node in known} == pytest.approx(known, rel=1e-6)


def test_relaxation_goes_on_by_one_round_of_bellman_and_ford() -> None:
    split = data(target="relaxation", degree=2.0, weights=[0.5, 2.0]).train
    before, after, moved = split["x"]["nodes"][..., 0], split["y"], 0
    far = float(before.max())
    for row in range(44):
        graph = networkx_of(split, row)
        for node in graph:
            heard = [float(before[row, other]) + graph[node][other]["weight"] for other in graph[node]]
            expected = min([float(before[row, node]), *heard])
            assert float(after[row, node]) == pytest.approx(min(expected, far), rel=1e-5)
        moved += not torch.equal(before[row], after[row])
    assert moved > 35  # rounds that change nothing teach nothing


def test_functions_agree_with_each_other() -> None:
    split = data(degree=2.0, weights=[0.1, 1.0]).train
    adjacency, mask = split["x"]["adjacency"].double(), split["x"]["mask"]
    every = all_distances(adjacency)
    for source in range(3):
        assert torch.allclose(distances(adjacency, torch.full((44,), source))[-1], every[:, source])
    assert torch.equal(torch.isfinite(every).flatten(1).all(1), connected(adjacency, mask))
    assert triangles(torch.ones(1, 3, 3) - torch.eye(3)).tolist() == [1.0]


def test_a_seed_gives_the_same_graphs_and_test_may_have_larger_ones() -> None:
    one, again, other = data(test_nodes=40), data(test_nodes=40), data(seed=1)
    assert torch.equal(one.train["x"]["adjacency"], again.train["x"]["adjacency"]) and torch.equal(one.test["y"], again.test["y"])
    assert not torch.equal(one.train["x"]["adjacency"], other.train["x"]["adjacency"])
    assert one.test["x"]["adjacency"].shape == (11, 40, 40) and one.val["x"]["adjacency"].shape == (11, 12, 12)
    assert one.test["x"]["mask"].all() and one.spec is not None and one.spec.kind == "graph"
    classes = data(generator=["cycle", "tree"], target="generator")
    assert classes.spec is not None and classes.spec.names == ("cycle", "tree") and classes.train["y"].tolist() == [0, 1] * 22


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "generator"}, "name several"),
        ({"generator": ["cycle", "cycle"]}, "different ones"),
        ({"generator": "regular", "degree": 3, "nodes": 9}, "even number of nodes"),
        ({"generator": "regular", "degree": 12}, "too small for regular"),
        ({"generator": "watts_strogatz", "degree": 3}, "even numbers"),
        ({"generator": "regular", "degree": 2.5}, "whole numbers"),
        ({"generator": "two_cycles", "nodes": 5}, "too small for two_cycles"),
        ({"nodes_min": 13}, "more than the largest"),
        ({"weights": [2.0, 1.0]}, "least, largest"),
        ({"n": 3}, "at least 4 graphs"),
    ],
)
def test_graphs_that_cannot_be_are_said(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**changed)
