"""Machines that shake, wear, log, press and are steered: bearings, life left, quality, event logs, torques. See factories.yaml."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import Splits, register

# ---------------------------------------------------------------- bearings


def record(bearings, length, seed):
    """Two axes of every bearing over time, [bearings, 2, length], and its state: whole, inner ring, outer ring, ball."""
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    signals, states = [], []
    for b in range(bearings):
        state = b % 4
        shaft = np.sin(rng.uniform(0.12, 0.2) * t + rng.uniform(0, 6.28))
        period = (1e9, 9.0, 13.0, 18.0)[state] * rng.normal(1, 0.06)
        since = (t + rng.uniform(0, 20)) % period
        ring = np.exp(-since / 3.0) * np.cos(rng.uniform(0.9, 2.7) * since) * rng.uniform(0.7, 1.6) * (state > 0)
        axes = np.stack([0.8 * shaft + ring, rng.uniform(0.3, 1.0) * np.roll(shaft, 5) + rng.uniform(0.4, 1.0) * ring])
        signals.append(axes + 0.25 * rng.normal(size=axes.shape))
        states.append(state)
    return np.stack(signals).astype(np.float32), np.array(states)


def windows(signals, states, size, stride):
    """All windows of the recordings with the state of their bearing."""
    starts = range(0, signals.shape[-1] - size + 1, stride)
    x = np.stack([signals[:, :, s : s + size] for s in starts], 1).reshape(-1, 2, size)
    return torch.from_numpy(x), torch.from_numpy(np.repeat(states, len(starts)))


@register.dataset
def fac6_bearings():
    """Each split has bearings of its own and windows that do not overlap."""
    return Splits(*(windows(*record(n, 64 * 12, s), 64, 64) for n, s in ((120, 1), (60, 2), (100, 3))))


@register.dataset
def fac6_bearings_split_by_window():
    """Windows of the same recordings overlap by seven eighths and are dealt to train and val at random."""
    x, y = windows(*record(120, 64 + 8 * 15, 1), 64, 8)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1440], order[1440:]
    return Splits((x[train], y[train]), (x[val], y[val]), windows(*record(100, 64 * 12, 3), 64, 64))


@register.dataset
def fac6_spectra():
    """The logarithm of the amplitudes of each window, standardised with the numbers of train."""
    parts = []
    for n, s in ((160, 4), (60, 5), (80, 6)):
        x, y = windows(*record(n, 64 * 14, s), 64, 64)
        parts.append((torch.log(torch.fft.rfft(x).abs() + 0.1).flatten(1), y))
    mean, sd = parts[0][0].mean(0), parts[0][0].std(0)
    return Splits(*(((x - mean) / sd, y) for x, y in parts))


@register.model
def fac6_conv1d(classes):
    """Three convolutions along time, then the mean over it."""
    return nn.Sequential(
        nn.Conv1d(2, 24, 7, padding=3),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(24, 32, 5, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 48, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(48, classes),
    )


@register.model
class fac6_spectrum_mlp(nn.Module):
    """Two hidden layers with dropout."""

    def __init__(self, in_shape, classes):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(in_shape[0], 96), nn.Linear(96, 48), nn.Linear(48, classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        x = self.dropout(F.relu(self.fc1(x)))
        x = self.dropout(F.relu(self.fc2(x)))
        return self.fc3(x)


# ---------------------------------------------------------------- wear and remaining life


def engines(count, seed, steps=20):
    """Windows of five sensors and a switch, [count, steps, 6], and the cycles left; a switch early in the window shifts sensors."""
    rng = np.random.default_rng(seed)
    left = rng.uniform(0, 420, count)
    cycles = left[:, None] + np.arange(steps)[::-1]
    health = np.exp(-cycles / 160.0)
    gain = np.array([1.0, -1.2, 0.8, 1.1, -0.7])
    regime = rng.integers(-1, 2, count)
    x = np.zeros((count, steps, 6))
    x[:, :, :5] = 3.5 * (health[:, :, None] - 0.4) * gain + 0.9 * regime[:, None, None] * gain
    x[:, :, :5] += 0.5 * rng.normal(size=(count, steps, 5))
    x[np.arange(count), rng.integers(0, 8, count), 5] = 3.0 * regime
    return x.astype(np.float32), np.floor(left).astype(np.int64)


class EngineWindows(Dataset):
    """(window, cycles left in hundreds)."""

    def __init__(self, count, seed, dtype=np.int64):
        self.x, left = engines(count, seed)
        self.left = left.astype(dtype)

    def __len__(self):
        return len(self.left)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.tensor([self.left[i] / 100.0], dtype=torch.float32)


@register.dataset
def fac6_engines():
    return Splits(EngineWindows(1600, 11), EngineWindows(400, 12), EngineWindows(1000, 13))


@register.dataset
def fac6_engines_in_bytes():
    """Cycles are kept in one byte to save memory."""
    return Splits(EngineWindows(1600, 11, np.uint8), EngineWindows(400, 12, np.uint8), EngineWindows(1000, 13, np.uint8))


class EngineScalars(EngineWindows):
    """The target is a number, not a row of one."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x, y[0]


@register.dataset
def fac6_engines_flat_target():
    return Splits(EngineScalars(1600, 11), EngineScalars(400, 12), EngineScalars(1000, 13))


@register.dataset
def fac6_engine_table():
    """First and second half of a window in means, last value, switch: sixteen columns; cycles left, standardised."""

    def table(count, seed):
        x, left = (torch.from_numpy(part) for part in engines(count, seed))
        sensors = x[:, :, :5]
        columns = [sensors[:, :10].mean(1), sensors[:, 10:].mean(1), sensors[:, -1], x[:, :, 5:].sum(1) / 2]
        return torch.cat(columns, 1), (left[:, None] - 210.0) / 120

    return Splits(table(2000, 14), table(500, 15), table(1000, 16))


@register.model
class fac6_wear_gru(nn.Module):
    """A GRU cell in a loop."""

    def __init__(self, *, hidden: int = 32):
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(6, hidden)
        self.out = nn.Linear(hidden, 1)

    def carry(self, h):
        return h

    def forward(self, x):
        h = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.carry(h))
        return self.out(h)


@register.model
class fac6_wear_gru_cut(fac6_wear_gru):
    """The state is detached at every step, as is done between batches of a long series."""

    def carry(self, h):
        return h.detach()


@register.loss
def fac6_log_cosh(out, y):
    """Near zero a square, far from it an absolute value."""
    d = (out - y).abs()
    return (d + F.softplus(-2 * d) - math.log(2)).mean()


@register.model
def fac6_table_mlp(in_shape):
    return nn.Sequential(nn.Linear(in_shape[0], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


@register.loss
class fac6_mse(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.MSELoss()

    def forward(self, out, y):
        return self.criterion(out, y)


@register.model
def fac6_quantile_net(in_shape):
    """The tenth, the middle and the ninetieth of a hundred."""
    return nn.Sequential(nn.Linear(in_shape[0], 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 3))


@register.loss
def fac6_pinball(out, y):
    """Three quantiles [B, 3] against one answer [B, 1]."""
    q = torch.tensor([0.1, 0.5, 0.9], device=out.device)
    d = y - out
    return torch.maximum(q * d, (q - 1) * d).sum(1).mean()


@register.dataset
def fac6_pumps():
    """Pumps, some still running: six readings; months watched and whether the end was seen."""

    def pumps(count, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 6, generator=g)
        scale = torch.exp(1.2 + 0.6 * x[:, 0] - 0.4 * x[:, 1] + 0.4 * torch.sin(2 * x[:, 2]))
        life = scale * (-torch.log(torch.rand(count, generator=g).clamp(min=1e-6))) ** (1 / 2.5)
        watched = 12 * torch.rand(count, generator=g)
        return x, torch.stack((torch.minimum(life, watched).clamp(min=0.02), (life <= watched).float()), 1)

    return Splits(pumps(1600, 21), pumps(400, 22), pumps(1000, 23))


@register.model
class fac6_weibull_net(nn.Module):
    """The logarithms of scale and shape."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x):
        return self.net(x)


@register.loss
def fac6_weibull_nll(out, y):
    """Those whose end was seen by their density, the others by how likely they live on."""
    log_scale, log_shape = out.unbind(1)
    shape, log_t = log_shape.exp(), y[:, 0].log()
    z = shape * (log_t - log_scale)
    return (z.exp() - y[:, 1] * (log_shape + z - log_t)).mean()


# ---------------------------------------------------------------- quality


UNITS = torch.tensor([[180.0, 12.0], [62.0, 7.0], [3.4, 0.6], [450.0, 40.0], [21.0, 4.0]])


def parts_made(count, seed):
    """Five settings in their units, machine, material and shift, and how far off a part is."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 5, generator=g)
    codes = torch.stack([torch.randint(n, (count,), generator=g) for n in (12, 8, 3)], 1)
    fixed = torch.Generator().manual_seed(999)
    machine, material = torch.randn(12, generator=fixed), torch.randn(8, generator=fixed)
    off = 1.2 * z[:, 0] * z[:, 1] + z[:, 2].abs() - 0.8 * z[:, 3] + 1.3 * machine[codes[:, 0]] + material[codes[:, 1]]
    off = off + 0.4 * (codes[:, 2] == 2) + 0.5 * torch.randn(count, generator=g)
    return UNITS[:, 0] + UNITS[:, 1] * z, codes, off


class Quality(Dataset):
    """({numbers, codes}, scrap or not)."""

    def __init__(self, count, seed, scale=True):
        numbers, self.codes, off = parts_made(count, seed)
        self.numbers = (numbers - UNITS[:, 0]) / UNITS[:, 1] if scale else numbers
        self.scrap = (off > 1.0).float()

    def __len__(self):
        return len(self.scrap)

    def __getitem__(self, i):
        return {"numbers": self.numbers[i], "codes": self.codes[i]}, self.scrap[i]


@register.dataset
def fac6_quality():
    return Splits(Quality(2000, 31), Quality(500, 32), Quality(1200, 33))


@register.dataset
def fac6_quality_scaled_in_train():
    """Only the rows of train were given to the scaler."""
    return Splits(Quality(2000, 31), Quality(500, 32, scale=False), Quality(1200, 33, scale=False))


@register.dataset
def fac6_grades():
    """Numbers and one-hot codes in one row; three grades, the worst one rare."""

    def rows(count, seed):
        numbers, codes, off = parts_made(count, seed)
        hot = [F.one_hot(codes[:, i], n).float() for i, n in enumerate((12, 8, 3))]
        grade = (off > 0.4).long() + (off > 3.0).long()
        return torch.cat([(numbers - UNITS[:, 0]) / UNITS[:, 1], *hot], 1), grade

    return Splits(rows(2400, 34), rows(600, 35), rows(1200, 36))


@register.model
class fac6_mixed_net(nn.Module):
    """Tables for the codes beside the numbers."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(12, 4), nn.Embedding(8, 4), nn.Embedding(3, 2)])
        self.net = nn.Sequential(nn.Linear(15, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        known = [table(x["codes"][:, i]) for i, table in enumerate(self.tables)]
        return self.net(torch.cat([x["numbers"], *known], 1)).squeeze(1)


@register.model
class fac6_mixed_net_sigmoid(fac6_mixed_net):
    """A probability at the end, for a loss that makes one itself."""

    def forward(self, x):
        return torch.sigmoid(super().forward(x))


@register.loss
def fac6_bce(out, y):
    return F.binary_cross_entropy_with_logits(out, y)


@register.model
def fac6_grade_net(in_shape, classes):
    return nn.Sequential(
        nn.Linear(in_shape[0], 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, classes)
    )


@register.loss
class fac6_weighted_ce(nn.Module):
    """Rare grades count more."""

    def __init__(self):
        super().__init__()
        self.ce = nn.CrossEntropyLoss(weight=torch.tensor([0.8, 0.9, 2.0]))

    def forward(self, out, y):
        return self.ce(out, y)


@register.loss
def fac6_ce(out, y):
    return F.cross_entropy(out, y)


@register.dataset
def fac6_stops():
    """How often a line stopped in the hours it ran: settings and the logarithm of hours in, counts out."""

    def lines(count, seed):
        g = torch.Generator().manual_seed(seed)
        x, hours = torch.randn(count, 4, generator=g), 1 + 15 * torch.rand(count, generator=g)
        rate = torch.exp(-2.6 + 0.7 * x[:, 0] - 0.5 * x[:, 1] + 0.5 * x[:, 2] * x[:, 3])
        return {"x": x, "log_hours": hours.log()}, torch.poisson(rate * hours, generator=g)

    class Lines(Dataset):
        def __init__(self, count, seed):
            self.seen, self.stops = lines(count, seed)

        def __len__(self):
            return len(self.stops)

        def __getitem__(self, i):
            return {name: value[i] for name, value in self.seen.items()}, self.stops[i]

    return Splits(Lines(2000, 37), Lines(500, 38), Lines(1200, 39))


@register.model
class fac6_stop_rate(nn.Module):
    """The logarithm of what is expected: a rate of the settings times the hours."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.rate(x["x"])[:, 0] + x["log_hours"]


@register.loss
def fac6_poisson(out, y):
    return nn.PoissonNLLLoss(log_input=True)(out, y)


# ---------------------------------------------------------------- anomaly


def plant_state(count, seed):
    """Twenty-four sensors that four hidden causes move, mean 0 and size about 1."""
    fixed = np.random.default_rng(77)
    a, b = fixed.normal(size=(4, 24)), fixed.normal(size=(4, 24))
    cause = np.random.default_rng(seed).normal(size=(count, 4))
    x = np.tanh(cause @ a * 0.6) + 0.5 * np.sin(cause @ b)
    return torch.tensor(x / 0.75, dtype=torch.float32)


class Disturbed(Dataset):
    """(sensors with noise, sensors): new noise at every read in train, noise that stays with its row otherwise."""

    def __init__(self, count, seed, fixed):
        self.clean, self.count = plant_state(count, seed), count
        self.noise = 0.5 * torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(seed)) if fixed else None

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        clean = self.clean[i]
        noisy = clean.clone()
        noisy += 0.5 * torch.randn(24) if self.noise is None else self.noise[i]
        return noisy, clean


class DisturbedInPlace(Disturbed):
    """The noise of train is added to the row that is kept."""

    def __getitem__(self, i):
        if self.noise is not None:
            return super().__getitem__(i)
        clean = self.clean[i]
        noisy = clean
        noisy += 0.5 * torch.randn(24)
        return noisy, clean


@register.dataset
def fac6_sensors():
    return Splits(Disturbed(1200, 41, False), Disturbed(400, 42, True), Disturbed(1000, 43, True))


@register.dataset
def fac6_sensors_in_place():
    return Splits(DisturbedInPlace(1200, 41, False), DisturbedInPlace(400, 42, True), DisturbedInPlace(1000, 43, True))


@register.model
class fac6_autoencoder(nn.Module):
    """Twenty-four sensors through six numbers."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(24, 64), nn.LeakyReLU(0.1), nn.Linear(64, 6))
        self.decoder = nn.Sequential(nn.Linear(6, 64), nn.LeakyReLU(0.1), nn.Linear(64, 24))

    def forward(self, x):
        return self.decoder(self.encoder(x))


# ---------------------------------------------------------------- events


class EventLogs(Dataset):
    """({codes of events with zeros behind them, which are events}, the cause: the code of 1 to 4 that came first)."""

    def __init__(self, count, seed, room=14):
        rng = np.random.default_rng(seed)
        self.codes, self.causes = np.zeros((count, room), np.int64), np.zeros(count, np.int64)
        for i in range(count):
            n = rng.integers(5, 14)
            log = rng.integers(5, 20, n)
            first = rng.integers(0, n - 2)
            log[first] = rng.integers(1, 5)
            if rng.random() < 0.3:
                log[rng.integers(first + 1, n)] = rng.integers(1, 5)
            self.codes[i, :n], self.causes[i] = log, log[first] - 1

    def __len__(self):
        return len(self.causes)

    def __getitem__(self, i):
        codes = torch.from_numpy(self.codes[i])
        return {"codes": codes, "is_event": codes != 0}, int(self.causes[i])


@register.dataset
def fac6_logs():
    return Splits(EventLogs(2000, 51), EventLogs(500, 52), EventLogs(1200, 53))


@register.model
class fac6_log_reader(nn.Module):
    """Events with their places, gathered by the attention of one learned question."""

    def __init__(self, classes, *, dim: int = 32):
        super().__init__()
        self.code = nn.Embedding(20, dim, padding_idx=0)
        self.place = nn.Parameter(0.1 * torch.randn(14, dim))
        self.question = nn.Parameter(torch.randn(1, 1, dim))
        self.attention = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, classes))

    def hidden(self, is_event):
        return ~is_event

    def forward(self, x):
        events = self.code(x["codes"]) + self.place
        question = self.question.expand(len(events), -1, -1)
        answer, _ = self.attention(question, events, events, key_padding_mask=self.hidden(x["is_event"]), need_weights=False)
        return self.head(answer[:, 0])


@register.model
class fac6_log_reader_turned(fac6_log_reader):
    """The mask says what to keep, attention takes it for what to leave out."""

    def hidden(self, is_event):
        return is_event


# ---------------------------------------------------------------- control


@register.dataset
def fac6_torques():
    """An expert's torque, at most 2, for sine, cosine and speed of an arm and its load."""

    def seen(count, seed):
        g = torch.Generator().manual_seed(seed)
        angle, speed, load = (torch.randn(count, generator=g) for _ in range(3))
        torque = (1.8 * angle.sin() + 0.9 * speed + 0.8 * load * angle.cos() + 0.1 * torch.randn(count, generator=g)).clamp(-2, 2)
        return torch.stack((angle.sin(), angle.cos(), speed, load), 1), torque[:, None]

    return Splits(seen(1600, 61), seen(400, 62), seen(1000, 63))


@register.model
class fac6_actor(nn.Module):
    """Torques between -2 and 2."""

    limit = 2.0

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.torque = nn.Linear(64, 1)

    def forward(self, x):
        return self.limit * torch.tanh(self.torque(self.body(x)))


@register.model
class fac6_actor_unscaled(fac6_actor):
    """Torques between -1 and 1."""

    limit = 1.0


@register.model
class fac6_actor_sigmoids(nn.Module):
    """Seven layers of sigmoids."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(4, 64), nn.Sigmoid()]
        for _ in range(6):
            layers += [nn.Linear(64, 64), nn.Sigmoid()]
        self.body, self.torque = nn.Sequential(*layers), nn.Linear(64, 1)

    def forward(self, x):
        return 2.0 * torch.tanh(self.torque(self.body(x)))


@register.dataset
def fac6_starts():
    """Where a cart stands and how fast it is, and where it should be."""

    def starts(count, seed):
        g = torch.Generator().manual_seed(seed)
        return torch.randn(count, 2, generator=g), torch.randn(count, 1, generator=g)

    class Starts(Dataset):
        def __init__(self, count, seed):
            self.state, self.goal = starts(count, seed)

        def __len__(self):
            return len(self.state)

        def __getitem__(self, i):
            return {"state": self.state[i], "goal": self.goal[i]}, self.goal[i]

    return Splits(Starts(1000, 64), Starts(300, 65), Starts(1000, 66))


@register.model
class fac6_closed_loop(nn.Module):
    """A controller and the cart that it drives, twelve steps: where the cart was, and the forces."""

    def __init__(self):
        super().__init__()
        self.controller = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        self.register_buffer("a", torch.tensor([[1.0, 0.25], [0.0, 0.95]]))
        self.register_buffer("b", torch.tensor([[0.0], [0.3]]))

    def forward(self, x):
        s, places, forces = x["state"], [], []
        for _ in range(12):
            u = self.controller(torch.cat((s, x["goal"]), 1))
            s = s @ self.a.T + u @ self.b.T
            places.append(s[:, 0]), forces.append(u[:, 0])
        return torch.stack(places, 1), torch.stack(forces, 1)


@register.loss
def fac6_cost(out, y):
    """How far from the goal in the later steps, and a little for the forces."""
    places, forces = out
    return (places[:, 4:] - y).square().mean() + 0.01 * forces.square().mean()


# ---------------------------------------------------------------- presses and ovens


def press_curves(count, seed):
    """Force over the way of a press, 32 points: a rise, a hump, a fall."""
    g = torch.Generator().manual_seed(seed)
    high, wide, at = (torch.randn(count, 1, generator=g) for _ in range(3))
    s = torch.linspace(-1, 1, 32)
    hump = (1 + 0.4 * high) * torch.exp(-(((s - 0.3 * at) / (0.3 + 0.06 * wide)) ** 2))
    return 1.5 * hump - 0.6 + 0.1 * torch.randn(count, 32, generator=g)


@register.dataset
def fac6_presses():
    """Each curve is its own target."""
    return Splits(*((x, x) for x in (press_curves(1500, 71), press_curves(400, 72), press_curves(1000, 73))))


@register.model
class fac6_press_vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(32, 64), nn.ReLU())
        self.to_mu, self.to_logvar = nn.Linear(64, 5), nn.Linear(64, 5)
        self.dec = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.to_mu(h), self.to_logvar(h)
        std = (0.5 * logvar).exp()
        z = mu + std * torch.randn_like(std) if self.training else mu
        return self.dec(z), mu, logvar


@register.loss
def fac6_elbo(out, x):
    """Both terms are sums over a row, then means over rows."""
    again, mu, logvar = out
    near = 5.0 * (again - x).square().sum(1)
    apart = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
    return (near + apart).mean()


@register.loss
def fac6_elbo_mixed(out, x):
    """A mean over all points beside a sum over all rows."""
    again, mu, logvar = out
    return F.mse_loss(again, x) - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


@register.dataset
def fac6_oven():
    """Ten zones of an oven over 24 minutes; the temperatures of the next minute."""

    def ovens(count, seed):
        g = torch.Generator().manual_seed(seed)
        mix = torch.randn(2, 10, generator=torch.Generator().manual_seed(5))
        t, phase = torch.arange(25.0), 6.28 * torch.rand(count, 2, 1, generator=g)
        speed = torch.tensor([[0.25], [0.45]]) * (0.8 + 0.4 * torch.rand(count, 2, 1, generator=g))
        x = torch.einsum("bkt,kz->btz", torch.sin(speed * t + phase), mix) + 0.2 * torch.randn(count, 25, 10, generator=g)
        return x[:, :24], x[:, 24]

    return Splits(ovens(1500, 81), ovens(400, 82), ovens(1000, 83))


@register.model
class fac6_oven_lstm(nn.Module):
    """The last state of an LSTM, a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 48, batch_first=True)
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


# ---------------------------------------------------------------- optimizers and schedules


@register.optimizer
def fac6_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def fac6_adamw(named_parameters, *, lr: float = 2e-3):
    """No decay for biases and norms."""
    named = list(named_parameters)
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


@register.optimizer
def fac6_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


@register.optimizer
def fac6_sgd_decayed(named_parameters, *, lr: float = 0.05):
    """What was meant as momentum is the decay of weights."""
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, weight_decay=0.9)


@register.schedule
def fac6_exponential(optimizer, steps):
    """The decay that a tutorial takes once an epoch."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)


@register.schedule
def fac6_milestones(optimizer, steps):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.6 * steps), int(0.85 * steps)], gamma=0.2)
