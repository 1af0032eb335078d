"""A loss over classes pulls the target's output up and the others down, in each row by that row's own target.

This is exact, needs no network and no name of the loss: slopes are asked of the loss alone. It shows a view where a transpose was meant, a
softmax over the batch, labels of another row or shifted by one, logits where log-probabilities are expected, a wrong sign, tokens that are
compared with themselves. Unlike the catalogue's rule, slopes need not sum to 0 over classes: squared errors of one-hot targets and
one-against-rest losses do not, and are sound. What does hold for all of them is that the target's output is pulled up most.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._downhill import faint
from dlrun.checks._forms import Form, form, held
from dlrun.checks._frame import LOUD, Finding, Subject, check, skipped
from dlrun.checks._probe import Probe, probe
from dlrun.checks._pull import Fit, best, fit, hot, pulls, refusal, uphill
from dlrun.checks._weights import by_count

RULE = "in 99 % of the rows the target's output is pulled up, and more than any other"
ABOVE_CHANCE = 0.3
"""Outputs in the wrong places are pulled up as often as chance has it; margins on angles, or what an action paid, far more often."""
SAME = 0.9
"""Share of targets equal to the input some places on above which that is how the data was cut."""


@check(stage="loss", moment="fast", recipe="Karpathy: use gradients to chart dependencies", follows=("output_form", "shape_contract"))
def ce_gradient_signature(subject: Subject) -> Finding:
    """Slopes of the loss with respect to the outputs at three places, beside the targets."""
    asked = probe(subject)
    if asked is not None and asked.targets.mode == "labels" and subject.kind != "vae":
        shape = form(subject, asked)
        labels = _exclusive(asked, shape)
        return labels if labels.level in LOUD else by_count(subject, asked, shape) or labels
    spec = subject.run.data.spec
    reason = refusal(asked, spec.classes or spec.vocab)
    if reason or asked is None:
        return skipped(reason or "")
    shape = form(subject, asked)
    found = pulls(asked, shape)
    if not any(bool((slope != 0).any()) for _, slope in found):
        return skipped("the loss does not pull at the outputs at all: see loss_coverage")
    coupled = asked.run.task.couples_rows or subject.expects.get("batch_coupled_loss")
    fitted = best(asked.targets, found)
    numbers: dict[str, Any] = {"right": round(fitted.share, 4), "rows": fitted.rows, "layout": fitted.layout.name, "shift": fitted.shift}
    over = None if coupled else _normalised_over(asked, shape, fitted.layout.axis)
    if over is not None:
        text = f"the loss compares along axis {over} of outputs {tuple(asked.out.shape)}, not among the {fitted.layout.classes} classes"
        cause = f"a softmax over {'the batch' if over == 0 else 'the wrong axis'}: rows compete with each other instead of classes"
        return Finding("error", text, cause, f"take the softmax over dim={fitted.layout.axis}", numbers | {"axis": over}, RULE)
    if fitted.rows < 6:
        return skipped(f"only {fitted.rows} rows that count: too few to judge")
    if not fitted.holds:
        return _misfit(asked, fitted, found, numbers, bool(coupled))
    if shape.name != "logs" and (_linear(asked, shape, found) or _of_shares(asked, shape)) and not held(subject, asked, fitted.layout.axis):
        return _unbounded(asked, shape, numbers)
    odd = _ahead(asked, fitted, numbers) or by_count(subject, asked, shape)
    if odd is None and fitted.layout.name != "flat" and not fitted.shift:
        odd = faint(asked, shape, hot(asked.targets, fitted.layout), fitted.layout.classes)
    return odd or Finding("ok", "each target's own output is pulled up", numbers=numbers, threshold=RULE)


def _exclusive(asked: Probe, shape: Form) -> Finding:
    """The verdict on several labels a row: a loss that does not notice a constant added to all of a row takes one of them for true."""
    y, out = asked.targets.like(asked.out), asked.out
    if out.dim() < 2 or out.shape[-1] < 2 or shape.name != "free" or not asked.steady:
        return skipped("targets are labels: see loss_direction")
    sums = y.sum(-1)
    u = asked.noise("one")
    blind = _same(asked.at(u + _along(asked, out.dim() - 1)), asked.at(u))
    numbers: dict[str, Any] = {"labels_a_row": [float(sums.min()), float(sums.max())]}
    if not blind or bool((sums == 1).all()):
        return Finding("ok", "each label is judged by itself", numbers=numbers)
    text = (
        f"rows have {int(sums.min())} to {int(sums.max())} labels, and the loss lets them compete: one is more likely where another is less"
    )
    cause = "softmax cross-entropy for labels that do not exclude each other; rows without a label learn nothing"
    x = asked.batch.get("x")
    if bool((sums >= 1).all()) and isinstance(x, Tensor) and x.shape == y.shape and torch.equal(x.to(y), y):
        return Finding("info", f"{text}: right for counts of a multinomial", numbers=numbers)  # Liang et al. 2018: baskets said again
    return Finding("error", text, cause, "use binary_cross_entropy_with_logits", numbers, "the loss notices a constant added to a row")


def _misfit(asked: Probe, fitted: Fit, found: list[tuple[Tensor, Tensor]], numbers: dict[str, Any], coupled: bool) -> Finding:
    """The verdict on a pull that the targets do not explain."""
    targets, layout = asked.targets, fitted.layout
    text = f"in {1 - fitted.share:.0%} of {fitted.rows} rows the loss does not pull the target's output up"
    turned = max((uphill(fit(targets, each, found), targets, found) for each in targets.layouts), key=lambda entry: entry.share)
    if turned.share > max(fitted.share, 0.9):
        text = "the loss falls where the target's output gets smaller"
        return Finding("error", text, "the sign of the loss is wrong", "minimise the negative log-likelihood", numbers, RULE)
    tries = [fit(targets, layout, found, rolled=by) for by in (1, -1)] + [fit(targets, layout, found, off=by) for by in (1, -1)]
    other = max(tries, key=lambda entry: entry.share)
    if other.holds and other.share > fitted.share + 0.1 and other.rolled:
        text = f"the loss compares row i with the target of row i{-other.rolled:+d}"
        return Finding("error", text, "outputs or targets were shifted along the batch", "drop the shift", numbers, RULE)
    if other.holds and other.share > fitted.share + 0.1:
        text = f"the loss pulls up class y{other.off:+d} where the target is class y"
        return Finding("error", text, "classes are counted from another number in the loss", "compare with y itself", numbers, RULE)
    if coupled or fitted.share > 1 / layout.classes + ABOVE_CHANCE:
        return Finding("info", text, "a loss of an unusual form", "look at its gradient", numbers, RULE)
    cause = "outputs were reshaped (view, reshape) where their axes should change places, or broadcast against the targets"
    return Finding("error", text, cause, "out.transpose(1, 2) or out.flatten(0, 1), never view, and print the shapes", numbers, RULE)


def _normalised_over(asked: Probe, shape: Form, own: int) -> int | None:
    """The axis other than `own` along which the loss does not notice a constant and costs ln of its length; None as it should be."""
    out = asked.out
    if shape.name != "free" or not asked.steady:
        return None
    u = asked.noise("one")
    try:
        here, flat = asked.at(u), asked.at(torch.zeros_like(out))
        blind = [axis for axis in range(out.dim()) if out.shape[axis] > 1 and _same(asked.at(u + _along(asked, axis)), here)]
    except Exception:
        return None
    if own in blind:
        return None
    return next((a for a in blind if abs(flat - math.log(out.shape[a])) < 0.02 * math.log(out.shape[a])), None)


def _along(asked: Probe, axis: int) -> Tensor:
    """Numbers that are constant along `axis` and differ elsewhere."""
    return 2 * asked.noise("along").select(axis, 0).unsqueeze(axis)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-5 * max(abs(one), abs(other), 1e-6)


def _linear(asked: Probe, shape: Form, found: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether the slope hangs on the targets alone and is 0 for all other classes: the loss is minus the output of the target."""
    if shape.name in ("shares", "bounded"):
        found = [(u, asked.slope(shape.of(u))) for u, _ in found]
    if len(found) < 2:
        return False
    first, top = found[0][1], float(found[0][1].abs().max())
    same = all(float((slope - first).abs().max()) <= 1e-5 * top for _, slope in found[1:])
    layout = asked.targets.layouts[0]
    return same and float(((layout.flat(first).abs() > 1e-6 * top).sum(-1) > 1).float().mean()) < 0.01


def _of_shares(asked: Probe, shape: Form) -> bool:
    """Whether the loss itself turns logits into probabilities and is minus that of the target: -1/C where all are alike, -1 at best."""
    layout = asked.targets.layouts[0]
    if shape.name != "free" or not bool(asked.targets.counted(layout).all()):
        return False
    flat, top = asked.at(torch.zeros_like(asked.out)), asked.at(100 * hot(asked.targets, layout))
    return abs(flat + 1 / layout.classes) < 1e-4 and abs(top + 1) < 1e-4


def _unbounded(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    """The verdict on a loss that is minus the output of the target."""
    sums = asked.targets.layouts[0].flat(asked.out.exp() if shape.name == "free" else asked.out).sum(-1)
    numbers["sum_of_exp" if shape.name == "free" else "sum"] = float(sums.mean())
    if shape.name in ("shares", "bounded") or _of_shares(asked, shape):
        if asked.at(asked.out) > 0:
            return Finding("info", "the loss is linear in probabilities: 1 - p of the target", numbers=numbers, threshold=RULE)
        text = "the loss is minus the probability of the target, not minus its logarithm"
        cause = "a negative log-likelihood (NLLLoss) that gets probabilities: the log is missing"
        return Finding("error", text, cause, "log_softmax in the network, or cross-entropy of plain logits", numbers, RULE)
    text = "the loss is minus the target's output and nothing holds the others back: it has no lower bound"
    cause = "a negative log-likelihood (NLLLoss) that gets logits: the log-softmax is missing"
    return Finding("error", text, cause, "use cross_entropy, or log_softmax before it", numbers, RULE)


def _ahead(asked: Probe, fitted: Fit, numbers: dict[str, Any]) -> Finding | None:
    """What is wrong with how far ahead a language model is to look; None where that is one token, or cannot be told."""
    x, y = asked.batch.get("x"), asked.targets.value
    if asked.kind != "language_model" or not isinstance(x, Tensor) or y is None or x.shape != y.shape or fitted.layout.name == "flat":
        return None
    cut = [by for by in (-1, 0, 1, 2) if _equal(x, y, by) > SAME]
    if len(cut) != 1:
        return None
    ahead = numbers["ahead"] = cut[0] + fitted.shift
    if ahead == 1:
        return None
    parts = f"targets lie {cut[0]} ahead of the inputs, the loss shifts by {fitted.shift}"
    if not fitted.shift:
        return Finding(
            "info", f"position t is to name token t{ahead:+d} ({parts}): see target_in_input", numbers=numbers, threshold="1 ahead"
        )
    if ahead <= 0:
        text = f"position t is to name token {'t' if ahead == 0 else f't{ahead}'}, which it is given ({parts})"
        return Finding("error", text, "the shift by one token is missing", "predict x[t + 1] at position t", numbers, "1 ahead")
    cause = "targets are shifted twice, in the data and in the loss"
    return Finding("warning", f"position t is to name token t+{ahead} ({parts})", cause, "shift once, by one token", numbers, "1 ahead")


def _equal(x: Tensor, y: Tensor, by: int) -> float:
    """Share of counted targets y[t] that are x[t + by]."""
    length = x.shape[1]
    mine, theirs = (y[:, : length - by], x[:, by:]) if by >= 0 else (y[:, -by:], x[:, :by])
    counted = mine >= 0
    return float(((mine == theirs) & counted).sum() / counted.sum().clamp(min=1))
