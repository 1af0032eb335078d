"""Series in, one label, number or string out. See sequence.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register

STEPS, FEATURES, CLASSES = 18, 3, 4


def draw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Which of four ways a noisy series turns in its last third; before that it says nothing."""
    source = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (rows,), generator=source)
    x = torch.randn(rows, STEPS, FEATURES, generator=source) * 0.6
    late = torch.arange(STEPS // 3).float()
    turn = torch.stack((late, -late, late.flip(0), -late.flip(0)))[y] / 4
    x[:, -len(late) :, 0] += turn
    return x, y


@register.dataset
def seq_turns() -> Splits:
    return Splits(draw(800, 1), draw(300, 2), draw(1000, 3))


@register.dataset
def seq_forecast() -> Splits:
    """The next value of a series from the last twelve; val and test lie later, where the level has drifted upwards."""
    source = torch.Generator().manual_seed(0)
    time = torch.arange(2400).float()
    noise = torch.randn(2400, generator=source)
    series = torch.sin(time / 5) + 0.5 * torch.sin(time / 17) + 0.1 * noise + time / 900 - 1
    windows = series.unfold(0, 13, 1)
    x, y = windows[:, :12, None], windows[:, 12]
    return Splits((x[:1500], y[:1500]), (x[1520:1900], y[1520:1900]), (x[1920:], y[1920:]))


@register.dataset
def seq_strings() -> Splits:
    """Each symbol of a short string is held for two to four noisy steps; the string is to be told, not the steps."""

    def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(seed)
        y = torch.randint(1, 5, (count, 4), generator=source)
        held = torch.randint(2, 5, (count, 4), generator=source)
        x = torch.zeros(count, 16, 5)
        for row in range(count):
            steps = torch.repeat_interleave(y[row], held[row])[:16]
            x[row, : len(steps)] = F.one_hot(steps, 5).float()
        return x + 0.2 * torch.randn(x.shape, generator=source), y

    return Splits(rows(600, 1), rows(150, 2), rows(300, 3), spec=DataSpec((16, 5), (16, 5), "sequence"))


@register.model
class seq_net(nn.Module):
    """A GRU over the series; its last output is read."""

    batch_first, place = True, -1

    def __init__(self, out_shape) -> None:
        super().__init__()
        self.mix = nn.GRU(FEATURES, 32, batch_first=self.batch_first)
        self.head = nn.Linear(32, out_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x)[0][:, self.place])


@register.model
class seq_net_over_rows(seq_net):
    """The rows of a batch are taken for time."""

    batch_first = False


@register.model
class seq_net_first_step(seq_net):
    """The output after the first step is read."""

    place = 0


@register.model
class seq_net_forecast(nn.Module):
    """Predicts the change from the last value."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]
        return last[:, 0, 0] + self.head(self.mix(x - last)[0][:, -1])[:, 0]


@register.model
class seq_net_steps(nn.Module):
    """Scores of a symbol or a blank at every step, from both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.GRU(5, 32, batch_first=True, bidirectional=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x)[0]).log_softmax(-1)


@register.loss
def seq_loss(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.loss
def seq_loss_square(out, y) -> Tensor:
    return F.mse_loss(out, y)


@register.loss
def seq_loss_alignment(out, y) -> Tensor:
    """Connectionist temporal classification: any alignment of the string to the steps counts."""
    rows, steps = out.shape[:2]
    return F.ctc_loss(out.transpose(0, 1), y, torch.full((rows,), steps), torch.full((rows,), y.shape[1]))


@register.optimizer
def seq_adam(named_parameters, *, lr: float = 5e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
