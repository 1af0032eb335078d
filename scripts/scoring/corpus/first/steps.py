"""Series and sentences: tags, labels, forecasts, strings turned round. See steps.yaml."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register

WORDS, TAGS, LONGEST = 60, 7, 16  # word 0 and tag 0 are padding


class Sentences(Dataset):
    """Sentences of 5 to 16 words with a tag a word, which depends on the word and on its right neighbour."""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(5, LONGEST + 1, (count,), generator=g)
        self.words = torch.randint(1, WORDS, (count, LONGEST), generator=g)
        inside = torch.arange(LONGEST) < self.lengths[:, None]
        self.words[~inside] = 0
        right = F.pad(self.words, (0, 1))[:, 1:]
        self.tags = (1 + self.words % 3 + 3 * (right % 2)).masked_fill(~inside, 0)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        return self.words[i], self.tags[i]


@register.dataset
def seq2_sentences() -> Splits:
    """Sentences and tags, both padded with 0."""
    spec = DataSpec((LONGEST,), (LONGEST, TAGS), "sequence", vocab=WORDS)
    return Splits(Sentences(900, 1), Sentences(200, 2), Sentences(1000, 3), spec=spec)


CLASSES = 5


def gesture(g, kind, length):
    """A hand's way through the plane: circles, waves and swipes of a class, noisy, with a random size."""
    t = torch.linspace(0, 1, length)
    turns = (2 * math.pi * (1 + kind % 2) * t + 6.3 * torch.rand(1, generator=g)).float()
    ways = {
        0: (turns.cos(), turns.sin()),
        1: (turns.cos(), turns.sin()),
        2: (2 * t - 1, turns.sin()),
        3: (2 * t - 1, turns.sin()),
        4: (t, -t),
    }
    way = torch.stack(ways[kind], 1) * (0.7 + 0.6 * torch.rand(1, generator=g))
    return way + 0.3 * torch.randn(way.shape, generator=g)


class Gestures(Dataset):
    """Recordings of 8 to 24 steps, each with its class; `weights` says how common classes are."""

    def __init__(self, count, seed, weights=(1, 1, 1, 1, 1)):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.multinomial(torch.tensor(weights).float(), count, replacement=True, generator=g)
        lengths = torch.randint(8, 25, (count,), generator=g)
        self.x = [gesture(g, int(kind), int(length)) for kind, length in zip(self.y, lengths, strict=True)]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class ShakyGestures(Gestures):
    """Recordings by a shaky hand, so that few of them are not enough."""

    def __init__(self, count, seed):
        super().__init__(count, seed, (4, 1, 4, 1, 4))
        g = torch.Generator().manual_seed(seed + 100)
        self.x = [way + 0.9 * torch.randn(way.shape, generator=g) for way in self.x]


def together(items):
    """A batch padded with zeros to 24 steps, and how long each recording is."""
    x = torch.zeros(len(items), 24, 2)
    for row, (way, _) in zip(x, items, strict=True):
        row[: len(way)] = way
    return {"x": {"way": x, "length": torch.tensor([len(way) for way, _ in items])}, "y": torch.stack([y for _, y in items])}


GESTURES = DataSpec((24, 2), (CLASSES,), "sequence", classes=CLASSES)


@register.dataset
def seq2_gestures() -> Splits:
    """As many recordings of one gesture as of another."""
    return Splits(Gestures(900, 1), Gestures(200, 2), Gestures(1000, 3), spec=GESTURES, collate=together)


@register.dataset
def seq2_rare_gestures() -> Splits:
    """Two gestures are rare; the split comes first."""
    return Splits(ShakyGestures(420, 1), ShakyGestures(300, 2), ShakyGestures(1000, 3), spec=GESTURES, collate=together)


@register.dataset
def seq2_rare_gestures_copied() -> Splits:
    """Rare gestures are copied until there are as many of each, then a quarter is held out for val."""
    all_of_them = ShakyGestures(560, 1)
    g = torch.Generator().manual_seed(4)
    most = int(all_of_them.y.bincount().max())
    taken = [(all_of_them.y == kind).nonzero()[:, 0] for kind in range(CLASSES)]
    rows = torch.cat([torch.cat((own, own[torch.randint(len(own), (most - len(own),), generator=g)])) for own in taken])
    rows = rows[torch.randperm(len(rows), generator=g)].tolist()
    cut = len(rows) // 4
    train, val = (torch.utils.data.Subset(all_of_them, part) for part in (rows[cut:], rows[:cut]))
    return Splits(train, val, ShakyGestures(1000, 3), spec=GESTURES, collate=together)


def recall(count, seed):
    """The first steps show a symbol loudly, then comes noise; which symbol was it?"""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (count,), generator=g)
    x = 0.3 * torch.randn(count, 14, 4, generator=g)
    x[:, :3] += F.one_hot(y, 4)[:, None]
    late = torch.randint(4, (count,), generator=g)
    x[:, 9:11] += F.one_hot(late, 4)[:, None]
    return x, y


@register.dataset
def seq2_recall() -> Splits:
    return Splits(recall(800, 1), recall(200, 2), recall(1000, 3))


def demand(hours, seed):
    """Hourly demand of a town: the day's two peaks, quieter week-ends, weather that comes and goes; standardised."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(hours).float()
    weather, state = torch.zeros(hours), 0.0
    for hour, push in enumerate(torch.randn(hours, generator=g).tolist()):
        state = 0.95 * state + 0.2 * push
        weather[hour] = state
    day = torch.sin(2 * math.pi * (t - 8) / 24) + 0.5 * torch.sin(4 * math.pi * (t - 3) / 24)
    week = 0.6 * ((t // 24) % 7 >= 5)
    load = day - week + weather + 0.1 * torch.randn(hours, generator=g)
    return (load + 0.17) / 1.04


def windows(series, back=24, gap=0):
    """(the last `back` values, the one after them); `gap` -1 lets the window reach one too far."""
    cut = series.unfold(0, back + 1, 1)
    return (cut[:, -back:, None] if gap else cut[:, :back, None]), cut[:, back]


def demand_splits(gap=0, unit=(1.0, 0.0)):
    scale, shift = unit
    series = demand(5000, 5)
    later = scale * series[2250:] + shift
    return Splits(windows(series[:2200], gap=gap), windows(later[:500], gap=gap), windows(later[550:2200], gap=gap))


@register.dataset
def seq2_demand() -> Splits:
    """The next hour from the last day, split by time."""
    return demand_splits()


@register.dataset
def seq2_demand_reaches_too_far() -> Splits:
    """Windows that end with the very value that is asked for."""
    return demand_splits(gap=-1)


@register.dataset
def seq2_demand_raw_later() -> Splits:
    """Train is standardised, what comes later is left in megawatts."""
    return demand_splits(unit=(8.0, 40.0))


@register.dataset
def seq2_demand_day() -> Splits:
    """The next six hours in megawatts."""
    series = 40 + 8 * demand(5000, 5)
    cut = series.unfold(0, 30, 1)
    spec = DataSpec((24,), (6,), "sequence")
    return Splits(*((part[:, :24], part[:, 24:]) for part in (cut[:2200], cut[2250:2700], cut[2750:4700])), spec=spec)


@register.dataset
def seq2_calls() -> Splits:
    """How many calls come in the next hour, from the counts of the last twelve."""

    def rows(hours, seed):
        g = torch.Generator().manual_seed(seed)
        t = torch.arange(hours).float()
        rate = (0.8 + 1.2 * torch.sin(2 * math.pi * t / 12 + 0.3)).exp()
        counts = torch.poisson(rate, generator=g)
        cut = counts.unfold(0, 13, 1)
        return cut[:, :12].log1p().unsqueeze(-1), cut[:, 12]

    return Splits(rows(1500, 1), rows(400, 2), rows(1500, 3))


def swaps(count, seed, ready=True):
    """Strings and the same strings backwards; the decoder reads what stands so far (1 starts it), or with `ready` off the answer."""
    g = torch.Generator().manual_seed(seed)
    source = torch.randint(2, 10, (count, 6), generator=g)
    answer = source.flip(1)
    written = torch.cat((torch.ones(count, 1, dtype=torch.long), answer[:, :-1]), 1) if ready else answer
    return {"x": {"source": source, "written": written}, "y": answer}


BACKWARDS = DataSpec((6,), (6, 10), "sequence", vocab=10)


@register.dataset
def seq2_backwards() -> Splits:
    """Teacher forcing: the decoder reads the right answer, one symbol behind."""
    return Splits(swaps(1500, 1), swaps(200, 2), swaps(1000, 3), spec=BACKWARDS)


@register.dataset
def seq2_backwards_not_behind() -> Splits:
    """The decoder reads the answer itself."""
    return Splits(swaps(1500, 1, False), swaps(200, 2, False), swaps(1000, 3, False), spec=BACKWARDS)


class Spans(Dataset):
    """Signals in which each onset (a step upwards) is to be marked; a mask says where somebody has looked."""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        onset = torch.rand(count, 40, generator=g) < 0.06
        level = torch.zeros(count, 40)
        for t in range(40):
            before = level[:, t - 1] if t else torch.zeros(count)
            level[:, t] = torch.where(onset[:, t], torch.ones(count), 0.75 * before)
        self.x = (level + 0.15 * torch.randn(count, 40, generator=g))[:, None]
        self.y = onset.float()
        self.seen = torch.arange(40) < torch.randint(15, 41, (count, 1), generator=g)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "y": self.y[i], "mask": self.seen[i]}


@register.dataset
def seq2_onsets() -> Splits:
    spec = DataSpec((1, 40), (40,), "sequence")
    return Splits(Spans(500, 1), Spans(150, 2), Spans(600, 3), spec=spec)


class Tagger(nn.Module):
    """A GRU over the sentence from both sides, scores of tags at every word."""

    def __init__(self, tags=TAGS, width=32):
        super().__init__()
        self.look, self.rnn = nn.Embedding(WORDS, width, padding_idx=0), nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * width, tags)

    def forward(self, x):
        return self.score(self.rnn(self.look(x))[0])


@register.model
def seq2_tagger(*, tags: int = TAGS) -> nn.Module:
    return Tagger(tags)


@register.model
class seq2_tagger_dropping(Tagger):
    """Half of the words' vectors and of the states is dropped; `always`: by a function that never hears of eval mode."""

    def __init__(self, *, always: bool = False):
        super().__init__(width=20)
        self.always = always

    def forward(self, x):
        on = self.training or self.always
        return self.score(F.dropout(self.rnn(F.dropout(self.look(x), 0.5, on))[0], 0.5, on))


@register.model
class seq2_tagger_reshaped(nn.Module):
    """Steps come first inside; on the way out a reshape stands for the transpose."""

    def __init__(self):
        super().__init__()
        self.look, self.rnn = nn.Embedding(WORDS, 32, padding_idx=0), nn.GRU(32, 32, bidirectional=True)
        self.score = nn.Linear(64, TAGS)

    def forward(self, x):
        out = self.score(self.rnn(self.look(x).transpose(0, 1))[0])
        return out.reshape(*x.shape, TAGS)


@register.model
class seq2_tagger_crf(nn.Module):
    """Scores of tags and of passing from one tag to the next."""

    def __init__(self):
        super().__init__()
        self.emit = Tagger()
        self.passing = nn.Parameter(torch.zeros(TAGS, TAGS))

    def forward(self, x):
        return self.emit(x), self.passing


@register.model
class seq2_gesture_gru(nn.Module):
    """Sorts recordings by length, packs them, and puts the answers back in the order of the batch."""

    puts_back = True

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(2, 32, batch_first=True), nn.Linear(32, CLASSES)

    def forward(self, x):
        length, order = x["length"].sort(descending=True, stable=True)
        packed = pack_padded_sequence(x["way"][order], length.cpu(), batch_first=True)
        scores = self.head(self.gru(packed)[1][-1])
        return scores[order.argsort()] if self.puts_back else scores


@register.model
class seq2_gesture_gru_sorted(seq2_gesture_gru):
    """The answers stay in the order of length."""

    puts_back = False


@register.model
class seq2_gesture_attention(nn.Module):
    """One layer of attention over the steps and a mean of those that were recorded; `upside_down` hides them instead of the padding."""

    def __init__(self, *, upside_down: bool = False):
        super().__init__()
        self.into, self.place = nn.Linear(2, 32), nn.Parameter(torch.randn(24, 32) * 0.1)
        self.mix = nn.MultiheadAttention(32, 4, batch_first=True)
        self.mlp, self.head, self.upside_down = nn.Sequential(nn.Linear(32, 64), nn.ReLU()), nn.Linear(64, CLASSES), upside_down

    def forward(self, x):
        real = torch.arange(24) < x["length"][:, None]
        h = self.into(x["way"]) + self.place
        query = h.mean(1, keepdim=True)
        hidden = real if self.upside_down else ~real
        hidden = hidden & ~hidden.all(1, keepdim=True)
        found, _ = self.mix(query, h, h, key_padding_mask=hidden)
        h = self.mlp(h + found)
        keep = (~hidden)[..., None]
        return self.head((h * keep).sum(1) / keep.sum(1))


@register.model
class seq2_by_cells(nn.Module):
    """A GRU cell step by step; `cut` detaches the state before each step."""

    def __init__(self, out_shape, *, cut: bool = False, width: int = 32):
        super().__init__()
        self.cell, self.head, self.cut, self.width = nn.GRUCell(4, width), nn.Linear(width, out_shape[0]), cut, width

    def forward(self, x):
        state = x.new_zeros(len(x), self.width)
        for step in x.unbind(1):
            state = self.cell(step, state.detach() if self.cut else state)
        return self.head(state)


@register.model
class seq2_demand_lstm(nn.Module):
    """One number a row, [B]; `bounded` puts a ReLU behind it, `column` leaves it [B, 1]."""

    def __init__(self, *, bounded: bool = False, column: bool = False, outputs: int = 1):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, outputs)
        self.bounded, self.column = bounded, column

    def forward(self, x):
        out = self.fc(self.lstm(x)[0][:, -1])
        out = out.relu() if self.bounded else out
        return out if self.column or out.shape[1] > 1 else out[:, 0]


@register.model
class seq2_demand_by_window(nn.Module):
    """Each window by its own mean and deviation; the last layer starts at zero, so the first forecast is the last value."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 6))
        nn.init.zeros_(self.net[-1].weight), nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        mean, spread = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        return x[:, -1:] + spread * self.net((x - mean) / spread)


@register.model
class seq2_echo_state(nn.Module):
    """A fixed random recurrent network, kept in buffers; only the readout of its last states learns."""

    def __init__(self, *, size: int = 120):
        super().__init__()
        g = torch.Generator().manual_seed(8)
        inner = torch.randn(size, size, generator=g)
        self.register_buffer("inner", 0.95 * inner / torch.linalg.eigvals(inner).abs().max())
        self.register_buffer("into", torch.rand(1, size, generator=g) - 0.5)
        self.read = nn.Linear(size, 1)

    def forward(self, x):
        state = x.new_zeros(len(x), len(self.inner))
        for step in x.unbind(1):
            state = torch.tanh(step @ self.into + state @ self.inner)
        return self.read(state).squeeze(-1)


@register.model
class seq2_turner(nn.Module):
    """Encoder and decoder of GRUs, with dot-product attention between them."""

    def __init__(self, *, width: int = 48):
        super().__init__()
        self.source, self.target = nn.Embedding(10, width), nn.Embedding(10, width)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x):
        memory, last = self.encoder(self.source(x["source"]))
        state, _ = self.decoder(self.target(x["written"]), last)
        weight = (state @ memory.transpose(1, 2) / math.sqrt(memory.shape[-1])).softmax(-1)
        return self.head(torch.cat((state, weight @ memory), -1))


@register.model
class seq2_dilated(nn.Module):
    """Dilated convolutions that look back only, with weight norm; one logit a step."""

    def __init__(self):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.convs = nn.ModuleList(norm(nn.Conv1d(1 if d == 1 else 16, 16, 3, dilation=d)) for d in (1, 2, 4))
        self.last = nn.Conv1d(16, 1, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.elu(conv(F.pad(x, (2 * conv.dilation[0], 0))))
        return self.last(x).squeeze(1)


@register.loss
def seq2_tag_loss(out, y):
    """The mean over words that are there."""
    there = (y != 0).float()
    each = F.cross_entropy(out.transpose(1, 2), y, reduction="none")
    return (each * there).sum() / there.sum()


@register.loss
def seq2_tag_loss_of_padding(out, y):
    """The mask has the wrong side."""
    there = (y == 0).float()
    each = F.cross_entropy(out.transpose(1, 2), y, reduction="none")
    return (each * there).sum() / there.sum().clamp(min=1)


@register.loss
def seq2_tag_loss_classes_last(out, y):
    """cross_entropy wants classes on the second axis."""
    return F.cross_entropy(out, y, ignore_index=0)


@register.loss
def seq2_crf_loss(out, y):
    """Minus the log-likelihood of the right path, by word; padding lies behind the end and is left out."""
    emit, passing = out
    there = (y != 0).to(emit.dtype)
    right = (emit.gather(2, y[..., None])[..., 0] * there).sum(1) + (passing[y[:, :-1], y[:, 1:]] * there[:, 1:]).sum(1)
    alpha = emit[:, 0]
    for t in range(1, y.shape[1]):
        step = torch.logsumexp(alpha[:, :, None] + passing, 1) + emit[:, t]
        alpha = torch.where(there[:, t, None] > 0, step, alpha)
    return ((alpha.logsumexp(1) - right) / there.sum(1)).mean()


@register.loss
def seq2_square(out, y):
    return ((out - y) ** 2).mean()


@register.loss
def seq2_quantiles(out, y):
    """Tilted distances of the 10, 50 and 90 % forecasts from the one value that came."""
    q = torch.tensor([0.1, 0.5, 0.9])
    miss = y[:, None] - out
    return torch.maximum(q * miss, (q - 1) * miss).sum(1).mean()


@register.loss
def seq2_calls_loss(out, y):
    """Poisson likelihood of counts whose log-rate is `out`; it may lie below zero."""
    return F.poisson_nll_loss(out, y, log_input=True)


@register.loss
class seq2_weighted(nn.Module):
    """Rare classes count more, labels are smoothed a little."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.tensor([0.7, 2.8, 0.7, 2.8, 0.7]))

    def forward(self, out, y):
        return F.cross_entropy(out, y, weight=self.weight, label_smoothing=0.05)


@register.loss
def seq2_rare_marks(out, y):
    return F.binary_cross_entropy_with_logits(out, y, pos_weight=torch.tensor(8.0))


@register.loss
def seq2_symbols(out, y):
    return nn.CrossEntropyLoss()(out.flatten(0, 1), y.flatten())


@register.metric(best="max", batches=False)
def seq2_tags_right(out, y):
    """Share of words with the right tag."""
    there = y != 0
    return (out.argmax(-1) == y)[there].float().mean()


@register.optimizer
def seq2_adam(named_parameters, *, lr: float = 5e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def seq2_adam_for_the_head(named_parameters, *, lr: float = 5e-3):
    """Only what belongs to a head."""
    return torch.optim.Adam([p for name, p in named_parameters if "head" in name.split(".")], lr=lr)


@register.optimizer
def seq2_rmsprop(named_parameters, *, lr: float = 2e-3):
    return torch.optim.RMSprop([p for _, p in named_parameters], lr=lr)


class Hoarder(torch.optim.Adam):
    """Adam whose gradients nobody clears."""

    def zero_grad(self, set_to_none=True):
        return None


@register.optimizer
def seq2_adam_never_cleared(named_parameters, *, lr: float = 5e-3):
    return Hoarder([p for _, p in named_parameters], lr=lr)
