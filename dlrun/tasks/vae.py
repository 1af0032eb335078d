"""Variational autoencoder: rows are encoded as Gaussians near a standard normal one, from which new rows can be drawn.

Source: Kingma, Welling 2014, "Auto-Encoding Variational Bayes", section 2.3 (the bound and its reparametrised estimate), section 3 and
appendix B (Gaussian encoder, its KL divergence in closed form); active units: Burda, Grosse, Salakhutdinov 2016, "Importance Weighted
Autoencoders", section 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.pictures import as_shares, stacked, takes_shares, unstandardised
from dlrun.noise import Noise
from dlrun.ranges import Count, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Whole

ACTIVE = 0.01
"""A unit is active where the variance over rows of its posterior mean is above this (Burda et al. 2016)."""
SHOWN = 16


class vae(LossTask):
    """x [B, *in_shape]; encoder: x -> (mu, logvar) [B, 2, latent]; decoder: z [B, latent] -> a row [B, *in_shape].

    The loss is weight x reconstruction + KL, in nats a row: the negative evidence lower bound where the loss of all entries of a row is
    summed, up to a constant. With mse and weight w that is a Gaussian likelihood of variance 1 / (2 w), with bce a Bernoulli one.
    Images are made again in [0, 1]: where the dataset says how its pixels were standardised, that is undone in the target.
    """

    slots = MappingProxyType({"model": ("encoder", "decoder")})
    kind = "vae"

    def __init__(self, *, latent: Count, weight: Positive, reduction: Literal["sum", "mean"]) -> None:
        self.latent, self.weight, self.reduction = latent, weight, reduction

    def default_loss(self, spec: DataSpec) -> str | None:
        """Squared error."""
        return "mse"

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """encoder: a row -> two numbers a latent; decoder: latents -> a row. Raises UsageError for rows that are no numbers."""
        if spec.vocab is not None or not spec.in_shape:
            raise UsageError("task vae makes rows of numbers again; this data has tokens, or rows without a shape")
        return {"encoder": NetworkShape(spec.in_shape, (2, self.latent)), "decoder": NetworkShape((self.latent,), spec.in_shape)}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Adds noise [B, latent], standard normal; y becomes the target."""
        x = batch.get("x")
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError(f"task vae makes x again, a tensor of numbers; this dataset gives {', '.join(batch)}")
        drawn = torch.randn((len(x), self.latent), generator=noise.generator("latent", x.device), device=x.device, dtype=x.dtype)
        target = as_shares(x, self.spec, "a vae") if takes_shares(self.criterion) else unstandardised(x, self.spec)
        return batch.replace(y=target, noise=drawn)

    def outputs(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction [B, *in_shape] or its logits, mu, logvar [B, latent]), z = mu + sigma x noise."""
        mu, logvar = nets.encoder(batch["x"]).unbind(1)
        return nets.decoder(mu + (0.5 * logvar).exp() * batch["noise"]), mu, logvar

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """weight x reconstruction + KL(N(mu, sigma^2) || N(0, 1)); both terms in nats a row, means over rows."""
        made, mu, logvar = outputs
        reconstruction = self.criterion(made, batch["y"]) * (made[0].numel() if self.reduction == "sum" else 1)
        kl = 0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum(1).mean()
        return self.weight * reconstruction + kl, {"reconstruction": reconstruction, "kl": kl}

    def compared(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """(reconstructions, originals, rows); both in [0, 1] for images."""
        return (outputs[0].sigmoid() if takes_shares(self.criterion) else outputs[0]), batch["y"], len(batch)

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Loss, terms, metrics; `active_units` of the latents, and `explained`, the share of the rows' variance that reconstructions have:
        0 for the mean row."""
        mu = nets.encoder(batch["x"]).unbind(1)[0].double()
        made, y, rows = self.compared(self.outputs(nets, batch), batch)
        made, y = made.flatten(1).double(), y.flatten(1).double()
        sums = torch.cat(((made - y).square().sum()[None], y.square().sum()[None], y.sum(0)))
        return {
            **super().evaluate(nets, batch),
            "active_units": Mean(torch.stack((mu.sum(0), mu.square().sum(0))), float(rows), _active),
            "explained": Mean(sums, float(rows), _explained),
        }

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Images: rows above their reconstructions, and samples: what the decoder makes of standard normal latents."""
        made, y, _ = self.compared(self.outputs(nets, batch), batch)
        if y.dim() != 4:
            return {}
        drawn = self.compared((nets.decoder(batch["noise"]),), batch)[0]
        pairs = stacked(y[:SHOWN], made[:SHOWN])
        return {
            "reconstructions": Look("images", pairs, "original above reconstruction"),
            "samples": Look("images", drawn[:SHOWN], "drawn from the prior"),
        }


def _active(sums: Tensor, rows: Tensor) -> float:
    """Sums of mu and mu^2 [2, latent] -> how many latents have a mean that varies over rows."""
    mean, square = sums / rows
    return float((square - mean.square() > ACTIVE).sum())


def _explained(sums: Tensor, rows: Tensor) -> float:
    """(sum of squared errors, sum of y^2, sum of y [D]) -> 1 - errors / squares about the mean row."""
    about = sums[1] - sums[2:].square().sum() / rows
    return float(1 - sums[0] / about)
