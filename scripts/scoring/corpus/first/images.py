"""Classification of small pictures, in memory and read item by item. See images.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, WeightedRandomSampler

from dlrun import DataSpec, Splits, register

SIDE, CLASSES = 12, 5


def draw(rows: int, seed: int, rare: bool = False) -> tuple[Tensor, Tensor]:
    """Pictures [rows, 3, 12, 12] in 0..1: one of five smooth patterns at a random place and hue, with noise."""
    source = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (rows,), generator=source)
    if rare:
        y = torch.where(torch.rand(rows, generator=source) < 0.75, 0, y)
    phase, hue = 6.283 * torch.rand(rows, 1, 1, generator=source), 0.4 + 0.6 * torch.rand(rows, 3, 1, 1, generator=source)
    line = torch.linspace(0, 6.283, SIDE)
    v, u = line[None, :, None], line[None, None, :]
    waves = [
        torch.sin(u + phase),
        torch.sin(v + phase),
        torch.sin(u + v + phase),
        torch.sin(u - v + phase),
        torch.sin(u + phase) * torch.cos(v),
    ]
    picture = torch.stack([wave.expand(rows, SIDE, SIDE) for wave in waves], 1)[torch.arange(rows), y][:, None]
    noise = 0.3 * torch.randn(rows, 3, SIDE, SIDE, generator=source)
    return (0.5 + 0.25 * hue * picture + noise).clamp(0, 1), y


@register.dataset
def img_pictures() -> Splits:
    return Splits(draw(500, 1), draw(300, 2), draw(1000, 3))


@register.dataset
def img_pictures_viewed() -> Splits:
    """Stored with channels last; made channels first by a reshape, which mixes pixels of all channels."""

    def viewed(rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = rows
        return x.permute(0, 2, 3, 1).reshape(len(x), 3, SIDE, SIDE), y

    return Splits(viewed(draw(500, 1)), viewed(draw(300, 2)), viewed(draw(1000, 3)))


@register.dataset
def img_pictures_divided() -> Splits:
    """Bytes divided as integers: nearly every pixel is 0."""

    def divided(rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = rows
        return ((255 * x).to(torch.uint8) // 255).float(), y

    return Splits(divided(draw(500, 1)), divided(draw(300, 2)), divided(draw(1000, 3)))


class Pictures(Dataset):
    """Pictures in 0..255, standardised as they are read."""

    def __init__(self, rows: tuple[Tensor, Tensor], moving: bool = False) -> None:
        self.x, self.y, self.moving = 255 * rows[0], rows[1], moving

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = (self.x[index] / 255 - 0.5) / 0.25
        if self.moving:
            x = x.roll(tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2)) + 0.1 * torch.randn(3, 1, 1)
        return x, int(self.y[index])


class PicturesInPlace(Pictures):
    """The same, written back into the stored picture: each reading standardises it once more."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = self.x[index]
        x.div_(255).sub_(0.5).div_(0.25)
        return x, int(self.y[index])


@register.dataset
def img_items() -> Splits:
    return Splits(Pictures(draw(400, 1)), Pictures(draw(200, 2)), Pictures(draw(500, 3)))


@register.dataset
def img_items_in_place() -> Splits:
    return Splits(PicturesInPlace(draw(400, 1)), PicturesInPlace(draw(200, 2)), PicturesInPlace(draw(500, 3)))


@register.dataset
def img_items_sampled() -> Splits:
    """Moved and recoloured in train only; a class that makes up most rows is drawn as often as the others."""
    rows = draw(400, 1, rare=True)
    weights = (1 / torch.bincount(rows[1]).float())[rows[1]]
    sampler = WeightedRandomSampler(weights.tolist(), 400, generator=torch.Generator().manual_seed(0))
    spec = DataSpec((3, SIDE, SIDE), (CLASSES,), "classification", classes=CLASSES)
    return Splits(Pictures(rows, moving=True), Pictures(draw(200, 2)), Pictures(draw(500, 3)), spec=spec, sampler=sampler)


@register.model
class img_net(nn.Module):
    """Two convolutions with batch norm, pooled, and a linear readout."""

    momentum = 0.1

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_shape[0], 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1)
        self.norm1, self.norm2 = (nn.BatchNorm2d(width, momentum=self.momentum) for width in (12, 24))
        self.head = nn.Linear(24 * 9, out_shape[0])

    def features(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        return F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@register.model
class img_net_still(img_net):
    """Running statistics stay at their start, for their momentum is 0."""

    momentum = 0.0


@register.model
class img_net_always_dropping(img_net):
    """Dropout called as a function, which knows nothing of evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(x), p=0.8))


@register.model
class img_net_huge(nn.Module):
    """No norm; all weights drawn with standard deviation 1."""

    def __init__(self, in_shape, out_shape) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_shape[0], 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 9, out_shape[0]),
        )  # fmt: skip
        for layer in self.net:
            if hasattr(layer, "weight"):
                nn.init.normal_(layer.weight, std=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@register.loss
def img_loss(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.optimizer
def img_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
