"""`Run`: the built parts of one training, and which optimizer steps when. Nothing here decides anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dlrun.data import Data
from dlrun.ema import Ema
from dlrun.errors import UsageError
from dlrun.functional.scores import Scores
from dlrun.precision import Precision
from dlrun.schedule import Scheduler
from dlrun.task import Task
from dlrun.types import Networks

Named = list[tuple[str, nn.Parameter]]


@dataclass
class Run:
    """The built parts of one training; `modules` holds the networks and, where it has parameters of its own, the `loss`."""

    config: dict[str, Any]
    saved: dict[str, Any]
    seed: int
    device: torch.device
    data: Data
    task: Task
    modules: dict[str, nn.Module]
    optimizers: dict[str, Any]
    owned: dict[str, Named]
    schedulers: dict[str, Scheduler]
    precision: Precision
    steps: int
    ema: Ema | None = None
    notes: list[str] = field(default_factory=list)
    said: set[str] = field(default_factory=set)
    scores: Scores = field(default_factory=Scores)
    _updated_by: dict[tuple[str, ...], tuple[list[str], list[nn.Parameter] | None]] = field(default_factory=dict)

    @functools.cached_property
    def nets(self) -> Networks:
        """The networks as the task sees them."""
        return self.networks(self.modules)

    def networks(self, modules: Mapping[str, nn.Module]) -> Networks:
        """`modules` (these or their averages) as the task sees them: without the loss, which is no network."""
        return Networks({name: module for name, module in modules.items() if name != "loss"})

    @functools.cached_property
    def passes(self) -> int:
        """How often the objectives of a step are run: as often as an optimizer says that it needs them (`passes`), else once."""
        return max((getattr(optimizer, "passes", 1) for optimizer in self.optimizers.values()), default=1)

    @property
    def train(self) -> dict[str, Any]:
        """The `train.*` settings."""
        return self.config["train"]  # type: ignore[no-any-return]

    def updated_by(self, networks: tuple[str, ...]) -> tuple[list[str], list[nn.Parameter] | None]:
        """Optimizers that step when an objective updates `networks`, and the parameters its gradient goes to (None: all)."""
        if networks not in self._updated_by:
            self._updated_by[networks] = self._find_updated_by(networks)
        return self._updated_by[networks]

    def _find_updated_by(self, networks: tuple[str, ...]) -> tuple[list[str], list[nn.Parameter] | None]:
        chosen = [name for name, named in self.owned.items() if any(full.split(".")[0] in networks for full, _ in named)]
        for name in chosen:
            foreign = {full.split(".")[0] for full, _ in self.owned[name]} - {*networks, "loss"}
            if foreign:
                raise UsageError(
                    f"optimizer {name} owns {', '.join(sorted(foreign))} too, but an objective updates {', '.join(networks)} alone: "
                    f"give each network its own, optimizer.{networks[0]}=... optimizer.{sorted(foreign)[0]}=..."
                )
        if len(chosen) == len(self.owned):
            return chosen, None
        return chosen, [parameter for name in chosen for _, parameter in self.owned[name]]
