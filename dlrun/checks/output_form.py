"""What the network gives is what the loss takes: logits are not squashed before a loss that squashes them itself, targets are in reach.

The catalogue's rule (rows that sum to 1) is exact for a softmax, but not for a tanh, a scaled sigmoid, or a softmax inside the loss. So the
question is put to the loss: what do the best outputs of this form cost, beside the best of all? Behind a softmax the cross-entropy of C
classes cannot fall below ln(1 + (C - 1)/e), 1.46 of ln 10 = 2.30. Probabilities for a loss that takes them, log-probabilities for a
negative log-likelihood, bounded outputs for targets within these bounds all reach the best of all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._beyond import cause, confirmed, out_of_reach, pushed
from dlrun.checks._descent import reach
from dlrun.checks._ends import cut_off, short
from dlrun.checks._forms import Form, form
from dlrun.checks._frame import LOUD, Finding, Subject, check, skipped, tensors
from dlrun.checks._leaning import leaning
from dlrun.checks._probe import Probe, probe
from dlrun.checks._pull import hot, is_likelihood, refusal
from dlrun.checks._ranges import ranges

SOME = 0.005
TOO_MUCH = 0.25
"""Share of what there is to gain that outputs of this form cannot gain, from which it is an error."""
SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)
SILENT = 0.25
"""Share of outputs that are exactly 0 above which a rectifier stands behind the logits."""
RULE = f"outputs of this form can gain > {1 - TOO_MUCH:.0%} of what the loss has to give"
NAMES = {"shares": "a softmax", "bounded": "a sigmoid or tanh", "rectified": "a ReLU"}


@check(
    stage="outputs",
    moment="fast",
    recipe="Hacker's Guide: look at what the network gives; Karpathy: ln C at init",
    follows=("shape_contract",),
)
def output_form(subject: Subject) -> Finding:
    """The form of the outputs, found by stretching the last layer, and the least loss that it allows."""
    asked = probe(subject)
    if asked is None:
        return ranges(subject) if subject.loss_task is None else skipped("there is no single loss of tensors")
    shape = form(subject, asked)
    numbers: dict[str, Any] = {"form": shape.name, "least": float(asked.out.min()), "largest": float(asked.out.max())}
    if shape.name == "shares" and shape.axis == 0 and asked.out.dim() > 1 and len(asked.out) > 2:
        text = f"outputs {tuple(asked.out.shape)} sum to 1 over the rows of the batch"
        cause = "a softmax over dim=0: rows share one probability, and a row's output hangs on the others"
        return Finding("error", text, cause, "take the softmax over the last axis (dim=-1)", numbers, RULE)
    if asked.targets.mode == "none":
        plain = Finding("info", f"outputs are {_said(shape)}; there is nothing to hold them against", numbers=numbers)
        return (_beyond(asked, shape, numbers) if _against_input(asked) else None) or leaning(subject, asked) or plain
    spec = subject.run.data.spec
    if asked.targets.mode == "classes":
        reason = refusal(asked, spec.classes or spec.vocab)
        if reason:
            return skipped(reason)
        found = _of_classes(asked, shape, numbers)
        return (short(subject, asked, numbers) if found.level not in LOUD and shape.name in ("free", "bounded") else None) or found
    if asked.targets.mode == "labels" and asked.kind != "vae":
        found = _of_labels(asked, shape, numbers)
        return (cut_off(subject, asked, shape, numbers) if found.level not in LOUD else None) or found
    if shape.name == "free" and (narrow := pushed(subject, asked)):
        shape, numbers["form"] = narrow, "bounded"
    found = _in_reach(subject, asked, shape, numbers)
    if found.level in LOUD and not confirmed(subject, asked, shape):
        shape = pushed(subject, asked) or Form("free")
        found = _in_reach(subject, asked, shape, numbers)
    found = found if found.level in LOUD else cut_off(subject, asked, shape, numbers) or found
    return found if found.level in LOUD else _beyond(asked, shape, numbers) or leaning(subject, asked) or found


def _against_input(asked: Probe) -> bool:
    """Whether all else that the task gets from the network is the input handed through, as an autoencoder's own loss wants it."""
    given = list(leaves(asked.batch.get("x", ())))
    others = [t for t in tensors(asked.outputs) if t is not asked.out and t.is_floating_point()]
    return asked.kind not in ("contrastive", "gan") and all(any(t.shape == x.shape and torch.equal(t, x) for x in given) for t in others)


def _beyond(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """The finding where the loss is lowest at outputs that this form cannot give."""
    found = reach(asked, shape) if shape.name in ("bounded", "rectified") else None
    if found is None:
        return None
    numbers |= {"best": found.mine, "best_of_all": found.least, "indifferent": found.idle, "beyond": found.beyond}
    if found.lost < TOO_MUCH or found.beyond < 0.1:
        return None
    text = f"outputs are {_said(shape)}, for {found.beyond:.0%} of them the loss wants others"
    text += f": it cannot fall below {found.mine:.3g}, free outputs reach {found.least:.3g} (equal ones {found.idle:.3g})"
    cause = f"{NAMES[shape.name]} behind the last layer, before a loss that takes logits or logarithms, or targets of another range"
    step = "leave it out, give the loss what it takes (log_input, with_logits), or scale the targets"
    return Finding("error", text, cause, step, numbers, RULE)


def _said(shape: Form) -> str:
    said = {"bounded": f"bounded to {shape.low:g} .. {shape.high:g}", "rectified": "never below 0", "logs": "log-probabilities"}
    return {"free": "free", "shares": "probabilities that sum to 1", **said}[shape.name]


def _of_classes(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    layout = asked.targets.layouts[0]
    up = hot(asked.targets, layout)
    if shape.name in ("shares", "logs") and shape.axis != layout.axis and layout.name != "flat":
        text = f"outputs {tuple(asked.out.shape)} sum to 1 over axis {shape.axis}, the {layout.classes} classes are axis {layout.axis}"
        cause = f"a softmax over the wrong axis (dim={shape.axis})"
        return Finding("error", text, cause, f"take the softmax over dim={layout.axis - asked.out.dim()}", numbers, RULE)
    if shape.name in ("shares", "bounded"):
        middle = shape.of(torch.zeros_like(asked.out))
        return _against(
            asked,
            shape,
            [shape.ends(up > 0), up.clamp(shape.low, shape.high)],
            middle,
            [up, *(scale * (2 * up - 1) for scale in SCALES)],
            numbers,
        )
    if shape.name == "rectified":
        return _rectified(asked, numbers)
    width = _squashed(asked, up) if shape.name == "free" else None
    if width is not None:
        classes = layout.classes
        least = math.log(math.exp(width) + classes - 1) - width
        numbers |= {"width": width, "best": least, "indifferent": math.log(classes)}
        text = f"the loss squashes the outputs before its softmax: none cost less than {least:.3f} (ln {classes} = {math.log(classes):.3f})"
        cause = "a softmax or sigmoid inside the loss, before cross-entropy, which has a softmax of its own"
        return Finding("error", text, cause, "give cross_entropy the plain logits", numbers, RULE)
    return _twice(asked, shape, numbers) or Finding(
        "ok", f"outputs are {_said(shape)}, as the loss takes them", numbers=numbers, threshold=RULE
    )


def _twice(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """A log-softmax before cross-entropy changes nothing."""
    if shape.name != "logs":
        return None
    moved = asked.at(asked.out + 1.0)
    if abs(moved - asked.at(asked.out)) > 1e-4:
        return None
    text = "outputs are log-probabilities, and the loss takes the log-softmax again: harmless, for it changes nothing"
    return Finding("info", text, numbers=numbers, threshold=RULE)


def _of_labels(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    up = asked.targets.like(asked.out)
    if shape.name == "shares" and shape.axis == up.dim() - 1 and not bool((up.sum(-1) == 1).all()):
        sums = up.sum(-1)
        text = f"outputs sum to 1 over the {up.shape[-1]} labels of a row, rows have {int(sums.min())} to {int(sums.max())} of them"
        cause = "a softmax where several labels hold at once, or none: one is more likely where another is less"
        return Finding("error", text, cause, "a sigmoid for each label, or plain logits with a loss that takes them", numbers, RULE)
    frees = [up, *(scale * (2 * up - 1) for scale in SCALES)]
    if shape.name in ("shares", "bounded"):
        ends = [shape.ends(up > 0.5), up.clamp(shape.low, shape.high)]
        return _against(asked, shape, ends, shape.of(torch.zeros_like(asked.out)), frees, numbers)
    if shape.name == "rectified":
        return _against(asked, shape, [up, *(scale * up for scale in SCALES)], torch.zeros_like(asked.out), frees, numbers)
    least = _squashed_labels(asked, up) if shape.name == "free" else None
    if least is not None:
        numbers |= {"best": least, "indifferent": math.log(2)}
        text = f"the loss squashes the outputs before its sigmoid: no outputs cost less than {least:.3f} (ln 2 = 0.693)"
        cause = "a sigmoid inside the loss, before binary_cross_entropy_with_logits, which has a sigmoid of its own"
        return Finding("error", text, cause, "give it the plain logits", numbers, RULE)
    return Finding("ok", f"outputs are {_said(shape)}, as the loss takes them", numbers=numbers, threshold=RULE)


def _of_numbers(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    y = asked.targets.like(asked.out)
    if shape.name not in ("shares", "bounded", "rectified") or not bool(torch.isfinite(y).all()):
        return Finding("ok", f"outputs are {_said(shape)}", numbers=numbers, threshold=RULE)
    numbers |= {"targets": [float(y.min()), float(y.max())]}
    middle = y.mean().clamp(shape.low, shape.high).expand_as(y).clone()
    frees = [y, y.clamp(min=1e-9).log()] if asked.targets.mode == "shares" else [y]
    if float(y.min()) >= 0 and float(y.max()) <= 1 and asked.targets.mode == "numbers":
        frees.append(y.clamp(0.01, 0.99).logit())  # where the loss takes logits of shares
    return _against(asked, shape, [y.clamp(shape.low, shape.high)], middle, frees, numbers)


def _in_reach(subject: Subject, asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    found = _of_numbers(asked, shape, numbers)
    return found if found.level in LOUD else _few_beyond(subject, asked, shape, numbers) or found


def _few_beyond(subject: Subject, asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a part of the targets lies beyond what outputs of this form can reach, and the loss wants it."""
    lost = numbers.get("out_of_reach", 0.0)
    far = out_of_reach(subject, asked, shape) if shape.name in ("bounded", "rectified") and lost > SOME else None
    if far is None:
        return None
    low, high, share = far
    text = f"outputs are {_said(shape)}, targets go from {low:.3g} to {high:.3g}: {share:.0%} of them are out of reach"
    why, step = cause(subject, asked, shape, NAMES[shape.name])
    return Finding("error", text, why, step, numbers | {"beyond": share}, RULE)


def _against(asked: Probe, shape: Form, ends: list[Tensor], middle: Tensor, frees: list[Tensor], numbers: dict[str, Any]) -> Finding:
    """The verdict where the best of a form costs the least of `ends`, knowing nothing `middle`, the best of all the least of `frees`."""
    sound = Finding("ok", f"outputs are {_said(shape)}, as the loss takes them", numbers=numbers, threshold=RULE)
    mine, idle = min((cost for z in ends if (cost := _cost(asked, z)) is not None), default=None), _cost(asked, middle)
    costs = [_cost(asked, z) for z in frees]
    known = [cost for cost in costs if cost is not None]
    if mine is None or idle is None or not known or not (asked.targets.mode == "numbers" or all(cost is not None for cost in costs)):
        return sound  # a loss that takes nothing but outputs of this form
    least = min(known)
    if (least < -1e-3 and asked.targets.mode != "numbers") or idle - least < 1e-6 * max(abs(idle), 1e-6):
        return sound
    lost = (mine - least) / (idle - least)
    numbers |= {"best": mine, "indifferent": idle, "best_of_all": least, "out_of_reach": lost}
    if lost < TOO_MUCH:
        return sound
    name = NAMES[shape.name]
    low, high = numbers.get("targets", (0.0, 0.0))
    if asked.targets.mode == "numbers" and (low < shape.low or high > shape.high):
        text = f"outputs are {_said(shape)}, targets go from {low:.3g} to {high:.3g}: {min(lost, 1):.0%} of the loss is out of reach"
        return Finding("error", text, f"{name} behind the last layer", "leave it out, or scale the targets", numbers, RULE)
    text = f"outputs are {_said(shape)}, and the loss takes logits: the best of them cost {mine:.3f}, knowing nothing {idle:.3f}"
    cause = f"{name} behind the last layer, before a loss that has its own"
    return Finding("error", text, cause, "let the network end in plain logits", numbers, RULE)


def _cost(asked: Probe, z: Tensor) -> float | None:
    """The loss of `z`; None where it takes no such outputs."""
    try:
        loss = asked.at(z.to(asked.out.dtype))
    except Exception:  # probabilities outside of 0 and 1
        return None
    return loss if math.isfinite(loss) else None


def _rectified(asked: Probe, numbers: dict[str, Any]) -> Finding:
    """The verdict on logits none of which is below 0, with a share that is exactly 0."""
    out = asked.out
    silent = numbers["zeros"] = float((out == 0).float().mean())
    text = f"no logit is below 0 and {silent:.0%} are exactly 0"
    if silent < SILENT or not is_likelihood(asked, asked.targets.layouts[0]):
        return Finding("info", text, numbers=numbers, threshold=RULE)
    cause = "a ReLU behind the last layer: a class whose logit is 0 cannot get less likely and learns nothing"
    return Finding("warning", text, cause, "let the network end in plain logits", numbers, f"< {SILENT:.0%} exactly 0")


def _squashed(asked: Probe, up: Tensor) -> float | None:
    """How far apart the loss lets logits be, where it bounds them by itself; None where it does not.

    Exact: between bounded logits of width w cross-entropy loses w from the best outputs to the worst ones, and
    ln C - ln(e^w + C - 1) + w from the best to indifference. No other loss has these two numbers.
    """
    layout = asked.targets.layouts[0]
    next_class = hot(asked.targets, layout, (asked.targets.index() + 1) % layout.classes)
    top, far, wrong, wronger, flat = (
        _cost(asked, z) for z in (1e3 * (2 * up - 1), 1e4 * (2 * up - 1), 1e3 * (2 * next_class - 1), 1e4 * (2 * next_class - 1), 0 * up)
    )
    if top is None or far is None or wrong is None or wronger is None or flat is None:
        return None
    width = wronger - far
    if abs(far - top) > 1e-3 or abs(wronger - wrong) > 1e-3 or not 0.2 < width < 20:
        return None
    classes = layout.classes
    least = math.log(math.exp(width) + classes - 1) - width
    gained = math.log(classes) - least
    return width if abs(flat - far - gained) < 2e-3 and least > 0.1 * math.log(classes) and far > 0.9 * least else None


def _squashed_labels(asked: Probe, up: Tensor) -> float | None:
    """The least loss where a loss over labels squashes its logits to 0 .. 1 (or -1 .. 1) by itself; None where it does not.

    Exact: with ones and zeros turned over in turn the loss gains a fixed part of what is left at the best outputs.
    """
    signs = 2 * up - 1
    at = [
        _cost(asked, scale * z)
        for z in (signs, torch.where(up > 0.5, -signs, signs), torch.where(up < 0.5, -signs, signs))
        for scale in (1e3, 1e4)
    ]
    if any(cost is None for cost in at):
        return None
    best, far, ones, ones_far, zeros, zeros_far = (float(cost) for cost in at if cost is not None)
    if max(abs(best - far), abs(ones - ones_far), abs(zeros - zeros_far)) > 1e-3 or best < 0.05:
        return None
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        one, lost = math.log1p(math.exp(-high)), math.log1p(math.exp(-low)) - math.log1p(math.exp(-high))
        zero, gone = math.log1p(math.exp(low)), math.log1p(math.exp(high)) - math.log1p(math.exp(low))
        if abs((ones - best) * one / lost + (zeros - best) * zero / gone - best) < 2e-3:
            return best
    return None
