"""A small language model's loop written by hand: dlrun's own transformer over random tokens in memory, fused Adam."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from dlrun import defaults, registry

ROWS, BATCH, TOKENS, VOCAB = 4096, 16, 64, 256
OPTIONS = {"width": 128, "depth": 3, "heads": 4}
"""A step of about 60 ms at one thread."""


class BareTransformer:
    """Next-token prediction on rows of `TOKENS` tokens, ready to take steps."""

    def __init__(self, clip: float) -> None:
        draw = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(0, VOCAB, (ROWS, TOKENS + 1), generator=draw)
        self.model = registry.get("model", "transformer")((TOKENS,), (TOKENS, VOCAB), VOCAB, **{**defaults("model/transformer"), **OPTIONS})
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.clip, self.draw, self.order, self.place = clip, draw, torch.randperm(ROWS, generator=draw), 0

    def train(self, steps: int) -> None:
        """Go on for `steps` steps."""
        for _ in range(steps):
            if self.place + BATCH > ROWS:
                self.order, self.place = torch.randperm(ROWS, generator=self.draw), 0
            rows = self.tokens[self.order[self.place : self.place + BATCH]]
            self.place += BATCH
            loss = F.cross_entropy(self.model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            self.adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.adam.step()
