"""Declared facts: each is held against what is so, and one that no check reads is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_found import CLOUDS, built, found, parts, plug  # noqa: F401 (parts is a fixture)

from dlrun import Splits, registry
from dlrun.checks import Finding
from dlrun.checks._frame import Subject, declared


def alone(name: str, *words: str) -> Finding:
    """What one check says, without the others."""
    return Subject(built(*words), patience=5.0).judge(name, registry.get("check", name))


def test_a_declared_fact_that_no_applicable_check_reads_is_said() -> None:
    findings = found("dataset=moons", "expects.causal=true", "expects.loss_may_rise=true", level="check")
    text = findings["expects"].message if "expects" in findings else ""
    assert "loss_may_rise" not in text and findings["step_lowers_loss"].level == "not_applicable"
    assert "expects" not in found("dataset=moons", "expects.loss_may_rise=true", level="check")


def test_the_verdict_on_a_declared_fact() -> None:
    assert declared("causal", True, "it is").level == "ok"
    refuted = declared("causal", False, "step 3 sees step 4")
    assert refuted.level == "warning" and "expects.causal is declared, yet step 3" in refuted.message and refuted.next


@pytest.mark.parametrize(
    ("words", "level"),
    [
        (("expects.static_rows=true",), "ok"),
        (("expects.stochastic_data=true",), "warning"),
        (("expects.stochastic_train=true",), "warning"),
        (("expects.stochastic_train=true", "model=heavy_dropout"), "ok"),
        ((), "not_applicable"),
    ],
)
def test_declared_facts_of_data_and_noise_are_asserted(words: tuple[str, ...], level: str) -> None:
    assert alone("expectations", *CLOUDS, *words).level == level


def test_rows_that_change_refute_static_rows() -> None:
    class Jitters(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 300

        def __getitem__(self, row: int) -> Any:
            return torch.full((3,), float(row)) + torch.randn(3), row % 2

    plug("dataset", "jitters", lambda: Splits(Jitters(), Jitters()))
    words = ("dataset=jitters", "task=supervised", "loss=cross_entropy")
    assert alone("expectations", *words, "expects.static_rows=true").level == "warning"
    assert alone("expectations", *words, "expects.stochastic_data=true").level == "ok"
