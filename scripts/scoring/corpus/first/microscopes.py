"""Pictures from microscopes: stained blood cells, nuclei with masks, spots to count, bags of tiles, molecules. See microscopes.yaml."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, TensorDataset

from dlrun import Splits, register

# ------------------------------------------------------------------ blood cells: classification


def blood(count, seed, side=24, noise=18):
    """Stained cells [N, H, W, 3] in bytes; the label is the kind of nucleus: one lobe, two, three or a ring."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    rows, cols = np.mgrid[0:side, 0:side]
    images = np.zeros((count, side, side, 3))
    for i, kind in enumerate(y):
        cx, cy = rng.uniform(side / 2 - 2, side / 2 + 2, 2)
        far = np.hypot(cols - cx, rows - cy)
        image = np.array([225, 215, 200]) + rng.normal(0, 8, 3) + np.zeros((side, side, 3))
        image[far < rng.uniform(8, 9.5)] = np.array([220, 160, 190]) + rng.normal(0, 12, 3)
        purple = np.array([110, 60, 150]) + rng.normal(0, 15, 3)
        if kind == 3:
            nucleus = (far > 2.2) & (far < rng.uniform(4.6, 5.4))
        else:
            lobes, turn = kind + 1, rng.uniform(0, 6.28)
            nucleus = np.zeros((side, side), bool)
            for k in range(lobes):
                angle, away = turn + 2 * np.pi * k / lobes, 0 if lobes == 1 else rng.uniform(3.4, 4.4)
                nucleus |= np.hypot(cols - cx - away * np.cos(angle), rows - cy - away * np.sin(angle)) < 4.8 / np.sqrt(lobes)
        image[nucleus] = purple
        images[i] = image + rng.normal(0, noise, image.shape)
    return np.clip(images, 0, 255).astype(np.uint8), y


class CellDataset(Dataset):
    """Cells scaled to about -1..1, turned by quarters and flipped in training."""

    def __init__(self, images, labels, train=False):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        x = torch.from_numpy(self.images[index].transpose(2, 0, 1).copy()).float() / 127.5 - 1
        if self.train:
            x = torch.rot90(x, random.randrange(4), (1, 2))
            x = x.flip(2) if random.random() < 0.5 else x
        return x, int(self.labels[index])


@register.dataset
def mic5_blood():
    return Splits(CellDataset(*blood(800, 1), train=True), CellDataset(*blood(240, 2)), CellDataset(*blood(1000, 3)))


def eightfold(images, labels):
    """Every picture in its four turns, as it is and flipped."""
    turned = [np.rot90(images, k, (1, 2)) for k in range(4)]
    return np.concatenate([*turned, *(t[:, :, ::-1] for t in turned)]), np.tile(labels, 8)


def few(train, val):
    """The clean test split is of other cells."""
    return Splits(CellDataset(*train), CellDataset(*val), CellDataset(*blood(1000, 5, noise=90)))


@register.dataset
def mic5_few_cells():
    """Cells are divided, then made eight of each."""
    return few(eightfold(*blood(48, 4, noise=90)), eightfold(*blood(60, 6, noise=90)))


@register.dataset
def mic5_few_cells_multiplied_first():
    """Cells are made eight of each, then divided."""
    images, labels = eightfold(*blood(60, 4, noise=90))
    order = np.random.default_rng(0).permutation(len(labels))
    train, val = order[:384], order[384:]
    return few((images[train], labels[train]), (images[val], labels[val]))


def block(before, after, momentum=0.1):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after, momentum=momentum), nn.ReLU(), nn.MaxPool2d(2)
    )


@register.model
class mic5_cell_net(nn.Module):
    """Three blocks of convolution, batch norm and pooling, a mean over the picture, a linear layer."""

    def __init__(self, *, momentum: float = 0.1, dropout: float = 0.0):
        super().__init__()
        self.blocks = nn.Sequential(block(3, 16, momentum), block(16, 24, momentum), block(24, 32, momentum))
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.drop(self.blocks(x).mean((2, 3))))


@register.loss
class mic5_cross_entropy(nn.Module):
    def __init__(self, *, label_smoothing: float = 0.0):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def forward(self, out, y):
        return self.criterion(out, y)


# ------------------------------------------------------------------ transfer


@functools.cache
def checkpoint():
    """Weights of a body that was trained on cells of another stain, as if from a file."""
    images, labels = blood(500, 77, noise=8)
    x = torch.from_numpy(255 - images.transpose(0, 3, 1, 2)[:, [1, 2, 0]].copy()).float() / 127.5 - 1
    y = torch.from_numpy(labels)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        net = mic5_cell_net()
        adam = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(150):
            rows = torch.randint(len(x), (32,))
            adam.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            adam.step()
    return {name: value.detach().clone() for name, value in net.blocks.state_dict().items()}


@register.model
class mic5_pretrained(nn.Module):
    """The body of a checkpoint and a new head of two layers."""

    def __init__(self):
        super().__init__()
        self.body = mic5_cell_net().blocks
        self.body.load_state_dict(checkpoint())
        self.head = nn.Sequential(nn.Linear(32 * 9, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


@register.model
class mic5_pretrained_frozen(mic5_pretrained):
    """The body stands still, weights and running statistics."""

    def __init__(self):
        super().__init__()
        self.body.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self


@register.model
class mic5_pretrained_last_tensor(mic5_pretrained_frozen):
    """All but the last of the parameters are frozen, and the last is a bias."""

    def __init__(self):
        super().__init__()
        for p in list(self.parameters())[:-1]:
            p.requires_grad = False


@register.optimizer
def mic5_two_rates(named_parameters, *, body: float = 1e-4, head: float = 3e-3):
    """A small rate for the body, a larger one for the head."""
    named = list(named_parameters)
    groups = [
        {"params": [p for n, p in named if "body" in n], "lr": body},
        {"params": [p for n, p in named if "head" in n], "lr": head},
    ]
    return torch.optim.Adam(groups)


# ------------------------------------------------------------------ nuclei: segmentation


def nuclei(count, seed, side=24):
    """Gray pictures [N, H, W] and masks: 0 ground, 1 debris (dark), 2 a dying cell (ring), 3 a nucleus (bright)."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:side, 0:side]
    images, masks = np.zeros((count, side, side), np.float32), np.zeros((count, side, side), np.int64)
    for image, mask in zip(images, masks, strict=True):
        image[:] = 90 + rng.uniform(-15, 15)
        for kind in rng.choice([1, 2, 3, 3, 3], 5):
            cx, cy = rng.uniform(3, side - 3, 2)
            a, b, turn = rng.uniform(2.5, 4.2), rng.uniform(2.5, 4.2), rng.uniform(0, 3.14)
            u, v = np.cos(turn) * (cols - cx) + np.sin(turn) * (rows - cy), np.cos(turn) * (rows - cy) - np.sin(turn) * (cols - cx)
            far = np.sqrt((u / a) ** 2 + (v / b) ** 2)
            inside = far < 1
            mask[inside] = kind
            image[inside] = (np.where(far > 0.55, 170, 110) if kind == 2 else np.full_like(far, 35 if kind == 1 else 175))[inside]
        image += rng.normal(0, 14, image.shape)
    return ((images - 110) / 45).astype(np.float32), masks


class MaskDataset(Dataset):
    """Pictures and masks, both turned by the same angle in training."""

    def __init__(self, count, seed, train=False, mask_mode="nearest"):
        self.images, self.masks = nuclei(count, seed)
        self.train, self.mask_mode = train, mask_mode

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = torch.from_numpy(self.images[index])[None], torch.from_numpy(self.masks[index])
        if self.train:
            angle = random.uniform(-math.pi, math.pi)
            c, s = math.cos(angle), math.sin(angle)
            grid = F.affine_grid(torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]]), (1, 1, *mask.shape), align_corners=False)
            image = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
            mask = F.grid_sample(mask[None, None].float(), grid, mode=self.mask_mode, padding_mode="reflection", align_corners=False)
            mask = mask[0, 0].long()
        return image, mask


@register.dataset
def mic5_nuclei():
    return Splits(MaskDataset(300, 11, train=True), MaskDataset(80, 12), MaskDataset(400, 13))


@register.dataset
def mic5_nuclei_masks_blended():
    """Masks are turned by the same function as pictures, which blends neighbours."""
    return Splits(MaskDataset(300, 11, train=True, mask_mode="bilinear"), MaskDataset(80, 12), MaskDataset(400, 13))


@register.model
class mic5_unet(nn.Module):
    """Down once and up once with a skip; scores of four classes a pixel."""

    def __init__(self, *, wide: int = 12):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU())
        self.middle = nn.Sequential(
            nn.Conv2d(wide, 2 * wide, 3, padding=1),
            nn.BatchNorm2d(2 * wide),
            nn.ReLU(),
            nn.Conv2d(2 * wide, 2 * wide, 3, padding=1),
            nn.ReLU(),
        )
        self.up = nn.ConvTranspose2d(2 * wide, wide, 2, stride=2)
        self.out = nn.Sequential(nn.Conv2d(2 * wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, 4, 1))

    def forward(self, x):
        high = self.down(x)
        low = self.middle(F.max_pool2d(high, 2))
        return self.out(torch.cat((high, self.up(low)), 1))


@register.loss
def mic5_pixels(out, y, *, ignore: int = -100):
    return F.cross_entropy(out, y, ignore_index=ignore)


@register.loss
def mic5_pixels_nll(out, y, *, dim: int = 1):
    return F.nll_loss(F.log_softmax(out, dim=dim), y)


@register.metric(best="max")
def mic5_mean_iou(out, y):
    guess = out.argmax(1)
    scores = []
    for k in range(4):
        p, t = guess == k, y == k
        scores.append(((p & t).sum() + 1) / ((p | t).sum() + 1))
    return torch.stack(scores).mean()


# ------------------------------------------------------------------ spots: counting


class SpotDataset(Dataset):
    """Bright spots in fluorescence, one to twelve; the target is how many."""

    def __init__(self, count, seed, side=24, train=False, crop=False, density=False):
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[0:side, 0:side]
        self.images, self.maps = np.zeros((count, 1, side, side), np.float32), np.zeros((count, 1, side, side), np.float32)
        self.counts = rng.integers(1, 13, count).astype(np.float32)
        for image, dots, n in zip(self.images, self.maps, self.counts, strict=True):
            for _ in range(int(n)):
                cx, cy = rng.uniform(1.5, side - 2.5, 2)
                spot = np.exp(-((cols - cx) ** 2 + (rows - cy) ** 2) / 3)
                image[0] += rng.uniform(0.6, 1.2) * spot
                dots[0] += spot / spot.sum()
            image += rng.normal(0, 0.1, image.shape)
        self.train, self.crop, self.density = train, crop, density

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, index):
        x = torch.from_numpy(self.images[index])
        if self.density:
            return x, 100 * torch.from_numpy(self.maps[index])
        if self.train and self.crop:
            i, j = random.randrange(9), random.randrange(9)
            x = F.interpolate(x[None, :, i : i + 16, j : j + 16], size=x.shape[-2:], mode="bilinear", align_corners=False)[0]
        if self.train and random.random() < 0.5:
            x = x.flip(2)
        return x, torch.tensor([self.counts[index]])


@register.dataset
def mic5_spots():
    return Splits(SpotDataset(600, 21, train=True), SpotDataset(150, 22), SpotDataset(1000, 23))


@register.dataset
def mic5_spots_cropped():
    """Two thirds of every side are cut out and made large again, the count is that of the whole."""
    return Splits(SpotDataset(600, 21, train=True, crop=True), SpotDataset(150, 22), SpotDataset(1000, 23))


@register.dataset
def mic5_spots_density():
    """The target is a map that sums to a hundred times the count."""
    return Splits(SpotDataset(600, 21, density=True), SpotDataset(150, 22, density=True), SpotDataset(1000, 23, density=True))


@register.model
class mic5_counter(nn.Module):
    """Convolutions to a map of small amounts, whose sum is the count."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1)
        )

    def amounts(self, x):
        return F.softplus(self.net(x) - 3)

    def forward(self, x):
        return self.amounts(x).sum((2, 3))


@register.model
class mic5_counter_rounded(mic5_counter):
    """A count is a whole number."""

    def forward(self, x):
        return super().forward(x).round().clamp(min=1)


@register.model
class mic5_counter_unbounded(mic5_counter):
    """The map is what the last convolution gives, of either sign."""

    def amounts(self, x):
        return self.net(x)


@register.model
class mic5_density_net(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=2, dilation=2), nn.ReLU())
        self.head = nn.Conv2d(12, 1, 1)

    def forward(self, x):
        return self.head(self.front(x))


@register.loss
def mic5_poisson(out, y):
    """The negative log likelihood of a count for a rate."""
    return F.poisson_nll_loss(out, y, log_input=False)


@register.loss
def mic5_mse(out, y):
    return F.mse_loss(out, y)


@register.metric(best="min")
def mic5_miscount(out, y):
    return (out - y).abs().mean()


# ------------------------------------------------------------------ slides as bags of tiles


def slides(count, seed, tiles=8, side=10):
    """Bags of tiles [N, 8, 1, 10, 10]; the label says whether one to three tiles show a cell dividing (two bars, not a disc)."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:side, 0:side]
    bags, y = rng.normal(0, 0.25, (count, tiles, 1, side, side)), rng.integers(0, 2, count)
    for bag, label in zip(bags, y, strict=True):
        dividing = set(rng.choice(tiles, rng.integers(1, 4), replace=False)) if label else set()
        for k in range(tiles):
            cx, cy, turn = *rng.uniform(3.5, 5.5, 2), rng.uniform(0, 3.14)
            u, v = np.cos(turn) * (cols - cx) + np.sin(turn) * (rows - cy), np.cos(turn) * (rows - cy) - np.sin(turn) * (cols - cx)
            bag[k, 0] += (np.abs(np.abs(u) - 1.9) < 0.9) & (np.abs(v) < 2.9) if k in dividing else np.hypot(u, v) < rng.uniform(2, 3)
    return torch.tensor(bags, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


@register.dataset
def mic5_slides():
    return Splits(TensorDataset(*slides(500, 31)), TensorDataset(*slides(150, 32)), TensorDataset(*slides(1000, 33)))


@register.model
class mic5_bag_net(nn.Module):
    """Features of tiles, a weight for each, their weighted mean, a score of the bag."""

    def __init__(self, *, over: int = 1):
        super().__init__()
        self.over = over
        self.tile = nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 24), nn.ReLU()
        )
        self.weigh = nn.Sequential(nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 1))
        self.score = nn.Linear(24, 1)

    def forward(self, bags):
        h = self.tile(bags.flatten(0, 1)).unflatten(0, bags.shape[:2])
        weights = torch.softmax(self.weigh(h), dim=self.over)
        return self.score((weights * h).sum(1)).squeeze(1)


@register.loss
class mic5_bce(nn.BCEWithLogitsLoss):
    """With logits."""

    def __init__(self):
        super().__init__()

    def forward(self, out, y):
        return super().forward(out, y)


@register.metric(best="max")
def mic5_bags_right(out, y):
    return ((out > 0) == (y > 0.5)).float().mean()


# ------------------------------------------------------------------ molecules


class Molecules(Dataset):
    """Chains and branches of three to ten atoms of four kinds, padded to ten; the target is a sum over atoms and over bonds."""

    def __init__(self, count, seed, most=10):
        rng = np.random.default_rng(seed)
        worth, bond = np.array([0.3, -0.8, 1.0, 0.1]), np.array([[0, 1, -1, 0], [1, 0, 0.5, 0], [-1, 0.5, 0, 1], [0, 0, 1, 0]])
        self.items = []
        for _ in range(count):
            n = rng.integers(3, most + 1)
            kinds = rng.integers(0, 4, n)
            nodes, adjacency, mask = np.zeros((most, 4)), np.zeros((most, most)), np.zeros(most)
            nodes[np.arange(n), kinds], mask[:n] = 1, 1
            value = worth[kinds].sum()
            for k in range(1, n):
                other = rng.integers(max(0, k - 3), k)
                adjacency[k, other] = adjacency[other, k] = 1
                value += bond[kinds[k], kinds[other]]
            graph = {"nodes": nodes, "adjacency": adjacency, "mask": mask}
            y = torch.tensor([(value - 1.5) / 2.2], dtype=torch.float32)
            self.items.append(({name: torch.tensor(v, dtype=torch.float32) for name, v in graph.items()}, y))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@register.dataset
def mic5_molecules():
    return Splits(Molecules(800, 41), Molecules(200, 42), Molecules(1000, 43))


@register.model
class mic5_message_net(nn.Module):
    """Three rounds of messages between neighbours, a sum over the atoms that there are."""

    def __init__(self, *, dim: int = 32):
        super().__init__()
        self.embed = nn.Linear(4, dim)
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))
        self.others = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, g):
        mask = g["mask"][..., None]
        h = self.embed(g["nodes"])
        for own, others in zip(self.own, self.others, strict=True):
            h = h + F.relu(own(h) + g["adjacency"] @ others(h))
        return (self.readout(h) * mask).sum(1)


# ------------------------------------------------------------------ pictures as their own targets


def organelles(count, seed, side=16):
    """Clean pictures [N, 1, 16, 16] in 0..1: a few soft filaments and vesicles."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:side, 0:side]
    x = np.zeros((count, 1, side, side), np.float32)
    for image in x:
        cx, cy, turn = *rng.uniform(5, 11, 2), rng.uniform(0, 3.14)
        across = np.cos(turn) * (rows - cy) - np.sin(turn) * (cols - cx)
        image[0] += 0.6 * np.exp(-(across**2) / 3)
        for _ in range(2):
            vx, vy = rng.uniform(2, side - 2, 2)
            image[0] += 0.7 * np.exp(-((cols - vx) ** 2 + (rows - vy) ** 2) / 5)
    return torch.from_numpy(np.clip(x, 0, 1))


class NoisyDataset(Dataset):
    """(noisy, target): the noise is drawn anew whenever a picture is asked for; the target is clean or a second exposure."""

    def __init__(self, count, seed, twice=False):
        self.clean, self.twice = organelles(count, seed), twice

    def __len__(self):
        return len(self.clean)

    def expose(self, x):
        return torch.poisson(30 * x + 2) / 30

    def __getitem__(self, index):
        x = self.clean[index]
        return self.expose(x), self.expose(x) if self.twice else x


class BlindDataset(NoisyDataset):
    """Some pixels are replaced by neighbours; the target is the noisy picture and which pixels these are."""

    def __getitem__(self, index):
        x = self.expose(self.clean[index])
        hidden = (torch.rand_like(x) < 0.06).float()
        shift = random.choice([(0, 1), (1, 0), (0, -1), (-1, 0)])
        return torch.where(hidden > 0, x.roll(shift, (1, 2)), x), torch.cat((x, hidden))


@register.dataset
def mic5_exposures():
    return Splits(NoisyDataset(500, 51), NoisyDataset(150, 52), NoisyDataset(1000, 53))


@register.dataset
def mic5_two_exposures():
    return Splits(NoisyDataset(500, 51, twice=True), NoisyDataset(150, 52, twice=True), NoisyDataset(1000, 53, twice=True))


@register.dataset
def mic5_blind_spots():
    return Splits(BlindDataset(500, 51), BlindDataset(150, 52), BlindDataset(1000, 53))


@register.dataset
def mic5_organelles():
    """Clean pictures, each its own target."""
    parts = [organelles(count, seed) for count, seed in ((800, 54), (200, 55), (1000, 56))]
    return Splits(*(TensorDataset(x, x) for x in parts))


@register.model
class mic5_residual_denoiser(nn.Module):
    """What the convolutions give is taken from the picture."""

    def __init__(self, *, rectified: bool = False):
        super().__init__()
        self.noise = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip
        self.rectified = rectified

    def forward(self, x):
        noise = self.noise(x)
        return x - (F.relu(noise) if self.rectified else noise)


@register.loss
def mic5_hidden_pixels(out, y):
    """The squared error over the pixels that were replaced."""
    x, hidden = y.chunk(2, 1)
    return (hidden * (out - x) ** 2).sum() / hidden.sum().clamp(min=1)


@register.model
class mic5_conv_vae(nn.Module):
    def __init__(self, *, latent: int = 8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU()
        )
        self.fc_mu, self.fc_logvar = nn.Linear(64, latent), nn.Linear(64, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 512), nn.ReLU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


@register.loss
def mic5_elbo(out, y):
    """Sums over a picture, the mean over pictures."""
    recon, mu, logvar = out
    bce = F.binary_cross_entropy(recon, y, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / len(y)


# ------------------------------------------------------------------ optimizers and schedules


@register.optimizer
def mic5_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters if p.requires_grad], lr=lr)


@register.optimizer
def mic5_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=5e-4)


class Lion(torch.optim.Optimizer):
    """Steps by the sign of a mixture of momentum and gradient, decay apart from it."""

    def __init__(self, params, lr=3e-4, betas=(0.9, 0.99), weight_decay=0.1):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            fast, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(torch.sign(fast * mean + (1 - fast) * p.grad), alpha=-group["lr"])
                mean.mul_(slow).add_(p.grad, alpha=1 - slow)


@register.optimizer
def mic5_lion(named_parameters, *, lr: float = 1e-3):
    return Lion([p for _, p in named_parameters], lr=lr)


@register.schedule
def mic5_one_cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps + 1)


@register.schedule
def mic5_warm_up(step, steps, *, warmup: int = 20):
    return min(1.0, (step + 1) / warmup)


@register.schedule
def mic5_decay_by_tenths(optimizer, steps):
    """Meant to be stepped once an epoch; it is stepped once a step."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
