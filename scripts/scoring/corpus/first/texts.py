"""Letters, words and documents: what comes next, what is hidden, what it is about. See texts.yaml."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Mean, Splits, register

BLOCK, LETTERS = 40, " .aeioubdfgklmnprstvz"
STOI = {letter: i for i, letter in enumerate(LETTERS)}
V = len(LETTERS)
FOLLOWS = (0.4, 0.25, 0.15, 0.1, 0.1)
LEXICON, GAP = 64, 65


def lexicon() -> list[str]:
    """Invented words of two to six letters."""
    rng, words = random.Random(5), set()
    while len(words) < LEXICON:
        words.add("".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))))
    return sorted(words)


def chain(count: int, seed: int) -> list[int]:
    """Word numbers; five may follow each, some of them oftener."""
    rules, rng = random.Random(11), random.Random(seed)
    after = [rules.sample(range(LEXICON), 5) for _ in range(LEXICON)]
    found = [rng.randrange(LEXICON)]
    while len(found) < count:
        found.append(rng.choices(after[found[-1]], FOLLOWS)[0])
    return found


def story(letters: int, seed: int) -> Tensor:
    """A text of so many letters, as numbers."""
    names, rng, text = lexicon(), random.Random(seed + 100), []
    for number in chain(letters // 3, seed):
        text.append(names[number] + ("." if rng.random() < 0.12 else ""))
    return torch.tensor([STOI[letter] for letter in " ".join(text)[:letters]])


class CharDataset(Dataset):
    """Blocks of a text and the same blocks one letter on."""

    def __init__(self, data: Tensor, block_size: int = BLOCK) -> None:
        self.data, self.block_size = data, block_size

    def __len__(self) -> int:
        return (len(self.data) - 1) // self.block_size

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        start = idx * self.block_size
        chunk = self.data[start : start + self.block_size + 1]
        return chunk[:-1], chunk[1:]


@register.dataset
def txt3_story() -> Splits:
    return Splits(*(CharDataset(story(rows * BLOCK + 1, seed)) for rows, seed in ((900, 1), (250, 4), (1500, 3))))


class Head(nn.Module):
    """One head of causal self-attention."""

    def __init__(self, n_embd: int, head_size: int, dropout: float, diagonal: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(n_embd, head_size, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(BLOCK, BLOCK), diagonal=diagonal))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        k, q = self.key(x), self.query(x)
        wei = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return self.dropout(F.softmax(wei, dim=-1)) @ self.value(x)


class Block(nn.Module):
    def __init__(self, n_embd: int, n_head: int, dropout: float, diagonal: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([Head(n_embd, n_embd // n_head, dropout, diagonal) for _ in range(n_head)])
        self.proj = nn.Linear(n_embd, n_embd)
        self.ffwd = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.ReLU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout))
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x)
        x = x + self.proj(torch.cat([h(y) for h in self.heads], dim=-1))
        return x + self.ffwd(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, n_embd: int = 48, n_head: int = 2, n_layer: int = 2, dropout: float = 0.05, diagonal: int = 0) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, n_embd), nn.Embedding(BLOCK, n_embd)
        self.blocks = nn.Sequential(*[Block(n_embd, n_head, dropout, diagonal) for _ in range(n_layer)])
        self.ln_f, self.lm_head = nn.LayerNorm(n_embd), nn.Linear(n_embd, V)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.06)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        return self.lm_head(self.ln_f(self.blocks(x)))


@register.model
def txt3_gpt() -> nn.Module:
    return GPT()


@register.model
def txt3_gpt_diagonal() -> nn.Module:
    """Every position sees itself, those before it and the next one."""
    return GPT(diagonal=1)


@register.model
class txt3_lstm(nn.Module):
    """A letter model around a recurrent layer that wants time first."""

    def __init__(self, *, hidden: int = 96) -> None:
        super().__init__()
        self.embed, self.lstm, self.fc = nn.Embedding(V, 32), nn.LSTM(32, hidden), nn.Linear(hidden, V)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.embed(x).transpose(0, 1))
        return self.fc(self.rows_first(h, x))

    def rows_first(self, h: Tensor, x: Tensor) -> Tensor:
        return h.transpose(0, 1)


@register.model
class txt3_lstm_reshaped(txt3_lstm):
    """The way back to rows first is a reshape."""

    def rows_first(self, h: Tensor, x: Tensor) -> Tensor:
        return h.reshape(*x.shape, -1)


@register.model
class txt3_bigrams(nn.Module):
    """The logits of the next letter stand in a table, a row for each letter."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(V, V)

    def forward(self, idx: Tensor) -> Tensor:
        return self.token_embedding_table(idx)


@register.loss
def txt3_next(out, y) -> Tensor:
    B, T, C = out.shape
    return F.cross_entropy(out.reshape(B * T, C), y.reshape(B * T))


@register.loss
def txt3_next_shifted(out, y) -> Tensor:
    """Logits lose their last and labels their first position, as where the labels are the inputs themselves."""
    return F.cross_entropy(out[:, :-1].reshape(-1, out.shape[-1]), y[:, 1:].reshape(-1))


@register.metric(best="min")
def txt3_end(out, y):
    """Nats at the last position, whose answer is nowhere in x."""
    return F.cross_entropy(out[:, -1], y[:, -1])


@register.optimizer
def txt3_adamw(named_parameters, *, lr: float = 3e-3):
    return torch.optim.AdamW([p for _, p in named_parameters], lr=lr)


@register.optimizer
def txt3_adam_of_noam(named_parameters):
    """Its rate is the schedule's alone."""
    return torch.optim.Adam([p for _, p in named_parameters], lr=1.0, betas=(0.9, 0.98), eps=1e-9)


@register.schedule
def txt3_noam(step, steps, *, warmup: int = 80, factor: float = 0.4, model_size: int = 48) -> float:
    step = max(step, 1)
    return factor * model_size**-0.5 * min(step**-0.5, step * warmup**-1.5)


# words that are hidden


class Sentences(Dataset):
    """Sixteen words of which some are hidden; only those are to be told. New ones each time in training, the same ones elsewhere."""

    def __init__(self, rows: int, seed: int, train: bool) -> None:
        self.ids, self.train, self.seed = torch.tensor(chain(rows * 16, seed)).view(rows, 16), train, seed

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> Tensor:
        return self.ids[i].clone()

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        ids = self.read(i)
        source = None if self.train else torch.Generator().manual_seed(self.seed * 10000 + i)
        hidden = torch.rand(16, generator=source) < 0.15
        hidden[torch.randint(16, (1,), generator=source)] = True
        labels = ids.masked_fill(~hidden, -100)
        ids[hidden] = GAP
        return ids, labels


class SentencesInPlace(Sentences):
    """What is hidden is hidden in the sentence itself."""

    def read(self, i: int) -> Tensor:
        return self.ids[i]


@register.dataset
def txt3_hidden_words() -> Splits:
    return Splits(Sentences(700, 1, True), Sentences(200, 2, False), Sentences(1500, 3, False))


@register.dataset
def txt3_hidden_words_in_place() -> Splits:
    return Splits(SentencesInPlace(700, 1, True), Sentences(200, 2, False), Sentences(1500, 3, False))


@register.model
class txt3_bert(nn.Module):
    def __init__(self, *, d_model: int = 64) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(GAP + 1, d_model), nn.Parameter(0.02 * torch.randn(16, d_model))
        layer = nn.TransformerEncoderLayer(d_model, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.decoder = nn.Linear(d_model, GAP + 1)
        nn.init.normal_(self.tokens.weight, std=0.2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(self.encoder(self.tokens(ids) + self.positions))


# three letters before


@register.dataset
def txt3_names() -> Splits:
    """Three letters of a name and the one after them; 0 stands before and after a name."""

    def rows(names: int, seed: int) -> tuple[Tensor, Tensor]:
        rng, X, Y = random.Random(seed), [], []
        for _ in range(names):
            name = rng.choice(("ma", "ni", "ro", "ke", "ta", "lu")) + rng.choice(("r", "l", "nd", "ss", "v", "mb")) + rng.choice("aeio")
            name += rng.choice(("", "", "n", "na", "s", "tta", "ko"))
            context = [0] * 3
            for letter in [*name, " "]:
                X.append(context)
                Y.append(STOI[letter])
                context = [*context[1:], STOI[letter]]
        return torch.tensor(X), torch.tensor(Y)

    return Splits(rows(900, 1), rows(150, 2), rows(300, 3))


@register.model
class txt3_mlp_of_three(nn.Module):
    def __init__(self, *, n_embd: int = 10, n_hidden: int = 64) -> None:
        super().__init__()
        self.C = nn.Embedding(V, n_embd)
        self.W1, self.W2 = nn.Linear(3 * n_embd, n_hidden), nn.Linear(n_hidden, V)
        with torch.no_grad():
            self.W2.weight *= 0.1
            self.W2.bias.zero_()

    def forward(self, idx: Tensor) -> Tensor:
        return self.W2(torch.tanh(self.W1(self.C(idx).flatten(1))))


# what a document is about

TOPICS, TYPES, LENGTH = 4, 900, 30


def documents(rows: int, seed: int) -> tuple[list[list[str]], Tensor]:
    """Words of documents, one in five of them a word of their topic, and the topics."""
    rng, rules = random.Random(seed), random.Random(3)
    types = [f"w{i}" for i in range(TYPES)]
    rules.shuffle(types)
    own, common = [types[60 * t : 60 * t + 60] for t in range(TOPICS)], types[60 * TOPICS :]
    often = [1 / (i + 5) for i in range(len(common))]
    docs, topics = [], []
    for _ in range(rows):
        topic = rng.randrange(TOPICS)
        words = rng.choices(common, often, k=LENGTH)
        for place in range(LENGTH):
            if rng.random() < 0.2:
                words[place] = rng.choice(own[topic if rng.random() < 0.9 else rng.randrange(TOPICS)])
        docs.append(words)
        topics.append(topic)
    return docs, torch.tensor(topics)


def build_vocab(docs: list[list[str]]) -> dict[str, int]:
    """Numbers by first appearance; 0 is for words never seen."""
    vocab = {"<unk>": 0}
    for doc in docs:
        for word in doc:
            vocab.setdefault(word, len(vocab))
    return vocab


def encode(docs: list[list[str]], vocab: dict[str, int]) -> Tensor:
    return torch.tensor([[vocab.get(word, 0) for word in doc] for doc in docs])


SPLITS = ((900, 1), (300, 2), (1000, 3))


@register.dataset
def txt3_news() -> Splits:
    parts = [documents(*split) for split in SPLITS]
    vocab = build_vocab(parts[0][0])
    return Splits(*((encode(docs, vocab), y) for docs, y in parts))


@register.dataset
def txt3_news_vocab_each() -> Splits:
    """Each split is numbered by a vocabulary of its own."""
    return Splits(*((encode(docs, build_vocab(docs)), y) for docs, y in (documents(*split) for split in SPLITS)))


@register.dataset
def txt3_news_in_bytes() -> Splits:
    """The numbers were kept in bytes on their way here."""
    parts = [documents(*split) for split in SPLITS]
    vocab = build_vocab(parts[0][0])
    return Splits(*((encode(docs, vocab).to(torch.uint8).long(), y) for docs, y in parts))


@register.model
class txt3_textcnn(nn.Module):
    """Convolutions of several widths over the words, each with its maximum over the document."""

    def __init__(self, *, channels: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(TYPES + 1, 32)
        self.convs = nn.ModuleList([nn.Conv1d(32, channels, k) for k in (1, 2, 3)])
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(3 * channels, TOPICS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        x = torch.cat([F.relu(conv(x)).amax(dim=2) for conv in self.convs], dim=1)
        return self.fc(self.drop(x))


@register.model
class txt3_mean_of_words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TYPES + 1, 48)
        self.layers = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, TOPICS))

    def forward(self, ids: Tensor) -> Tensor:
        return self.layers(self.embed(ids).mean(dim=1))


@register.model
class txt3_bag(nn.Module):
    """The mean of the words' vectors and a linear layer, as in many tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.EmbeddingBag(TYPES + 1, 32), nn.Linear(32, TOPICS)
        nn.init.uniform_(self.embedding.weight, -0.5, 0.5)
        nn.init.uniform_(self.fc.weight, -0.5, 0.5)
        nn.init.zeros_(self.fc.bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.embedding(ids))


@register.optimizer
def txt3_sgd(named_parameters, *, lr: float = 5.0):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr)


@register.schedule
def txt3_a_fifth(optimizer, steps):
    """The rate falls to a fifth after each third of the training."""
    return torch.optim.lr_scheduler.StepLR(optimizer, steps // 3 + 1, gamma=0.2)


# reviews, good or bad


class Reviews(Dataset):
    """Short reviews of 6 to 22 words, padded with 0; some of their words are for or against, and `not` turns the word after it."""

    def __init__(self, rows: int, seed: int, max_len: int = 22) -> None:
        rng = random.Random(seed)
        self.ids, self.labels = torch.zeros(rows, max_len, dtype=torch.long), []
        for row in range(rows):
            label, words = rng.randrange(2), []
            length = rng.randint(6, max_len)
            while len(words) < length - 1:
                if rng.random() < 0.35:
                    said = label if rng.random() < 0.85 else 1 - label
                    turned = rng.random() < 0.3
                    words += [1] * turned + [2 + 20 * (said ^ turned) + rng.randrange(20)]
                else:
                    words.append(42 + int(158 * rng.random() ** 2))
            self.ids[row, : len(words)] = torch.tensor(words)
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.ids[i], self.labels[i]


@register.dataset
def txt3_reviews() -> Splits:
    return Splits(Reviews(1200, 1), Reviews(300, 2), Reviews(1000, 3))


@register.model
class txt3_review_gru(nn.Module):
    """A recurrent network from both sides; its largest outputs over the words that are there are read."""

    def __init__(self, *, hidden: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, 24, padding_idx=0)
        self.rnn = nn.GRU(24, hidden, batch_first=True, bidirectional=True)
        self.dropout, self.classifier = nn.Dropout(0.2), nn.Linear(2 * hidden, 2)

    def forward(self, ids: Tensor) -> Tensor:
        lengths = (ids != 0).sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, padding_value=-1.0)
        return self.classifier(self.dropout(outputs.amax(dim=1)))


@register.loss
class txt3_criterion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return self.criterion(out, y)


@register.loss
def txt3_hidden_only(out, y) -> Tensor:
    return F.cross_entropy(out.transpose(1, 2), y, ignore_index=-100)


@register.metric(best="max")
def txt3_told(out, y):
    """The share of hidden words that are told."""
    asked = y != -100
    return Mean((out.argmax(-1) == y)[asked].sum(), asked.sum())
