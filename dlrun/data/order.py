"""The order of training rows: an endless stream of epochs, each a permutation that is a pure function of (seed, epoch).

Step s takes rows [s B, (s + 1) B) of the concatenated epochs, so within an epoch no row is dropped or repeated, whatever B is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlrun.data.items import Key, generators_kept
from dlrun.noise import hash32, seed_generators


class Order:
    """Which rows each step takes: `indices(step)` int64 [B], `keys(step)` the same as (epoch, index) pairs.

    `sampler`, where the user gave one, is asked for each epoch's indices anew, under seeds of (seed, "order", epoch).
    """

    def __init__(self, rows: int, seed: int, sampler: Any = None, device: torch.device | str = "cpu") -> None:
        self.seed, self.sampler, self.device = seed, sampler, device
        self._rows = rows
        self._cache: dict[int, Tensor] = {}
        self.length = rows if sampler is None else self._draw(0).numel()
        self.batch_size = self.length

    def repeats_itself(self) -> bool:
        """Whether the sampler gives the same epoch again under the same seed; one with a generator of its own does not."""
        return self.sampler is None or torch.equal(self._draw(0), self._draw(0))

    def _draw(self, epoch: int) -> Tensor:
        with generators_kept():
            seed_generators(self.seed, "order", epoch)
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            drawn = torch.tensor([int(index) for index in self.sampler], dtype=torch.int64)
        if drawn.numel() == 0 or int(drawn.min()) < 0 or int(drawn.max()) >= self._rows:
            raise ValueError(f"the sampler of train gives {drawn.numel()} indices: expected at least one, each in 0..{self._rows - 1}")
        return drawn

    def _fresh(self, epoch: int) -> Tensor:
        if self.sampler is not None:
            drawn = self._draw(epoch)
            if drawn.numel() != self.length:
                raise ValueError(
                    f"the sampler of train gives {drawn.numel()} indices in epoch {epoch}, {self.length} in epoch 0: give as many in each"
                )
            return drawn
        if self.batch_size == self.length:  # the whole set each step: its order says nothing, so it keeps the rows' own
            return torch.arange(self._rows)
        return torch.randperm(self._rows, generator=torch.Generator().manual_seed(hash32(self.seed, "order", epoch)))

    def epoch(self, epoch: int) -> Tensor:
        """The indices of `epoch`, int64, on the device of the data."""
        if epoch not in self._cache:
            self._cache = {e: order for e, order in self._cache.items() if e == epoch - 1}
            self._cache[epoch] = self._fresh(epoch).to(self.device)
        return self._cache[epoch]

    def _pieces(self, step: int) -> Iterator[tuple[int, Tensor]]:
        row, end = step * self.batch_size, (step + 1) * self.batch_size
        while row < end:
            epoch, offset = divmod(row, self.length)
            piece = self.epoch(epoch)[offset : offset + end - row]
            yield epoch, piece
            row += len(piece)

    def indices(self, step: int) -> Tensor:
        """The rows of `step`, int64 [batch_size]."""
        pieces = [piece for _, piece in self._pieces(step)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def keys(self, step: int) -> list[Key]:
        """The rows of `step` with the epoch each belongs to."""
        return [(epoch, index) for epoch, piece in self._pieces(step) for index in piece.tolist()]
