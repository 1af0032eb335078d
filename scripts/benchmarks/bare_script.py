"""What P12 compares with: an MLP trained by hand on 60 000 uint8 images in memory.

`bare_script.py STEPS` scales them batch by batch and evaluates. The images are random, of Fashion-MNIST's shape and number.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

ROWS, BATCH = 60_000, 128

if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randint(0, 256, (ROWS + 10_000, 28, 28), dtype=torch.uint8)
    y = torch.randint(0, 10, (ROWS + 10_000,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(int(sys.argv[1])):
        if step * BATCH % ROWS < BATCH:
            order = torch.randperm(ROWS)
        rows = order[step * BATCH % ROWS :][:BATCH]
        loss = nn.functional.cross_entropy(model((x[rows].float() / 255 - 0.5) / 0.25), y[rows])
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    right = 0
    with torch.no_grad():
        for i in range(ROWS, len(x), 512):
            right += int((model((x[i : i + 512].float() / 255 - 0.5) / 0.25).argmax(1) == y[i : i + 512]).sum())
    print(float(loss), right / 10_000)
