"""Whether players can give what is asked of them: samples as far apart as the data, scores as far as the critic's loss wants them.

Ends of a range are found by stretching (`_forms.py`). A critic behind a sigmoid is right for a loss of probabilities: such a loss is at its
lowest where data score 1 and samples 0, or takes no number beyond. One that still gains there wants free scores. Source: Goodfellow et al.
2014, section 3; Arjovsky et al. 2017, "Wasserstein GAN", algorithm 1 (no sigmoid).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._forms import Form, form
from dlrun.checks._frame import FEW, Finding, Subject, skipped, tensors
from dlrun.checks._players import Player, players
from dlrun.checks._probe import Probe
from dlrun.checks._targets import Targets
from dlrun.noise import seed_generators

BEYOND, SOME, MOST = 0.05, 0.02, 0.2
LOW, GAIN, FAR = 0.25, 0.2, 5.0
RULE = (
    f"samples: under {SOME:.0%} of the data's values lie beyond {BEYOND:.0%} of the generator's range; scores: within the critic's range "
    f"its loss falls below {LOW:.0%} of the first, or gains nothing beyond"
)


def ranges(subject: Subject) -> Finding:
    """The verdict on every network that makes rows of data, and on those that score them."""
    found = {player.name: (player, _form(player)) for player in players(subject)}
    known = {name: shape for name, (_, shape) in found.items() if shape is not None}
    if subject.kind != "gan" or not known:
        return skipped("no network makes rows of data that another one scores")
    numbers: dict[str, Any] = {name: {"form": shape.name, "low": shape.low, "high": shape.high} for name, shape in known.items()}
    for name, shape in known.items():
        player = found[name][0]
        loud = _out_of_reach(subject, name, shape, numbers) if player.makes else _squashed(subject, name, shape, numbers)
        if loud:
            return loud
    text = ", ".join(f"{name} gives {_said(shape)}" for name, shape in known.items())
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _said(shape: Form) -> str:
    bounded = {"bounded": f"{shape.low:g} .. {shape.high:g}", "rectified": "no number below 0", "shares": "probabilities"}
    return bounded.get(shape.name, "any number")


def _form(player: Player) -> Form | None:
    """The form of what a network gives; None where that is no tensor of numbers."""
    run = player.copy()
    batch = player.prepared(run, player.few)
    outputs = player.outputs(run, batch, training=True)
    out = next((t for t in tensors(outputs) if t.is_floating_point() and t.dim()), None)
    if out is None:
        return None
    try:
        return form(player, Probe(run, batch, outputs, out, "other", Targets("none")))
    except Exception:  # outside its task a network may refuse what it gets
        return None


def _out_of_reach(subject: Subject, name: str, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """The finding where data lie outside what a bounded generator can make."""
    x = subject.rows("train", 512).x
    if shape.name not in ("bounded", "rectified") or not isinstance(x, Tensor):
        return None
    x = x.detach().float()
    slack = BEYOND * (shape.high - shape.low if math.isfinite(shape.high) else float(x.std()))
    share = float(((x < shape.low - slack) | (x > shape.high + slack)).float().mean())
    numbers |= {"data": [float(x.min()), float(x.max())], "share_beyond": share}
    if share <= SOME:
        return None
    text = f"{name} gives {_said(shape)}, data go from {float(x.min()):.3g} to {float(x.max()):.3g}: {share:.0%} of values are out of reach"
    cause = "the last layer is bounded to another range than the data are scaled to"
    step = "scale the data to that range, or leave the last function out"
    return Finding("error" if share > MOST else "warning", text, cause, step, numbers, RULE)


def _squashed(subject: Subject, name: str, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a bounded critic stands before a loss that wants more than it can give."""
    if shape.name != "bounded":
        return None
    wide = FAR * (shape.high - shape.low)
    first, best, far = (_loss(subject, name, pair) for pair in (None, (shape.high, shape.low), (shape.high + wide, shape.low - wide)))
    other, beyond = (_loss(subject, name, pair) for pair in ((shape.low, shape.high), (shape.low - wide, shape.high + wide)))
    numbers["critic"] = {"first_loss": first, "best_within": best, "beyond": far, "exchanged": [other, beyond]}
    if first is None or best is None or far is None or other is None or beyond is None:
        return None
    if other < best:  # data are to score low
        best, far = other, beyond
    if abs(best) <= LOW * abs(first) or far >= best - GAIN * abs(first):
        return None
    text = f"{name} scores {_said(shape)}, its loss wants more: {first:.3g} at the start, {best:.3g} at best within, {far:.3g} beyond"
    cause = "a sigmoid or tanh stands before a loss that takes free scores (logits)"
    return Finding("error", text, cause, "return the last linear layer's output as it is", numbers, RULE)


def _loss(subject: Subject, name: str, scores: tuple[float, float] | None) -> float | None:
    """The first loss that updates a critic where data and samples get these scores; None where it is not finite, or refused."""
    run = subject.copy()
    batch = subject.prepared(run, subject.raw[:FEW])
    real = batch["x"]

    def give(module: nn.Module, inputs: Any, out: Any) -> Any:
        if scores is None or not isinstance(out, Tensor) or not isinstance(inputs[0], Tensor) or inputs[0].shape[1:] != real.shape[1:]:
            return out
        data = torch.stack([(row == real).flatten(1).all(1).any() for row in inputs[0].detach()])
        wanted = torch.where(data.view(-1, *[1] * (out.dim() - 1)), *scores).to(out.dtype)
        return out + (wanted - out).detach()

    handle = run.modules[name].register_forward_hook(give)
    try:
        with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "ranges")
            losses = (objective.loss for objective in run.task.objectives(run.nets, batch) if name in objective.update)
            value = float(next(losses, torch.tensor(math.nan)).detach().sum())
    except Exception:  # numbers beyond its range may be refused
        return None
    finally:
        handle.remove()
    return value if math.isfinite(value) else None
