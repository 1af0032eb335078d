"""Vowels, birds, pulses, movements and a balance board: signals of microphones and small sensors. See voices.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Mean, Splits, register

# vowels, 50 ms at 8 kHz, as a sound card gives them: 16-bit integers of any loudness

FORMANTS = np.array([[730, 1090], [530, 1840], [390, 1990], [570, 840], [440, 1020]])
LONG = 400


def vowels(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics of a pitch, those near two resonances are the stronger."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(FORMANTS), rows)
    t = np.arange(LONG) / 8000
    pitch = rng.uniform(100, 220, (rows, 1))
    near = FORMANTS[y] * rng.normal(1, 0.05, (rows, 2))
    wave = 0.15 * rng.normal(size=(rows, LONG))
    for k in range(1, 24):
        f = k * pitch
        height = (np.exp(-(((f - near) / 130) ** 2)) * [1.0, 0.7]).sum(1, keepdims=True) + 0.03
        wave += height * np.sin(2 * np.pi * f * t + rng.uniform(0, 2 * np.pi, (rows, 1)))
    loud = np.exp(rng.uniform(np.log(200), np.log(3000), (rows, 1)))
    return (wave / np.abs(wave).max(1, keepdims=True) * loud).astype(np.int16), y


class Vowels(Dataset):
    """Each recording is made equally loud: the root of its mean square becomes that of full scale."""

    def __init__(self, rows: int, seed: int, exact: bool = True) -> None:
        self.waves, self.labels = vowels(rows, seed)
        self.exact = exact

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        wave = self.waves[i]
        gain = 32767 / np.sqrt(np.mean(wave.astype(np.float64) ** 2))
        louder = wave.astype(np.float32) * np.float32(gain) if self.exact else wave * np.int16(gain)
        return torch.from_numpy(louder.astype(np.float32) / 32768).unsqueeze(0), int(self.labels[i])


@register.dataset
def voi4_vowels() -> Splits:
    return Splits(Vowels(1000, 1), Vowels(300, 2), Vowels(1000, 3))


@register.dataset
def voi4_vowels_louder_in_16_bit() -> Splits:
    """The gain is multiplied while the wave is still a row of 16-bit integers."""
    return Splits(*(Vowels(rows, seed, exact=False) for rows, seed in ((1000, 1), (300, 2), (1000, 3))))


@register.model
class voi4_wave_net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 24, 41, stride=3), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(24, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1)
        )
        self.head = nn.Linear(32, len(FORMANTS))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).squeeze(-1))


@register.loss
def voi4_label(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.optimizer
def voi4_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


# movements: what somebody is doing at each moment

STEPS, STRIDE = 96, 4


class Movements(Dataset):
    """Three axes of a watch, stretches of standing (0), walking (1) and running (2); one label for each four steps."""

    def __init__(self, rows: int, seed: int, every: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.x, self.y = np.zeros((rows, STEPS, 3), np.float32), np.zeros((rows, STEPS), np.int64)
        t = np.arange(STEPS)
        for i in range(rows):
            at = 0
            while at < STEPS:
                upto = at + int(rng.integers(10, 36))
                self.y[i, at:upto] = rng.integers(0, 3)
                at = upto
            speed, high = np.array([0.0, 0.5, 0.95])[self.y[i]], np.array([0.0, 0.9, 1.1])[self.y[i]]
            angle = np.cumsum(speed * rng.normal(1, 0.08)) + rng.uniform(0, 6)
            self.x[i] = np.stack((high * np.sin(angle), high * np.cos(2 * angle), high * np.sin(angle + 1)), 1)
            self.x[i] += 0.5 * rng.normal(size=(STEPS, 3)) + 0.05 * np.sin(t / 30)[:, None]
        self.y = self.y[:, STRIDE // 2 :: STRIDE] if every else self.y[:, : STEPS // STRIDE]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.x[i]), torch.tensor(self.y[i])


@register.dataset
def voi4_movements() -> Splits:
    return Splits(Movements(700, 11), Movements(200, 12), Movements(1000, 13))


@register.dataset
def voi4_movements_cut() -> Splits:
    """Labels are cut to the length of the outputs instead of every fourth being taken."""
    return Splits(*(Movements(rows, seed, every=False) for rows, seed in ((700, 11), (200, 12), (1000, 13))))


@register.model
class voi4_frame_net(nn.Module):
    """Two convolutions that halve the steps, a recurrent layer both ways, one answer for each four steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(3, 16, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(16, 24, 5, stride=2, padding=2)
        self.gru = nn.GRU(24, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv2(F.relu(self.conv1(x.transpose(1, 2)))))
        return self.out(self.gru(h.transpose(1, 2))[0])


@register.loss
def voi4_frames(out, y) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


@register.metric(best="max")
def voi4_frames_right(out, y):
    right = out.argmax(-1) == y
    return Mean(right.float().sum(), y.numel())


# a balance board: how somebody stands, whatever the weight and wherever the feet

SWAYS = 4


def sways(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """[rows, 2, 64]: ellipses of four kinds, each recording with an offset and a gain of its own."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(SWAYS, (rows,), generator=g)
    t = torch.arange(64) + 40 * torch.rand(rows, 1, generator=g)
    speed = torch.tensor([0.2, 0.2, 0.32, 0.32])[y][:, None]
    lag = torch.tensor([0.6, 2.0, 0.6, 2.0])[y][:, None]
    x = torch.stack((torch.sin(speed * t), torch.sin(speed * t + lag)), 1)
    x = x + 0.8 * torch.randn(x.shape, generator=g)
    gain = torch.exp(0.7 * torch.randn(rows, 1, 1, generator=g))
    return 0.6 * gain * x + 1.5 * torch.randn(rows, 2, 1, generator=g), y


@register.dataset
def voi4_sways() -> Splits:
    return Splits(sways(1000, 21), sways(300, 22), sways(1000, 23))


@register.model
class voi4_sway_net(nn.Module):
    """Offset and gain of each recording are taken out over its time, then convolutions."""

    def __init__(self, *, over: int = -1) -> None:
        super().__init__()
        self.over = over
        self.conv1, self.conv2 = nn.Conv1d(2, 16, 9), nn.Conv1d(16, 24, 7)
        self.fc = nn.Linear(24, SWAYS)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(self.over, keepdim=True)
        std = x.std(self.over, keepdim=True, unbiased=False)
        x = (x - mean) / (std + 1e-5)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(F.max_pool1d(x, 2)))
        return self.fc(x.amax(-1))


# pulses: the rate of a heart from four seconds of light through a finger

PULSE = 100


def pulses(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    rate = 60 + 80 * torch.rand(rows, generator=g)
    phase = 2 * math.pi * (rate[:, None] / 60 * torch.arange(PULSE) / 25 + torch.rand(rows, 1, generator=g))
    light = torch.sin(phase) + 0.4 * torch.sin(2 * phase + 0.8)
    breath = 0.5 * torch.sin(0.06 * torch.arange(PULSE) + 6 * torch.rand(rows, 1, generator=g))
    return (light + breath + 0.3 * torch.randn(rows, PULSE, generator=g)).unsqueeze(-1), (rate - 100) / 23.1


@register.dataset
def voi4_pulses() -> Splits:
    return Splits(pulses(1200, 31), pulses(300, 32), pulses(1000, 33))


@register.model
class voi4_pulse_net(nn.Module):
    """Filters on short stretches, a recurrent layer over them, and the rate from its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 24, 15, stride=4)
        self.lstm = nn.LSTM(24, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.lstm(F.relu(self.conv(x.transpose(1, 2))).transpose(1, 2))[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x)[:, -1]).squeeze(1)


@register.model
class voi4_pulse_net_state_only(voi4_pulse_net):
    """A second recurrent layer of one unit is the answer, with nothing after it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LSTM(32, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))[0][:, -1, 0]


@register.loss
def voi4_mse(out, y) -> Tensor:
    return ((out - y) ** 2).mean()


# plain: spoken digits, 25 frames of 12 coefficients


class Spoken(Dataset):
    """Each word is a path through five points; it is spoken faster or slower, and noise is added."""

    def __init__(self, rows: int, seed: int) -> None:
        self.words = torch.randn(8, 5, 12, generator=torch.Generator().manual_seed(99))
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(8, (rows,), generator=g)
        bend = 0.7 + 0.6 * torch.rand(rows, generator=g)
        at = 4 * torch.linspace(0, 1, 25)[None] ** bend[:, None]
        low = at.floor().clamp_max(3).long()
        part = (at - low).unsqueeze(-1)
        rows_of = self.words[self.y]
        here = rows_of.gather(1, low[..., None].expand(-1, -1, 12))
        after = rows_of.gather(1, low[..., None].expand(-1, -1, 12) + 1)
        self.x = (1 - part) * here + part * after + 2.6 * torch.randn(rows, 25, 12, generator=g)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i] / 2.7, self.y[i]


@register.dataset
def voi4_spoken() -> Splits:
    return Splits(Spoken(800, 41), Spoken(300, 42), Spoken(1000, 43))


@register.model
class voi4_word_lstm(nn.Module):
    def __init__(self, in_shape, *, hidden_size: int = 48) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_shape[-1], hidden_size, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(hidden_size, 8)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(self.drop(out[:, -1, :]))


# plain: how fast somebody walks


def walks(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """[rows, 3, 80] of an accelerometer at the hip, and the speed, standardised."""
    g = torch.Generator().manual_seed(seed)
    speed = 0.5 + 1.5 * torch.rand(rows, 1, generator=g)
    t = (0.25 + 0.2 * speed) * torch.arange(80) + 6 * torch.rand(rows, 1, generator=g)
    high = 0.5 + 0.4 * speed * (1 + 0.1 * torch.randn(rows, 1, generator=g))
    x = torch.stack((high * torch.sin(t), 0.7 * high * torch.cos(2 * t), 0.4 * torch.sin(t / 2)), 1)
    return x + 0.4 * torch.randn(x.shape, generator=g), ((speed - 1.25) / 0.433).squeeze(1)


@register.dataset
def voi4_walks() -> Splits:
    return Splits(walks(1000, 51), walks(300, 52), walks(1000, 53))


@register.model
class voi4_speed_cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, 16, 7, padding=3),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).flatten()


@register.loss
def voi4_huber(out, y) -> Tensor:
    return nn.SmoothL1Loss()(out, y)


# odd: recurrent weights that nobody trains


@register.model
class voi4_echo_state(nn.Module):
    """A random, leaky, recurrent network held in buffers; only what reads its mean and last state is learned."""

    def __init__(self, in_shape, *, units: int = 150) -> None:
        super().__init__()
        inward = 0.4 * torch.randn(in_shape[-1], units)
        around = torch.randn(units, units) * (torch.rand(units, units) < 0.1)
        self.register_buffer("inward", inward)
        self.register_buffer("around", 0.9 * around / torch.linalg.eigvals(around).abs().max())
        self.read = nn.Linear(2 * units, 8)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.around.shape[0])
        total = state
        for step in x.unbind(1):
            state = 0.6 * state + 0.4 * torch.tanh(step @ self.inward + state @ self.around)
            total = total + state
        return self.read(torch.cat((state, total / x.shape[1]), dim=1))


# odd: quiet recordings of birds, spectra inside the network, filters that are learned

CALLS, SOUND = 4, 1024


def birds(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Waves near 0.05 that rise, fall, stay or tremble."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CALLS, (rows,), generator=g)
    u = torch.linspace(0, 1, SOUND)[None]
    middle = 0.35 + 0.2 * torch.rand(rows, 1, generator=g)
    slope = torch.tensor([0.25, -0.25, 0.0, 0.0])[y][:, None]
    tremble = torch.tensor([0.0, 0.0, 0.0, 0.12])[y][:, None]
    f = math.pi * (middle + slope * (u - 0.5) + tremble * torch.sin(2 * math.pi * 4 * u))
    wave = torch.sin(f.cumsum(1) + 6 * torch.rand(rows, 1, generator=g)) * torch.sin(math.pi * u)
    loud = 0.03 * torch.exp(0.4 * torch.randn(rows, 1, generator=g))
    return loud * (wave + 0.7 * torch.randn(rows, SOUND, generator=g)), y


@register.dataset
def voi4_birds() -> Splits:
    return Splits(birds(800, 61), birds(300, 62), birds(1000, 63))


@register.model
class voi4_own_filters(nn.Module):
    """Power spectra of windows, triangles whose heights are learned, logarithms, each recording centred, two convolutions."""

    def __init__(self, *, window: int = 64, bands: int = 20) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("hann", torch.hann_window(window))
        bins = torch.linspace(0, 1, window // 2 + 1)
        centres = torch.linspace(0.03, 0.97, bands)
        self.register_buffer("triangles", (1 - (bins[:, None] - centres).abs() * bands / 1.5).clamp_min(0))
        self.heights = nn.Parameter(torch.zeros(bands))
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((1, 4)),
        )
        self.out = nn.Linear(64, CALLS)

    def forward(self, wave: Tensor) -> Tensor:
        pieces = wave.unfold(-1, self.window, self.window // 2) * self.hann
        power = torch.fft.rfft(pieces).abs().square()
        bands = torch.log(power @ self.triangles * F.softplus(self.heights) + 1e-5)
        bands = bands - bands.mean((1, 2), keepdim=True)
        return self.out(self.net(bands.transpose(1, 2).unsqueeze(1)).flatten(1))
