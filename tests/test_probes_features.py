"""Probes on frozen features: against scikit-learn, and where the answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from probed import data, loaded, probe
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from dlrun.functional.contrast import unit
from dlrun.probes.alignment_uniformity import uniformity
from dlrun.probes.knn import vote
from dlrun.probes.linear_probe import fit

SMALL = ("model=mlp", "model.width=16", "model.depth=1")


def test_the_fit_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    y = (x[:, 0] + 0.5 * torch.randn(200, generator=generator, dtype=torch.float64) > 0).long() + (x[:, 1] > 1).long()
    weight, bias = fit(x, y, 3, l2=0.01)
    other = LogisticRegression(C=1 / (0.01 * 200), tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    assert torch.allclose((x @ weight + bias).softmax(1), torch.from_numpy(other.predict_proba(x.numpy())), atol=1e-5)


def test_the_input_as_features_gives_what_scikit_learn_gives() -> None:
    run = loaded("dataset=digits", *SMALL)
    found = probe("linear_probe", run, layer="input", rows=None)
    train, test = (next(run.batches(split, size=5000)) for split in ("train", "test"))
    scaler = StandardScaler().fit(train["x"].flatten(1).double())
    there = scaler.transform(train["x"].flatten(1).double())
    other = LogisticRegression(C=1 / (1e-3 * len(there)), tol=1e-8, max_iter=10_000).fit(there, train["y"])
    right = np.mean(other.predict(scaler.transform(test["x"].flatten(1).double())) == test["y"].numpy())
    assert found["accuracy"] == pytest.approx(right, abs=1e-9) and found["rows"] == 1197
    assert found["majority"] == pytest.approx(0.1)


def test_features_that_say_nothing_give_the_commonest_class(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    named = data(monkeypatch, "flat", (torch.ones(60, 3), y))
    found = probe("linear_probe", loaded(named, *SMALL), layer="input")
    assert found["features"] == 0 and found["accuracy"] == found["majority"] == found["train_accuracy"] == 0.5
    assert found["worst_recall"] == 0 and found["loss"] == pytest.approx(-(np.log([1 / 2, 1 / 3, 1 / 6]) @ [1 / 2, 1 / 3, 1 / 6]), abs=1e-6)


def test_the_layer_read_is_what_goes_into_the_last_linear_one() -> None:
    run = loaded("dataset=digits", *SMALL)
    names = [name for name, _ in run.model.named_modules() if name]
    before = names[-2]  # the activation in front of the readout
    assert probe("linear_probe", run, rows=300) == probe("linear_probe", run, rows=300, layer=before)
    assert probe("linear_probe", run, rows=300)["features"] <= 16


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [({"network": "encoder"}, "has networks model"), ({"layer": "0.x"}, "no layer '0.x'"), ({"split": "val", "rows": 3}, "a larger rows")],
)
def test_what_is_not_there_is_named(changed: dict[str, object], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        probe("linear_probe", loaded("dataset=digits", *SMALL), **changed)


def test_targets_that_are_no_classes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    named = data(monkeypatch, "line", (torch.randn(40, 3), torch.randn(40)))
    for name in ("linear_probe", "knn", "adversarial"):
        with pytest.raises(ValueError, match="class"):
            probe(name, loaded(named, "task=supervised", "model=linear"))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_vote_as_in_scikit_learn(metric: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x, held = torch.randn(80, 4, generator=generator).double(), torch.randn(600, 4, generator=generator).double()
    y = torch.arange(80) % 2
    other = KNeighborsClassifier(5, metric=metric, algorithm="brute").fit(x.numpy(), y.numpy())
    assert vote(x, y, held, 5, metric, leave_out=False).tolist() == other.predict(held.numpy()).tolist()


def test_of_equal_votes_those_of_nearer_rows_count() -> None:
    x, y = torch.tensor([[1.0], [2.0], [3.0], [4.0]]).double(), torch.tensor([2, 0, 0, 2])
    at = torch.tensor([[0.0], [2.4]]).double()
    assert vote(x, y, at, 4, "euclidean", leave_out=False).tolist() == [2, 0]
    assert vote(x, y, at, 2, "euclidean", leave_out=False).tolist() == [2, 0]


def test_a_row_left_out_has_no_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(20.0)[:, None].repeat(1, 2) + torch.tensor([0.0, 100.0])
    named = data(monkeypatch, "pairs", (x, torch.arange(20) % 2))  # the nearest other row is of the other class
    run = loaded(named, *SMALL)
    asked = {"k": 1, "metric": "euclidean", "layer": "input"}
    assert probe("knn", run, split="train", **asked)["accuracy"] == 0
    assert probe("knn", run, split="test", **asked)["accuracy"] == 1, "the same rows vote on themselves"
    with pytest.raises(ValueError, match="k=20 neighbours of 20 train rows with one left out"):
        probe("knn", run, split="train", k=20)


def test_tokens_have_a_feature_each(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(64).view(8, 8) % 5
    named = data(monkeypatch, "tokens", (x, x.clone()), kind="language_model", vocab=5, in_shape=(8,), out_shape=(8, 5))
    run = loaded(named, "task=language_model", "model=transformer", "model.width=8", "model.heads=2", "model.depth=1")
    found = probe("linear_probe", run, layer="tokens", split="train")
    assert found["accuracy"] == 1 and found["rows"] == 64, "a token can be told from its own embedding"


# -- alignment and uniformity ----------------------------------------------------------------------------------------------------------


def test_uniformity_of_a_circle_of_one_point_and_of_two() -> None:
    angles = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:-1]
    circle = torch.stack((angles.cos(), angles.sin()), 1)
    assert uniformity(circle, 2.0) == pytest.approx(-4 + math.log(float(torch.special.i0(torch.tensor(4.0).double()))), abs=2e-3)
    assert uniformity(circle[:1].repeat(50, 1), 2.0) == pytest.approx(0, abs=1e-9)
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert uniformity(poles, 2.0) == pytest.approx(-8)
    z = unit(torch.randn(3000, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert uniformity(z, 2.0) == pytest.approx(float(torch.exp(-2 * torch.pdist(z).square()).mean().log()), abs=1e-9), "in parts as at once"


def test_pairs_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.arange(40) % 2
    x = torch.stack((1 - 2.0 * y, torch.zeros(40)), 1)  # each class at a pole
    run = loaded(data(monkeypatch, "poles", (x, y)), *SMALL)
    found = probe("alignment_uniformity", run, layer="input")
    assert found["alignment"] == 0 and found["rows"] == 40
    assert found["uniformity"] == pytest.approx(math.log((2 * 190 + 400 * math.exp(-8)) / 780), abs=1e-6)
    swapped = loaded(data(monkeypatch, "mixed", (x, torch.arange(40) // 2 % 2)), *SMALL)
    assert 1 < probe("alignment_uniformity", swapped, layer="input")["alignment"] < 3, "half of the pairs lie at opposite poles, 4 apart"


def test_views_are_measured_as_the_task_measures_them() -> None:
    run = loaded("dataset=digits", "task=contrastive", "train.batch_size=300")
    own = run.evaluate("test")
    found = probe("alignment_uniformity", run, read="outputs")
    assert found["alignment"] == pytest.approx(own["alignment"], rel=0.05) and found["uniformity"] == pytest.approx(
        own["uniformity"], rel=0.05
    )
    assert probe("alignment_uniformity", run)["features"] == 128 and found["features"] == 64
    with torch.no_grad():
        for parameter in run.networks["head"].parameters():
            parameter.zero_()
        list(run.networks["head"].parameters())[-1].fill_(1.0)
    collapsed = probe("alignment_uniformity", run, read="outputs")
    assert collapsed["alignment"] == pytest.approx(0, abs=1e-9) and collapsed["uniformity"] == pytest.approx(0, abs=1e-9)


def test_rows_without_views_or_classes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = loaded("dataset=digits", *SMALL)
    with pytest.raises(ValueError, match="pairs=views needs a task that makes two views"):
        probe("alignment_uniformity", run, pairs="views")
    line = loaded(data(monkeypatch, "line", (torch.randn(40, 3), torch.randn(40))), "task=supervised", "model=mlp")
    with pytest.raises(ValueError, match="needs a class for every row"):
        probe("alignment_uniformity", line)
