"""Experiments small enough to be reproduced in a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dlrun.reproduce.sheet import Sheet, read_sheet

TINY: dict[str, Any] = {
    "train": {"steps": 20, "eval_every": 10, "checkpoint_every": 0, "log_every": 5},
    "log": {"wandb": {"mode": "disabled"}},
    "device": "cpu",
    "dataset": {"n": 300},
    "arms": {"wide": {"model.width": 16}, "narrow": {"model.width": 2}},
    "seeds": 2,
    "claims": ['wide["val/loss"].final < 9'],
}
HEAD = "# @package _global_\n# A toy.\ndefaults:\n  - override /dataset: moons\n  - override /model: mlp\n  - _self_\n"


def experiment(folder: Path, values: Mapping[str, Any], name: str = "tiny") -> Path:
    """Write it into `folder`/conf; returns that."""
    place = folder / "conf" / "experiment"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(HEAD + yaml.safe_dump(dict(values), sort_keys=False))
    return folder / "conf"


def sheet(folder: Path, values: Mapping[str, Any] | None = None) -> Sheet:
    """The toy with `values` in place of its own."""
    conf = experiment(folder, {**TINY, **(values or {})})
    return read_sheet("tiny", [], None, str(conf))
