"""Whole courses of a training beside another, gradients that are not those of the outputs, gates of recurrent layers that are shut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_found import CLOUDS, built, judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun.checks._decayed import Course, starved
from dlrun.checks._frame import Subject
from dlrun.checks._gates import _judge
from dlrun.checks._true_slope import untrue

WORDS = (*CLOUDS, "train.steps=60", "train.batch_size=32")


class shrinks(torch.optim.SGD):
    """Takes `share` of the weights in each step, without an option that says so."""

    def __init__(self, named_parameters: Any, *, lr: float = 0.05, share: float = 0.1) -> None:
        super().__init__([p for _, p in named_parameters], lr=lr)
        self.share = share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - self.share)
        super().step()


@pytest.mark.parametrize(("share", "level"), [(0.1, "warning"), (0.006, "info")])
def test_steps_that_shrink_the_weights_by_themselves(share: float, level: str) -> None:
    plug("optimizer", "shrinks", shrinks)
    subject = Subject(built(*WORDS, "optimizer=shrinks", f"optimizer.share={share}"), patience=1.0)
    finding = subject.judge("decay_groups", _check("decay_groups"))
    assert finding.level == level, finding
    assert level == "info" or "without it to" in finding.message


def _check(name: str) -> Any:
    from dlrun import registry

    return registry.get("check", name)


def _course(*losses: float) -> Course:
    return Course(list(losses), list(losses), 25 * len(losses))


@pytest.mark.parametrize(
    ("there", "without", "heavy", "wrong"),
    [
        (_course(1.2, 1.05, 1.05, 1.05, 1.05), _course(1.2, 1.0, 0.8, 0.7, 0.6), False, True),
        (_course(1.0, 0.4, 0.3, 0.3, 0.3), _course(1.0, 0.35, 0.28, 0.26, 0.25), True, True),
        (_course(1.0, 0.4, 0.3, 0.3, 0.3), _course(1.0, 0.35, 0.28, 0.26, 0.25), False, False),
        (_course(1.0, 0.6, 0.45, 0.35, 0.3), _course(1.0, 0.5, 0.4, 0.3, 0.25), True, False),
        (_course(1.0, 0.4, 0.4, 0.4, 0.4), Course([1.0, 0.2, 0.1, 0.0, 0.0], [1.0, 0.5, 0.5, 0.6, 0.7]), True, False),
    ],
    ids=("nothing learned", "at rest above", "light", "still falls", "helps val"),
)  # fmt: skip
def test_decay_that_starves_is_told_from_decay_that_helps(there: Course, without: Course, heavy: bool, wrong: bool) -> None:
    assert starved(there, without, heavy) == wrong


class _turned(torch.autograd.Function):
    """x as it is, its gradient times `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # type: ignore[override]
        return slope * ctx.factor, None


class _masked(torch.autograd.Function):
    """A ReLU whose backward lets through what its forward does not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return slope * (ctx.saved_tensors[0] < 0)


def _rounded(x: Tensor) -> Tensor:
    return x + ((4 * x).round() / 4 - x).detach()


BETWEEN = {
    "turned": (lambda x: _turned.apply(x, -1.0), "point the wrong way"),
    "mask turned round": (_masked.apply, "the gradients of"),
    "scaled": (lambda x: _turned.apply(x, 0.1), ""),
    "straight through": (_rounded, ""),
    "signs": (lambda x: x.tanh() + (x.sign() - x.tanh()).detach(), ""),
    "relu": (torch.relu, ""),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_gradients_are_those_of_the_outputs(case: str) -> None:
    between, text = BETWEEN[case]

    class net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.three(between(self.two(between(self.one(x.flatten(1))))))  # type: ignore[no-any-return]

    plug("model", "between", net)
    found = untrue(Subject(built(*WORDS, "model=between")))
    assert (found is None) == (not text) and (found is None or (found.level == "error" and text in found.message)), found


def _climbs(optimizer: Any, steps: int, *, peak: float = 1.0) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=steps + 1)


@pytest.mark.parametrize(("peak", "level"), [(30.0, "warning"), (0.1, "ok")])
def test_a_rate_that_rises_too_high_later(peak: float, level: str) -> None:
    plug("schedule", "climbs", _climbs)
    subject = Subject(built(*WORDS, "optimizer=sgd", "optimizer.momentum=0.9", "schedule=climbs", f"schedule.peak={peak}"), patience=1.0)
    finding = subject.judge("lr_sanity", _check("lr_sanity"))
    assert finding.level == level and (level == "ok" or "of the rate" in finding.message), finding


@pytest.mark.parametrize(
    ("gate", "bias", "text"), [(0, -12, "nothing comes in"), (1, -12, "remembers"), (3, -12, "out"), (1, 12, ""), (0, 0, "")]
)
def test_a_gate_that_is_shut(gate: int, bias: float, text: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 8, batch_first=True), torch.randn(4, 6, 3)
    layer.bias_ih_l0.data[8 * gate : 8 * gate + 8] = bias
    assert text in (said := _judge("rnn", layer, (x,), layer(x))) and bool(said) == bool(text)


def test_a_state_that_never_changes() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 8, batch_first=True), torch.randn(4, 6, 3)
    assert _judge("rnn", layer, (x,), layer(x)) == ""
    layer.bias_ih_l0.data[8:16] = 12
    assert "never changes" in _judge("rnn", layer, (x,), layer(x))
