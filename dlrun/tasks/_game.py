"""What all games of a generator against a critic share: their samples, the generator's loss, evaluation and pictures.

Source: Goodfellow et al. 2014, "Generative Adversarial Nets", section 3 (non-saturating form).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.ring import with_label
from dlrun.noise import Noise
from dlrun.task import Task
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Objective, Whole


def logistic(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """The critic's cross-entropy, softplus(-on_real) + softplus(on_fake), each a mean over its rows: 2 ln 2 where it knows nothing."""
    return F.softplus(-on_real).mean() + F.softplus(on_fake).mean()


class Game(Task):
    """x [B, ...] is data, z [B, latent] and critic_z [B, turns, latent] latents. A critic's logits are the log odds of "this is data"."""

    kind = "gan"
    latent: int
    draws: int  # sets of latents that a step's critics need

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """For labelled points (a mixture whose modes are known): modes covered, which chooses `best`, and share of good samples."""
        return ("modes_covered", "high_quality") if spec.classes and len(spec.in_shape) == 1 else ()

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """generator: latent -> one row of data; critic: one row of data -> one number."""
        return {"generator": NetworkShape((self.latent,), spec.in_shape), "critic": NetworkShape(spec.in_shape, ())}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Draws all latents, standard normal: z [B, latent] for the generator, critic_z [B, draws, latent] for the critic."""
        device = batch["x"].device
        shape = (len(batch), self.draws + 1, self.latent)
        drawn = torch.randn(shape, generator=noise.generator("latent", device), device=device)
        return batch.replace(z=drawn[:, 0], critic_z=drawn[:, 1:])

    def generators_turn(self, nets: Networks, batch: Batch) -> Objective:
        """softplus(-critic(G(z))): ln 2 where the critic knows nothing."""
        return Objective(F.softplus(-nets.critic(nets.generator(batch["z"]))).mean(), ("generator",), len(batch))

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Both players' losses (without penalty) and the configured metrics of as many samples as there are rows.

        A metric gets samples [B, ...] and the real rows; where these are labelled points, with the label as one more column.
        """
        rows = len(batch)
        samples = nets.generator(batch["z"])
        on_real, on_fake = nets.critic(batch["x"]), nets.critic(samples)
        sums = {
            "generator_loss": F.softplus(-on_fake).double().sum(),
            "critic_loss": F.softplus(-on_real).double().sum() + F.softplus(on_fake).double().sum(),
            "critic_accuracy": ((on_real > 0).double() + (on_fake < 0).double()).sum() / 2,
        }
        means: dict[str, Mean | Whole] = {name: Mean(total, float(rows)) for name, total in sums.items()}
        real = with_label(batch["x"], batch.get("y"))
        return {**means, **{name: metric(samples, real, rows) for name, metric in self.metrics.items()}}

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Samples beside data: points in the plane, or images."""
        samples, real = nets.generator(batch["z"]), batch["x"]
        if real.dim() == 2 and real.shape[1] == 2:
            return {"samples": Look("scatter", {"data": real, "generated": samples}, "generated over data")}
        return {"samples": Look("images", samples, "generated")} if real.dim() == 4 else {}
