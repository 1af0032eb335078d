"""The loop that dlrun is measured against, as one writes it by hand: an MLP over tensors in memory, nothing logged, nothing saved.

`bare_loop.py STEPS fused|default CLIP` prints one JSON object: processor and wall seconds of the loop.
The tensors are float32 and normalised beforehand, the cheapest that a loop can have; the data is random, of Fashion-MNIST's shape.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn

ROWS, BATCH = 60_000, 128


def main(steps: int, optimizer: str, clip: float) -> None:
    """Train and print the seconds it took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randint(0, 256, (ROWS, 784), dtype=torch.uint8).float().div_(255).sub_(0.5).div_(0.25)
    y = torch.randint(0, 10, (ROWS,))
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True if optimizer == "fused" else None)
    loss_of = nn.CrossEntropyLoss()
    order, place = torch.randperm(ROWS), 0
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        if place + BATCH > ROWS:
            order, place = torch.randperm(ROWS), 0
        rows = order[place : place + BATCH]
        place += BATCH
        loss = loss_of(model(x[rows]), y[rows])
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        adam.step()
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
