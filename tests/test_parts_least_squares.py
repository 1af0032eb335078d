"""Least squares in closed form: against numpy's pseudo-inverse, ridge against its normal equations, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import parts
import pytest
import runs
import torch
from torch import nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.tasks.least_squares import smallest
from dlrun.types import DataSpec, Networks

SPEC = DataSpec(in_shape=(2, 3), out_shape=(4,), kind="classification", classes=4)


def made(spec: DataSpec = SPEC, **changed: Any) -> Any:
    return parts.task("least_squares", spec, **changed)


def rows(count: int) -> Batch:
    source = torch.Generator().manual_seed(1)
    return Batch({"x": torch.randn(count, 2, 3, generator=source), "y": torch.randint(4, (count,), generator=source)})


@pytest.mark.parametrize("shape", [(9, 4), (6, 6), (5, 12)])
def test_the_solution_is_numpys_pseudo_inverse(shape: tuple[int, int]) -> None:
    features, targets = torch.randn(*shape, dtype=torch.float64), torch.randn(shape[0], 3, dtype=torch.float64)
    known = np.linalg.pinv(features.numpy()) @ targets.numpy()
    assert np.allclose(smallest(features, targets, 0.0).numpy(), known, atol=1e-9)
    again = torch.cat((features, features[:, :1]), 1)  # a column twice: of all solutions the smallest gives both the same share
    found = smallest(again, targets, 0.0)
    assert torch.allclose(found[0], found[-1], atol=1e-9)
    gram = features.T @ features + 0.7 * torch.eye(shape[1], dtype=torch.float64)
    assert torch.allclose(smallest(features, targets, 0.7), torch.linalg.solve(gram, features.T @ targets), atol=1e-9)


def test_features_of_no_use_get_nothing() -> None:
    assert torch.equal(smallest(torch.zeros(3, 2).double(), torch.ones(3, 1).double(), 0.0), torch.zeros(2, 1).double())


@pytest.mark.parametrize("features", [8, 40])
def test_a_step_sets_the_readout_and_nothing_else(features: int) -> None:
    net = parts.model("random_features", (2, 3), (4,), features=features)
    task, nets, batch = made(), Networks({"model": net}), rows(20)
    assert torch.allclose(net.directions.weight.norm(dim=1), torch.ones(features)) and not any(p.requires_grad for p in net.parameters())
    assert torch.equal(net(batch["x"]), torch.zeros(20, 4)) and list(task.objectives(nets, batch)) == []
    before = net.directions.weight.clone()
    task.after_step(nets, [batch[:7], batch[7:]])
    hidden = (batch["x"].flatten(1) @ before.T).relu().double().numpy()
    known = np.linalg.pinv(hidden) @ np.eye(4)[batch["y"].numpy()]
    assert np.allclose(net.readout.weight.detach().double().numpy().T, known, atol=1e-4) and torch.equal(net.directions.weight, before)
    loss = task.evaluate(nets, batch)["loss"].value()
    assert loss == pytest.approx(float(np.square(hidden @ known - np.eye(4)[batch["y"].numpy()]).mean()), abs=1e-6)
    assert loss < 1e-8 if features > 20 else loss > 1e-3


def test_numbers_are_fitted_as_they_are() -> None:
    spec = DataSpec(in_shape=(2, 3), out_shape=(), kind="regression")
    net, task, batch = parts.model("random_features", (2, 3), (), features=60), made(spec), rows(20)
    batch = batch.replace(y=batch["x"].sum((1, 2)))
    task.after_step(Networks({"model": net}), [batch])
    assert torch.allclose(net(batch["x"]), batch["y"], atol=1e-4)


def test_networks_without_features_and_tokens_are_refused() -> None:
    with pytest.raises(UsageError, match="say model=random_features"):
        made().start(Networks({"model": nn.Linear(6, 4)}))
    with pytest.raises(UsageError, match="this data has tokens"):
        made().networks(DataSpec(in_shape=(8,), vocab=5))


def test_from_the_command_line(tmp_path: Path) -> None:
    words = ("task=least_squares", "model.features=100", "train.batch_size=full", "train.steps=1", "train.eval_splits=[train,val]")
    run, summary, code = runs.start(tmp_path, *words)
    rows_ = runs.rows(run)
    assert code == 0 and rows_[-1]["train/loss"] < rows_[0]["train/loss"] == pytest.approx(0.1)
    assert summary["metrics"]["test/accuracy"] > 0.8  # digits: guessing is 0.1
