"""No check may raise a warning where nothing is wrong, however odd the set-up is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import checks_healthy
import pytest
import runs
from checks_healthy import HEALTHY

from dlrun import registry
from dlrun.checks import Finding, run_checks
from dlrun.config import compose
from dlrun.run import Run
from dlrun.train import build_run


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    saved = {group: dict(known) for group, known in registry.PLUGINS.items()}
    checks_healthy.add()
    yield
    for group, known in saved.items():
        registry.PLUGINS[group] = known


def built(folder: Path, case: str, *more: str) -> Run:
    text = folder / "text.txt"
    text.write_text("".join(f"the {n} quick brown foxes jump over {n * 7} lazy dogs; " for n in range(120)))
    replaced = [(f"dataset=text_file dataset.path={text} dataset.context=16" if word == "TEXT" else word).split() for word in HEALTHY[case]]
    return build_run(compose([*runs.QUIET, *[word for words in replaced for word in words], *more]))


def loud(findings: list[Finding]) -> list[str]:
    return [f"{f.check} {f.level}: {f.message} {f.numbers}" for f in findings if f.level in ("warning", "error")]


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_odd_but_right_set_ups_before_training(case: str, tmp_path: Path) -> None:
    findings = run_checks(built(tmp_path, case), "fast")
    assert loud(findings) == [] and len(findings) == 6


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_odd_but_right_set_ups_on_request(case: str, tmp_path: Path) -> None:
    assert loud(run_checks(built(tmp_path, case), "check")) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("case", HEALTHY)
def test_nor_for_other_seeds(case: str, seed: int, tmp_path: Path) -> None:
    assert loud(run_checks(built(tmp_path, case, f"seed={seed}"), "check")) == []


def test_a_start_from_another_run_is_no_fault(tmp_path: Path) -> None:
    run, _, code = runs.start(tmp_path, "dataset=moons", "train.steps=150", "train.eval_every=0")
    assert code == 0
    findings = run_checks(build_run(compose([*runs.QUIET, "dataset=moons", f"start.from={run}"])), "check")
    assert loud(findings) == []
    assert next(f for f in findings if f.check == "initial_loss").message.endswith("the weights are not fresh")
