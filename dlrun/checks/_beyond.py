"""Targets that lie where no output can get: behind a tanh, in the state of a recurrent layer, in a cosine.

Of standardised targets a third lie beyond -1 and 1. The loss that this costs is a tenth of all, so that a share of the loss alone does not
tell it from targets that are noisy readings of what is bounded (and are best told by outputs within). It is said where a simple model gets
worse when its answers are cut to the bounds, or where targets are standardised, which makes them no readings of what is bounded.

Bounds that no stretching shows (a state made by hand, a cosine, a sine) are found by trying: copies of the network are pushed up and down
with ever larger steps, and never leave a range.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor, nn

from dlrun.checks._forms import RECURRENT, STRETCH, Form, called, stretched
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._inputs import sample, tables
from dlrun.checks._probe import Probe
from dlrun.functional.relation import guesses
from dlrun.noise import seed_generators

KINDS = ("regression", "sequence", "graph", "other")
LOST, BEYOND, EDGE, CERTAIN, NEAR = 0.03, 0.05, 0.05, 5.0, 0.15
ROWS, STEPS, RATES, SETTLED, GROWN, WIDER = 8, 40, (0.03, 0.3), 0.02, 30.0, 0.2


def out_of_reach(subject: Subject, asked: Probe, shape: Form) -> tuple[float, float, float] | None:
    """(least target, largest, share of them that lie beyond the form), where that is no noise; None where it may be, or is little."""
    if asked.targets.mode != "numbers" or asked.kind not in KINDS:
        return None
    found = sample(subject, "train").y
    y = found.detach().float().cpu() if isinstance(found, Tensor) else asked.targets.like(asked.out).cpu()
    y = y[y.isfinite()]
    if len(y) < 2:
        return None
    size = shape.high - shape.low if math.isfinite(shape.high) else float(y.std())
    excess = y - y.clamp(shape.low, shape.high)
    share = float((excess.abs() > EDGE * size).float().mean())
    lost = float(excess.square().mean() / y.var().clamp(min=1e-30))
    if share < BEYOND or lost < LOST or not (_standardised(y) or _told(subject, shape)):
        return None
    return float(y.min()), float(y.max()), share


def _standardised(y: Tensor) -> bool:
    return abs(float(y.mean())) < NEAR and abs(float(y.std()) - 1) < NEAR


def _told(subject: Subject, shape: Form) -> bool:
    """Whether a simple model is worse where what it says is cut to the form: noise beyond bounds is told best by numbers within."""
    train = tables(subject).get("train")
    if train is None or train.classes is not None or len(train) < 64:
        return False
    half = len(train) // 2
    seen, y = train.y[:half].double(), train.y[half:].double()
    guesses_of = [
        guess.double() * seen.std(0, correction=0) + seen.mean(0) for guess in guesses(train.x[:half], seen, train.x[half:], None)
    ]
    best = min(guesses_of, key=lambda guess: float((y - guess).square().mean()))
    worse = ((y - best.clamp(shape.low, shape.high)).square() - (y - best).square()).mean(1)
    return float(worse.sum() / worse.square().sum().sqrt().clamp(min=1e-12)) > CERTAIN


def pushed(subject: Subject, asked: Probe) -> Form | None:
    """The range that outputs do not leave, whatever the weights; None where they may leave any, or where time is too short to try.

    A network whose outputs grow with what its last layer gives (nearly all) is not tried.
    """
    if asked.targets.mode != "numbers" or asked.kind not in KINDS or subject.patience < 1 or not _odd(subject, asked):
        return None
    low, high, settled = _range(subject, asked)
    edge = EDGE * (high - low)
    return Form("bounded", low - edge, high + edge) if settled else None


def confirmed(subject: Subject, asked: Probe, shape: Form) -> bool:
    """Whether outputs stay within bounds that stretching found, where there is time to try: a state made by hand has other ends."""
    if shape.name != "bounded" or subject.patience < 1:
        return True
    low, high, _ = _range(subject, asked)
    wider = WIDER * (shape.high - shape.low)
    return low > shape.low - wider and high < shape.high + wider


def _range(subject: Subject, asked: Probe) -> tuple[float, float, bool]:
    """(least, largest) outputs after pushes of either sign, and whether they went no further in the end, as far as there is time."""
    begun, low, high, still = time.thread_time(), math.inf, -math.inf, True
    for sign, rate in ((sign, rate) for rate in RATES for sign in (1.0, -1.0)):
        half, end = _pushed(subject, asked, sign, rate)
        low, high = min(low, end), max(high, end)
        still = still and (rate < max(RATES) or abs(end - half) < SETTLED * (high - low))
        if not math.isfinite(end) or time.thread_time() - begun > subject.patience / 2:
            return low, high, False
    return low, high, still and high > low


def _odd(subject: Subject, asked: Probe) -> bool:
    """Whether outputs stay where they are, nearly, when the last layer gives ten thousand times as much of either sign."""
    last, hidden = _last(subject, asked)
    place = next((i for i, t in enumerate(tensors(asked.outputs)) if t is asked.out), None)
    if last is None or place is None or (isinstance(last, RECURRENT) and not hidden):
        return False
    for factor in (STRETCH, -STRETCH):
        found = tensors(stretched(subject, asked, last, factor))
        if len(found) <= place or found[place].shape != asked.out.shape or not bool(found[place].isfinite().all()):
            return False
        if float(found[place].abs().max()) > GROWN * max(1.0, float(asked.out.abs().max())):
            return False
    return True


def _last(subject: Subject, asked: Probe) -> tuple[nn.Module | None, bool]:
    """The last layer, and whether a network that owns a parameter itself ended after it: that hides what stands behind the layer."""
    ended = called(subject, asked.run, asked.batch)[::-1]
    tops = [asked.run.modules[name] for name in asked.run.nets]
    last = next((part for part in ended if not any(part is top for top in tops)), None)
    return last, bool(ended) and ended[0] is not last


def _pushed(subject: Subject, asked: Probe, sign: float, rate: float) -> tuple[float, float]:
    """The furthest outputs of some rows after half of the steps in one direction, and after all; infinite where they end nowhere."""
    run = subject.copy()
    weights = list(subject.parameters(run).values())
    if not weights:
        return sign * math.inf, sign * math.inf
    optimizer, furthest = torch.optim.Adam(weights, lr=rate), list[float]()
    batch, place = asked.batch[:ROWS], next(i for i, t in enumerate(tensors(asked.outputs)) if t is asked.out)
    for module in run.modules.values():
        module.train()
    for _ in range(STEPS):
        with torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "push")
            out = tensors(run.task.outputs(run.nets, batch.map(torch.clone)))[place]  # type: ignore[attr-defined]
            if not out.requires_grad or not bool(out.isfinite().all()):
                return sign * math.inf, sign * math.inf
            optimizer.zero_grad()
            (-sign * out).sum().backward()
        optimizer.step()
        furthest.append(float((sign * out.detach()).max()) * sign)
    pick = max if sign > 0 else min
    return pick(furthest[: STEPS // 2]), pick(furthest)


def cause(subject: Subject, asked: Probe, shape: Form, usual: str) -> tuple[str, str]:
    """(probable cause, next step) of outputs that cannot reach their targets."""
    last, _ = _last(subject, asked)
    if isinstance(last, RECURRENT):
        return "the state of a recurrent layer is the answer, and a state lies between -1 and 1", "put a linear layer behind it"
    known: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)
    if shape.name == "bounded" and not isinstance(last, known):
        return "outputs that are bounded by the way they are made (a state, a cosine, a norm)", "put a linear layer behind them"
    return f"{usual} behind the last layer", "leave it out, or scale the targets"
