"""Learning on graphs: padding that changes no number, and what message passing can and cannot tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import runs
import torch
from parts import model, options, task
from torch import Tensor

from dlrun import registry
from dlrun.batch import Batch
from dlrun.checks import run_checks
from dlrun.config import compose
from dlrun.data import prepare
from dlrun.datasets.graphs import graphs
from dlrun.errors import UsageError
from dlrun.functional.graphs import triangles
from dlrun.look.targets import measure
from dlrun.train import build_run
from dlrun.types import DataSpec, Metric, Networks, Splits

HOWS = ("sum", "mean", "max", "min")


def data(**changed: Any) -> Splits:
    return graphs(**options("dataset", "graphs", **{"n": 44, **changed}))


# what counts


def padded(x: dict[str, Tensor], more: int) -> dict[str, Tensor]:
    """The same graphs with `more` padded nodes, filled with what must never be read."""
    B, N, F = x["nodes"].shape
    nodes = torch.cat((x["nodes"], torch.full((B, more, F), 7.0)), 1)
    weights = torch.full((B, N + more, N + more), 3.0)
    weights[:, :N, :N] = x["adjacency"]
    return {"nodes": nodes, "adjacency": weights, "mask": torch.cat((x["mask"], torch.zeros(B, more, dtype=torch.bool)), 1)}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("target", ["shortest_path", "triangles"])
def test_padding_changes_no_number(target: str, how: str) -> None:
    made = data(target=target, nodes=9, nodes_min=4, degree=2.0, weights=[0.5, 2.0])
    assert made.spec is not None
    learned = task("supervised", made.spec)
    net = model("gnn", made.spec.in_shape, made.spec.out_shape, aggregate=how, width=16).requires_grad_(False)
    nets = Networks({"model": net})
    small = Batch(made.train)
    wide = {**made.train, "x": padded(made.train["x"], 5)}
    if target == "shortest_path":
        blank = torch.zeros(44, 5, dtype=torch.bool)
        wide |= {"y": torch.cat((small["y"], torch.full((44, 5), 1e6)), 1), "mask": torch.cat((small["mask"], blank), 1)}
    one, two = learned.evaluate(nets, small), learned.evaluate(nets, Batch(wide))
    assert {"loss", "mae", "r2"} <= one.keys()
    for name in one:
        assert two[name].value() == pytest.approx(one[name].value(), rel=1e-5), name
    assert (
        float(learned.count(small)) == float(learned.count(Batch(wide))) == (made.train["mask"].sum() if target == "shortest_path" else 44)
    )
    assert {name: value.value() for name, value in learned.measure(learned.outputs(nets, small), small).items()}["mae"] == one[
        "mae"
    ].value()


def test_counted_targets_alone_make_the_loss_the_metrics_and_the_mean_over_batches() -> None:
    spec = DataSpec(in_shape=(3, 1), out_shape=(3,), kind="graph")
    learned = task("supervised", spec)
    out = torch.tensor([[1.0, 2.0, 50.0], [4.0, 60.0, 70.0]])
    y, mask = torch.zeros(2, 3), torch.tensor([[True, True, False], [True, False, False]])
    batch = Batch({"x": out, "y": y, "mask": mask})
    nets = Networks({"model": torch.nn.Identity()})
    found = learned.evaluate(nets, batch)
    assert found["loss"].value() == pytest.approx((1 + 4 + 16) / 3) and found["mae"].value() == pytest.approx(7 / 3)
    plain = {"own": Metric("own", lambda out, y: (out - y).abs().mean())}  # a mean over what is left, and weighed by it
    own = task("supervised", spec, loss=lambda out, y: (out - y).abs().mean())
    own.bind(spec, own.criterion, plain)
    pair = [own.evaluate(nets, batch[row : row + 1]) for row in (0, 1)]
    assert all((pair[0][name] + pair[1][name]).value() == pytest.approx(7 / 3) for name in ("loss", "own"))
    halves = [learned.evaluate(nets, batch[row : row + 1]) for row in (0, 1)]
    assert all((halves[0][name] + halves[1][name]).value() == pytest.approx(found[name].value()) for name in found)
    classes = task("supervised", DataSpec(in_shape=(3, 1), out_shape=(3, 4), kind="graph", classes=4))
    logits = torch.zeros(2, 3, 4).index_fill_(2, torch.tensor([1]), 2.0)
    found = classes.evaluate(nets, Batch({"x": logits, "y": torch.tensor([[1, 1, 0], [0, 0, 0]]), "mask": mask}))
    assert found["accuracy"].value() == pytest.approx(2 / 3)


def test_a_mask_that_is_none_is_refused() -> None:
    learned = task("supervised", DataSpec(in_shape=(3, 1), out_shape=(3,), kind="graph"))
    nets, y = Networks({"model": torch.nn.Identity()}), torch.zeros(2, 3)
    with pytest.raises(UsageError, match=r"mask, bool, .*\(first axes of y, \[2, 3\]\).*found \[2, 3\] float32"):
        learned.evaluate(nets, Batch({"x": y, "y": y, "mask": y}))
    with pytest.raises(UsageError, match=r"the network gives \[2\]"):
        learned.evaluate(nets, Batch({"x": y[:, 0], "y": y, "mask": y == 0}))


@pytest.mark.parametrize("target", ["shortest_path", "connected"])
def test_four_micro_batches_give_the_gradient_of_the_whole(target: str, tmp_path: Path) -> None:
    words = ("dataset=graphs", f"dataset.target={target}", "dataset.nodes_min=4", "dataset.n=64", "dataset.degree=2", "task=supervised")
    words = (*words, "model=gnn", "model.width=8", "train.steps=3", "train.batch_size=16", "optimizer=sgd", "optimizer.lr=0.01")
    (tmp_path / "whole").mkdir(), (tmp_path / "parts").mkdir()
    whole = runs.start(tmp_path / "whole", *words)[1]["metrics"]
    parts = runs.start(tmp_path / "parts", *words, "train.accumulate=4")[1]["metrics"]
    names = [name for name in whole if name.startswith(("val/", "test/"))]
    assert "val/loss" in names and {name: parts[name] for name in names} == pytest.approx({name: whole[name] for name in names}, rel=1e-4)


# the network


def rows_of(*graph_list: nx.Graph) -> dict[str, Tensor]:
    """Graphs with alike nodes as one padded batch."""
    most = max(len(graph) for graph in graph_list)
    weights, mask = torch.zeros(len(graph_list), most, most), torch.zeros(len(graph_list), most, dtype=torch.bool)
    for row, graph in enumerate(graph_list):
        weights[row, : len(graph), : len(graph)] = torch.from_numpy(nx.to_numpy_array(graph)).float()
        mask[row, : len(graph)] = True
    return {"nodes": mask[..., None].float(), "adjacency": weights, "mask": mask}


@torch.no_grad()
@pytest.mark.parametrize("how", HOWS)
def test_nodes_in_another_order_give_outputs_in_that_order(how: str) -> None:
    x = data(degree=3.0, weights=[0.5, 2.0], random_features=3).train["x"]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    moved = {"nodes": x["nodes"][:, order], "adjacency": x["adjacency"][:, order][:, :, order], "mask": x["mask"][:, order]}
    of_nodes = model("gnn", (12, 4), (12, 2), aggregate=how)
    assert torch.allclose(of_nodes(moved), of_nodes(x)[:, order], atol=1e-6) and of_nodes(x).shape == (44, 12, 2)
    of_graph = model("gnn", (12, 4), (5,), aggregate=how)
    assert torch.allclose(of_graph(moved), of_graph(x), atol=1e-6) and float(of_graph(x).std(0).min()) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("how", HOWS)
def test_one_cycle_of_six_and_two_of_three_look_alike(how: str) -> None:
    """Both are 2-regular: the colour refinement of Weisfeiler and Leman, and so message passing, cannot tell (Xu et al. 2019, lemma 2)."""
    x = rows_of(nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))
    out = model("gnn", (6, 1), (7,), aggregate=how, depth=6)(x)
    assert float((out[0] - out[1]).abs().max()) < 1e-6
    assert triangles(x["adjacency"]).tolist() == [0, 2]
    told = dict(x, nodes=torch.cat((x["nodes"], torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0))), -1))
    out = model("gnn", (6, 3), (7,), aggregate=how, depth=6)(told)  # random features tell alike nodes apart
    assert float((out[0] - out[1]).abs().max()) > 1e-4


def star(*leaves: float) -> tuple[Tensor, Tensor]:
    """A node of feature 0 with neighbours of these features."""
    n = 1 + len(leaves)
    weights = torch.zeros(1, n, n)
    weights[0, 0, 1:] = weights[0, 1:, 0] = 1.0
    return torch.tensor([0.0, *leaves])[None, :, None], weights


@torch.no_grad()
@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ((1.0, 1.0), (1.0, 1.0, 1.0), {"sum"}),
        ((1.0, 2.0), (1.0, 2.0, 2.0), {"sum", "mean"}),
        ((1.0, 2.0), (1.0, 1.0, 2.0, 2.0), {"sum"}),
        ((1.0, 2.0), (1.0, 3.0), {"sum", "mean", "max", "min"}),
    ],
)
def test_sum_tells_multisets_apart_that_mean_and_max_confuse(one: Any, two: Any, told: set[str]) -> None:
    """Xu et al. 2019, figure 3: mean keeps shares, max and min the set, sum the multiset."""
    found = set()
    for how in HOWS:
        net = model("gnn", (3, 1), (3,), aggregate=how, depth=1, readout="node")
        here, there = (float(net(star(*leaves))[0, 0]) for leaves in (one, two))
        found |= {how} if abs(here - there) > 1e-5 else set()
    assert found == told


@torch.no_grad()
def test_with_min_it_can_be_bellman_and_ford() -> None:
    """Weights by hand: message relu(distance + weight), update min(a, b) = a - relu(a - b); exact on larger graphs too."""
    net: Any = model("gnn", (12, 1), (12,), aggregate="min", width=2, depth=39, shared=True)
    far = 100.0
    for parameter in net.parameters():
        parameter.zero_()
    net.encode.weight[0], net.encode.bias[0] = -far, far
    layer = net.layers[0]
    layer.message.weight[0, 0] = layer.edge.weight[0, 0] = 1.0
    layer.up.weight[0, 0], layer.up.weight[0, 2], layer.down.weight[0, 0] = 1.0, -1.0, -1.0
    net.last.weight[0, 0] = net.readout.weight[0, 0] = 1.0
    split = data(degree=3.0, weights=[0.5, 2.0], test_nodes=40).test
    out, mask = net(split["x"]), split["mask"]
    assert float((out - split["y"])[mask].abs().max()) < 1e-4 and mask.sum() > 300


def test_readout_follows_the_targets_unless_it_is_said() -> None:
    x = rows_of(nx.path_graph(5), nx.cycle_graph(4))
    assert model("gnn", (5, 1), (5,))(x).shape == (2, 5) and model("gnn", (5, 1), ())(x).shape == (2,)
    assert model("gnn", (5, 1), (5,), readout="graph")(x).shape == (2, 5)
    torch.manual_seed(0)
    classes = registry.get("model", "gnn")((5, 1), (5,), 5, **options("model", "gnn"))  # as many classes as nodes: of a graph
    assert classes(x).shape == (2, 5) and classes.pool
    assert model("gnn", (5, 1), (5, 3))(tuple(x.values())).shape == (2, 5, 3)
    with pytest.raises(ValueError, match="one output a node, 5"):
        model("gnn", (5, 1), (), readout="node")
    with pytest.raises(ValueError, match="rows are 1 x 8 x 8"):
        model("gnn", (1, 8, 8), (10,))
    net = model("gnn", (5, 1), ())
    for wrong in (torch.zeros(2, 5), {"nodes": x["nodes"]}, (x["nodes"], torch.zeros(2, 5, 4))):
        with pytest.raises(ValueError, match="gnn takes"):
            net(wrong)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("target", ["shortest_path", "relaxation", "degree", "triangles", "node_count", "connected", "generator"])
def test_every_target_is_sound_to_every_check(target: str, how: str) -> None:
    generator = "dataset.generator=[tree,regular]" if target == "generator" else "dataset.generator=erdos_renyi"
    words = ("dataset=graphs", f"dataset.target={target}", generator, "task=supervised", "model=gnn", f"model.aggregate={how}")
    sizes = ["dataset.nodes_min=6"] if target == "node_count" else []  # else every graph has the same number of nodes: no target at all
    findings = run_checks(build_run(compose([*runs.QUIET, *words, *sizes, "dataset.degree=4", "dataset.test_nodes=20"])), "fast")
    assert [f"{f.check}: {f.message}" for f in findings if f.level in ("warning", "error")] == []


def test_splits_of_one_shape_are_still_asked_of_others() -> None:
    made = data(test_nodes=20)
    assert made.spec is not None
    spec = replace(made.spec, sizes_differ=False)
    with pytest.raises(ValueError, match="expected equal shapes"):
        prepare(
            Splits(made.train, made.val, made.test, spec),
            name="g",
            seed=0,
            dataset_seed=0,
            batch_size=8,
            accumulate=1,
            workers=0,
            device="cpu",
            augments=(),
        )


def test_a_network_of_vectors_says_what_it_was_given() -> None:
    with pytest.raises(ValueError, match="a dict of nodes, adjacency, mask: for graphs say model=gnn"):
        model("mlp", (12, 1), (12,))(data().train["x"])


def test_a_look_at_the_targets_leaves_out_what_does_not_count() -> None:
    made = data(target="degree", nodes=12, nodes_min=4)
    found = measure(prepare(made, name="g", seed=0, dataset_seed=0, batch_size=8, accumulate=1, workers=0, device="cpu", augments=()))
    kept = made.train["y"][made.train["mask"]].double()
    assert found["train"]["mean"] == pytest.approx(float(kept.mean())) and sum(found["train"]["histogram"]) == len(kept) < 44 * 12
