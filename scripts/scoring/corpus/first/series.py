"""Weather, movements, sentences to be tagged and strings to be turned round. See series.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import Dataset

from dlrun import Mean, Splits, register

# weather: temperature and moisture by the hour

PAST, AHEAD = 24, 6


def weather() -> Tensor:
    """[hours, 2], standardised: a daily wave whose height changes, and weather that goes slowly."""
    rng = np.random.default_rng(4)
    hours = np.arange(4200)
    slow, high = np.zeros((2, len(hours)))
    for i in range(1, len(hours)):
        slow[i] = 0.96 * slow[i - 1] + 0.25 * rng.normal()
        high[i] = 0.98 * high[i - 1] + 0.08 * rng.normal()
    day = 2 * np.pi * hours / 24
    warm = (1.2 + high) * np.sin(day) + slow + 0.15 * rng.normal(size=len(hours))
    moist = -0.6 * np.roll(warm, 3) + 0.4 * np.cos(2 * day) + 0.2 * rng.normal(size=len(hours))
    both = np.stack((warm, moist), 1)[3:]
    return torch.tensor((both - both[:2000].mean(0)) / both[:2000].std(0), dtype=torch.float32)


class Windows(Dataset):
    """The last 24 hours of everything, and the temperature of the next six; `gap` hours lie between where both should meet."""

    def __init__(self, series: Tensor, gap: int = 0) -> None:
        self.series, self.gap = series, gap

    def __len__(self) -> int:
        return len(self.series) - PAST - AHEAD - 4

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        start = i - self.gap + 4
        return self.series[start : start + PAST], self.series[i + 4 + PAST : i + 4 + PAST + AHEAD, 0]


def by_time(gap: int = 0) -> Splits:
    series = weather()
    return Splits(Windows(series[:2000], gap), Windows(series[2000:2700], gap), Windows(series[2700:], gap))


@register.dataset
def ser3_weather() -> Splits:
    return by_time()


@register.dataset
def ser3_weather_overlapping() -> Splits:
    """The past ends three hours after what is to be told begins."""
    return by_time(-3)


@register.model
class ser3_forecaster(nn.Module):
    def __init__(self, *, hidden_size: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size=2, hidden_size=hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        _, (h_n, _) = self.lstm(x)
        return self.linear(h_n[-1])


@register.model
class ser3_causal_convolutions(nn.Module):
    """Convolutions that are padded on the left only, ever wider apart, with shortcuts."""

    def __init__(self, *, channels: int = 24, out: int = AHEAD) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, channels, 1)
        self.convs = nn.ModuleList([nn.Conv1d(channels, channels, 3, dilation=2**i) for i in range(4)])
        self.last = nn.Linear(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.permute(0, 2, 1))
        for conv in self.convs:
            h = h + F.relu(conv(F.pad(h, (2 * conv.dilation[0], 0))))
        return self.last(h[:, :, -1])


@register.dataset
def ser3_weather_next() -> Splits:
    """Only the hour six hours on is to be told."""
    series = weather()

    def rows(part: Tensor) -> tuple[Tensor, Tensor]:
        windows = part.unfold(0, PAST + AHEAD, 1).transpose(1, 2)
        return windows[:, :PAST].contiguous(), windows[:, -1, 0].contiguous()

    return Splits(rows(series[:2000]), rows(series[2000:2700]), rows(series[2700:]))


@register.model
def ser3_three_quantiles() -> nn.Module:
    return ser3_causal_convolutions(out=3)


@register.loss
def ser3_mse(out, y) -> Tensor:
    return nn.functional.mse_loss(out, y)


@register.loss
def ser3_smooth_l1(out, y) -> Tensor:
    return F.smooth_l1_loss(out, y)


@register.loss
class ser3_pinball(nn.Module):
    """The loss whose best answers are the quantiles 0.1, 0.5 and 0.9."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor([0.1, 0.5, 0.9]))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        over = y.unsqueeze(1) - out
        return torch.maximum(self.levels * over, (self.levels - 1) * over).sum(dim=1).mean()


@register.optimizer
def ser3_adam(named_parameters, *, lr: float = 5e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def ser3_adam_swapped(named_parameters, *, lr: float = 5e-3):
    """Its two means have each other's memory."""
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, betas=(0.999, 0.9))


# movements of many lengths

LONGEST, KINDS = 30, 5


class Gestures(Dataset):
    """Three axes of an accelerometer for 10 to 30 steps: which of five gestures?"""

    def __init__(self, rows: int, seed: int, fixed: bool = False) -> None:
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(KINDS, (rows,), generator=g)
        self.length = torch.full((rows,), LONGEST) if fixed else torch.randint(10, LONGEST + 1, (rows,), generator=g)
        t = torch.arange(LONGEST)[None, :] + 20 * torch.rand(rows, 1, generator=g)
        speed = torch.tensor([0.35, 0.35, 0.7, 0.7, 0.5])[self.y][:, None]
        lag = torch.tensor([1.5, -1.5, 1.5, -1.5, 0.0])[self.y][:, None]
        waves = torch.stack((torch.sin(speed * t), torch.sin(speed * t + lag), 0.5 * torch.cos(speed * t - lag)), dim=2)
        self.x = waves + (1.6 if fixed else 0.7) * torch.randn(waves.shape, generator=g)
        self.x[torch.arange(LONGEST)[None, :] >= self.length[:, None]] = 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"series": self.x[i], "length": self.length[i]}, self.y[i]


@register.dataset
def ser3_gestures() -> Splits:
    return Splits(Gestures(900, 1), Gestures(300, 2), Gestures(1000, 3))


@register.dataset
def ser3_gestures_cut() -> Splits:
    """Gestures cut to one length, without their lengths."""
    parts = [Gestures(rows, seed, fixed=True) for rows, seed in ((900, 1), (300, 2), (1000, 3))]
    return Splits(*((part.x, part.y) for part in parts))


@register.model
class ser3_packed(nn.Module):
    """Rows are sorted by length, packed, run, and put back in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 32, batch_first=True), nn.Linear(32, KINDS)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        lengths, order = batch["length"].sort(descending=True)
        packed = pack_padded_sequence(batch["series"][order], lengths.cpu(), batch_first=True)
        _, h = self.gru(packed)
        return self.back(self.out(h.squeeze(0)), order)

    def back(self, out: Tensor, order: Tensor) -> Tensor:
        return out[order.argsort()]


@register.model
class ser3_packed_not_unsorted(ser3_packed):
    """Rows stay sorted by length."""

    def back(self, out: Tensor, order: Tensor) -> Tensor:
        return out


@register.model
class ser3_conv_gestures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(3, 24, 7, padding=3), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(24, 32, 5, padding=2), nn.ReLU()
        )
        self.fc = nn.Linear(32, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(self.channels_first(x)).mean(dim=-1))

    def channels_first(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 1)


@register.model
class ser3_conv_gestures_viewed(ser3_conv_gestures):
    """A view where the axes had to change places."""

    def channels_first(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[2], x.shape[1])


@register.model
class ser3_lstm_classifier(nn.Module):
    def __init__(self, *, hidden_dim: int = 40) -> None:
        super().__init__()
        self.lstm, self.dropout = nn.LSTM(3, hidden_dim, batch_first=True), nn.Dropout(0.2)
        self.fc = nn.Linear(hidden_dim, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(self.dropout(out[:, -1, :]))


# what stood at the beginning


@register.dataset
def ser3_cues() -> Splits:
    """One of six cues at one of the first four steps, then noise; which was it?"""

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        y = torch.randint(6, (count,), generator=g)
        x = 0.4 * torch.randn(count, 14, 6, generator=g)
        x[torch.arange(count), torch.randint(4, (count,), generator=g), y] += 2.0
        return x, y

    return Splits(rows(800, 1), rows(300, 2), rows(1000, 3))


@register.model
class ser3_stepwise(nn.Module):
    """A GRU cell in a loop."""

    def __init__(self, *, hidden: int = 32) -> None:
        super().__init__()
        self.hidden, self.cell, self.readout = hidden, nn.GRUCell(6, hidden), nn.Linear(hidden, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.carried(h))
        return self.readout(h)

    def carried(self, h: Tensor) -> Tensor:
        return h


@register.model
class ser3_stepwise_detached(ser3_stepwise):
    """The state is cut from its past at every step."""

    def carried(self, h: Tensor) -> Tensor:
        return h.detach()


# tags of words

TAGS, WORDS = 6, 61


class Tagged(Dataset):
    """Sentences of 6 to 16 words, padded with 0, and a tag a word, padded with -100; most words may bear two tags."""

    def __init__(self, rows: int, seed: int) -> None:
        rules, rng = np.random.default_rng(1), np.random.default_rng(seed)
        follow = rules.dirichlet([0.35] * TAGS, size=TAGS)
        of_tag = [np.concatenate((1 + np.arange(10 * tag, 10 * tag + 10), 1 + (10 * (tag + 1) + np.arange(8)) % 60)) for tag in range(TAGS)]
        self.items = []
        for _ in range(rows):
            tags = [int(rng.integers(TAGS))]
            while len(tags) < rng.integers(6, 17):
                tags.append(int(rng.choice(TAGS, p=follow[tags[-1]])))
            self.items.append(([int(rng.choice(of_tag[tag])) for tag in tags][:16], tags[:16]))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        words, tags = self.items[i]
        left = 16 - len(words)
        return torch.tensor(words + [0] * left), torch.tensor(tags + [-100] * left)


@register.dataset
def ser3_tagged() -> Splits:
    return Splits(Tagged(800, 1), Tagged(200, 2), Tagged(1000, 3))


@register.model
class ser3_bilstm(nn.Module):
    def __init__(self, *, emb: int = 24, hidden: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, emb, padding_idx=0)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * hidden, TAGS)

    def forward(self, ids: Tensor) -> Tensor:
        lengths = (ids > 0).sum(1).cpu()
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        return self.scores(self.hidden2tag(h))

    def scores(self, out: Tensor) -> Tensor:
        return F.log_softmax(out, dim=2)


@register.model
class ser3_bilstm_over_words(ser3_bilstm):
    """Scores sum to one over the words of a sentence."""

    def scores(self, out: Tensor) -> Tensor:
        return F.log_softmax(out, dim=1)


class Elman(nn.Module):
    """A plain recurrent network written with matrices; `scale` is that of their random numbers."""

    def __init__(self, hidden: int = 64, emb: int = 32, *, scaled: bool = True) -> None:
        super().__init__()
        wide, deep = (emb**-0.5, 0.9 * hidden**-0.5) if scaled else (1.0, 1.0)
        self.embed = nn.Embedding(WORDS, emb)
        self.Wxh = nn.Parameter(torch.randn(emb, hidden) * wide)
        self.Whh = nn.Parameter(torch.randn(hidden, hidden) * deep)
        self.Why = nn.Parameter(torch.randn(hidden, TAGS) * (hidden**-0.5 if scaled else 1.0))
        self.bh, self.by = nn.Parameter(torch.zeros(hidden)), nn.Parameter(torch.zeros(TAGS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) @ self.Wxh + self.bh
        h, out = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            h = torch.tanh(step + h @ self.Whh)
            out.append(h @ self.Why + self.by)
        return F.log_softmax(torch.stack(out, 1), dim=2)


@register.model
def ser3_elman() -> nn.Module:
    return Elman()


@register.model
def ser3_elman_randn() -> nn.Module:
    """Standard normal numbers as they come."""
    return Elman(scaled=False)


@register.loss
def ser3_nll(out, y) -> Tensor:
    return nn.NLLLoss(ignore_index=-100)(out.reshape(-1, out.shape[-1]), y.reshape(-1))


@register.metric(best="max")
def ser3_right_tags(out, y):
    """The share of right tags among words that are there."""
    real = y != -100
    return Mean(((out.argmax(-1) == y) & real).sum(), real.sum())


# strings turned round

SYMBOLS, STRING = 9, 7


class Turned(Dataset):
    """A string of symbols 1..9, and the same from its end; 0 starts what the decoder is given."""

    def __init__(self, rows: int, seed: int) -> None:
        self.source = torch.randint(1, SYMBOLS + 1, (rows, STRING), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor]:
        target = self.source[i].flip(0)
        return {"source": self.source[i], "given": torch.cat((torch.zeros(1, dtype=torch.long), target[:-1]))}, target


@register.dataset
def ser3_turned() -> Splits:
    return Splits(Turned(1500, 1), Turned(300, 2), Turned(1000, 3))


@register.model
class ser3_encoder_decoder(nn.Module):
    """A decoder that is given the right symbols so far and attends to what the encoder saw."""

    def __init__(self, *, hidden: int = 48) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(SYMBOLS + 1, hidden), nn.Parameter(0.3 * torch.randn(STRING, hidden))
        self.encoder, self.decoder = nn.GRU(hidden, hidden, batch_first=True), nn.GRU(hidden, hidden, batch_first=True)
        self.query, self.out = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, SYMBOLS + 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        memory, state = self.encoder(self.embed(batch["source"]) + self.places)
        h, _ = self.decoder(self.embed(batch["given"]) + self.places, state)
        weights = torch.softmax(self.query(h) @ memory.transpose(1, 2) / math.sqrt(h.shape[-1]), dim=-1)
        return self.out(torch.cat((h, weights @ memory), dim=-1))


@register.loss
def ser3_symbols(out, y) -> Tensor:
    return F.cross_entropy(out.transpose(1, 2), y)


@register.loss
def ser3_label(out, y) -> Tensor:
    return F.cross_entropy(out, y)
