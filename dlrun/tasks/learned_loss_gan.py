"""A GAN whose critic follows a loss that is learned while it plays.

Source: Bechtle et al. 2021, "Meta-Learning via Learned Loss", section III (a network gives the loss; it is trained by the loss of the task
after a gradient step of the learner); losses learned by evolution: Houthooft et al. 2018, "Evolved Policy Gradients". Here both learn side
by side, and the generator changes the learner's task meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch
from dlrun.ranges import Count, Positive
from dlrun.tasks._game import Game, logistic
from dlrun.types import DataSpec, Look, Networks, NetworkShape, Objective


class learned_loss_gan(Game):
    """x [B, ...] is data. Per step one objective of loss_net, one of the critic, one of the generator.

    The critic descends on L(critic(x), 1) + L(critic(G(z)), -1), L(logit, label) = softplus(loss_net(logit, label)): were loss_net the
    product -label x logit, it would be task gan. Before, loss_net learns: theta' = theta - inner_lr x the gradient of that loss on half the
    rows, and its own loss is the cross-entropy of the critic theta' on the other half. The generator's is softplus(-critic(G(z))).
    """

    slots = MappingProxyType({"model": ("generator", "critic", "loss_net"), "optimizer": ("generator", "critic", "loss_net"), "loss": None})
    couples_rows = True
    draws = 1

    def __init__(self, *, latent: Count, inner_lr: Positive) -> None:
        self.latent, self.inner_lr = latent, inner_lr

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """generator, critic as in task gan; loss_net: (logit, label) -> one number."""
        return {**super().networks(spec), "loss_net": NetworkShape((2,), ())}

    def learned(self, nets: Networks, on_real: Tensor, on_fake: Tensor) -> Tensor:
        """L of logits [B] of data plus L of logits [B] of samples, each a mean over its rows."""
        return told(nets, on_real, 1.0).mean() + told(nets, on_fake, -1.0).mean()

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """loss_net's, the critic's on the loss that it is by then, the generator's."""
        real, z = batch["x"], batch["critic_z"][:, 0]
        fake = nets.generator(z).detach()
        yield Objective(self.outer(nets, real, fake), ("loss_net",), len(batch))
        yield Objective(self.learned(nets, nets.critic(real), nets.critic(fake)), ("critic",), len(batch))
        yield self.generators_turn(nets, batch)

    def outer(self, nets: Networks, real: Tensor, fake: Tensor) -> Tensor:
        """Cross-entropy, on rows 1, 3, 5 ..., of the critic after one step down its learned loss on rows 0, 2, 4 ..."""
        theta = dict(nets.critic.named_parameters())
        loss = self.learned(nets, nets.critic(real[::2]), nets.critic(fake[::2]))
        slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        fast = {name: weight - self.inner_lr * slope for (name, weight), slope in zip(theta.items(), slopes, strict=True)}
        return logistic(nets.critic(real[1::2], parameters=fast), nets.critic(fake[1::2], parameters=fast))

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Samples beside data; and the loss over the logits that there are beside the cross-entropy, each from 0 at its least to 1."""
        logits = torch.cat((nets.critic(batch["x"]), nets.critic(nets.generator(batch["z"]))))
        line = torch.linspace(float(logits.min()), float(logits.max()), 101, dtype=logits.dtype, device=logits.device)
        drawn = {}
        for name, label in (("data", 1.0), ("samples", -1.0)):
            for kind, loss in (("learned", told(nets, line, label)), ("cross-entropy", F.softplus(-label * line))):
                drawn[f"{kind}, {name}"] = (line.tolist(), ((loss - loss.min()) / (loss.max() - loss.min()).clamp(min=1e-12)).tolist())
        curves = Look("lines", {**drawn, "xlabel": "logit", "ylabel": "loss, as a share of its range"}, "what the critic is told")
        return {**super().look(nets, batch), "loss": curves}


def told(nets: Networks, logits: Tensor, label: float) -> Tensor:
    """L(logit, label) >= 0 of logits [B]: [B]."""
    return F.softplus(nets.loss_net(torch.stack((logits, torch.full_like(logits, label)), 1)))
