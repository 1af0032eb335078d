"""Generative adversarial network: a critic learns to tell data from samples, a generator to be mistaken for data.

Source: Goodfellow et al. 2014, "Generative Adversarial Nets", section 3 (non-saturating form); gradient penalty on data: Mescheder,
Geiger, Nowozin 2018, "Which Training Methods for GANs do actually Converge?", section 4.1, eq. 9 (R1).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.ranges import Count, NonNegative
from dlrun.tasks._game import Game, logistic
from dlrun.types import Networks, Objective


class gan(Game):
    """x [B, ...] is data. Per step `critic_steps` objectives of the critic on fresh samples, then one of the generator.

    The critic's loss is softplus(-critic(x)) + softplus(critic(G(z))) + r1/2 x |d critic/dx|^2, the generator's softplus(-critic(G(z))):
    2 ln 2 and ln 2 where the critic knows nothing. Logits are the log odds of "this is data".
    """

    slots = MappingProxyType({"model": ("generator", "critic"), "optimizer": ("generator", "critic"), "loss": None})

    def __init__(self, *, latent: Count, critic_steps: Count, r1: NonNegative) -> None:
        self.latent, self.draws, self.r1 = latent, critic_steps, r1

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """The critic's, `critic_steps` times, each on its own samples; then the generator's against the critic as it is by then."""
        for turn in range(self.draws):
            loss, terms = self._critic_loss(nets, batch["x"], batch["critic_z"][:, turn])
            yield Objective(loss, ("critic",), len(batch), terms)
        yield self.generators_turn(nets, batch)

    def _critic_loss(self, nets: Networks, real: Tensor, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        fake = nets.generator(z).detach()
        if self.r1:
            real = real.detach().requires_grad_()
        on_real, on_fake = nets.critic(real), nets.critic(fake)
        loss = logistic(on_real, on_fake)
        terms = {"critic_accuracy": ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2}
        if self.r1:
            (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            penalty = slope.square().flatten(1).sum(1).mean()
            loss = loss + self.r1 / 2 * penalty
            terms["r1_penalty"] = penalty
        return loss, terms
