"""What P8 and P9 compare with: a plain training script under Hydra, as one writes it; `-m lr=1e-3,3e-3 seed=0,1` is its multirun.

An MLP 784-32-10 on Fashion-MNIST through dlrun's own cached reader, batch 32, 200 steps, the accuracy on val at the end.
"""

from __future__ import annotations

from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from torch import nn

from dlrun.config.places import cache_root
from dlrun.datasets.fashion_mnist import fashion_mnist


def scaled(x: torch.Tensor) -> torch.Tensor:
    """Bytes as float32 with mean 0 and deviation 1."""
    return (x.float() / 255 - 0.286) / 0.353


@hydra.main(version_base=None, config_path=".", config_name="plain_study")
def main(config: DictConfig) -> None:
    """One run."""
    torch.manual_seed(config.seed)
    data = fashion_mnist(cache_root(), folder=None, val=5000, n=None, label_noise=0.0)
    (x, y), (val_x, val_y) = data.train, data.val
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    adam = torch.optim.Adam(model.parameters(), lr=config.lr)
    order = torch.randperm(len(y))
    for step in range(config.steps):
        rows = order[step * config.batch_size :][: config.batch_size]
        loss = nn.functional.cross_entropy(model(scaled(x[rows])), y[rows].long())
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        right = (model(scaled(val_x)).argmax(1) == val_y).float().mean().item()
    Path("result.txt").write_text(f"{right}\n", "utf-8")


if __name__ == "__main__":
    main()
