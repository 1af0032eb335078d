"""Features of the Laplacian against closed forms, and the roll-out of a learned step against the algorithm itself."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from parts import options
from probed import loaded, probe, probe_and_looks
from torch import Tensor

from dlrun.datasets.graphs import graphs
from dlrun.functional.graphs import laplacian_vectors, relax

RELAXATION = ("dataset=graphs", "task=supervised", "model=gnn", "dataset.target=relaxation", "dataset.n=40", "dataset.nodes=8")
RELAXATION += ("dataset.test_nodes=20", "dataset.weights=[0.5,2.0]", "model.aggregate=min", "model.depth=1", "model.width=2")


def matrix(graph: nx.Graph, size: int) -> tuple[Tensor, Tensor]:
    found, n = torch.zeros(1, size, size, dtype=torch.float64), len(graph)
    found[0, :n, :n] = torch.from_numpy(nx.to_numpy_array(graph))
    return found, torch.arange(size)[None] < n


def energy(adjacency: Tensor, vectors: Tensor) -> Tensor:
    """v^T L v / v^T v of each vector [count], of a regular graph."""
    degree = adjacency[0].sum(1)
    moved = adjacency[0] / degree.clamp(min=1).sqrt().outer(degree.clamp(min=1).sqrt()) @ vectors[0]
    return 1 - (vectors[0] * moved).sum(0) / vectors[0].square().sum(0)


def test_the_smallest_eigenvectors_but_the_first_of_length_one_a_node() -> None:
    cycle, mask = matrix(nx.cycle_graph(6), 8)
    found = laplacian_vectors(cycle, mask, 3)
    assert found.shape == (1, 8, 3) and float(found[0, 6:].abs().max()) == 0
    assert found[0].square().sum(0).tolist() == pytest.approx([6, 6, 6])
    assert energy(cycle, found).tolist() == pytest.approx([0.5, 0.5, 1.5])  # 1 - cos(2 pi k / 6)
    assert found[0].sum(0).tolist() == pytest.approx([0, 0, 0], abs=1e-9)  # at right angles to the first
    two, mask = matrix(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), 6)
    first = laplacian_vectors(two, mask, 1)
    assert energy(two, first).tolist() == pytest.approx([0], abs=1e-9), "a second part has a second eigenvalue of 0"


def test_what_there_is_no_eigenvector_for_is_zero() -> None:
    pair, mask = matrix(nx.path_graph(2), 3)
    found = laplacian_vectors(pair, mask, 4)
    assert found[0, :2, 0].abs().tolist() == pytest.approx([1, 1]) and float(found[0, 0, 0] * found[0, 1, 0]) == pytest.approx(-1)
    assert float(found[:, :, 1:].abs().max()) == 0 and float(found[0, 2].abs().max()) == 0


def test_they_stand_behind_the_other_features_with_signs_at_random() -> None:
    common: dict[str, Any] = {"generator": "path", "target": "triangles", "n": 200, "random_features": 2}
    plain, more = (graphs(**options("dataset", "graphs", **common, laplacian_features=count)).train["x"]["nodes"] for count in (0, 1))
    assert more.shape == (200, 12, 4) and torch.equal(more[..., :3], plain)
    ends = more[..., 3].gather(1, more[..., 3].abs().argmax(1, keepdim=True))
    assert 60 < int((ends > 0).sum()) < 140


@torch.no_grad()
def by_hand(net: Any) -> None:
    """Weights with which one layer is one round of Bellman and Ford: message relu(distance + weight), min(a, b) = a - relu(a - b)."""
    for parameter in net.parameters():
        parameter.zero_()
    layer = net.layers[0]
    net.encode.weight[0, 0] = layer.message.weight[0, 0] = layer.edge.weight[0, 0] = 1.0
    layer.up.weight[0, 0], layer.up.weight[0, 2], layer.down.weight[0, 0] = 1.0, -1.0, -1.0
    net.last.weight[0, 0] = net.readout.weight[0, 0] = 1.0


def test_the_algorithm_itself_has_no_error_in_graphs_of_any_size() -> None:
    run = loaded(*RELAXATION)
    by_hand(run.model)
    for split, nodes in (("val", 8), ("test", 20)):
        found, looks = probe_and_looks("relaxation_rollout", run, split=split)
        assert found["error"] < 1e-6 and found["nodes"] == nodes and found["graphs"] == 10 and found["error_1"] < 1e-6
        assert len(looks["rollout"].data["error"][0]) == 6
    assert probe("relaxation_rollout", run, rounds=2).keys() == {"error", "error_1", "error_2", "nodes", "graphs"}


def test_distances_that_are_all_a_tenth_too_long_have_an_error_of_a_tenth_after_one_round() -> None:
    run = loaded(*RELAXATION)
    by_hand(run.model)
    with torch.no_grad():
        run.model.readout.weight[0, 0] = 1.1
    found = probe("relaxation_rollout", run, split="val", rounds=3)
    assert found["error_1"] == pytest.approx(0.1, rel=1e-5) and 0.1 < found["error_2"] < found["error_3"] < 1.1**3 - 1 + 1e-6


def test_the_exact_recursion_starts_from_the_source_alone() -> None:
    run = loaded(*RELAXATION)
    with torch.no_grad():  # always the value 0: the error is 1, of whatever was reached
        for parameter in run.model.parameters():
            parameter.zero_()
    assert probe("relaxation_rollout", run, rounds=2) == {
        "error": 1.0, "error_1": 1.0, "error_2": 1.0, "nodes": 20, "graphs": 10,
    }  # fmt: skip
    far = torch.tensor([[0.0, 9.0, 9.0]])
    path = matrix(nx.path_graph(3), 3)[0].float()
    assert relax(path, far).tolist() == [[0, 1, 9]]


def test_another_target_is_refused() -> None:
    run = loaded("dataset=graphs", "dataset.n=40", "task=supervised", "model=gnn", "model.width=8")
    with pytest.raises(ValueError, match=r"dataset\.target=relaxation"):
        probe("relaxation_rollout", run)
