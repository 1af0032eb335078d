"""Reviews, dictionaries, tags and recipes: small set-ups of words. See stories.yaml."""

from __future__ import annotations

import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register


@register.optimizer
def sto4_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


# ---------------------------------------------------------------- reviews: words for and against, some of them negated

LIKED = ["good", "warm", "bright", "clever", "funny", "fresh", "tender", "fine", "lovely", "brave"]
LOATHED = ["bad", "cold", "dull", "silly", "dreary", "stale", "harsh", "weak", "ugly", "timid"]
PLAIN = [f"word{i}" for i in range(30)]


def reviews(count, seed):
    """Reviews of 18 words with no tie between the words for and against."""
    rng = random.Random(seed)
    texts, labels = [], []
    while len(texts) < count:
        words, sum_ = [], 0
        while len(words) < 18:
            dice = rng.random()
            if dice < 0.35:
                side = rng.choice([1, -1])
                if rng.random() < 0.2:
                    words.append("not")
                    sum_ -= side
                else:
                    sum_ += side
                words.append(rng.choice(LIKED if side > 0 else LOATHED))
            else:
                words.append(rng.choice(PLAIN))
        if sum_ and len(words) == 18:
            texts.append(words)
            labels.append(int(sum_ > 0))
    return texts, labels


def numbered(texts):
    """A number for each word in the order in which they are met."""
    vocabulary = {}
    for text in texts:
        for word in text:
            vocabulary.setdefault(word, len(vocabulary))
    return vocabulary


class Reviews(Dataset):
    def __init__(self, texts, labels, vocabulary):
        self.ids = [[vocabulary[word] for word in text] for text in texts]
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.tensor(self.ids[i]), self.labels[i]


def review_splits(fit_each):
    parts = [reviews(count, seed) for count, seed in ((1600, 1), (300, 2), (1000, 3))]
    first = numbered(parts[0][0])
    spec = DataSpec((18,), (2,), "classification", classes=2, vocab=51)
    return Splits(*(Reviews(texts, labels, numbered(texts) if fit_each else first) for texts, labels in parts), spec=spec)


@register.dataset
def sto4_reviews() -> Splits:
    """The vocabulary is made from the training reviews and kept."""
    return review_splits(False)


@register.dataset
def sto4_reviews_numbered_each() -> Splits:
    """Each split numbers its words anew."""
    return review_splits(True)


class ReviewGRU(nn.Module):
    """The last states of both directions say what the review thinks; `mixed` takes them by a view."""

    def __init__(self, mixed=False):
        super().__init__()
        self.mixed = mixed
        self.embedding = nn.Embedding(51, 24)
        self.gru = nn.GRU(24, 32, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, 2)

    def forward(self, x):
        _, hidden = self.gru(self.embedding(x))
        both = hidden.view(x.size(0), -1) if self.mixed else torch.cat((hidden[-2], hidden[-1]), dim=1)
        return self.fc(self.dropout(both))


@register.model
def sto4_review_gru() -> nn.Module:
    return ReviewGRU()


@register.model
def sto4_review_gru_viewed() -> nn.Module:
    return ReviewGRU(mixed=True)


@register.model
class sto4_bag(nn.Module):
    """The mean of the words' vectors and one layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(51, 16, mode="mean")
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.embedding(x))


# ---------------------------------------------------------------- a dictionary: five words into another language

WORDS, START = 10, 10


def sentences():
    """All of the 100000 sentences in some order."""
    code = torch.randperm(WORDS**5, generator=torch.Generator().manual_seed(8))
    return torch.stack([code // WORDS**k % WORDS for k in range(5)], 1)


def said_there(source):
    """Word by word, but an adjective (0-4) goes behind the noun (5-9) that follows it."""
    other = torch.tensor([3, 7, 1, 9, 5, 0, 8, 2, 6, 4])
    target = source.clone()
    for t in range(4):
        turn = (target[:, t] < 5) & (target[:, t + 1] >= 5)
        target[turn, t], target[turn, t + 1] = target[turn, t + 1].clone(), target[turn, t].clone()
    return other[target]


@register.dataset
def sto4_dictionary() -> Splits:
    """Source, what has been said so far, what is to be said."""
    source = sentences()
    parts = []
    for rows in (source[:4000], source[4000:4300], source[5000:6000]):
        target = said_there(rows)
        said = torch.cat((torch.full((len(rows), 1), START), target[:, :-1]), 1)
        parts.append({"x": {"source": rows, "said": said}, "y": target})
    return Splits(*parts, spec=DataSpec((5,), (5, WORDS), "sequence", vocab=WORDS + 1))


class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, source):
        return self.gru(self.embedding(source))


class Decoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 1, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, WORDS)

    def forward(self, said, state):
        hidden, state = self.gru(self.embedding(said), state)
        return self.out(hidden), state


class Translator(nn.Module):
    """All that is known of the source is the encoder's last state; `cut` takes it out of the graph."""

    def __init__(self, width=64, cut=False):
        super().__init__()
        self.cut = cut
        self.encoder, self.decoder = Encoder(width), Decoder(width)

    def forward(self, batch):
        _, state = self.encoder(batch["source"])
        if self.cut:
            state = state.detach()
        return self.decoder(batch["said"], state)[0]


@register.model
def sto4_translator() -> nn.Module:
    return Translator()


@register.model
def sto4_translator_cut() -> nn.Module:
    return Translator(cut=True)


@register.model
class sto4_fed_back(nn.Module):
    """Attends to the source; in training, one word in four that it hears is its own last answer in place of the right one."""

    def __init__(self, *, width: int = 48, own: float = 0.25):
        super().__init__()
        self.own = own
        self.source, self.said = nn.Embedding(WORDS, width), nn.Embedding(WORDS + 1, width)
        self.reader = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.cell, self.out = nn.GRUCell(2 * width, width), nn.Linear(2 * width, WORDS)

    def forward(self, batch):
        memory, _ = self.reader(self.source(batch["source"]))
        state, seen, answers = memory.mean(1), torch.zeros_like(memory[:, 0]), []
        for t in range(batch["said"].shape[1]):
            word = batch["said"][:, t]
            if self.training and t:
                word = torch.where(torch.rand(word.shape, device=word.device) < self.own, answers[-1].argmax(-1), word)
            state = self.cell(torch.cat((self.said(word), seen), -1), state)
            weight = (memory @ state[:, :, None]).squeeze(-1).softmax(-1)
            seen = (weight[:, None] @ memory).squeeze(1)
            answers.append(self.out(torch.cat((state, seen), -1)))
        return torch.stack(answers, 1)


@register.loss
def sto4_each_word(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


# ---------------------------------------------------------------- tags: is this word a noun here, or a verb?

KINDS = {"article": range(1, 4), "pronoun": range(4, 8), "either": range(8, 30), "adverb": range(30, 36)}


class Tagged(Dataset):
    """Sentences of 7 to 12 words, 0 behind their end; a word that is either is a noun after an article and a verb after a pronoun."""

    def __init__(self, count, seed):
        rng = random.Random(seed)
        self.x, self.y = torch.zeros(count, 12, dtype=torch.long), torch.full((count, 12), -100)
        for row in range(count):
            words, tags = [], []
            while len(words) < 7 or (len(words) < 11 and rng.random() < 0.6):
                kind = rng.choice(["article", "pronoun"])
                words += [rng.choice(KINDS[kind]), rng.choice(KINDS["either"])]
                tags += [0, 2] if kind == "article" else [1, 3]
                if rng.random() < 0.3:
                    words.append(rng.choice(KINDS["adverb"]))
                    tags.append(4)
            length = min(len(words), 12)
            self.x[row, :length], self.y[row, :length] = torch.tensor(words[:length]), torch.tensor(tags[:length])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@register.dataset
def sto4_tagged() -> Splits:
    """Words and their tags."""
    return Splits(Tagged(1200, 1), Tagged(200, 2), Tagged(1000, 3), spec=DataSpec((12,), (12, 5), "sequence", vocab=36))


class Places(nn.Module):
    """Sines added to the words; `by_row`: the table is cut by the first axis, which is the batch here."""

    def __init__(self, width, by_row):
        super().__init__()
        self.by_row = by_row
        angle = torch.arange(4096)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(4096, 1, width)
        table[:, 0, 0::2], table[:, 0, 1::2] = angle.sin(), angle.cos()
        self.register_buffer("pe", table)

    def forward(self, x):
        return x + (self.pe[: x.size(0)] if self.by_row else self.pe[: x.size(1)].transpose(0, 1))


class Tagger(nn.Module):
    def __init__(self, by_row=False, width=32):
        super().__init__()
        self.embedding, self.places = nn.Embedding(36, width, padding_idx=0), Places(width, by_row)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.tag = nn.Linear(width, 5)

    def forward(self, x):
        return self.tag(self.encoder(self.places(self.embedding(x)), src_key_padding_mask=x == 0))


@register.model
def sto4_tagger() -> nn.Module:
    return Tagger()


@register.model
def sto4_tagger_places_by_row() -> nn.Module:
    return Tagger(by_row=True)


@register.model
class sto4_tagger_lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(36, 32, padding_idx=0)
        self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.hidden2tag = nn.Linear(64, 5)

    def forward(self, sentence):
        out, _ = self.lstm(self.embedding(sentence))
        return self.hidden2tag(self.dropout(out))


@register.loss
class sto4_tags(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(ignore_index=-100)

    def forward(self, out, y):
        return self.criterion(out.permute(0, 2, 1), y)


# ---------------------------------------------------------------- recipes: the next word of a list of instructions

FOODS = ["egg", "onion", "lemon", "apple", "carrot", "leek", "fig", "plum"]
DOES = ["take", "peel", "boil", "fry", "cut", "wash"]
TOKENS = [".", "and", "then", "one", "two", "three", "it", "them", *DOES, *FOODS, *(food + "s" for food in FOODS)]


def recipe(length, seed):
    """Instructions: one egg is `it` later, two eggs are `them`; each food likes three of the verbs."""
    likes = {food: random.Random(food).sample(DOES, 3) for food in FOODS}
    rng, words = random.Random(seed), []
    while len(words) < length:
        food, many = rng.choice(FOODS), rng.choice(["one", "two", "three"])
        words += [rng.choice(DOES), many, food if many == "one" else food + "s"]
        while rng.random() < 0.6:
            words += [rng.choice(["and", "then"]), rng.choice(likes[food]), "it" if many == "one" else "them"]
        words.append(".")
    return torch.tensor([TOKENS.index(word) for word in words[:length]])


@register.dataset
def sto4_recipes() -> Splits:
    """Recipes in pieces of 20 words and the same one word on."""

    def rows(count, seed):
        text = recipe(count * 20 + 1, seed)
        return text[:-1].view(count, 20), text[1:].view(count, 20)

    return Splits(rows(800, 1), rows(150, 2), rows(1000, 3), spec=DataSpec((20,), (20, len(TOKENS)), "language_model", vocab=len(TOKENS)))


class Cook(nn.Module):
    """Attention by torch's function, whose dropout knows no modes."""

    def __init__(self, width, drop):
        super().__init__()
        self.drop = drop
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        p = self.drop if self.training else 0.0
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
        x = x + self.back(heard.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@register.model
class sto4_kitchen(nn.Module):
    def __init__(self, *, width: int = 32, drop: float = 0.3):
        super().__init__()
        self.word, self.place = nn.Embedding(len(TOKENS), width), nn.Embedding(20, width)
        self.cooks = nn.Sequential(*(Cook(width, drop) for _ in range(2)), nn.LayerNorm(width))
        self.head = nn.Linear(width, len(TOKENS))

    def forward(self, x):
        return self.head(self.cooks(self.word(x) + self.place.weight[: x.shape[1]]))


@register.optimizer
def sto4_paper_adam(named_parameters, *, lr: float = 1.0):
    """The rate is 1, for the schedule says all of it."""
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, betas=(0.9, 0.98), eps=1e-9)


@register.schedule
def sto4_noam(optimizer, steps, *, width: int = 32, factor: float = 0.3, warmup: int = 60):
    """Up linearly, then down with the square root."""

    def rate(step):
        step = max(step, 1)
        return factor * width**-0.5 * min(step**-0.5, step * warmup**-1.5)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


# ---------------------------------------------------------------- beeps: a signal and its letters, in no known alignment


@register.dataset
def sto4_beeps() -> Splits:
    """Thirty frames of six bands, in them two to five letters of six, each as long as it likes."""
    sound = torch.randn(6, 6, generator=torch.Generator().manual_seed(4))

    def rows(count, seed):
        rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
        x, letters, lengths = 0.4 * torch.randn(count, 30, 6, generator=g), torch.zeros(count, 5, dtype=torch.long), []
        for row in range(count):
            lengths.append(rng.randint(2, 5))
            at = 0
            for i in range(lengths[-1]):
                letters[row, i] = rng.randrange(6)
                at += rng.randint(1, 2)
                end = at + rng.randint(2, 4)
                x[row, at:end] += sound[letters[row, i]]
                at = end
        return {"x": x, "y": {"letters": letters, "lengths": torch.tensor(lengths)}}

    return Splits(rows(1000, 1), rows(200, 2), rows(1000, 3), spec=DataSpec((30, 6), (30, 7), "other"))


@register.model
class sto4_listener(nn.Module):
    """Log-probabilities of six letters and of none, the last, for each frame."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 32, 5, padding=2)
        self.rnn = nn.GRU(32, 24, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, 7)

    def forward(self, x):
        h = F.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.fc(self.rnn(h)[0]).log_softmax(-1)


@register.loss
class sto4_ctc(nn.Module):
    def __init__(self):
        super().__init__()
        self.ctc = nn.CTCLoss(blank=6, zero_infinity=True)

    def forward(self, out, y):
        frames = torch.full((out.shape[0],), out.shape[1], dtype=torch.long)
        return self.ctc(out.transpose(0, 1), y["letters"], frames, y["lengths"])
