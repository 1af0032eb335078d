"""Forecasts of air, wind, rain, sun and demand, stations with gaps, and dials read from pictures. See weather.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

from dlrun import Splits, register

# air: fine dust by the hour, as a table of lags


def dust() -> tuple[np.ndarray, np.ndarray]:
    """Dust and wind, 4200 hours; wind carries dust away two hours later."""
    rng = np.random.default_rng(51)
    n = 4200
    wind, slow = np.zeros((2, n))
    for t in range(1, n):
        wind[t] = 0.9 * wind[t - 1] + 0.4 * rng.normal()
        slow[t] = 0.75 * slow[t - 1] - 0.4 * np.tanh(wind[t - 2]) + 0.5 * rng.normal()
    return slow + 0.5 * np.sin(2 * np.pi * np.arange(n) / 24), wind


def air_table(centred: bool) -> Splits:
    """Lags of dust, wind, the hour and a rolling mean of three hours; what dust there is in an hour."""
    pm, wind = dust()
    t = np.arange(10, len(pm) - 4)
    ends = t + 1 if centred else t
    rolling = (pm[ends] + pm[ends - 1] + pm[ends - 2]) / 3
    hour = 2 * np.pi * t / 24
    x = np.stack([pm[t], pm[t - 1], pm[t - 3], wind[t], wind[t - 1], np.sin(hour), np.cos(hour), rolling], 1)
    y = pm[t + 1]
    x, y = (x - x[:2000].mean(0)) / x[:2000].std(0), (y - y[:2000].mean()) / y[:2000].std()
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return Splits((x[:2000], y[:2000]), (x[2010:2700], y[2010:2700]), (x[2710:], y[2710:]))


@register.dataset
def wea5_air() -> Splits:
    return air_table(centred=False)


@register.dataset
def wea5_air_centred() -> Splits:
    """The rolling mean stands in the middle of its window, as `center=True` has it."""
    return air_table(centred=True)


@register.model
class wea5_table_net(nn.Module):
    def __init__(self, *, inputs: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.out(x).squeeze(1)


@register.dataset
def wea5_air_windows() -> Splits:
    """Two days of dust and wind, hour by hour, and the dust of the hour after them."""
    both = np.stack(dust(), 1)
    both = torch.tensor((both - both[:2000].mean(0)) / both[:2000].std(0), dtype=torch.float32)

    def rows(part: Tensor) -> TensorDataset:
        windows = part.unfold(0, 25, 1).permute(0, 2, 1)
        return TensorDataset(windows[:, :24].contiguous(), windows[:, 24, :1].contiguous())

    return Splits(rows(both[:2000]), rows(both[2000:2700]), rows(both[2700:]))


@register.model
class wea5_gru(nn.Module):
    def __init__(self, *, hidden: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(2, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


# wind: how strong, and how sure


def gusts(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Five readings, and a speed that scatters little or much depending on two of them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=g)
    spread = torch.exp(-1.2 + 0.8 * torch.tanh(x[:, 3]) + 0.4 * x[:, 1])
    speed = 1.2 * x[:, 0] + torch.sin(2 * x[:, 2]) + 0.6 * x[:, 1] * x[:, 4]
    return x, speed + spread * torch.randn(rows, generator=g)


@register.dataset
def wea5_wind() -> Splits:
    return Splits(gusts(1500, 1), gusts(300, 2), gusts(1500, 3))


@register.model
class wea5_mean_and_spread(nn.Module):
    """One trunk, a head for the mean and one for the logarithm of the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.mean, self.logvar = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.mean(h), self.logvar(h)], dim=1)


@register.loss
def wea5_gauss(out, y) -> Tensor:
    mean, logvar = out.unbind(1)
    return 0.5 * (logvar + (y - mean) ** 2 * torch.exp(-logvar)).mean()


@register.loss
def wea5_gauss_upside_down(out, y) -> Tensor:
    """The error is multiplied by the variance, where it has to be divided."""
    mean, logvar = out.unbind(1)
    return 0.5 * (logvar + (y - mean) ** 2 * torch.exp(logvar)).mean()


BINS = 24


@register.model
def wea5_histogram_net() -> nn.Module:
    """Scores of 24 bins of speed."""
    return nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, BINS))


@register.loss
class wea5_ranked_probability(nn.Module):
    """The squared distance between the forecast's distribution function and the step at what came."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-4.5, 4.5, BINS - 1))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        below = torch.softmax(out, dim=1).cumsum(1)[:, :-1]
        return ((below - (y[:, None] <= self.edges).float()) ** 2).sum(1).mean()


# fronts: it comes or it passes by


def fronts(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four readings; the change of temperature is one of two, and nothing tells surely which."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, 4, generator=g) * 2 - 1
    comes = torch.rand(rows, generator=g) < torch.sigmoid(2 * x[:, 3])
    middle, apart = torch.sin(3 * x[:, 0]), 0.6 + 0.4 * x[:, 1]
    return x, (middle + torch.where(comes, apart, -apart) + 0.05 * torch.randn(rows, generator=g)).unsqueeze(1)


@register.dataset
def wea5_fronts() -> Splits:
    return Splits(fronts(1500, 1), fronts(300, 2), fronts(1500, 3))


@register.model
class wea5_mixture(nn.Module):
    """Weights, means and log spreads of three bells."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.head = nn.Linear(64, 9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, mean, spread = self.head(self.body(x)).chunk(3, dim=1)
        return weight.log_softmax(1), mean, spread.clamp(min=-5)


@register.loss
def wea5_mixture_nll(out, y) -> Tensor:
    weight, mean, spread = out
    bells = torch.distributions.Normal(mean, spread.exp())
    return -torch.logsumexp(weight + bells.log_prob(y), dim=1).mean()


# rain: showers an hour


class Showers(Dataset):
    """Readings of a station and how many showers were counted, mostly none."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(n, 6)).astype(np.float32)
        log_rate = -1.7 + 1.0 * self.x[:, 0] - 0.8 * self.x[:, 1] + 0.6 * self.x[:, 2] * self.x[:, 3]
        self.y = rng.poisson(np.exp(np.clip(log_rate, -6, 2.5))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.x[i]), torch.tensor(self.y[i])


@register.dataset
def wea5_rain() -> Splits:
    return Splits(Showers(1600, 1), Showers(400, 2), Showers(2000, 3))


@register.model
class wea5_rate(nn.Module):
    """The rate itself, kept above zero by a softplus."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(self.layers(x)).squeeze(-1)


@register.model
class wea5_rate_in_tenths(wea5_rate):
    """Forecasts are rounded to tenths, as the report prints them."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.round(super().forward(x) * 10) / 10 + 0.01


@register.loss
def wea5_poisson(out, y) -> Tensor:
    return F.poisson_nll_loss(out, y, log_input=False)


@register.loss
def wea5_poisson_default(out, y) -> Tensor:
    """As it comes: it takes what it is given for a logarithm."""
    return F.poisson_nll_loss(out, y)


# sun: power of a roof


def roof(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Height of the sun, clouds, temperature and hour; power in kW, nothing at all at night."""
    rng = np.random.default_rng(seed)
    hour, season = rng.uniform(0, 24, n), rng.uniform(-0.3, 0.3, n)
    height = np.sin(2 * np.pi * (hour - 6) / 24) + season
    cloud, warm = rng.beta(0.8, 0.8, n), rng.normal(size=n)
    power = 5 * np.clip(height, 0, None) ** 1.2 * (1 - 0.8 * cloud**1.5) * (1 - 0.06 * warm)
    power = power * np.exp(0.06 * rng.normal(size=n))
    x = np.stack([height / 0.7, (cloud - 0.5) / 0.35, warm, np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24)], 1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(power, dtype=torch.float32).view(-1, 1)


@register.dataset
def wea5_sun() -> Splits:
    return Splits(roof(1500, 11), roof(400, 12), roof(1500, 13))


@register.model
def wea5_roof_net(*, width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


@register.model
def wea5_roof_net_normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1)
    )


@register.loss
def wea5_mae(out, y) -> Tensor:
    return (out - y).abs().mean()


@register.loss
def wea5_percentage(out, y) -> Tensor:
    """The mean absolute error in percent of what came, made safe for nights by a tiny number."""
    return 100 * ((out - y).abs() / (y.abs() + 1e-8)).mean()


@register.loss
class wea5_huber(nn.HuberLoss):
    def __init__(self) -> None:
        super().__init__(delta=0.5)


@register.loss
class wea5_mse(nn.MSELoss):
    def __init__(self) -> None:
        super().__init__()


# demand: twelve hours from the last two days

BACK, ON = 48, 12


def demand() -> Tensor:
    """[hours], in units of its spread: days, weeks, cold that stays, and much that nobody knows."""
    rng = np.random.default_rng(77)
    n = 3600
    t, cold = np.arange(n), np.zeros(n)
    for i in range(1, n):
        cold[i] = 0.9 * cold[i - 1] + 0.3 * rng.normal()
    load = np.sin(2 * np.pi * t / 24) + 0.5 * np.cos(4 * np.pi * t / 24) + 0.3 * (t // 24 % 7 < 5) + 0.6 * cold + 0.3 * rng.normal(size=n)
    return torch.tensor((load - load[:1300].mean()) / load[:1300].std(), dtype=torch.float32)


class Load(Dataset):
    """Windows of two days and the twelve hours that follow."""

    def __init__(self, load: Tensor) -> None:
        self.load = load

    def __len__(self) -> int:
        return len(self.load) - BACK - ON + 1

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.load[i : i + BACK], self.load[i + BACK : i + BACK + ON]


@register.dataset
def wea5_demand() -> Splits:
    load = demand()
    return Splits(Load(load[:1300]), Load(load[1300:1900]), Load(load[1900:]))


@register.model
class wea5_conv_forecast(nn.Module):
    """Two convolutions over hours and two linear layers."""

    def __init__(self, *, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, channels, 5, padding=2)
        self.conv2 = nn.Conv1d(channels, channels, 5, padding=2)
        self.pool = nn.AvgPool1d(2)
        self.fc1 = nn.Linear(channels * BACK // 2, 64)
        self.fc2 = nn.Linear(64, ON)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(F.relu(self.conv1(x.unsqueeze(1))))
        h = F.relu(self.conv2(h)).flatten(1)
        return self.fc2(F.relu(self.fc1(h)))


@register.model
class wea5_conv_forecast_dropped(wea5_conv_forecast):
    """Dropout stands behind the last layer, on the forecast itself."""

    def __init__(self, *, channels: int = 16, p: float = 0.3) -> None:
        super().__init__(channels=channels)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(super().forward(x))


@register.model
class wea5_lstm_forecast(nn.Module):
    def __init__(self, *, hidden: int = 40) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, ON)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x.unsqueeze(-1))
        return self.linear(h.squeeze(0))


@register.model
class wea5_on_yesterday(nn.Module):
    """Yesterday's same hours are the forecast; a network that says nothing at first mends it, in units of its own window."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mend = nn.Linear(BACK, 96), nn.Linear(96, ON)
        nn.init.zeros_(self.mend.weight)
        nn.init.zeros_(self.mend.bias)

    def forward(self, x: Tensor) -> Tensor:
        middle, scale = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-3
        z = (x - middle) / scale
        return (z[:, 24 : 24 + ON] + self.mend(F.gelu(self.hidden(z)))) * scale + middle


@register.model
class wea5_echo_state(nn.Module):
    """A reservoir of random loops that is never trained, held in buffers; only what reads it is."""

    def __init__(self, *, size: int = 120) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        loops = torch.randn(size, size, generator=g) * (torch.rand(size, size, generator=g) < 0.1)
        self.register_buffer("loops", 0.9 * loops / torch.linalg.eigvals(loops).abs().max())
        self.register_buffer("entry", torch.rand(size, generator=g) - 0.5)
        self.read = nn.Linear(size + 1, ON)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.loops.shape[0])
        for t in range(x.shape[1]):
            state = 0.5 * state + 0.5 * torch.tanh(state @ self.loops.T + x[:, t, None] * self.entry)
        return self.read(torch.cat([state, x[:, -1:]], dim=1))


@register.optimizer
def wea5_adam(named_parameters, *, lr: float = 3e-3, weight_decay: float = 0.0):
    return torch.optim.Adam((p for _, p in named_parameters), lr=lr, weight_decay=weight_decay)


# a river: sensors upstream that change slowly, and the level


def river() -> TensorDataset:
    """The last four hours of six sensors, for each of 3600 hours, and the level at their end; snow that melts is measured nowhere."""
    rng = np.random.default_rng(6)
    n = 3620
    slow = np.zeros((n, 8))
    for t in range(1, n):
        slow[t] = 0.9 * slow[t - 1] + 0.436 * rng.normal(size=8)
    level = 0.7 * slow[:, 0] + 0.5 * slow[:, 1] * np.tanh(slow[:, 2]) - 0.4 * slow[:, 3] + 0.5 * slow[:, 7]
    past = np.stack([slow[3 - lag : n - 12 - lag, :6] for lag in range(4)], 1)
    return TensorDataset(torch.tensor(past, dtype=torch.float32), torch.tensor(level[3 : n - 12], dtype=torch.float32).unsqueeze(1))


@register.dataset
def wea5_river() -> Splits:
    hours = river()
    return Splits(Subset(hours, range(1500)), Subset(hours, range(1510, 2050)), Subset(hours, range(2060, 3600)))


@register.dataset
def wea5_river_dealt_out() -> Splits:
    """Windows are cut first and dealt out to train and val at random."""
    hours = river()
    train, val = random_split(Subset(hours, range(2050)), [1500, 550], generator=torch.Generator().manual_seed(0))
    return Splits(train, val, Subset(hours, range(2060, 3600)))


@register.model
def wea5_river_net(*, width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(24, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


# stations: histories of many lengths

LONG = 20


class Stations(Dataset):
    """Three readings for the last 6 to 18 hours, set at the end of twenty; what is to come needs the newest and the sum of rain."""

    def __init__(self, n: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        length = torch.randint(6, 19, (n,), generator=g)
        self.absent = torch.arange(LONG)[None] < LONG - length[:, None]
        self.past = torch.randn(n, LONG, 3, generator=g)
        self.past[..., 1] = (self.past[..., 1] + torch.randn(n, 1, generator=g)) / 2**0.5
        self.past[self.absent] = 0
        wet = self.past[..., 1].sum(1) / length
        self.y = 0.5 * self.past[:, -1, 0] + 1.2 * wet + 0.1 * torch.randn(n, generator=g)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"past": self.past[i], "absent": self.absent[i]}, self.y[i]


@register.dataset
def wea5_stations() -> Splits:
    return Splits(Stations(1500, 1), Stations(300, 2), Stations(1000, 3))


@register.model
class wea5_transformer(nn.Module):
    """An encoder over hours; the newest hour is read out."""

    def __init__(self, *, d_model: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(3, d_model)
        self.position = nn.Parameter(0.1 * torch.randn(LONG, d_model))
        layer = nn.TransformerEncoderLayer(d_model, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        h = self.embed(batch["past"]) + self.position
        h = self.encoder(h, src_key_padding_mask=self.mask(batch["absent"]))
        return self.head(h[:, -1]).squeeze(-1)

    def mask(self, absent: Tensor) -> Tensor:
        return absent


@register.model
class wea5_transformer_of_gaps(wea5_transformer):
    """The mask says which hours are there, and is taken for which are not."""

    def mask(self, absent: Tensor) -> Tensor:
        return ~absent


@register.schedule
def wea5_noam(step, steps, *, d_model: int = 512, warmup: int = 4000) -> float:
    """The well known rise and fall, which is meant for a rate of one."""
    step = max(step, 1)
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


# dials: pictures of gauges

SIDE, MARKS = 20, 12


def dials(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """[n, 1, 20, 20], a needle from the middle, and how far it is turned, 0 to 1, mostly low."""
    g = torch.Generator().manual_seed(seed)
    reading = (0.38 + 0.24 * torch.randn(n, generator=g)).clamp(0.0, 0.999)
    turn = math.radians(225) - math.radians(270) * reading
    at = torch.arange(SIDE) - (SIDE - 1) / 2
    up, right = -at[None, :, None], at[None, None, :]
    dx, dy = turn.cos()[:, None, None], turn.sin()[:, None, None]
    along, off = right * dx + up * dy, (right * dy - up * dx).abs()
    needle = torch.exp(-(off**2)) * ((along > -1) & (along < 8)).float()
    rim = ((right**2 + up**2).sqrt() - 9).abs() < 0.5
    pictures = needle + 0.5 * rim.float() + 0.15 * torch.randn(n, SIDE, SIDE, generator=g)
    return ((pictures - 0.15) / 0.35).unsqueeze(1), reading


def marked(n: int, seed: int, names: list[str]) -> tuple[Tensor, Tensor]:
    """Pictures and the place of the name of their mark among `names`."""
    pictures, reading = dials(n, seed)
    place = torch.tensor([names.index(str(mark)) for mark in range(MARKS)])
    return pictures, place[(reading * MARKS).long()]


@register.dataset
def wea5_dials() -> Splits:
    names = [str(mark) for mark in range(MARKS)]
    return Splits(marked(1500, 1, names), marked(300, 2, names), marked(1000, 3, names))


@register.dataset
def wea5_dials_sorted_as_text() -> Splits:
    """Train was read from folders, sorted as text (0, 1, 10, 11, 2 ...); the others come with numbers."""
    names = [str(mark) for mark in range(MARKS)]
    return Splits(marked(1500, 1, sorted(names)), marked(300, 2, names), marked(1000, 3, names))


@register.dataset
def wea5_dials_turned() -> Splits:
    """Pictures and the angle of the needle as a point on the unit circle."""

    def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
        pictures, reading = dials(n, seed)
        turn = math.radians(225) - math.radians(270) * reading
        return pictures, torch.stack([turn.cos(), turn.sin()], 1)

    return Splits(rows(1200, 1), rows(300, 2), rows(1000, 3))


@register.model
class wea5_dial_net(nn.Module):
    def __init__(self, *, outputs: int = MARKS) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(16 * 25, 64), nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@register.model
class wea5_needle_net(wea5_dial_net):
    """A point on the unit circle."""

    def __init__(self) -> None:
        super().__init__(outputs=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=1)


@register.loss
def wea5_turned_away(out, y) -> Tensor:
    return 1 - F.cosine_similarity(out, y, dim=1).mean()


@register.loss
class wea5_ce(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()


@register.model
def wea5_dial_net_normed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(400, MARKS),
    )  # fmt: skip
