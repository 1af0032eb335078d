"""The loop that dlrun is measured against, as one writes it by hand: an MLP over tensors in memory, nothing logged, nothing saved.

The tensors are float32 and normalised beforehand, the cheapest that a loop can have; the data is random, of Fashion-MNIST's shape.
"""

from __future__ import annotations

import torch
from torch import nn

ROWS, BATCH = 60_000, 128


class BareLoop:
    """An MLP 784-256-10 with Adam (`fused` or torch's default), ready to take steps."""

    def __init__(self, fused: bool, clip: float) -> None:
        draw = torch.Generator().manual_seed(0)
        self.x = torch.randint(0, 256, (ROWS, 784), dtype=torch.uint8, generator=draw).float().div_(255).sub_(0.5).div_(0.25)
        self.y = torch.randint(0, 10, (ROWS,), generator=draw)
        self.model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True if fused else None)
        self.loss_of, self.clip, self.draw = nn.CrossEntropyLoss(), clip, draw
        self.order, self.place = torch.randperm(ROWS, generator=draw), 0

    def train(self, steps: int) -> None:
        """Go on for `steps` steps."""
        model, loss_of, adam, clip, x, y = self.model, self.loss_of, self.adam, self.clip, self.x, self.y
        for _ in range(steps):
            if self.place + BATCH > ROWS:
                self.order, self.place = torch.randperm(ROWS, generator=self.draw), 0
            rows = self.order[self.place : self.place + BATCH]
            self.place += BATCH
            loss = loss_of(model(x[rows]), y[rows])
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            adam.step()
