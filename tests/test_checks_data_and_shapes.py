"""Values that are no numbers, shapes that broadcast, labels that do not exist, and set-ups that only look so."""

from __future__ import annotations

import checks_healthy
import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, big, built, first_loud, found, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net, blobs, of_blobs
from torch import Tensor, nn


@pytest.mark.parametrize("column", [0, 5])
def test_nan_in_a_column(column: int) -> None:
    x, y = blobs(256)
    x[100, column] = float("nan")
    plug("dataset", "holed", of_blobs(lambda *_: (x, y)))
    findings = found("dataset=holed", "task=supervised")
    first = findings["finite_data"]
    assert first_loud(findings) == "finite_data" and first.level == "error"
    assert f"x of row 100 is nan at column {column}" in first.message
    assert (first.numbers["row"], first.numbers["column"]) == (100, [column])


def test_infinity_in_the_validation_split_is_found_and_clean_data_are_counted() -> None:
    (x, y), (clean, _) = blobs(64), blobs(64)
    x[7] = float("inf")
    plug("dataset", "holed", lambda: checks_healthy.Splits((clean, y), (x, y)))
    assert "split val: x of row 7 is inf" in found("dataset=holed", "task=supervised")["finite_data"].message
    assert found(*CLOUDS)["finite_data"].numbers == {"rows": {"train": 256, "val": 256, "test": 256}}


def test_targets_that_are_left_out_by_the_loss_may_be_nan() -> None:
    finding = found("dataset=gaps", "task=supervised", "model=three", "loss=skips_gaps")["finite_data"]
    assert finding.level == "info" and "nan in y of train leaves the loss finite" in finding.message


LIKE_MSE = {
    "mean": lambda out, y: ((out - y) ** 2).mean(),
    "huber": lambda out, y: torch.where((out - y).abs() < 1, (out - y) ** 2 / 2, (out - y).abs() - 0.5).mean(),
    "torch": lambda out, y: F.l1_loss(out, y),
    "by_class": lambda out, y: -(y * F.logsigmoid(out) + (1 - y) * F.logsigmoid(-out)).mean(),
}


@pytest.mark.parametrize("case", LIKE_MSE)
def test_columns_against_rows(case: str) -> None:
    plug("loss", "mine", LIKE_MSE[case])
    dataset = "zero_one" if case == "by_class" else "near_targets"
    findings = found(f"dataset={dataset}", "task=supervised", "model=column", "loss=mine")
    assert first_loud(findings) == "shape_contract" and findings["shape_contract"].level == "error"
    assert "outputs (64, 1) and targets (64,) broadcast" in findings["shape_contract"].message


def test_columns_against_rows_where_the_loss_takes_care() -> None:
    findings = found("dataset=near_targets", "task=supervised", "model=column", "loss=squeezes")
    assert findings["shape_contract"].level == "ok" and findings["shape_contract"].numbers["outputs"] == [[64, 1]]


def test_a_ranking_loss_may_broadcast() -> None:
    """It compares every row with every other and means it: which target belongs to which row still matters."""

    def ranks(out: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-(out - out.T) * (y[:, None] - y[None]).sign()).mean()

    plug("loss", "ranks", ranks)
    assert first_loud(found("dataset=near_targets", "task=supervised", "model=column", "loss=ranks")) == ""


def test_labels_that_start_at_one_against_a_head_of_the_right_size() -> None:
    plug("dataset", "from_one", of_blobs(lambda x, y: (x, y + 1)))
    plug("model", "four", lambda: Net(8, 4))
    findings = found("dataset=from_one", "task=supervised", "model=four")
    shapes = findings["shape_contract"]
    assert first_loud(findings) == "shape_contract" and shapes.level == "error" and "targets go from 1 to 4" in shapes.message
    assert "start at 1" in shapes.cause and findings["init_loss"].level == "not_applicable"


def test_labels_that_start_at_one_where_classes_are_inferred() -> None:
    plug("dataset", "from_one", of_blobs(lambda x, y: (x, y + 1)))
    findings = found("dataset=from_one", "task=supervised")
    assert first_loud(findings) == "shape_contract" and findings["shape_contract"].level == "warning"
    assert "labels go from 1 to 4" in findings["shape_contract"].message


def test_a_class_too_many_for_images_of_classes() -> None:
    plug("model", "narrow", lambda: nn.Conv2d(1, 2, 1))
    x = torch.randn(64, 1, 5, 5)
    y = torch.arange(64 * 25).reshape(64, 5, 5) % 3
    plug("dataset", "areas", lambda: checks_healthy.Splits((x, y), (x, y), spec=checks_healthy.DataSpec((1, 5, 5), (2, 5, 5), "other")))
    shapes = found("dataset=areas", "task=supervised", "model=narrow", "loss=over_classes")["shape_contract"]
    assert shapes.level == "error" and "targets go from 0 to 2, the outputs have 2 classes" in shapes.message


def test_a_loss_that_is_not_reduced() -> None:
    plug("loss", "rows", lambda out, y: F.cross_entropy(out, y, reduction="none"))
    findings = found(*CLOUDS, "loss=rows")
    shapes = findings["shape_contract"]
    assert shapes.level == "error" and "the loss has shape (64,)" in shapes.message and shapes.numbers["loss"] == [64]
    assert findings["step_lowers_loss"].level == "not_applicable"


def test_a_crash_is_one_finding_and_the_rest_says_so() -> None:
    plug("model", "wrong", lambda: nn.Linear(5, 4))
    findings = found(*CLOUDS, "model=wrong", level="check")
    assert [f.level for f in findings.values()].count("error") == 1 and "RuntimeError" in findings["shape_contract"].message
    assert findings["overfit_1_batch_few"].message == "not run: shape_contract found that the set-up cannot run"
