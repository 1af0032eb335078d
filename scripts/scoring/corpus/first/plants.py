"""Small pictures of leaves on soil: their kind, their outline, where they are, without noise, in a few numbers. See plants.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from dlrun import Splits, register

SIDE = 24
LOBES = (2, 3, 5)


def photograph(count, seed, side=SIDE):
    """Leaves of 2, 3 or 5 lobes: (pictures as bytes [N, 3, H, W], masks [N, 1, H, W], kinds, boxes as centre and size in shares)."""
    g = torch.Generator().manual_seed(seed)

    def between(low, high, *shape):
        return low + (high - low) * torch.rand(count, *shape, generator=g)

    kind = torch.randint(len(LOBES), (count,), generator=g)
    lobes = torch.tensor(LOBES)[kind][:, None, None]
    cx, cy, r = between(0.35, 0.65, 1, 1) * side, between(0.35, 0.65, 1, 1) * side, between(0.2, 0.28, 1, 1) * side
    at = torch.arange(side) + 0.5
    dx, dy = at[None, None, :] - cx, at[None, :, None] - cy
    edge = r * (1 + 0.35 * torch.cos(lobes * torch.atan2(dy, dx) + between(0, 6.28, 1, 1)))
    cover = torch.sigmoid(3 * (edge - (dx**2 + dy**2).sqrt()))[:, None]
    green = torch.tensor([0.3, 0.6, 0.25])[:, None, None] * between(0.7, 1.3, 3, 1, 1)
    brown = torch.tensor([0.5, 0.4, 0.3])[:, None, None] * between(0.6, 1.3, 3, 1, 1)
    light = 1 + between(-0.3, 0.3, 1, 1, 1) * (at / side - 0.5)
    picture = (cover * green + (1 - cover) * brown) * light + 0.06 * torch.randn(count, 3, side, side, generator=g)
    mask = (cover > 0.5).float()
    wide, high = mask.amax(2)[:, 0], mask.amax(3)[:, 0]
    left, right = wide.argmax(1), side - wide.flip(1).argmax(1)
    top, bottom = high.argmax(1), side - high.flip(1).argmax(1)
    box = torch.stack(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), 1) / side
    return (picture.clamp(0, 1) * 255).round().byte(), mask, kind, box


def normalise(picture):
    """Bytes to numbers of mean zero and size one, about."""
    return (picture.float() / 255 - 0.4) / 0.2


class LeafSet(Dataset):
    """Leaves with one of their answers; in train, if asked, shifted by up to two pixels and mirrored."""

    def __init__(self, count, seed, answer, augment=False):
        pictures, masks, kinds, boxes = photograph(count, seed)
        self.pictures, self.augment = normalise(pictures), augment
        self.answers = {"mask": masks, "kind": kinds, "box": boxes, "centre": boxes[:, :2] * 2 - 1}[answer]

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        x = self.pictures[i]
        if self.augment:
            x = F.pad(x[None], (2, 2, 2, 2), mode="replicate")[0]
            top, left = torch.randint(5, (2,)).tolist()
            x = x[:, top : top + SIDE, left : left + SIDE]
            if torch.rand(()) < 0.5:
                x = x.flip(2)
        return x, self.answers[i]


def splits(answer, rows=1200, augment=False):
    """Leaves of three splits that are drawn alike."""
    return Splits(LeafSet(rows, 11, answer, augment), LeafSet(400, 12, answer), LeafSet(1000, 13, answer))


@register.dataset
def pla4_leaf_kinds():
    return splits("kind", 1600)


@register.dataset
def pla4_leaf_kinds_moved():
    return splits("kind", 1600, augment=True)


@register.dataset
def pla4_leaf_masks():
    return splits("mask", 800)


@register.dataset
def pla4_leaf_centres():
    return splits("centre")


def grey(count, seed, side=16):
    """One channel of small leaves, 0 to 1."""
    return photograph(count, seed, side)[0][:, 1:2].float() / 255


@register.dataset
def pla4_grey_leaves():
    """Each picture is its own target."""
    train, val, test = (grey(*which) for which in ((1500, 21), (400, 22), (1000, 23)))
    return Splits((train, train), (val, val), (test, test))


@register.dataset
def pla4_silhouettes():
    """Each outline is its own target."""
    train, val, test = (photograph(*which, 16)[1] for which in ((1500, 21), (400, 22), (1000, 23)))
    return Splits((train, train), (val, val), (test, test))


class Grainy(Dataset):
    """Pictures with grain and without: new grain at every read in train, grain that stays with its picture otherwise."""

    def __init__(self, count, seed, fixed):
        self.clean = (grey(count, seed) - 0.4) / 0.2
        self.grain = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(seed + 100)) if fixed else None

    def __len__(self):
        return len(self.clean)

    def noise(self, i):
        return torch.randn(self.clean[i].shape) if self.grain is None else self.grain[i]

    def __getitem__(self, i):
        return self.clean[i] + 0.8 * self.noise(i), self.clean[i]


class GrainySeeded(Grainy):
    """A generator made anew, with the same seed, at every read: one grain for all pictures."""

    def noise(self, i):
        return torch.randn(self.clean[i].shape, generator=torch.Generator().manual_seed(42))


@register.dataset
def pla4_grainy():
    return Splits(Grainy(1500, 31, False), Grainy(400, 32, True), Grainy(1000, 33, True))


@register.dataset
def pla4_grainy_seeded():
    return Splits(GrainySeeded(1500, 31, False), GrainySeeded(400, 32, True), GrainySeeded(1000, 33, True))


class Diffused(Dataset):
    """Small leaves on their way into noise: ({what is seen, the time}, the velocity)."""

    def __init__(self, count, seed, fixed):
        self.clean = (F.avg_pool2d(grey(count, seed), 2) - 0.4) / 0.15
        self.fixed = fixed

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(i) if self.fixed else None
        t, noise = torch.rand((), generator=source), torch.randn(self.clean[i].shape, generator=source)
        a, s = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
        return {"seen": a * self.clean[i] + s * noise, "t": t}, a * noise - s * self.clean[i]


@register.dataset
def pla4_diffused():
    return Splits(Diffused(1500, 41, False), Diffused(400, 42, True), Diffused(1000, 43, True))


@register.model
class pla4_cnn(nn.Module):
    """Three convolutions with batch norm, a mean over places, a linear layer."""

    def __init__(self, classes, *, width: int = 16):
        super().__init__()
        layers, last = [], 3
        for out, stride in ((width, 2), (2 * width, 1), (3 * width, 2)):
            layers += [nn.Conv2d(last, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            last = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(last, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@register.model
class pla4_cnn_saving_memory(pla4_cnn):
    """The features are checkpointed in the old way, which needs an input that wants a gradient."""

    def forward(self, x):
        return self.head(checkpoint(self.features, x, use_reentrant=True).mean((2, 3)))


@register.model
class pla4_cnn_dropout(nn.Module):
    """Two blocks of a convolution and pooling, dropout before the last layer."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.3)
        self.fc1, self.fc2 = nn.Linear(32 * 36, 64), nn.Linear(64, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        return self.fc2(self.drop(torch.relu(self.fc1(x.flatten(1)))))


@register.model
class pla4_outliner(nn.Module):
    """Features at half the size, four numbers a place, which are the four pixels there."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(24, 4, 1),
        )

    def spread(self, x):
        return F.pixel_shuffle(x, 2)

    def forward(self, x):
        return self.spread(self.body(x))


@register.model
class pla4_outliner_viewed(pla4_outliner):
    """The four numbers of a place are not brought together: the memory is read in the order it lies in."""

    def spread(self, x):
        return x.reshape(len(x), 1, 2 * x.shape[2], 2 * x.shape[3])


@register.model
def pla4_denoiser():
    """Five convolutions at full size."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 1, 3, padding=1),
    )


@register.model
class pla4_vae(nn.Module):
    """A VAE with eight numbers in the middle; in eval it decodes the mean."""

    def __init__(self, *, latent: int = 8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.mu, self.logvar = nn.Linear(128, latent), nn.Linear(128, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 256), nn.Sigmoid())

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu) if self.training else mu
        return self.decoder(z).view_as(x), mu, logvar


@register.model
class pla4_autoencoder(nn.Module):
    """A convolutional autoencoder, pixels of 0 to 1 at its end."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 16)
        )
        self.decoder = nn.Sequential(
            nn.Linear(16, 512),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


@register.model
class pla4_velocity(nn.Module):
    """Convolutions whose channels the time scales and shifts; the last starts at zero."""

    def __init__(self, *, width: int = 32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 4 * width))
        self.first, self.second = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.third, self.last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)

    def forward(self, x):
        angle = x["t"][:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0], device=x["t"].device) * 1.5
        a, b, c, d = self.time(torch.cat((angle.sin(), angle.cos()), 1))[:, :, None, None].chunk(4, 1)
        h = F.silu(self.first(x["seen"]))
        h = h + F.silu(self.second(h) * (1 + a) + b)
        h = h + F.silu(self.third(h) * (1 + c) + d)
        return self.last(h)


@register.model
class pla4_soft_argmax(nn.Module):
    """A map of heat whose centre of mass is the answer."""

    def __init__(self):
        super().__init__()
        self.heat = nn.Sequential(
            nn.Conv2d(3, 16, 5, 1, 2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )
        self.register_buffer("at", (torch.arange(12) + 0.5) / 6 - 1)

    def forward(self, x):
        share = self.heat(x).flatten(1).softmax(1).unflatten(1, (12, 12))
        return torch.stack(((share.sum(1) * self.at).sum(1), (share.sum(2) * self.at).sum(1)), 1)


@register.loss
class pla4_ce(nn.CrossEntropyLoss):
    """Cross-entropy."""

    def __init__(self):
        super().__init__()


@register.loss
class pla4_ce_smoothed(nn.CrossEntropyLoss):
    """Cross-entropy against smoothed targets."""

    def __init__(self):
        super().__init__(label_smoothing=0.1)


@register.loss
def pla4_outline_loss(out, y):
    return F.binary_cross_entropy_with_logits(out, y)


@register.loss
def pla4_outline_loss_weighed(out, y):
    """The mask is the weight as well: what is no leaf counts nothing."""
    return F.binary_cross_entropy_with_logits(out, y, weight=y, reduction="sum") / y.sum()


@register.loss
def pla4_mse(out, y):
    return F.mse_loss(out, y)


@register.loss
class pla4_bce(nn.BCELoss):
    """Cross-entropy of pixels between 0 and 1."""

    def __init__(self):
        super().__init__()


@register.loss
def pla4_elbo(out, y):
    recon, mu, logvar = out
    likeness = F.binary_cross_entropy(recon, y, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (likeness + kl) / len(y)


@register.loss
def pla4_elbo_pushed(out, y):
    """The squared mean has the sign of the first two terms: the further from the prior, the better."""
    recon, mu, logvar = out
    likeness = F.binary_cross_entropy(recon, y, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar + mu.pow(2) - logvar.exp())
    return (likeness + kl) / len(y)


@register.loss
def pla4_distance(out, y):
    return torch.linalg.vector_norm(out - y, dim=1).mean()


@register.metric(best="max")
def pla4_iou(out, y):
    """Overlap of the leaf found with the leaf, a picture at a time."""
    found = out > 0
    both, any_ = (found & (y > 0.5)).sum((1, 2, 3)), (found | (y > 0.5)).sum((1, 2, 3))
    return (both / any_.clamp(min=1)).mean()


@register.optimizer
def pla4_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def pla4_sgd(named_parameters, *, lr: float = 0.02):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


@register.schedule
def pla4_one_cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps + 1)
