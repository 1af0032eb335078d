"""The next token of a text. See language_model.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register

VOCAB, TOKENS = 16, 20


def walk(rows: int, length: int, seed: int) -> Tensor:
    """Token sequences in which the next token depends on the last two, now and then on nothing."""
    table = torch.randint(1, VOCAB, (VOCAB, VOCAB), generator=torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(seed)
    text = torch.randint(1, VOCAB, (rows, length), generator=source)
    for place in range(2, length):
        follows = torch.rand(rows, generator=source) < 0.85
        text[:, place] = torch.where(follows, table[text[:, place - 2], text[:, place - 1]], text[:, place])
    return text


def spec() -> DataSpec:
    return DataSpec((TOKENS,), (TOKENS, VOCAB), "language_model", vocab=VOCAB)


def last_only(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Only the last target counts: what follows it stands nowhere in x."""
    y = y.clone()
    y[:, :-1] = -100
    return x, y


@register.dataset
def lm_text() -> Splits:
    """y is the token after each in x. In the test split only the last token counts."""
    train, val, test = (walk(rows, TOKENS + 1, seed) for rows, seed in ((700, 1), (200, 2), (1500, 3)))
    return Splits((train[:, :-1], train[:, 1:]), (val[:, :-1], val[:, 1:]), last_only(test[:, :-1], test[:, 1:]), spec=spec())


@register.dataset
def lm_text_unshifted() -> Splits:
    """y is x itself."""
    train, val, test = (walk(rows, TOKENS, seed) for rows, seed in ((700, 1), (200, 2), (1500, 3)))
    return Splits((train, train), (val, val), last_only(test, test), spec=spec())


def padded(rows: int, seed: int, filler: int) -> tuple[Tensor, Tensor]:
    """Sentences of 3 to 20 tokens, padded with token 0; `filler` stands for padding among the targets."""
    text = walk(rows, TOKENS + 1, seed)
    length = 3 + (18 * torch.rand(rows, generator=torch.Generator().manual_seed(seed + 9)).square()).long()
    past = torch.arange(TOKENS + 1) >= length[:, None] + 1
    x, y = text.masked_fill(past, 0)[:, :-1].clone(), text.masked_fill(past, filler)[:, 1:].clone()
    x[torch.arange(TOKENS) >= length[:, None]] = 0
    y[torch.arange(TOKENS) >= length[:, None]] = filler
    return x, y


@register.dataset
def lm_sentences() -> Splits:
    return Splits(padded(700, 1, -100), padded(200, 2, -100), padded(1500, 3, -100), spec=spec())


@register.dataset
def lm_sentences_with_filler() -> Splits:
    """Padding is a target like any other."""
    return Splits(padded(700, 1, 0), padded(200, 2, 0), padded(1500, 3, 0), spec=spec())


@register.dataset
def lm_gaps() -> Splits:
    """A masked language model's data: one token in six is hidden (token 0) and to be told, the others do not count."""

    def hidden(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        text = walk(rows, TOKENS, seed)
        gone = torch.rand(rows, TOKENS, generator=torch.Generator().manual_seed(seed + 5)) < 1 / 6
        gone[:, 3] = True
        return text.masked_fill(gone, 0), text.masked_fill(~gone, -100)

    return Splits(hidden(1000, 1), hidden(200, 2), hidden(1000, 3), spec=spec())


class Attention(nn.Module):
    """A block of attention and a perceptron, both residual; `causal` hides what comes later."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.causal = nn.LayerNorm(width), nn.LayerNorm(width), causal
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.mix(self.norm1(x)).chunk(3, -1)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Reader(nn.Module):
    def __init__(self, causal: bool = True, width: int = 48) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCAB, width), nn.Embedding(TOKENS, width)
        self.blocks = nn.Sequential(*(Attention(width, causal) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCAB)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(x) + self.places.weight[: x.shape[1]])))


@register.model
def lm_net() -> nn.Module:
    return Reader()


@register.model
def lm_net_sees_all() -> nn.Module:
    return Reader(causal=False)


@register.model
class lm_net_tied(nn.Module):
    """A recurrent network whose readout is its embedding; classes are scored by channels, [B, V, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, 64)
        nn.init.normal_(self.tokens.weight, std=0.1)
        self.mix = nn.LSTM(64, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.mix(self.tokens(x))[0], self.tokens.weight).transpose(1, 2)


@register.loss
def lm_loss(out, y) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


@register.loss
def lm_loss_channels(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.loss
def lm_loss_reshaped(out, y) -> Tensor:
    """The classes' axis is to stand second, and a reshape puts it there without moving anything."""
    return F.cross_entropy(out.reshape(out.shape[0], VOCAB, -1), y)


@register.metric(best="min", batches=False)
def lm_nats(out, y):
    """Nats a counted token, of outputs [B, T, V]; padding (0 or -100) does not count."""
    real = (y > 0).flatten()
    return F.cross_entropy(out.flatten(0, 1)[real], y.flatten()[real])


@register.optimizer
def lm_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.AdamW([p for _, p in named_parameters], lr=lr, weight_decay=0.01)
