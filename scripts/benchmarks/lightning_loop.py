"""Lightning as its documentation begins: a LightningModule, a DataLoader over tensors in memory, a Trainer with its defaults.

`lightning_loop.py RESULT.json STEPS CLIP` writes the processor and wall seconds between the hooks around training. Its defaults: progress
bar, a logger, `self.log` of the loss every step with a row each 50, a checkpoint at the end.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import torch
from bare_loop import BATCH, BareLoop
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlrun.vision import torchvision

torchvision()  # Lightning imports it, and cannot be imported itself where its compiled part does not fit torch and nobody mended that
import lightning  # noqa: E402


class Classifier(lightning.LightningModule):
    """The MLP 784-256-10 with torch's default Adam."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Cross-entropy of one batch."""
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, 0.001."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Clock(lightning.Callback):
    """Seconds between the first batch and the end of training."""

    def on_train_start(self, *_: object) -> None:
        """Begin."""
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def on_train_end(self, *_: object) -> None:
        """End."""
        self.cpu, self.wall = time.process_time() - self.cpu, time.perf_counter() - self.wall


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    bare, clock = BareLoop(fused=False, clip=1.0), Clock()
    loader = DataLoader(TensorDataset(bare.x, bare.y), batch_size=BATCH, shuffle=True, drop_last=True)
    trainer = lightning.Trainer(max_steps=int(sys.argv[2]), gradient_clip_val=float(sys.argv[3]), callbacks=[clock], accelerator="cpu")
    trainer.fit(Classifier(), loader)
    Path(sys.argv[1]).write_text(json.dumps({"cpu": clock.cpu, "wall": clock.wall}), "utf-8")
