"""Denoising diffusion: rows are drowned in noise step by step, a network learns to tell the noise, and new rows come from noise alone.

Source: Ho, Jain, Abbeel 2020, "Denoising Diffusion Probabilistic Models": eq. 4 (noised rows), 6 and 7 (posterior), 14 (loss), algorithms 1
and 2; schedule `cosine`: Nichol, Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", eq. 17.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.ring import with_label
from dlrun.noise import Noise
from dlrun.ranges import Count
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Whole

SHIFT = 0.008
SHOWN = 16


def betas(steps: int, schedule: Literal["linear", "cosine"]) -> Tensor:
    """Variances beta_1 .. beta_T that are added at each step, float64 [steps]; linear: Ho's 1e-4 .. 0.02 of 1000 steps, stretched."""
    if schedule == "linear":
        return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64).mul(1000 / steps).clamp(max=0.999)
    left = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + SHIFT) / (1 + SHIFT) * math.pi / 2).square()
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


class diffusion(LossTask):
    """x [B, *in_shape], rows of numbers of about unit size. From x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps and t the network predicts the
    noise eps; the loss is mean (eps - prediction)^2, t uniform in 1..T.

    The time comes as `time` sines and cosines of t, more columns of a vector, more channels of an image. Labels are not read.
    """

    kind = "diffusion"

    def __init__(self, *, timesteps: Count, schedule: Literal["linear", "cosine"], time: Count) -> None:
        if time % 2:
            raise UsageError(f"task.time is {time}: sines and cosines come in pairs, expected an even number")
        self.T, self.time = timesteps, time
        self.beta = betas(timesteps, schedule)
        self.alpha_bar = (1 - self.beta).cumprod(0)

    def default_loss(self, spec: DataSpec) -> str | None:
        """Squared error."""
        return "mse"

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """For vectors: how far samples lie from the split's rows."""
        return ("energy_distance",) if len(spec.in_shape) == 1 else ()

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """A noised row with its time -> the noise. Raises UsageError for rows that are neither vectors nor images."""
        if spec.vocab is not None or len(spec.in_shape) not in (1, 3):
            raise UsageError("task diffusion takes vectors or images; this data has tokens, or rows of another form")
        return {"model": NetworkShape((spec.in_shape[0] + self.time, *spec.in_shape[1:]), spec.in_shape)}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Draws t [B] and eps; x becomes x_t, y the noise in it; `real` is the row, with its label, if any, as a last column."""
        x = batch.get("x")
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError(f"task diffusion reads rows x of numbers from a batch; this dataset gives {', '.join(batch)}")
        draw = noise.generator("diffusion", x.device)
        t = torch.randint(1, self.T + 1, (len(x),), generator=draw, device=x.device)
        eps = torch.randn(x.shape, generator=draw, device=x.device, dtype=x.dtype)
        return Batch({"x": self.noised(x, t, eps), "t": t, "y": eps, "real": with_label(x, batch.get("y"))})

    def noised(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t given x, t [B] and eps (eq. 4)."""
        abar = self.alpha_bar.to(x.device)[t - 1].to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return abar.sqrt() * x + (1 - abar).sqrt() * eps

    def outputs(self, nets: Networks, batch: Batch) -> Tensor:
        """The predicted noise [B, *in_shape]."""
        return self.predicted(nets, batch["x"], batch["t"])

    def predicted(self, nets: Networks, x: Tensor, t: Tensor) -> Tensor:
        """The noise the network sees in x at the times t [B]."""
        rates = torch.exp(-math.log(10000) * torch.arange(self.time // 2, device=x.device) / (self.time // 2))
        angles = t[:, None] * rates
        told = torch.cat((angles.sin(), angles.cos()), 1).to(x.dtype).view(len(x), -1, *[1] * (x.dim() - 2))
        eps: Tensor = nets.model(torch.cat((x, told.expand(-1, -1, *x.shape[2:])), 1))
        return eps

    def sample(self, nets: Networks, like: Tensor) -> Tensor:
        """As many rows as `like` has, from noise alone (algorithm 2 with the posterior's variance, eq. 7)."""
        x = torch.randn_like(like)
        for t in range(self.T, 0, -1):
            eps = self.predicted(nets, x, torch.full((len(x),), t, device=x.device))
            beta, abar = float(self.beta[t - 1]), float(self.alpha_bar[t - 1])
            before = float(self.alpha_bar[t - 2]) if t > 1 else 1.0
            x = (x - beta / math.sqrt(1 - abar) * eps) / math.sqrt(1 - beta)
            x = x + math.sqrt(beta * (1 - before) / (1 - abar)) * torch.randn_like(x)  # at t = 1 the deviation is 0
        return x

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Loss, and the metrics of as many samples as there are rows."""
        loss, rows = self.criterion(self.outputs(nets, batch), batch["y"]), len(batch)
        samples = self.sample(nets, batch["x"]) if self.metrics else None
        return {"loss": Mean(loss.double() * rows, float(rows)), **{n: m(samples, batch["real"], rows) for n, m in self.metrics.items()}}

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Samples beside data: points in the plane, or images."""
        x, real = batch["x"], batch["real"]
        if x.dim() == 4:
            return {"samples": Look("images", self.sample(nets, x[:SHOWN]), "generated")}
        if x.shape[1] != 2:
            return {}
        return {"samples": Look("scatter", {"data": real[:, :2], "generated": self.sample(nets, x)}, "generated over data")}
