"""What the tests of probes share: runs as a probe sees them, built in memory, and probes called with their YAML's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import runs
import torch
from parts import options
from torch import Tensor

from dlrun import registry
from dlrun.build import build
from dlrun.config import compose
from dlrun.loading import Loaded
from dlrun.noise import Noise
from dlrun.types import DataSpec, Splits

REGRESSION = ("task=supervised", "model=linear", "loss=mse")


def loaded(*words: str, seed: int = 0) -> Loaded:
    """An untrained run; its networks may be given any weights."""
    run = build(compose([*runs.QUIET, f"seed={seed}", *words]), with_optimizers=False)
    for module in run.modules.values():
        module.eval()
    return Loaded(run, 0, Path("here"))


def probe(name: str, *trained: Loaded, **changed: Any) -> dict[str, float]:
    """The numbers of a probe with its YAML's options, some of them set anew."""
    return probe_and_looks(name, *trained, **changed)[0]


def probe_and_looks(name: str, *trained: Loaded, **changed: Any) -> tuple[dict[str, float], dict[str, Any]]:
    part = registry.get("probe", name)
    first = registry.wiring(part)[0]
    given = {"run": {"run": trained[0]}, "runs": {"runs": list(trained)}, "first": dict(zip(("first", "second"), trained))}[first]
    found = registry.wire(f"probe {name}", part, {**given, "noise": Noise(0, "probe", name)}, options("probe", name, **changed))
    return found if isinstance(found, tuple) else (found, {})


def data(monkeypatch: Any, name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor] | None = None, **spec: Any) -> str:
    """Register rows as the dataset `name`; gives the override that chooses it."""
    facts = DataSpec(**spec) if spec else None
    monkeypatch.setitem(registry.PLUGINS["dataset"], name, lambda: Splits(train, test or train, test or train, facts))
    return f"dataset={name}"


def set_linear(run: Loaded, weight: Tensor, bias: Tensor | float = 0.0) -> None:
    """Give the only linear layer of a network these weights [out, in] and this bias."""
    (layer,) = [part for part in run.model.modules() if isinstance(part, torch.nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(torch.as_tensor(bias).expand_as(layer.bias))
