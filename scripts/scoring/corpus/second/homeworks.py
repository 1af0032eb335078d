"""Course homework: lit segments, surnames, sequences of digits, points in the plane, rents and bicycles. See homeworks.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, TensorDataset

from dlrun import DataSpec, Splits, register

# ---------------------------------------------------------------- pictures: a digit of a seven-segment display, 12 x 12

SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
STROKES = {
    "a": (slice(0, 1), slice(0, 5)),
    "b": (slice(0, 4), slice(4, 5)),
    "c": (slice(3, 7), slice(4, 5)),
    "d": (slice(6, 7), slice(0, 5)),
    "e": (slice(3, 7), slice(0, 1)),
    "f": (slice(0, 4), slice(0, 1)),
    "g": (slice(3, 4), slice(0, 5)),
}
SIZES = ((1200, 1), (300, 2), (1000, 3))


def display(count, seed):
    """Grey pictures in 0..1 with a black rim of one pixel, and the digit that is lit; some segments are weak."""
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, 10, count)
    pictures = np.zeros((count, 12, 12), dtype=np.float32)
    for picture, digit in zip(pictures, digits, strict=True):
        top, left = rng.integers(1, 5), rng.integers(1, 7)
        inner = rng.normal(0.15, 0.12, (10, 10))
        glyph = np.zeros((12, 12))
        for name in SEGMENTS[digit]:
            rows, columns = STROKES[name]
            glyph[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop] = rng.uniform(0.35, 1.0)
        picture[1:11, 1:11] = np.clip(inner + glyph[1:11, 1:11], 0, 1)
    return torch.from_numpy(pictures)[:, None], torch.from_numpy(digits)


@register.dataset
def hom6_display():
    """Standardised by the mean and the deviation of all pixels, as the MNIST examples do."""
    return Splits(*(((x - 0.2) / 0.25, y) for x, y in (display(*size) for size in SIZES)))


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@register.dataset
def hom6_display_folders():
    """The training labels count folders by the alphabet (eight, five, four ...), the other ones are the digits themselves."""
    place = torch.tensor([sorted(NAMES).index(name) for name in NAMES])
    (x, y), *rest = (display(*size) for size in SIZES)
    return Splits(*(((x - 0.2) / 0.25, y) for x, y in ((x, place[y]), *rest)))


@register.dataset
def hom6_display_flat():
    """Every pixel by its own mean and deviation over the training pictures; the rim, which is always black, is left as it is."""
    return flat(lambda std: torch.where(std > 0, std, torch.ones_like(std)))


@register.dataset
def hom6_display_flat_rim():
    """The same, but the deviation of the rim is 0 and 0 / 0 is not a number."""
    return flat(lambda std: std)


def flat(guard):
    drawn = [display(*size) for size in SIZES]
    pixels = drawn[0][0].flatten(1)
    mean, std = pixels.mean(0), guard(pixels.std(0))
    return Splits(*(TensorDataset((x.flatten(1) - mean) / std, y) for x, y in drawn))


@register.model
class hom6_cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc1 = nn.Linear(24 * 9, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.last(self.fc2(F.relu(self.fc1(torch.flatten(x, 1)))))

    def last(self, scores):
        return scores


@register.model
class hom6_cnn_sigmoid(hom6_cnn):
    """A probability for every class on its own, then a cross-entropy that takes a softmax of them."""

    def last(self, scores):
        return torch.sigmoid(scores)


class DropUnits(nn.Module):
    """Dropout written by hand: what stays is divided by the share that stays, so that evaluation changes nothing."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x * (torch.rand_like(x) > self.p) / (1 - self.p) if self.training else x


class DropUnitsAsIs(DropUnits):
    """Neither training nor evaluation makes up for the units that are missing."""

    def forward(self, x):
        return x * (torch.rand_like(x) > self.p) if self.training else x


def dropped(kind, p):
    layers = [nn.Linear(144, 128), nn.ReLU(), kind(p), nn.Linear(128, 128), nn.ReLU(), kind(p)]
    return nn.Sequential(*layers, nn.Linear(128, 128), nn.ReLU(), kind(p), nn.Linear(128, 10))


@register.model
def hom6_mlp(*, p: float = 0.4):
    return dropped(DropUnits, p)


@register.model
def hom6_mlp_not_scaled(*, p: float = 0.4):
    return dropped(DropUnitsAsIs, p)


@register.model
def hom6_plain_mlp(in_shape, classes):
    """The first network of every course."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(in_shape), 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, classes)
    )


@register.loss
def hom6_ce():
    return nn.CrossEntropyLoss()


@register.optimizer
def hom6_adam(named_parameters, *, lr: float = 2e-3):
    return torch.optim.Adam((p for _, p in named_parameters), lr=lr)


# ---------------------------------------------------------------- optimizers that were an exercise


class Exercise:
    """Gradient descent with momentum by hand; `decay` lowers the rate as 1 / (1 + decay t)."""

    def __init__(self, named_parameters, lr, momentum, decay):
        self.named = list(named_parameters)
        self.param_groups = [{"params": [p for _, p in self.named], "lr": lr, "base": lr}]
        self.momentum, self.decay, self.t = momentum, decay, 0
        self.velocity = [torch.zeros_like(p) for _, p in self.named]

    def zero_grad(self, set_to_none=True):
        for _, p in self.named:
            p.grad = None

    def slow_down(self, group):
        group["lr"] = group["base"] / (1 + self.decay * self.t)

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        group = self.param_groups[0]
        if self.decay:
            self.slow_down(group)
        for v, p in zip(self.velocity, group["params"], strict=True):
            if p.grad is not None:
                v.mul_(self.momentum).add_(p.grad)
                p.sub_(group["lr"] * v)

    def state_dict(self):
        return {"velocity": [v.clone() for v in self.velocity], "t": self.t, "lr": self.param_groups[0]["lr"]}

    def load_state_dict(self, state):
        for v, saved in zip(self.velocity, state["velocity"], strict=True):
            v.copy_(saved)
        self.t, self.param_groups[0]["lr"] = state["t"], state["lr"]


class ExerciseLastOnly(Exercise):
    """zero_grad goes through all parameters, but what it does stands below the loop."""

    def zero_grad(self, set_to_none=True):
        for _, p in self.named:
            gradient = p.grad
        if gradient is not None:
            gradient.zero_()


class ExerciseCompound(Exercise):
    """The factor is applied to the rate that the last step left, not to the first one."""

    def slow_down(self, group):
        group["lr"] *= 1 / (1 + self.decay * self.t)


@register.optimizer
def hom6_sgd(named_parameters, *, lr: float = 0.05, momentum: float = 0.9, decay: float = 0.0):
    return Exercise(named_parameters, lr, momentum, decay)


@register.optimizer
def hom6_sgd_last_only(named_parameters, *, lr: float = 0.05, momentum: float = 0.9, decay: float = 0.0):
    return ExerciseLastOnly(named_parameters, lr, momentum, decay)


@register.optimizer
def hom6_sgd_compound(named_parameters, *, lr: float = 0.05, momentum: float = 0.9, decay: float = 0.02):
    return ExerciseCompound(named_parameters, lr, momentum, decay)


class Lion(torch.optim.Optimizer):
    """The sign of an interpolated momentum, with decoupled decay."""

    def __init__(self, parameters, lr, decay):
        super().__init__(parameters, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["decay"]).sub_(group["lr"] * torch.sign(0.9 * m + 0.1 * p.grad))
                m.mul_(0.99).add_(p.grad, alpha=0.01)


@register.optimizer
def hom6_lion(named_parameters, *, lr: float = 2e-3):
    return Lion([p for _, p in named_parameters], lr, 0.1)


@register.schedule
def hom6_triangles(step, steps):
    """Three triangles, each half as high as the last."""
    place, turn = math.modf(3 * step / steps)
    return (0.1 + 0.9 * (1 - abs(2 * place - 1))) * 0.5**turn


# ---------------------------------------------------------------- surnames of four valleys, letter by letter

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
STEMS = ("ka", "lo", "mi", "ter", "ban", "os", "vir", "el", "ud", "gra")
BEGINS = {0: ("al", "ben"), 1: ("mac", "fitz"), 2: ("san", "de"), 3: ("von", "zu")}
ENDS = {0: ("ov", "ski"), 1: ("son", "ley"), 2: ("ez", "ini"), 3: ("mann", "berg")}
LONGEST = 16


def surname(rng, y):
    """The valley shows in the ending or in the beginning, the other one is anybody's."""
    other = int(rng.integers(0, 4))
    first, last = (y, other) if rng.random() < 0.15 else (other, y)
    middle = "".join(rng.choice(STEMS, int(rng.integers(1, 3))))
    return (rng.choice(BEGINS[first]) if rng.random() < 0.5 else "") + middle + rng.choice(ENDS[last])


class Surnames(Dataset):
    """Letters as 1..26, padded with 0 to one length, which nobody's name reaches."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 4, count)
        self.names = [surname(rng, int(y)) for y in self.labels]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        letters = [1 + ALPHABET.index(letter) for letter in self.names[i]]
        return torch.tensor(letters[:LONGEST] + [0] * (LONGEST - len(letters))), int(self.labels[i])


@register.dataset
def hom6_surnames():
    return Splits(*(Surnames(*size) for size in ((3000, 0), (300, 1), (1000, 2))))


@register.model
class hom6_bigru(nn.Module):
    """Reads a name both ways, without its padding, and classifies from both last states."""

    def __init__(self, *, width: int = 24):
        super().__init__()
        self.letters = nn.Embedding(27, 12, padding_idx=0)
        self.gru = nn.GRU(12, width, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * width, 4)

    def forward(self, x):
        lengths = (x > 0).sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(self.letters(x), lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.join(self.gru(packed)[1]))

    def join(self, h):
        return torch.cat((h[0], h[1]), 1)


@register.model
class hom6_bigru_view(hom6_bigru):
    """[2, batch, width] seen as [batch, 2 width]: the states of two names in one row."""

    def join(self, h):
        return h.reshape(h.shape[1], -1)


@register.model
class hom6_reader(nn.Module):
    """One encoder layer, a token put before the name whose state is classified."""

    def __init__(self, *, width: int = 32):
        super().__init__()
        self.letters, self.places = nn.Embedding(27, width), nn.Parameter(0.1 * torch.randn(LONGEST + 1, width))
        self.first = nn.Parameter(0.1 * torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        words = torch.cat((self.first.expand(len(x), 1, -1), self.letters(x)), 1) + self.places
        return self.out(self.encoder(words, src_key_padding_mask=self.mask(x))[:, 0])

    def mask(self, x):
        return F.pad(x == 0, (1, 0), value=False)


@register.model
class hom6_reader_mask_of_words(hom6_reader):
    """True where there is a letter, as another library has it; here True means to leave out."""

    def mask(self, x):
        return F.pad(x != 0, (1, 0), value=True)


@register.model
class hom6_lstm(nn.Module):
    """An LSTM over padded names and the mean of its states over the letters."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(27, 16)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(32, 4)

    def forward(self, x):
        states, _ = self.lstm(self.embed(x))
        real = (x > 0).unsqueeze(-1).float()
        return self.fc(self.drop((states * real).sum(1) / real.sum(1)))


# ---------------------------------------------------------------- sentences in which one word counts


def sentences(count, seed):
    """Nine words out of 60; exactly one of them is one of the first twelve, two for each of six topics."""
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(12, 60, (count, 9), generator=g)
    key = torch.randint(0, 12, (count,), generator=g)
    words[torch.arange(count), torch.randint(0, 9, (count,), generator=g)] = key
    return words, key // 2


@register.dataset
def hom6_topics():
    return Splits(sentences(1500, 5), sentences(300, 6), sentences(1000, 7))


@register.model
class hom6_attention(nn.Module):
    """Attention over the words of a sentence, then a linear classifier."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(60, 16)
        self.score = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        self.out = nn.Linear(16, 6)

    def forward(self, x):
        h = self.words(x)
        return self.out(self.pool(h, self.score(h).squeeze(-1)))

    def pool(self, h, scores):
        return (scores.softmax(1)[..., None] * h).sum(1)


@register.model
class hom6_attention_hard(hom6_attention):
    """Takes the word with the best score, so that no gradient comes to the scores."""

    def pool(self, h, scores):
        return h[torch.arange(len(h)), scores.argmax(1)]


# ---------------------------------------------------------------- sequences: the largest digit so far


def running(count, seed):
    g = torch.Generator().manual_seed(seed)
    x = (10 * torch.rand(count, 12, generator=g) ** 2.5).long().clamp(max=9)
    return x, x.cummax(1).values


@register.dataset
def hom6_largest():
    spec = DataSpec((12,), (12, 10), "sequence", vocab=10)
    return Splits(running(1500, 0), running(300, 1), running(1000, 2), spec=spec)


@register.model
class hom6_tagger(nn.Module):
    """One layer of attention that looks back only, and a readout tied to the embedding; no positions."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 32)
        nn.init.normal_(self.table.weight, std=0.2)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attend = nn.MultiheadAttention(32, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        h = self.table(x)
        ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        z = self.norm1(h)
        h = h + self.attend(z, z, z, attn_mask=ahead, need_weights=False)[0]
        h = h + self.mlp(self.norm2(h))
        return h @ self.table.weight.T + self.bias


@register.loss
def hom6_per_place(out, y):
    return F.cross_entropy(out.transpose(1, 2), y)


@register.loss
def hom6_per_place_without_zero(out, y):
    """0 is a digit here, not padding."""
    return F.cross_entropy(out.transpose(1, 2), y, ignore_index=0)


# ---------------------------------------------------------------- rents: a table in raw units


def flats(count, seed):
    """Area, rooms, storey, year, way to the station, share of green; the rent in hundreds, about 0 after the mean is off."""
    rng = np.random.default_rng(seed)
    area, rooms = rng.normal(70, 25, count), rng.integers(1, 6, count)
    storey, year = rng.integers(0, 9, count), rng.normal(1975, 28, count)
    way, green = rng.gamma(2, 400, count), rng.normal(0.3, 0.05, count)
    rent = 0.06 * (area - 70) + 0.4 * (rooms - 3) + 1.5 * np.tanh((year - 1975) / 30) - way / 600 + 12 * (green - 0.3) * (storey > 3)
    x = np.stack((area, rooms, storey, year, way, green), 1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(rent + 1.3 + rng.normal(0, 0.3, count), dtype=torch.float32)[:, None]


def scaled(divide):
    first, *rest = (flats(*size) for size in ((1000, 0), (300, 1), (1000, 2)))
    mean, std = first[0].mean(0), first[0].std(0)
    return Splits(((first[0] - mean) / std, first[1]), *(((x - mean) / divide(std), y) for x, y in rest))


@register.dataset
def hom6_rents():
    return scaled(lambda std: std)


@register.dataset
def hom6_rents_by_variance():
    """Train is divided by the deviation of a column, val and test by its variance."""
    return scaled(torch.square)


@register.model
def hom6_regressor(in_shape):
    return nn.Sequential(nn.Linear(in_shape[0], 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


@register.loss
def hom6_mse():
    return nn.MSELoss()


@register.loss
def hom6_smooth():
    return nn.SmoothL1Loss()


@register.optimizer
def hom6_momentum(named_parameters, *, lr: float = 0.02):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=1e-4)


@register.schedule
def hom6_three_stairs(optimizer, steps):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=steps // 3, gamma=0.3)


# ---------------------------------------------------------------- measurements, each with how far it is to be trusted


def measured(count, seed):
    """Targets [value, weight]: a third of all rows comes from a worn device, reads far too high and weighs little."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=g)
    worn = torch.rand(count, generator=g) < 0.33
    value = torch.sin(1.5 * x[:, 0]) + 0.6 * x[:, 1] * x[:, 2] - 0.5 * x[:, 3] + 0.1 * torch.randn(count, generator=g)
    value = value + worn * (4 + 2 * torch.randn(count, generator=g))
    return x, torch.stack((value, torch.where(worn, 0.02, 1.5)), 1)


@register.dataset
def hom6_devices():
    return Splits(measured(1200, 0), measured(300, 1), measured(1000, 2), spec=DataSpec((5,), (), "other"))


@register.model
def hom6_value():
    return nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1), nn.Flatten(0))


@register.loss
def hom6_trusted(out, y):
    value, weight = y[:, 0], y[:, 1]
    return (weight * (out - value) ** 2).mean()


@register.loss
def hom6_trusted_square(out, y):
    """The weights are a column, the errors a row: every weight meets every error."""
    value, weight = y[:, 0], y[:, 1:]
    return (weight * (out - value) ** 2).mean()


# ---------------------------------------------------------------- bicycles lent an hour: counts


def bicycles(count, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=g)
    rate = torch.exp(0.9 * x[:, 0] - 0.7 * x[:, 1].abs() + 0.5 * x[:, 2])
    return x, torch.poisson(rate, generator=g)


@register.dataset
def hom6_bicycles():
    return Splits(bicycles(1500, 0), bicycles(300, 1), bicycles(1000, 2), spec=DataSpec((4,), (), "regression"))


class Lent(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.net, self.rate = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1)), rate

    def forward(self, x):
        z = self.net(x)[:, 0]
        return z.exp() if self.rate else z


@register.model
def hom6_lent():
    """The logarithm of the rate, as the loss wants it."""
    return Lent(False)


@register.model
def hom6_lent_rate():
    """The rate itself, of which the loss takes the exponential again."""
    return Lent(True)


@register.loss
def hom6_poisson():
    return nn.PoissonNLLLoss()


# ---------------------------------------------------------------- points in the plane: noise to be told


class Spirals(Dataset):
    """Points of a spiral at a random time of their way to noise; the target is the noise."""

    def __init__(self, count, seed, again=False):
        g = torch.Generator().manual_seed(seed)
        angle = 1 + 9 * torch.rand(count, generator=g)
        points = torch.stack((angle * angle.cos(), angle * angle.sin()), 1) / 5
        t = torch.randint(0, 100, (count,), generator=g)
        kept = torch.cumprod(1 - torch.linspace(1e-3, 0.08, 100), 0)[t][:, None]
        self.noise = torch.randn(count, 2, generator=g)
        self.noisy = kept.sqrt() * points + (1 - kept).sqrt() * self.noise
        self.t = torch.randint(0, 100, (count,), generator=g) if again else t

    def __len__(self):
        return len(self.t)

    def __getitem__(self, i):
        return {"points": self.noisy[i], "t": self.t[i]}, self.noise[i]


@register.dataset
def hom6_spiral(*, again: bool = False):
    """`again`: the time that the network is told is drawn a second time."""
    spec = DataSpec({"points": (2,), "t": ()}, (2,), "diffusion")
    return Splits(Spirals(4000, 0, again), Spirals(500, 1, again), Spirals(2000, 2, again), spec=spec)


@register.model
class hom6_noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("waves", math.pi * 2.0 ** torch.arange(0, 4))
        self.net = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x):
        phase = (x["t"].float() / 100)[:, None] * self.waves
        return self.net(torch.cat((x["points"], phase.sin(), phase.cos()), 1))


# ---------------------------------------------------------------- a small variational autoencoder on segments


@register.dataset
def hom6_display_alone():
    """Pictures in 0..1, flattened, their own targets."""
    drawn = [display(*size)[0].flatten(1) for size in SIZES]
    return Splits(*((x, x) for x in drawn), spec=DataSpec((144,), (144,), "vae"))


@register.model
class hom6_vae(nn.Module):
    def __init__(self, *, latent: int = 6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(144, 96), nn.ReLU())
        self.mu, self.logvar = nn.Linear(96, latent), nn.Linear(96, latent)
        self.dec = nn.Sequential(nn.Linear(latent, 96), nn.ReLU(), nn.Linear(96, 144), nn.Sigmoid())

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.dec(z), mu, logvar


@register.loss
def hom6_elbo(out, y):
    seen, mu, logvar = out
    rebuilt = F.binary_cross_entropy(seen, y, reduction="sum")
    return (rebuilt - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / len(y)


# ---------------------------------------------------------------- metric learning and ordered marks


class Triplets(Dataset):
    """Anchor, another of its class, one of another class; the classes are ten bent clouds in eight dimensions."""

    def __init__(self, count, seed):
        hidden = torch.Generator().manual_seed(99)
        mix = torch.randn(3, 8, generator=hidden)
        centres = 1.2 * torch.randn(10, 3, generator=hidden)
        g = torch.Generator().manual_seed(seed)
        y = torch.randint(0, 10, (count,), generator=g)
        other = (y + torch.randint(1, 10, (count,), generator=g)) % 10
        self.rows = [torch.sin(self.cloud(centres[label], g) @ mix) for label in (y, y, other)]

    def cloud(self, centre, g):
        return centre + 0.35 * torch.randn(centre.shape, generator=g)

    def __len__(self):
        return len(self.rows[0])

    def __getitem__(self, i):
        a, p, n = (row[i] for row in self.rows)
        return {"x": {"anchor": a, "positive": p, "negative": n}, "y": torch.zeros(())}


@register.dataset
def hom6_triplets():
    spec = DataSpec({"anchor": (8,), "positive": (8,), "negative": (8,)}, (), "other")
    return Splits(Triplets(1500, 0), Triplets(300, 1), Triplets(1000, 2), spec=spec)


@register.model
class hom6_embedder(nn.Module):
    """One network for all three, unit vectors out."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 8))

    def forward(self, x):
        return tuple(F.normalize(self.net(x[name]), dim=-1) for name in ("anchor", "positive", "negative"))


@register.loss
class hom6_triplet(nn.Module):
    def __init__(self, *, margin: float = 0.4):
        super().__init__()
        self.loss = nn.TripletMarginLoss(margin)

    def forward(self, out, y):
        return self.loss(*out)


def marks(count, seed):
    """Six things about a student, and one of five marks in order."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=g)
    merit = x[:, 0] + 0.8 * x[:, 1].tanh() - 0.6 * x[:, 2] * (x[:, 3] > 0) + 0.3 * torch.randn(count, generator=g)
    return x, torch.bucketize(merit, torch.tensor([-1.5, -0.5, 0.4, 1.3]))


@register.dataset
def hom6_marks():
    return Splits(marks(1500, 0), marks(300, 1), marks(1000, 2), spec=DataSpec((6,), (4,), "other"))


@register.model
class hom6_thresholds(nn.Module):
    """One number a student and four thresholds in order: how sure it is that the mark is above each."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1, bias=False))
        self.low, self.gaps = nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.zeros(3))

    def forward(self, x):
        steps = torch.cat((self.low[None], F.softplus(self.gaps)))
        return self.body(x) - steps.cumsum(0)


@register.loss
def hom6_above(out, y):
    above = (y[:, None] > torch.arange(4, device=y.device)).float()
    return F.binary_cross_entropy_with_logits(out, above, reduction="none").sum(1).mean()
