"""Generative adversarial network: a critic learns to tell data from samples, a generator to be mistaken for data.

Source: Goodfellow et al. 2014, "Generative Adversarial Nets", section 3 (non-saturating form); gradient penalty on data: Mescheder,
Geiger, Nowozin 2018, "Which Training Methods for GANs do actually Converge?", section 4.1, eq. 9 (R1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch
from dlrun.functional.ring import with_label
from dlrun.noise import Noise
from dlrun.ranges import Count, NonNegative
from dlrun.task import Task
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Objective, Whole


class gan(Task):
    """x [B, ...] is data. Per step `critic_steps` objectives of the critic on fresh samples, then one of the generator.

    The critic's loss is softplus(-critic(x)) + softplus(critic(G(z))) + r1/2 x |d critic/dx|^2, the generator's softplus(-critic(G(z))):
    2 ln 2 and ln 2 where the critic knows nothing. Logits are the log odds of "this is data".
    """

    kind = "gan"
    slots = MappingProxyType({"model": ("generator", "critic"), "optimizer": ("generator", "critic"), "loss": None})

    def __init__(self, *, latent: Count, critic_steps: Count, r1: NonNegative) -> None:
        self.latent, self.critic_steps, self.r1 = latent, critic_steps, r1

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """For labelled points (a mixture whose modes are known): modes covered, which chooses `best`, and share of good samples."""
        return ("modes_covered", "high_quality") if spec.classes and len(spec.in_shape) == 1 else ()

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """generator: latent -> one row of data; critic: one row of data -> one number."""
        return {"generator": NetworkShape((self.latent,), spec.in_shape), "critic": NetworkShape(spec.in_shape, ())}

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Draws all latents, standard normal: z [B, latent] for the generator, critic_z [B, critic_steps, latent] for the critic."""
        device = batch["x"].device
        shape = (len(batch), self.critic_steps + 1, self.latent)
        drawn = torch.randn(shape, generator=noise.generator("latent", device), device=device)
        return batch.replace(z=drawn[:, 0], critic_z=drawn[:, 1:])

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """The critic's, `critic_steps` times, each on its own samples; then the generator's against the critic as it is by then."""
        for turn in range(self.critic_steps):
            loss, terms = self._critic_loss(nets, batch["x"], batch["critic_z"][:, turn])
            yield Objective(loss, ("critic",), len(batch), terms)
        yield Objective(F.softplus(-nets.critic(nets.generator(batch["z"]))).mean(), ("generator",), len(batch))

    def _critic_loss(self, nets: Networks, real: Tensor, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        fake = nets.generator(z).detach()
        if self.r1:
            real = real.detach().requires_grad_()
        on_real, on_fake = nets.critic(real), nets.critic(fake)
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        terms = {"critic_accuracy": ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2}
        if self.r1:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            penalty = slope.square().flatten(1).sum(1).mean()
            loss = loss + self.r1 / 2 * penalty
            terms["r1_penalty"] = penalty
        return loss, terms

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
