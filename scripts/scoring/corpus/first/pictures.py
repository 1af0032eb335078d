"""Small pictures: drawn signs, lamps and arrows, enlarged digits, textures. See pictures.yaml."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from dlrun import Splits, register

SIDE = 20
SIZES = ((480, 11), (240, 12), (1000, 13))


def canvas(rng, count, side=SIDE):
    """Coordinates of every pixel as seen from a random centre, in units of a random radius."""
    rows, columns = np.mgrid[0:side, 0:side]
    centre = rng.uniform(0.38 * side, 0.62 * side, (2, count, 1, 1))
    radius = rng.uniform(0.24 * side, 0.34 * side, (count, 1, 1))
    return (columns - centre[0]) / radius, (rows - centre[1]) / radius


def paint(rng, mask, front, back):
    """Bytes [N, H, W, 3] of a mask in one colour before another, with grain."""
    picture = np.where(mask[..., None], front[:, None, None, :], back[:, None, None, :])
    return np.clip(255 * picture + rng.normal(0, 14, picture.shape), 0, 255).astype(np.uint8)


def signs(count, seed, share=None):
    """Disc, square, triangle, ring or cross in any colour."""
    rng = np.random.default_rng(seed)
    y = rng.choice(5, count, p=share)
    u, v = canvas(rng, count)
    far, near = np.maximum(abs(u), abs(v)), u**2 + v**2
    forms = [
        near < 1,
        far < 0.85,
        (v < 0.8) & (v > 2 * abs(u) - 0.9),
        (near < 1.1) & (near > 0.4),
        (far < 1) & (np.minimum(abs(u), abs(v)) < 0.3),
    ]
    mask = np.stack(forms, 1)[np.arange(count), y]
    back = rng.uniform(0.05, 0.4, (count, 3))
    front = back + rng.uniform(0.3, 0.58, (count, 3))
    return paint(rng, mask, front, back), y


def lamps(count, seed):
    """A lit lamp of any form before a brown wall; the colour is the class: red, amber, green, blue."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    u, v = canvas(rng, count)
    mask = np.where(rng.random((count, 1, 1)) < 0.5, u**2 + v**2 < 1, np.maximum(abs(u), abs(v)) < 0.9)
    colours = np.array([[0.85, 0.2, 0.15], [0.85, 0.6, 0.15], [0.2, 0.75, 0.2], [0.15, 0.2, 0.85]])
    front = np.clip(colours[y] + rng.normal(0, 0.11, (count, 3)), 0, 1)
    back = np.clip(np.array([0.55, 0.38, 0.18]) + rng.normal(0, 0.05, (count, 3)), 0, 1)
    return paint(rng, mask, front, back), y


class ToFloat:
    """Bytes with channels last to numbers in 0..1 with channels first."""

    def __call__(self, picture):
        return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


class Normalise:
    """(x - mean) / std a channel."""

    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, x):
        return (x - self.mean) / self.std


class Brighten:
    """Adds light; in bytes, so that 250 + 60 is 54."""

    def __init__(self, most):
        self.most = most

    def __call__(self, picture):
        return picture + np.uint8(random.randrange(self.most))


class Compose:
    """One transform after another."""

    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, picture):
        for step in self.steps:
            picture = step(picture)
        return picture


class Album(Dataset):
    """Pictures and labels held as arrays."""

    def __init__(self, held, transform):
        self.pictures, self.labels = held
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(self.pictures[i]), int(self.labels[i])


class AlbumOfBatches(Album):
    """Its length is the number of batches, as a Keras Sequence has it."""

    def __len__(self):
        return math.ceil(len(self.labels) / 32)


STEPS = (ToFloat(), Normalise((0.4, 0.4, 0.4), (0.2, 0.2, 0.2)))


def albums(draw, train=STEPS, later=STEPS):
    """The three splits of a kind of picture."""
    first, *rest = (draw(*size) for size in SIZES)
    return Splits(Album(first, Compose(*train)), *(Album(held, Compose(*later)) for held in rest))


@register.dataset
def pic2_signs():
    return albums(signs)


@register.dataset
def pic2_signs_val_plain():
    """The transform of val and test was copied before the normalisation was added."""
    return albums(signs, later=STEPS[:1])


@register.dataset
def pic2_signs_wrapped():
    """Light is added to bytes in train."""
    return albums(signs, train=(Brighten(200), *STEPS))


@register.dataset
def pic2_signs_few():
    splits = albums(signs)
    return Splits(AlbumOfBatches(signs(*SIZES[0]), Compose(*STEPS)), splits.val, splits.test)


@register.dataset
def pic2_signs_names_shuffled():
    """The list of files was shuffled, that of labels was not."""

    def draw(count, seed):
        pictures, y = signs(count, seed)
        return pictures[np.random.default_rng(seed).permutation(count)], y

    return albums(draw)


@register.dataset
def pic2_signs_rare():
    """In train and val the first two kinds make up most; the test rows, taken by hand, have all alike."""
    share = [0.5, 0.38, 0.05, 0.04, 0.03]
    train, val, test = signs(600, 21, share), signs(300, 22, share), signs(*SIZES[2])
    return Splits(*(Album(held, Compose(*STEPS)) for held in (train, val, test)))


@register.dataset
def pic2_signs_holes():
    """A square hole at a random place and a random mirror, in train."""

    def holed(x):
        x = x.flip(2) if random.random() < 0.5 else x.clone()
        top, left = random.randrange(SIDE - 5), random.randrange(SIDE - 5)
        x[:, top : top + 5, left : left + 5] = 0
        return x

    return albums(signs, train=(*STEPS, holed))


@register.dataset
def pic2_lamps():
    return albums(lamps)


@register.dataset
def pic2_lamps_swapped():
    """Train was read by one library in the order red, green, blue; val and test by another in the order blue, green, red."""
    return albums(lamps, later=(lambda picture: picture[..., ::-1], *STEPS))


@register.dataset
def pic2_lamps_by_hour():
    """Darker at night; the hour of the day goes with each picture."""

    class ByHour(Album):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            hour = (7 * i) % 24
            light = 0.35 if hour < 6 or hour > 20 else 1.0
            return {"x": {"picture": light * x, "hour": torch.tensor([hour / 24])}, "y": y}

    return Splits(*(ByHour(lamps(*size), Compose(*STEPS)) for size in SIZES))


def arrows(count, seed, side=16):
    """Gray arrows that point right, down, left or up."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    u, v = canvas(rng, count, side)
    angle = (np.pi / 2 * y + rng.normal(0, 0.12, count))[:, None, None]
    along, across = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    mask = ((abs(across) < 0.25) & (along > -1.2) & (along < 0.3)) | ((along > 0.2) & (along < 1.2) & (abs(across) < 1.2 - along))
    x = mask + rng.normal(0, 0.25, mask.shape)
    return torch.tensor(x[:, None] - 0.2, dtype=torch.float32), torch.tensor(y)


class Turned(TensorDataset):
    """Pictures shifted a little, or mirrored, whenever they are read."""

    def __init__(self, x, y, mirror):
        super().__init__(x, y)
        self.mirror = mirror

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        x = torch.roll(x, (random.randint(-1, 1), random.randint(-1, 1)), (1, 2))
        return (x.flip(-1) if self.mirror and random.random() < 0.5 else x), y


@register.dataset
def pic2_arrows(*, mirror: bool = False):
    return Splits(Turned(*arrows(500, 31), mirror), arrows(240, 32), arrows(1000, 33))


def enlarged():
    """scikit-learn's digits at twice the size, in 0..16."""
    found = load_digits()
    x = np.kron(found.images, np.ones((1, 2, 2)))
    return torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(found.target)


def in_three(x, y):
    return Splits((x[:600], y[:600]), (x[600:797], y[600:797]), (x[797:], y[797:]))


@register.dataset
def pic2_digits(*, scale: float = 8.0):
    x, y = enlarged()
    return in_three(x / scale - 8 / scale * (scale > 1), y)


@register.dataset
def pic2_digits_permuted():
    """All pixels in one random order, the same for every picture, as in studies of forgetting."""
    x, y = enlarged()
    order = torch.randperm(256, generator=torch.Generator().manual_seed(5))
    return in_three((x.flatten(1)[:, order] / 8 - 1).reshape(x.shape), y)


def weave(count, seed, side=16):
    """Textures: plain noise, smeared along either axis or both, or with every second pixel turned over."""
    source = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, side, side, generator=source), torch.randint(5, (count,), generator=source)
    wide, high = x + x.roll(1, 2), x + x.roll(1, 1)
    x = torch.stack([x, wide, high, wide + wide.roll(1, 1), x - 0.6 * x.roll(1, 2)], 1)[torch.arange(count), y]
    return (x / x.std((1, 2), keepdim=True))[:, None], y


@register.dataset
def pic2_weave():
    return Splits(weave(500, 41), weave(240, 42), weave(1000, 43))


@register.dataset
def pic2_weave_listed():
    """Classes are numbered as the folder lists them, which differs between the folder of train and those of val and test."""
    order = torch.tensor([3, 0, 4, 1, 2])
    (x, y), (a, b) = weave(240, 42), weave(1000, 43)
    return Splits(weave(500, 41), (x, order[y]), (a, order[b]))


@register.model
class pic2_lenet(nn.Module):
    """conv, pool, conv, pool, three linear layers."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        side = (in_shape[1] // 2) // 2
        self.conv1 = nn.Conv2d(in_shape[0], 8, 5, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * side * side, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, out_shape[0])

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


@register.model
class pic2_lenet_clamped(pic2_lenet):
    """The last layer has an activation like all others."""

    def forward(self, x):
        return F.relu(super().forward(x))


@register.model
class pic2_lenet_frozen(pic2_lenet):
    """The convolutions are frozen as for pretrained weights, which nobody loaded."""

    def __init__(self, in_shape, out_shape):
        super().__init__(in_shape, out_shape)
        for name, p in self.named_parameters():
            p.requires_grad = name.startswith("fc3")


@register.model
class pic2_example(nn.Module):
    """Two convolutions and two layers, with log-probabilities for nll_loss."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_shape[0], 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc1, self.fc2 = nn.Linear(256, 64), nn.Linear(64, out_shape[0])

    def features(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))

    def forward(self, x):
        x = torch.flatten(self.features(x), 1)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


@register.model
class pic2_example_channels_to_front(pic2_example):
    """Channels were moved before the batch axis to look at them, and then all was reshaped to rows."""

    def features(self, x):
        maps = super().features(x).transpose(0, 1)
        return maps.reshape(len(x), -1)


@register.model
class pic2_deep_sigmoid(nn.Module):
    """Seven layers with sigmoids, log-probabilities at the end."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        layers = []
        for before, after in ((in_shape[0], 8), (8, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.Sigmoid()]
        layers += [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(256, 64), nn.Sigmoid(), nn.Linear(64, 64), nn.Sigmoid()]
        self.body, self.last = nn.Sequential(*layers), nn.Linear(64, out_shape[0])

    def forward(self, x):
        return self.last(self.body(x)).log_softmax(1)


@register.model
def pic2_vgg(in_shape, out_shape, *, momentum: float = 0.1):
    """Blocks of convolution, norm and ReLU, pooled over all places at the end."""

    def block(before, after):
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after, momentum=momentum), nn.ReLU(inplace=True)]

    body = [*block(in_shape[0], 12), *block(12, 12), nn.MaxPool2d(2), *block(12, 24)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, out_shape[0]))


class Residual(nn.Module):
    """x plus a branch whose last norm starts at zero, so that the block starts as the identity."""

    def __init__(self, width):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.branch = nn.Sequential(first, nn.GroupNorm(4, width), nn.SiLU(), second, nn.GroupNorm(4, width))
        nn.init.zeros_(self.branch[-1].weight)

    def forward(self, x):
        return F.silu(x + self.branch(x))


@register.model
class pic2_resnet_from_nothing(nn.Module):
    """Residual branches and the readout start at zero: all outputs are zero at first."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.stem = nn.Conv2d(in_shape[0], 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Residual(16), Residual(16))
        self.head = nn.Linear(16 * 9, out_shape[0])
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 3).flatten(1))


@register.model
class pic2_filter_bank(nn.Module):
    """Fixed oriented filters, kept as a buffer; energies, their logarithm, and a small learned readout."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        line = torch.linspace(-1.5, 1.5, 5)
        v, u = torch.meshgrid(line, line, indexing="ij")
        turns = [math.pi * k / 4 for k in range(4)]
        waves = [torch.cos(f * (math.cos(t) * u + math.sin(t) * v)) * torch.exp(-(u**2 + v**2)) for t in turns for f in (1.5, 3.0, 5.0)]
        self.register_buffer("bank", torch.stack(waves)[:, None])
        self.norm, self.head = nn.BatchNorm1d(12, affine=False), nn.Linear(12, out_shape[0])

    def forward(self, x):
        energy = F.conv2d(x, self.bank).square().mean((2, 3))
        return self.head(self.norm(energy.log()))


@register.model
class pic2_two_exits(nn.Module):
    """A second readout halfway, in training only."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(in_shape[0], 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.high = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.early, self.late = nn.Linear(12 * 64, out_shape[0]), nn.Linear(24 * 16, out_shape[0])

    def forward(self, x):
        x = self.low(x)
        late = self.late(self.high(x).flatten(1))
        return (late, self.early(x.flatten(1))) if self.training else late


@register.model
class pic2_patches(nn.Module):
    """Attention over patches of 4 x 4; a quarter of the patches is left out in training."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        count = (in_shape[1] // 4) * (in_shape[2] // 4)
        self.cut = nn.Conv2d(in_shape[0], 48, 4, stride=4)
        self.place = nn.Parameter(0.02 * torch.randn(1, count, 48))
        layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, out_shape[0]))

    def forward(self, x):
        x = self.cut(x).flatten(2).transpose(1, 2) + self.place
        if self.training:
            kept = torch.randperm(x.shape[1])[: 3 * x.shape[1] // 4]
            x = x[:, kept]
        return self.head(self.body(x).mean(1))


@register.model
class pic2_flat(nn.Module):
    """A plain MLP on all pixels."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), 96), nn.Tanh(), nn.Linear(96, out_shape[0]))

    def forward(self, x):
        return self.layers(x)


@register.model
class pic2_cosine(nn.Module):
    """Features and class vectors of length one; their products, times a fixed 16."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_shape[0], 16, 3, padding=1, bias=False), nn.Hardswish(), nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.Hardswish(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(32),
        )  # fmt: skip
        with torch.no_grad():
            self.body(torch.zeros(2, *in_shape))
        self.classes = nn.Parameter(torch.randn(out_shape[0], 32))

    def forward(self, x):
        return 16 * F.normalize(self.body(x), dim=1) @ F.normalize(self.classes, dim=1).T


@register.model
class pic2_with_hour(nn.Module):
    """A small net for the picture, whose brightness the hour sets right."""

    def __init__(self, out_shape):
        super().__init__()
        self.light = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 3))
        self.net = pic2_lenet((3, SIDE, SIDE), out_shape)

    def forward(self, x):
        return self.net(x["picture"] * (1 + self.light(x["hour"]))[:, :, None, None])


@register.loss
class pic2_criterion(nn.Module):
    """Cross-entropy."""

    def __init__(self, *, smoothing: float = 0.0):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(self, out, y):
        return self.inner(out, y)


COUNTS = torch.tensor([300.0, 228.0, 30.0, 24.0, 18.0])


@register.loss
def pic2_weighed(out, y):
    """Rare classes weigh more."""
    weight = COUNTS.sum() / (5 * COUNTS)
    return F.cross_entropy(out, y, weight=weight)


@register.loss
def pic2_weighed_by_count(out, y):
    """Classes weigh as they are frequent."""
    weight = 5 * COUNTS / COUNTS.sum()
    return F.cross_entropy(out, y, weight=weight)


@register.loss
def pic2_nll(out, y):
    return F.nll_loss(out, y)


@register.loss
def pic2_exits(out, y):
    """The late exit counts, the early one a third of it."""
    if isinstance(out, tuple):
        return F.cross_entropy(out[0], y) + 0.3 * F.cross_entropy(out[1], y)
    return F.cross_entropy(out, y)


@register.optimizer
def pic2_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def pic2_sgd(named_parameters, *, lr: float = 0.1):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


@register.optimizer
def pic2_adam_in_groups(named_parameters, *, lr: float = 2e-3):
    """Slow for the features, fast for the `classifier`: a name that this network does not have."""
    named = list(named_parameters)
    slow = [p for name, p in named if "conv1" in name or "features" in name]
    fast = [p for name, p in named if "classifier" in name or "fc3" in name]
    return torch.optim.Adam([{"params": slow, "lr": lr / 10}, {"params": fast}], lr=lr)


@register.schedule
def pic2_one_cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps + 1)
