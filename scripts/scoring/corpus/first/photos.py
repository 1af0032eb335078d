"""Photos as a vision course has them: tissue with masks, flowers, digits, balls and dials. See photos.yaml."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

from dlrun import Splits, register

# ------------------------------------------------------------------ transforms


def to_tensor(image):
    """Bytes [H, W] or [H, W, C] to [C, H, W] in 0..1."""
    image = torch.from_numpy(np.ascontiguousarray(image))
    image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
    return image.float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, x):
        return (x - self.mean) / self.std


class RandomFlip:
    """Left and right, every second time."""

    def __call__(self, x):
        return torch.flip(x, [-1]) if random.random() < 0.5 else x


def compose(*transforms):
    def apply(x):
        for transform in transforms:
            x = transform(x)
        return x

    return apply


# ------------------------------------------------------------------ tissue: segmentation


def tissue(count, seed, side=24):
    """Pictures [N, H, W, 3] and masks [N, H, W] in bytes: 0 ground, 1 cell, 2 its nucleus, 3 debris, which is square."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:side, 0:side]
    colours = np.array([[205, 190, 200], [190, 130, 180], [90, 60, 140], [100, 70, 120]])
    images, masks = np.zeros((count, side, side, 3), np.uint8), np.zeros((count, side, side), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        for _ in range(rng.integers(1, 3)):
            r, c = rng.integers(3, side - 6, 2)
            mask[r : r + 4, c : c + 4] = 3
        for _ in range(rng.integers(1, 4)):
            r, c, size = *rng.uniform(4, side - 4, 2), rng.uniform(3, 5.5)
            far = np.hypot(rows - r, (cols - c) * rng.uniform(0.8, 1.2))
            mask[far < size] = 1
            mask[far < 0.45 * size] = 2
        light = rng.uniform(0.8, 1.15) + 0.1 * rng.uniform(-1, 1) * (cols - side / 2) / side
        image[:] = np.clip(colours[mask] * light[..., None] + rng.normal(0, 14, (side, side, 3)), 0, 255)
    return images, masks


class TissueDataset(Dataset):
    """A picture and its mask, flipped together in training."""

    def __init__(self, images, masks, augment=False, binary=False):
        self.images, self.masks = images, masks
        self.augment, self.binary = augment, binary
        self.normalize = Normalize(0.65, 0.2)

    def __len__(self):
        return len(self.images)

    def flip(self, image, mask):
        if random.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        if random.random() < 0.5:
            image, mask = image[::-1], mask[::-1]
        return image, mask

    def target(self, mask):
        mask = torch.from_numpy(mask.astype(np.int64))
        return (mask > 0).float()[None] if self.binary else mask

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.augment:
            image, mask = self.flip(image, mask)
        return self.normalize(to_tensor(image)), self.target(mask)


class TissueFlippedApart(TissueDataset):
    """One transform for pictures and one for masks, each with random numbers of its own."""

    def flip(self, image, mask):
        return self.one(image), self.one(mask)

    def one(self, array):
        array = array[:, ::-1] if random.random() < 0.5 else array
        return array[::-1] if random.random() < 0.5 else array


class TissueMaskAsPicture(TissueDataset):
    """The mask goes through the transform of pictures, and is then made long."""

    def target(self, mask):
        return to_tensor(mask)[0].long()


class TissueWithoutChannel(TissueDataset):
    def target(self, mask):
        return super().target(mask)[0]


class TissueVoid(TissueDataset):
    """Pixels on a border between two kinds are 255: nobody is sure what they are."""

    def target(self, mask):
        mask = super().target(mask)
        wide = F.pad(mask[None, None].float(), (1, 1, 1, 1), mode="replicate")
        differs = F.max_pool2d(wide, 3, 1)[0, 0] != -F.max_pool2d(-wide, 3, 1)[0, 0]
        return torch.where(differs, 255, mask)


def slides(kind, **options):
    train, val, test = tissue(240, 1), tissue(80, 2), tissue(250, 3)
    return Splits(kind(*train, augment=True, **options), kind(*val, **options), kind(*test, **options))


@register.dataset
def pho3_tissue():
    return slides(TissueDataset)


@register.dataset
def pho3_tissue_flipped_apart():
    return slides(TissueFlippedApart)


@register.dataset
def pho3_tissue_mask_as_picture():
    return slides(TissueMaskAsPicture)


@register.dataset
def pho3_tissue_void():
    return slides(TissueVoid)


@register.dataset
def pho3_cells():
    return slides(TissueDataset, binary=True)


@register.dataset
def pho3_cells_flat():
    return slides(TissueWithoutChannel, binary=True)


class DoubleConv(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.conv(x)


@register.model
class pho3_unet(nn.Module):
    """Two steps down, two up, with skips."""

    def __init__(self, *, classes_out: int = 4, width: int = 8):
        super().__init__()
        self.down1, self.down2 = DoubleConv(3, width), DoubleConv(width, 2 * width)
        self.bottom = DoubleConv(2 * width, 4 * width)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2), nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv2, self.conv1 = DoubleConv(4 * width, 2 * width), DoubleConv(2 * width, width)
        self.out = nn.Conv2d(width, classes_out, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        x = self.conv2(torch.cat([self.up2(c), b], 1))
        x = self.conv1(torch.cat([self.up1(x), a], 1))
        return self.out(x)


@register.loss
class pho3_pixel_loss(nn.Module):
    """Cross-entropy of every pixel; 255 does not count."""

    def __init__(self):
        super().__init__()
        self.ce = nn.CrossEntropyLoss(ignore_index=255)

    def forward(self, out, y):
        return self.ce(out, y)


@register.loss
class pho3_dice_loss(nn.Module):
    """One minus the soft Dice score of a picture."""

    def __init__(self, *, smooth: float = 1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, out, y):
        p = torch.sigmoid(out)
        inter = (p * y).sum(dim=(-2, -1))
        total = p.sum(dim=(-2, -1)) + y.sum(dim=(-2, -1))
        return (1 - (2 * inter + self.smooth) / (total + self.smooth)).mean()


@register.metric(best="max")
def pho3_pixels_right(out, y):
    right = (out.argmax(1) == y)[y != 255]
    return right.float().mean()


@register.metric(best="max")
def pho3_iou(out, y):
    p, y = out > 0, y > 0.5
    return ((p & y).sum().float() + 1) / ((p | y).sum() + 1)


# ------------------------------------------------------------------ flowers: classification


def flowers(count, seed, side=24):
    """Flowers of three, four or five petals, or a daisy of nine, in any colour before any ground."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    rows, cols = np.mgrid[0:side, 0:side]
    centre = rng.uniform(side / 2 - 2, side / 2 + 2, (2, count, 1, 1))
    u, v = cols - centre[0], rows - centre[1]
    petals = np.array([3, 4, 5, 9])[y][:, None, None]
    angle = np.arctan2(v, u) * petals + rng.uniform(0, 6.28, (count, 1, 1))
    reach = rng.uniform(7.5, 9.5, (count, 1, 1)) * (0.55 + 0.45 * np.cos(angle))
    mask = (np.hypot(u, v) < reach)[..., None]
    ground = rng.uniform(30, 120, (count, 1, 1, 3))
    colour = ground + rng.uniform(60, 130, (count, 1, 1, 3))
    image = np.where(mask, colour, ground) + rng.normal(0, 10, (count, side, side, 3))
    return np.clip(image, 0, 255).astype(np.uint8), y


class FlowerDataset(Dataset):
    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), int(self.labels[index])


class MixedFlowers(FlowerDataset):
    """Mixup: a flower over another one; the target is the share of each of the four kinds."""

    def __init__(self, images, labels, transform, mix):
        super().__init__(images, labels, transform)
        self.mix = mix

    def single(self, index):
        x, y = super().__getitem__(index)
        return x, F.one_hot(torch.tensor(y), 4).float()

    def __getitem__(self, index):
        x, y = self.single(index)
        if self.mix:
            other, label = self.single(random.randrange(len(self)))
            share = random.betavariate(0.3, 0.3)
            x, y = share * x + (1 - share) * other, share * y + (1 - share) * label
        return x, y


TRAIN = compose(to_tensor, RandomFlip(), Normalize(0.4, 0.2))
LATER = compose(to_tensor, Normalize(0.4, 0.2))


def scaled_again(x):
    return x / 255


@register.dataset
def pho3_flowers():
    return Splits(
        FlowerDataset(*flowers(800, 11), TRAIN), FlowerDataset(*flowers(240, 12), LATER), FlowerDataset(*flowers(1000, 13), LATER)
    )


@register.dataset
def pho3_flowers_divided_twice():
    """to_tensor divides by 255 already."""
    train = compose(to_tensor, scaled_again, RandomFlip(), Normalize(0.4, 0.2))
    later = compose(to_tensor, scaled_again, Normalize(0.4, 0.2))
    return Splits(
        FlowerDataset(*flowers(800, 11), train), FlowerDataset(*flowers(240, 12), later), FlowerDataset(*flowers(1000, 13), later)
    )


@register.dataset
def pho3_flowers_mixed():
    return Splits(
        MixedFlowers(*flowers(800, 11), TRAIN, True),
        MixedFlowers(*flowers(240, 12), LATER, False),
        MixedFlowers(*flowers(1000, 13), LATER, False),
    )


@register.model
class pho3_simple_cnn(nn.Module):
    """Three convolutions with pooling, two linear layers."""

    def __init__(self, *, classes_out: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(32 * 3 * 3, 64)
        self.fc2 = nn.Linear(64, classes_out)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = self.pool(F.relu(self.conv3(x)))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


@register.model
class pho3_root_cnn(nn.Module):
    """Features of three convolutions, their signed square root, a linear classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.classifier = nn.Linear(64, 4)

    def compress(self, f):
        return torch.sign(f) * torch.sqrt(f.abs() + 1e-3)

    def forward(self, x):
        return self.classifier(self.compress(self.features(x)))


@register.model
class pho3_root_cnn_numpy(pho3_root_cnn):
    """The same formula in NumPy."""

    def compress(self, f):
        array = f.detach().cpu().numpy()
        return torch.from_numpy(np.sign(array) * np.sqrt(np.abs(array) + np.float32(1e-3))).to(f.device)


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        same = stride == 1 and before == after
        self.shortcut = nn.Sequential() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


@register.model
class pho3_small_resnet(nn.Module):
    def __init__(self, *, classes_out: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.layer1, self.layer2 = BasicBlock(12, 16, 2), BasicBlock(16, 32, 2)
        self.fc = nn.Linear(32, classes_out)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@register.loss
class pho3_cross_entropy(nn.Module):
    """For labels and for shares of classes."""

    def __init__(self):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, out, y):
        return self.criterion(out, y)


@register.metric(best="max")
def pho3_share_right(out, y):
    return (out.argmax(1) == y.argmax(1)).float().mean()


# ------------------------------------------------------------------ digits


class DigitDataset(Dataset):
    """scikit-learn's digits, 8 x 8."""

    def __init__(self, part):
        data = load_digits()
        order = np.random.RandomState(0).permutation(len(data.target))[part]
        self.images, self.targets = data.images[order], data.target[order]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = torch.tensor(self.images[index], dtype=torch.float32).unsqueeze(0)
        return (image / 16.0 - 0.3) / 0.37, self.targets[index]


@register.dataset
def pho3_digits():
    return Splits(DigitDataset(slice(0, 640)), DigitDataset(slice(640, 790)), DigitDataset(slice(790, None)))


@register.model
class pho3_vit(nn.Module):
    """Patches of 2 x 2, a class token, two layers."""

    def __init__(self, *, dim: int = 32):
        super().__init__()
        self.patch = nn.Conv2d(1, dim, 2, stride=2)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def tokens(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.pos

    def forward(self, x):
        x = self.encoder(self.tokens(x))
        return self.head(self.norm(x[:, 0]))


@register.model
class pho3_vit_not_assigned(pho3_vit):
    """What the encoder gives is not kept."""

    def forward(self, x):
        x = self.tokens(x)
        self.encoder(x)
        return self.head(self.norm(x[:, 0]))


@register.model
class pho3_lenet_dropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


# ------------------------------------------------------------------ balls and dials: regression


class BallDataset(Dataset):
    """Gray pictures of a ball before a noisy ground; the target is the middle of the ball, column and row as shares of the side."""

    def __init__(self, count, seed, side=24, scaled=True):
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[0:side, 0:side]
        self.points = rng.uniform(3, side - 3, (count, 2)).astype(np.float32)
        far = np.hypot(cols - self.points[:, 0, None, None], rows - self.points[:, 1, None, None])
        ball = 120 * np.clip(1.5 - far / rng.uniform(2, 3.5, (count, 1, 1)), 0, 1)
        self.images = np.clip(ball + rng.uniform(40, 90, (count, 1, 1)) + rng.normal(0, 15, far.shape), 0, 255).astype(np.uint8)
        self.scale = side if scaled else 1
        self.transform = compose(to_tensor, Normalize(0.3, 0.15))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), torch.from_numpy(self.points[index] / self.scale)


@register.dataset
def pho3_balls():
    return Splits(BallDataset(500, 21), BallDataset(150, 22), BallDataset(1000, 23))


@register.dataset
def pho3_balls_in_pixels_later():
    """The line that divides by the side is in the part for training only."""
    return Splits(BallDataset(500, 21), BallDataset(150, 22, scaled=False), BallDataset(1000, 23, scaled=False))


class DialDataset(Dataset):
    """Dials with a hand; the target is (cos, sin) of where it points."""

    def __init__(self, count, seed, side=20):
        rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[0:side, 0:side]
        u, v = cols - side / 2 + 0.5, rows - side / 2 + 0.5
        self.angle = rng.uniform(-np.pi, np.pi, count)
        c, s = np.cos(self.angle)[:, None, None], np.sin(self.angle)[:, None, None]
        along, across = c * u + s * v, c * v - s * u
        hand = (np.abs(across) < 1.2) & (along > -1) & (along < 7.5)
        ring = np.abs(np.hypot(u, v) - 8.5) < 0.7
        image = 200 - 130 * hand - 90 * ring + rng.normal(0, 15, hand.shape)
        self.images = np.clip(image, 0, 255).astype(np.uint8)

    def __len__(self):
        return len(self.angle)

    def __getitem__(self, index):
        angle = self.angle[index]
        return (to_tensor(self.images[index]) - 0.6) / 0.25, torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)


@register.dataset
def pho3_dials():
    return Splits(DialDataset(500, 31), DialDataset(150, 32), DialDataset(1000, 33))


@register.model
class pho3_point_net(nn.Module):
    """Strided convolutions and two numbers, of length one if asked."""

    def __init__(self, *, unit: bool = False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.LeakyReLU(0.1),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.LeakyReLU(0.1),
            nn.Flatten(), nn.LazyLinear(48), nn.LeakyReLU(0.1), nn.Linear(48, 2),
        )  # fmt: skip
        self.body(torch.zeros(1, 1, 20, 20) if unit else torch.zeros(1, 1, 24, 24))
        self.unit = unit

    def forward(self, x):
        x = self.body(x)
        return F.normalize(x, dim=1) if self.unit else x


@register.loss
def pho3_mse(out, y):
    return F.mse_loss(out, y)


@register.loss
def pho3_away(out, y):
    """One minus the cosine of the angle between."""
    return (1 - F.cosine_similarity(out, y)).mean()


# ------------------------------------------------------------------ optimizers


@register.optimizer
def pho3_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def pho3_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=1e-4)


@register.schedule
def pho3_step_lr(optimizer, steps):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=max(steps // 3, 1), gamma=0.3)
