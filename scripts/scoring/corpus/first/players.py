"""Generators of two-column tables: as two players of task gan and as one network with both games in its loss. See players.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dlrun import DataSpec, Splits, register

NOISE = 4


def prices(rows: int, seed: int) -> Tensor:
    """Rent and price of flats in three quarters, in units of their own spread."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.tensor([[-1.6, -1.2], [0.2, 1.5], [1.7, -0.3]])[torch.randint(3, (rows,), generator=g)]
    common = torch.randn(rows, 1, generator=g)
    return centre + 0.3 * common + 0.15 * torch.randn(rows, 2, generator=g)


@register.dataset
def gan2_flats() -> Splits:
    return Splits(*({"x": prices(rows, seed)} for rows, seed in ((3000, 1), (512, 2), (1024, 3))), spec=DataSpec((2,), (2,), "gan"))


@register.dataset
def gan2_flats_rescaled() -> Splits:
    """Train alone was scaled to the unit interval."""
    train = prices(3000, 1)
    low, high = train.min(0).values, train.max(0).values
    return Splits({"x": (train - low) / (high - low)}, {"x": prices(512, 2)}, {"x": prices(1024, 3)}, spec=DataSpec((2,), (2,), "gan"))


def net(inputs: int, outputs: int, width: int = 48) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, outputs))


@register.model
class gan2_forger(nn.Module):
    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.body = net(in_shape[0], out_shape[0])

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


@register.model
class gan2_forger_tanh(gan2_forger):
    """Ends in tanh, though the columns leave [-1, 1]."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.body(z))


@register.model
class gan2_forger_one_draw(gan2_forger):
    """One draw of noise is expanded over the batch."""

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z[:1].expand_as(z))


@register.model
class gan2_forger_normed(nn.Module):
    """Batch norm in the generator, as in many a tutorial."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(in_shape[0], 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 2)
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


@register.model
class gan2_expert(nn.Module):
    def __init__(self, in_shape) -> None:
        super().__init__()
        self.body = net(in_shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).squeeze(1)


@register.model
class gan2_expert_bounded(nn.Module):
    """Spectral norm on every layer."""

    def __init__(self, in_shape) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.body = nn.Sequential(*(norm(part) if isinstance(part, nn.Linear) else part for part in net(in_shape[0], 1)))

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.body(x).squeeze(1)


@register.model
class gan2_pair(nn.Module):
    """Gives (samples, scores of data, scores of cut-off samples, scores of samples by a critic held still)."""

    def __init__(self) -> None:
        super().__init__()
        self.forge, self.expert = net(NOISE, 2), net(2, 1)

    def held(self, fake: Tensor) -> Tensor:
        still = {name: p.detach() for name, p in self.expert.named_parameters()}
        return functional_call(self.expert, still, fake)

    def cut(self, fake: Tensor) -> Tensor:
        return fake.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        fake = self.forge(torch.randn(len(x), NOISE))
        return fake, self.expert(x)[:, 0], self.expert(self.cut(fake))[:, 0], self.held(fake)[:, 0]


@register.model
class gan2_pair_not_held(gan2_pair):
    """The critic is not held still in the generator's half of the loss, which teaches it to praise samples."""

    def held(self, fake: Tensor) -> Tensor:
        return self.expert(fake)


@register.model
class gan2_pair_all_cut(gan2_pair):
    """Samples are cut off for the generator's half too."""

    def held(self, fake: Tensor) -> Tensor:
        return super().held(fake.detach())


@register.model
class gan2_pair_bounded(gan2_pair):
    """A critic with spectral norm, for scores without a squashing loss."""

    def __init__(self) -> None:
        super().__init__()
        for part in self.expert:
            if isinstance(part, nn.Linear):
                nn.utils.parametrizations.spectral_norm(part)

    def held(self, fake: Tensor) -> Tensor:
        """The critic's parameters get no gradient from here."""
        self.expert.requires_grad_(False)
        score = self.expert(fake)
        self.expert.requires_grad_(True)
        return score


@register.loss
def gan2_hinge(out, y) -> tuple[Tensor, dict[str, Tensor]]:
    _, real, cut, held = out
    critic = F.relu(1 - real).mean() + F.relu(1 + cut).mean()
    return critic - held.mean(), {"critic": critic, "forger": -held.mean()}


@register.loss
def gan2_hinge_swapped(out, y) -> Tensor:
    """The generator is told to make samples look false."""
    _, real, cut, held = out
    return F.relu(1 - real).mean() + F.relu(1 + cut).mean() + held.mean()


@register.loss
def gan2_wasserstein(out, y) -> Tensor:
    _, real, cut, held = out
    return 4 * (cut.mean() - real.mean()) - held.mean()


@register.metric(best="min", whole=True)
def gan2_energy(out, y) -> Tensor:
    """Energy distance between samples and data."""
    return 2 * torch.cdist(out, y).mean() - torch.cdist(out, out).mean() - torch.cdist(y, y).mean()


@register.metric(best="min", batches=False)
def gan2_energy_flats(out, y) -> Tensor:
    """Energy distance between samples and freshly drawn flats."""
    true = prices(1024, 9)
    return 2 * torch.cdist(out, true).mean() - torch.cdist(out, out).mean() - torch.cdist(true, true).mean()


@register.optimizer
def gan2_adam(named_parameters, *, lr: float = 1e-3, beta: float = 0.5):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, betas=(beta, 0.9))


@register.optimizer
def gan2_adam_two_rates(named_parameters, *, lr: float = 1e-3):
    """The critic learns twice as fast as the generator."""
    named = list(named_parameters)
    groups = [
        {"params": [p for name, p in named if name.startswith("forge")], "lr": lr},
        {"params": [p for name, p in named if not name.startswith("forge")], "lr": 2 * lr},
    ]
    return torch.optim.Adam(groups, betas=(0.0, 0.9))


@register.optimizer
def gan2_adam_cloned(named_parameters, *, lr: float = 1e-3):
    """Steps clones of the parameters."""
    return torch.optim.Adam([p.detach().clone().requires_grad_() for _, p in named_parameters], lr=lr, betas=(0.5, 0.9))


@register.optimizer
def gan2_rms(named_parameters, *, lr: float = 5e-4):
    return torch.optim.RMSprop([p for _, p in named_parameters], lr=lr)
