"""What tests of checks share: run them on a composed config, and plug parts in for one test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import checks_healthy
import pytest
import runs
import torch
from torch import Tensor, nn

from dlrun import registry
from dlrun.checks import Finding, Subject, run_checks
from dlrun.config import compose
from dlrun.models.mlp import mlp
from dlrun.run import Run
from dlrun.train import build_run

PARTS = registry.PLUGINS
CLOUDS = ("dataset=clouds", "task=supervised")


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    saved = {group: dict(known) for group, known in registry.PLUGINS.items()}
    checks_healthy.add()
    yield
    for group, known in saved.items():
        registry.PLUGINS[group] = known


def built(*words: str) -> Run:
    return build_run(compose([*runs.QUIET, *words]))


def found(*words: str, level: str = "fast", folded: bool = False) -> dict[str, Finding]:
    """What each check says by itself; `folded` as a user sees it, consequences lowered under their root."""
    return {finding.check: finding for finding in run_checks(built(*words), level, folded=folded)}


def judged(name: str, *words: str) -> Finding:
    """The verdict of one check."""
    return Subject(built(*words)).judge(name, registry.get("check", name))


def first_loud(findings: dict[str, Finding]) -> str:
    return next((name for name, finding in findings.items() if finding.level in ("warning", "error")), "")


def plug(group: str, name: str, part: Any) -> None:
    PARTS[group][name] = part


class big(nn.Module):
    """The built-in mlp with its last layer scaled by `factor`."""

    def __init__(self, in_shape: Any, out_shape: Any, *, factor: float = 30.0) -> None:
        super().__init__()
        self.net = mlp(in_shape, out_shape, width=256, depth=2, activation="relu", norm="none", dropout=0.0)
        with torch.no_grad():
            list(self.net.children())[-1].weight.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]
