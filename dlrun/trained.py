"""`Trained`: what a probe sees of a run. `dlrun.loading.Loaded` is one; parts may not import it, so its form stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.task import Task
from dlrun.types import DataSpec, Networks


class Trained(Protocol):
    """A trained run: its networks in eval mode, on `device`, with the data and the task they were trained on."""

    config: dict[str, Any]
    networks: dict[str, nn.Module]
    step: int
    path: Path

    @property
    def data(self) -> Any:
        """Its data: `.spec`, `.rows` of each split, `.fingerprint`."""

    @property
    def task(self) -> Task:
        """The task as built, with the state it ended with."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The networks and, where it has parameters of its own, the `loss`."""

    @property
    def nets(self) -> Networks:
        """The networks as a task sees them."""

    @property
    def spec(self) -> DataSpec:
        """What the dataset says of itself."""

    @property
    def seed(self) -> int:
        """The run's seed."""

    @property
    def device(self) -> torch.device:
        """Where networks and batches lie."""

    def rows(self, split: str, most: int | None) -> Tensor:
        """Numbers of the rows of `split` that a probe looks at: all, or `most` of them drawn from the run's seed; ValueError without."""

    def batches(self, split: str, most: int | None = None, size: int = 512) -> Iterator[Batch]:
        """These rows in ascending order as the network gets them, not augmented, at most `size` at a time."""

    def prepared(self, split: str, most: int | None = None, size: int = 512) -> Iterator[Batch]:
        """The same after the task's own `prepare`, under noise keyed by seed and place."""

    def training_batches(self, steps: int) -> Iterator[Batch]:
        """The batches of the first `steps` steps as training saw them: in its order, augmented, prepared."""

    def series(self, metric: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """(steps, values) of a metric over the training, as metrics.jsonl has them ("val/loss"); ValueError where it was not logged."""

    def evaluate(self, split: str, modules: Mapping[str, nn.Module] | None = None) -> dict[str, float]:
        """The metrics that training would have written for `split`, of these networks or of `modules` in their place."""
