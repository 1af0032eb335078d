"""Letters and words in a row: networks that tell what comes next, or what is missing. See words.yaml."""

from __future__ import annotations

import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register

LETTERS = "_aeioubdgklmnprst"  # 0 is the space
SIZE = len(LETTERS)
HIDDEN = SIZE  # stands for a letter that is not shown
BLOCK = 24


def lexicon(count=36):
    """Words of one to three syllables, and for each of them the few that like to follow it."""
    rng = random.Random(11)
    words = []
    while len(words) < count:
        word = "".join(rng.choice(LETTERS[6:]) + rng.choice(LETTERS[1:6]) for _ in range(rng.choice([1, 2, 2, 3])))
        if word not in words:
            words.append(word)
    return words, [rng.sample(range(count), 3) for _ in words]


def story(length, seed):
    """A stream of `length` letters."""
    words, follow = lexicon()
    rng = random.Random(seed)
    at, text = 0, ""
    while len(text) < length:
        at = rng.randrange(len(words)) if rng.random() < 0.15 else rng.choice(follow[at])
        text += words[at] + "_"
    return torch.tensor([LETTERS.index(letter) for letter in text[:length]])


class Windows(Dataset):
    """Pieces of a stream, each with the same piece one letter later."""

    def __init__(self, stream, block=BLOCK, last_only=False):
        self.stream, self.block, self.last_only = stream, block, last_only

    def __len__(self):
        return (len(self.stream) - 1) // self.block

    def __getitem__(self, i):
        piece = self.stream[i * self.block : (i + 1) * self.block + 1]
        x, y = piece[:-1], piece[1:].clone()
        if self.last_only:
            y[:-1] = -100
        return x, y


@register.dataset
def lm2_story() -> Splits:
    """A generated story cut into windows."""
    return Splits(*(Windows(story(n * BLOCK + 1, seed)) for n, seed in ((900, 1), (200, 2), (1000, 3))))


@register.dataset
def lm2_story_by_its_end() -> Splits:
    """The story; in the test split only the letter after the window is asked for."""
    train, val, test = (story(n * BLOCK + 1, seed) for n, seed in ((900, 1), (200, 2), (1500, 3)))
    return Splits(Windows(train), Windows(val), Windows(test, last_only=True))


def made_up(count):
    """Different names of two to four syllables, each syllable with its few likely successors."""
    rng = random.Random(21)
    parts = [c + v for c in LETTERS[6:] for v in LETTERS[1:6]]
    rng.shuffle(parts)
    after = {part: rng.sample(parts, 4) for part in parts}
    found = {}
    while len(found) < count:
        name = [rng.choice(parts)]
        while len(name) < 4 and (len(name) < 2 or rng.random() < 0.6):
            name.append(rng.choice(after[name[-1]]))
        found["".join(name)] = None
    return list(found)


def spelt(some, context=4):
    """Every letter of these names with the `context` letters before it; 0 is the border of a name."""
    xs, ys = [], []
    for name in some:
        window = [0] * context
        for letter in name + "_":
            xs.append(window)
            ys.append(LETTERS.index(letter))
            window = [*window[1:], ys[-1]]
    return torch.tensor(xs), torch.tensor(ys)


@register.dataset
def lm2_names() -> Splits:
    """Names, letter by letter."""
    spec = DataSpec((4,), (SIZE,), "language_model", vocab=SIZE)
    everyone = made_up(1800)
    return Splits(spelt(everyone[:1200]), spelt(everyone[1200:1400]), spelt(everyone[1400:]), spec=spec)


def gossip(rows, length, seed, many=400):
    """Sentences of word numbers: a word has a favourite successor, which follows it four times in five."""
    successor = torch.randperm(many, generator=torch.Generator().manual_seed(99))
    g = torch.Generator().manual_seed(seed)
    text = torch.randint(many, (rows, length), generator=g)
    for t in range(1, length):
        usual = torch.rand(rows, generator=g) < 0.8
        text[usual, t] = successor[text[usual, t - 1]]
    return text


def gossip_splits(change):
    parts = [change(gossip(rows, 13, seed)) for rows, seed in ((2000, 1), (300, 2), (1000, 3))]
    return Splits(*((p[:, :-1], p[:, 1:]) for p in parts), spec=DataSpec((12,), (12, 400), "language_model", vocab=400))


@register.dataset
def lm2_gossip() -> Splits:
    """Sentences over 400 words."""
    return gossip_splits(lambda tokens: tokens)


@register.dataset
def lm2_gossip_in_bytes() -> Splits:
    """Sentences over 400 words that were kept in one byte each."""
    return gossip_splits(lambda tokens: tokens.to(torch.uint8).long())


def cloze(rows, seed, everything=False):
    """Windows with one letter in seven hidden, changed or left (8:1:1), which is the one to tell; `everything`: all are to be told."""
    g = torch.Generator().manual_seed(seed)
    text = story(rows * BLOCK, seed).view(rows, BLOCK)
    chosen = torch.rand(text.shape, generator=g) < 0.15
    chosen[:, BLOCK // 2] = True
    dice = torch.rand(text.shape, generator=g)
    x = torch.where(chosen & (dice < 0.8), HIDDEN, text)
    x = torch.where(chosen & (dice > 0.9), torch.randint(SIZE, text.shape, generator=g), x)
    return x, text if everything else text.masked_fill(~chosen, -100)


CLOZE = DataSpec((BLOCK,), (BLOCK, SIZE), "language_model", vocab=SIZE + 1)


@register.dataset
def lm2_cloze() -> Splits:
    """Letters to be filled in."""
    return Splits(cloze(900, 1), cloze(200, 2), cloze(1000, 3), spec=CLOZE)


@register.dataset
def lm2_cloze_everything() -> Splits:
    """Letters to be filled in, and all the others to be repeated."""
    return Splits(cloze(900, 1, True), cloze(200, 2, True), cloze(1000, 3, True), spec=CLOZE)


class Echo(Dataset):
    """Eight letters, a bar, and the letters backwards; only what follows the bar is to be told."""

    def __init__(self, rows, seed):
        g = torch.Generator().manual_seed(seed)
        said = torch.randint(1, 9, (rows, 6), generator=g)
        self.text = torch.cat((said, torch.zeros(rows, 1, dtype=torch.long), said.flip(1)), 1)

    def __len__(self):
        return len(self.text)

    def __getitem__(self, i):
        row = self.text[i]
        y = row[1:].clone()
        y[:6] = -100
        return row[:-1], y


@register.dataset
def lm2_echo() -> Splits:
    """A prefix to read and a suffix to write."""
    spec = DataSpec((12,), (12, 9), "language_model", vocab=9)
    return Splits(Echo(1500, 1), Echo(200, 2), Echo(1000, 3), spec=spec)


class Lines(Dataset):
    """Lines of five to eight words, each of its own length."""

    def __init__(self, rows, seed):
        words, follow = lexicon()
        rng = random.Random(seed)
        self.lines = []
        for _ in range(rows):
            at, line = rng.randrange(len(words)), "_"
            for _ in range(rng.randint(5, 8)):
                line += words[at] + "_"
                at = rng.choice(follow[at])
            self.lines.append(torch.tensor([LETTERS.index(letter) for letter in line]))

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, i):
        return self.lines[i]


def pad_lines(lines):
    """A batch as long as its longest line."""
    lengths = torch.tensor([len(line) - 1 for line in lines])
    x = nn.utils.rnn.pad_sequence([line[:-1] for line in lines], batch_first=True)
    y = nn.utils.rnn.pad_sequence([line[1:] for line in lines], batch_first=True, padding_value=-100)
    return {"x": {"tokens": x, "lengths": lengths}, "y": y}


@register.dataset
def lm2_lines() -> Splits:
    """Lines of different lengths, padded batch by batch."""
    spec = DataSpec((50,), (50, SIZE), "language_model", vocab=SIZE)
    return Splits(Lines(800, 1), Lines(200, 2), Lines(800, 3), spec=spec, collate=pad_lines)


def shelf(rows, seed, room=30):
    """Short documents one behind the other in rows of `room` letters, each letter with the number of its document."""
    rng, words = random.Random(seed), lexicon()[0]
    tokens, owner, y = (torch.zeros(rows, room, dtype=torch.long) for _ in range(3))
    for row in range(rows):
        text, whose = [], []
        while len(text) < room:
            word = rng.choice(words)
            piece = [0, *(LETTERS.index(letter) for letter in word * rng.choice([2, 3])), 0]
            text, whose = text + piece, whose + [whose[-1] + 1 if whose else 0] * len(piece)
        tokens[row], owner[row] = torch.tensor(text[:room]), torch.tensor(whose[:room])
    y[:, :-1] = tokens[:, 1:].masked_fill(owner[:, 1:] != owner[:, :-1], -100)
    y[:, -1] = -100
    return {"x": {"tokens": tokens, "document": owner}, "y": y}


@register.dataset
def lm2_shelf() -> Splits:
    """Several documents a row, none of which may look into another."""
    spec = DataSpec((30,), (30, SIZE), "language_model", vocab=SIZE)
    parts = [shelf(rows, seed) for rows, seed in ((700, 1), (150, 2), (800, 3))]
    return Splits(*parts, spec=spec)


class Head(nn.Module):
    """Causal attention written out, as a tutorial has it; `over` is the axis of the scores that sums to one."""

    def __init__(self, width, heads=4, over=-1):
        super().__init__()
        self.heads, self.over = heads, over
        self.key, self.query, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.register_buffer("past", torch.tril(torch.ones(BLOCK, BLOCK)))

    def forward(self, x):
        B, T, C = x.shape
        k, q, v = (f(x).view(B, T, self.heads, C // self.heads).transpose(1, 2) for f in (self.key, self.query, self.value))
        wei = q @ k.transpose(-2, -1) / math.sqrt(C // self.heads)
        wei = wei.masked_fill(self.past[:T, :T] == 0, float("-inf")).softmax(self.over)
        return self.proj((wei @ v).transpose(1, 2).reshape(B, T, C))


class Layer(nn.Module):
    """Attention, then a perceptron."""

    def __init__(self, width, over=-1):
        super().__init__()
        self.sa, self.ln1, self.ln2 = Head(width, over=over), nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffwd = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class Babble(nn.Module):
    """A small transformer over letters."""

    def __init__(self, width=32, over=-1):
        super().__init__()
        self.tok, self.pos = nn.Embedding(SIZE, width), nn.Embedding(BLOCK, width)
        self.blocks = self.stack(width, over)
        self.ln, self.lm_head = nn.LayerNorm(width), nn.Linear(width, SIZE)

    def stack(self, width, over):
        return nn.ModuleList([Layer(width, over) for _ in range(2)])

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1], device=idx.device))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln(x))


@register.model
def lm2_babble() -> nn.Module:
    return Babble()


@register.model
def lm2_babble_over_queries() -> nn.Module:
    return Babble(over=-2)


@register.model
class lm2_babble_list(Babble):
    """Its layers stand in a plain list."""

    def __init__(self):
        super().__init__()

    def stack(self, width, over):
        return [Layer(width, over) for _ in range(2)]


class Recurrent(nn.Module):
    """Embedding, GRU, readout; `both` reads from either side."""

    def __init__(self, vocab, out, width=48, both=False):
        super().__init__()
        self.emb = nn.Embedding(vocab, width)
        self.rnn = nn.GRU(width, width, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(width * (1 + both), out)

    def forward(self, x):
        hidden, _ = self.rnn(self.emb(x))
        return self.fc(hidden)


@register.model
def lm2_gru() -> nn.Module:
    return Recurrent(SIZE, SIZE)


@register.model
def lm2_gru_both_ways() -> nn.Module:
    return Recurrent(SIZE, SIZE, both=True)


@register.model
def lm2_filler() -> nn.Module:
    return Recurrent(SIZE + 1, SIZE, both=True)


@register.model
def lm2_words_lstm() -> nn.Module:
    return Recurrent(400, 400, width=64)


class NameNet(nn.Module):
    """The letters' vectors side by side, some layers of tanh, scores of the next letter; `std` is that of the weights at the start."""

    def __init__(self, std=None, layers=4, width=64):
        super().__init__()
        self.C = nn.Embedding(SIZE, 8)
        sizes = [32] + [width] * layers
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True))
        self.out = nn.Linear(width, SIZE)
        for layer in self.hidden:
            nn.init.xavier_uniform_(layer.weight, gain=5 / 3) if std is None else nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        h = self.C(x).flatten(1)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        return self.out(h)


@register.model
def lm2_namenet() -> nn.Module:
    return NameNet()


@register.model
def lm2_namenet_small_start() -> nn.Module:
    return NameNet(std=0.01)


@register.model
class lm2_namenet_normed(nn.Module):
    """Batch norm before each tanh, half of the units dropped, a last layer that starts small."""

    def __init__(self):
        super().__init__()
        self.C = nn.Embedding(SIZE, 8)
        self.body = nn.Sequential(
            nn.Linear(32, 128, bias=False), nn.BatchNorm1d(128), nn.Tanh(), nn.Dropout(0.5),
            nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.Tanh(), nn.Dropout(0.5), nn.Linear(128, SIZE),
        )  # fmt: skip
        with torch.no_grad():
            self.body[-1].weight *= 0.1

    def forward(self, x):
        return self.body(self.C(x).flatten(1))


class Masked(nn.Module):
    """torch's own encoder under a mask that a subclass makes; True means hidden."""

    def __init__(self, vocab, width=32, room=40, layers=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Parameter(torch.randn(room, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.fc = nn.Linear(width, vocab)


@register.model
class lm2_prefix(Masked):
    """The first seven letters see each other, those behind them see what came before."""

    def __init__(self):
        super().__init__(9)

    def forward(self, x):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        later[:7, :7] = False
        return self.fc(self.enc(self.tok(x) + self.pos[: x.shape[1]], mask=later))


@register.model
class lm2_librarian(Masked):
    """Letters see those before them in the same document; places count from its start."""

    def __init__(self):
        super().__init__(SIZE)

    def forward(self, x):
        tokens, owner = x["tokens"], x["document"]
        same = owner[:, :, None] == owner[:, None, :]
        seen = same & torch.ones_like(same[0]).tril()
        place = seen.sum(-1) - 1
        hidden = (~seen).repeat_interleave(4, 0)
        return self.fc(self.enc(self.tok(tokens) + self.pos[place], mask=hidden))


@register.model
class lm2_alibi(nn.Module):
    """No places at all: scores fall with distance, by head; the readout is the embedding."""

    def __init__(self, *, width: int = 32, heads: int = 4):
        super().__init__()
        self.tok = nn.Embedding(SIZE, width)
        nn.init.normal_(self.tok.weight, std=width**-0.5)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width)) for _ in range(2)
        )
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.register_buffer("slope", 2.0 ** -torch.arange(heads)[:, None, None])

    def forward(self, x):
        T = x.shape[1]
        far = torch.arange(T)[None, :] - torch.arange(T)[:, None]
        bias = torch.where(far > 0, float("-inf"), self.slope * far)
        h = self.tok(x) * math.sqrt(self.tok.embedding_dim)
        for mix, mlp in zip(self.qkv, self.mlp, strict=True):
            q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in mix(self.norm(h)).chunk(3, -1))
            h = h + F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
            h = h + mlp(h)
        return self.norm(h) @ self.tok.weight.T


def turned(x):
    """Rotary places: pairs of features turned by an angle that grows with the step."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2])[:, None] * 100.0 ** (-torch.arange(half) / half)
    a, b = x.chunk(2, -1)
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)


class Modern(nn.Module):
    """Rotary attention and a gated perceptron without biases; both end in zeros at the start."""

    def __init__(self, width):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(width, 80, bias=False), nn.Linear(width, 80, bias=False), nn.Linear(80, width, bias=False)
        nn.init.zeros_(self.wo.weight), nn.init.zeros_(self.down.weight)

    def forward(self, x):
        h = self.n1(x)
        q, k, v = (w(h).unflatten(-1, (2, -1)).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        x = x + self.wo(F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True).transpose(1, 2).flatten(2))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


@register.model
class lm2_rotary(nn.Module):
    """Modern blocks whose logits are held within 15 on either side."""

    def __init__(self, *, width: int = 32):
        super().__init__()
        self.wte = nn.Embedding(SIZE, width)
        self.h = nn.Sequential(Modern(width), Modern(width), nn.RMSNorm(width))
        self.head = nn.Linear(width, SIZE, bias=False)

    def forward(self, x):
        return 15 * torch.tanh(self.head(self.h(self.wte(x))) / 15)


@register.model
class lm2_mixture(nn.Module):
    """Three softmaxes mixed by a gate; what comes out are log-probabilities."""

    def __init__(self, *, width: int = 40, parts: int = 3):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(SIZE, width), nn.LSTM(width, width, batch_first=True)
        self.gate, self.heads = nn.Linear(width, parts), nn.Linear(width, parts * SIZE)

    def forward(self, x):
        h, _ = self.rnn(self.emb(x))
        each = self.heads(h).unflatten(-1, (-1, SIZE)).log_softmax(-1)
        return (each + self.gate(h).log_softmax(-1)[..., None]).logsumexp(-2)


@register.model
class lm2_packed(nn.Module):
    """A GRU that gets lines packed; what stands behind a line's end comes out as zeros before the readout."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(SIZE, 32, padding_idx=0)
        self.rnn = nn.GRU(32, 48, num_layers=2, batch_first=True, dropout=0.2)
        self.fc = nn.Linear(48, SIZE)

    def forward(self, x):
        tokens = x["tokens"]
        packed = nn.utils.rnn.pack_padded_sequence(self.emb(tokens), x["lengths"].cpu(), batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=tokens.shape[1])
        return self.fc(out)


@register.loss
def lm2_ce(out, y):
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


@register.loss
def lm2_ce_shifts_again(out, y):
    """Sets outputs against the targets one place on, as one does whose data are not shifted yet."""
    return F.cross_entropy(out[:, :-1].flatten(0, 1), y[:, 1:].flatten())


@register.loss
def lm2_ce_skips_zero(out, y):
    """Takes token 0 for padding."""
    return F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=0)


@register.loss
def lm2_ce_wrapped_anew(out, y):
    """The value of the loss in a fresh variable."""
    loss = F.cross_entropy(out, y)
    return torch.autograd.Variable(loss.data, requires_grad=True)


@register.loss
def lm2_nll_of_logits(out, y):
    return F.nll_loss(out.flatten(0, 1), y.flatten())


@register.loss
class lm2_smooth(nn.CrossEntropyLoss):
    """Cross-entropy with smoothed labels over [B, T, V]."""

    def __init__(self):
        super().__init__(label_smoothing=0.1)

    def forward(self, out, y):
        return super().forward(out.flatten(0, 1), y.flatten())


@register.loss
def lm2_ce_and_z(out, y):
    """Cross-entropy and a small pull of the logits' log-sum to 0."""
    ce = F.cross_entropy(out.flatten(0, 1), y.flatten())
    z = 1e-3 * out.logsumexp(-1).square().mean()
    return ce + z, {"ce": ce, "z": z}


@register.metric(best="min", batches=False)
def lm2_bits(out, y):
    """Bits a told token."""
    return F.cross_entropy(out.flatten(0, -2), y.flatten()) / math.log(2)


@register.optimizer
def lm2_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def lm2_adamw_in_groups(named_parameters, *, lr: float = 4e-3):
    """Matrices decay, vectors do not."""
    pairs = list(named_parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for _, p in pairs if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for _, p in pairs if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.95),
    )


@register.optimizer
def lm2_sgd(named_parameters, *, lr: float = 0.5):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


@register.schedule
def lm2_halving(optimizer, steps, *, every: int = 80):
    """Half the rate after each `every` calls."""
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.5)


@register.schedule
def lm2_warm_cosine(step, steps, *, warm: int = 20):
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.02)
