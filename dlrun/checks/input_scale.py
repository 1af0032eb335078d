"""Inputs in raw units: pixels of 0..255, columns in thousands beside columns of ones, years, values scaled down twice.

Initialisations assume inputs of a second moment of about 1 (LeCun et al., Efficient BackProp, 1998, section 4.3). The catalogue's bounds
alone fire on counts, on sparse rows, on networks that scale by themselves. So inputs that look wrong are tried: the same network on the
same rows, standardised. Only where it starts much better, or learns one batch that it could not learn, a warning is given.

A number that stands for "missing" (-9999) and is scaled along with the rest leaves a usual mean and sd, and all that was measured within a
hundredth of it. It is known by its form (`_markers.py`), and tried in the same way: the mean in its place, the rest standardised. A few
rows are learned by heart from where values miss; so it also counts how much what was measured moves the outputs, as it is and standardised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch, map_leaves
from dlrun.checks._frame import Finding, Subject, check, gap, skipped
from dlrun.checks._inputs import parts, sample
from dlrun.checks._markers import Marker, Scaling, markers, standardised
from dlrun.checks._rowwise import scaled_by_row
from dlrun.finite import NonFinite

LEAST, STEPS = 32, 60
LARGE, SMALL, UNLIKE, WIDE = 30.0, 0.02, 100.0, 10.0
OFF, AWAY = 5.0, 3.0
FAR, FAINT = 25.0, 0.1
"""An sd below 0.1 at a mean this many times as far from 0 leaves rows all but alike to the network, whatever the unit."""
WORSE, BEHIND, MOVES, UNHEARD = 1.5, 0.5, 0.1, 0.1
RULE = (
    f"warning: values of {LARGE:g} (root mean square), below {SMALL:g}, {UNLIKE:g} x as wide in one column as in others, {OFF:g} sd from 0 "
    f"({FAR:g} where it is below {FAINT:g}), an sd over {WIDE:g}, rows scaled each by itself, or one number over and over, 3 ranges of the "
    "others away from them; and standardised inputs start at a "
    f"{WORSE:g} x lower loss, get twice as far in {STEPS} steps on a batch, or move the outputs {1 / UNHEARD:g} x as much"
)
FOLLOWS = ("item_stability", "constant_input", "finite_data")


@check(
    stage="data",
    recipe="Hacker's Guide: normalise inputs; LeCun 1998, section 4.3",
    follows=("item_stability", "constant_input", "finite_data"),
)
def input_scale(subject: Subject) -> Finding:
    """Mean and spread of each column or channel in up to 1,024 rows; of odd ones what a copy of the network makes of them."""
    rows = sample(subject, "train")
    leaves = {name: leaf.detach().cpu().float() for name, leaf in parts(rows.x).items() if leaf.is_floating_point() and leaf.dim() > 1}
    if not leaves or len(rows) < LEAST:
        return skipped(f"it takes {LEAST} rows of floating-point inputs")
    numbers: dict[str, Any] = {name: _facts(leaf) for name, leaf in leaves.items()}
    by_row = {name: why for name, leaf in leaves.items() if (why := scaled_by_row(leaf))}
    marked = {name: found for name, leaf in leaves.items() if (found := markers(leaf, _kept(leaf)))}
    odd = {name: why for name in leaves if (why := _missing(marked.get(name)) or by_row.get(name) or _odd(numbers[name]))}
    shown = "; ".join(f"{name} {_moments(fact)}" for name, fact in list(numbers.items())[:3])
    if not odd:
        return Finding("ok", f"inputs are of a usual scale: {shown}", numbers=numbers, threshold=RULE)
    name, why = next(iter(odd.items()))
    if subject.loss_task is None:
        return Finding("info", f"{name} {why}: {shown}", numbers=numbers, threshold=RULE)
    scaling = standardised(leaves[name], _kept(leaves[name]), marked.get(name, {}))
    harm = _harm(subject, name, scaling.of, numbers) or (_unheard(subject, name, scaling, numbers) if name in marked else "")
    if not harm:
        return Finding("info", f"{name} {why}, but the network does as well with it as standardised", numbers=numbers, threshold=RULE)
    if name in marked:
        cause, step = (
            "a number that stands for missing values was scaled with those that are there",
            "fill them first, with the mean of the rest",
        )
        return Finding("warning", f"{name} {why}; {harm}", cause, step, numbers, RULE)
    if name in by_row:
        cause, step = (
            "rows were scaled across their columns, so that the largest unit decides",
            "scale each column: mean and std over axis 0",
        )
        return Finding("warning", f"{name}: {why}, and its columns stand far apart; {harm}", cause, step, numbers, RULE)
    small = "small" in why or numbers[name]["widest"] < SMALL
    cause = "inputs were scaled down twice" if small else "inputs enter in raw units"
    return Finding("warning", f"{name} {why}; {harm}", cause, "standardise: (x - mean) / std, fitted on train", numbers, RULE)


def _moments(fact: dict[str, Any]) -> str:
    """Mean and sd in words: of sparse values, those of the ones that are not 0, which is said."""
    which = f" of the {fact['share']:.1%} of values that are not 0" if fact["sparse"] else ""
    return f"mean {fact['mean']:.3g}, sd {fact['sd']:.3g}{which}"


def _kept(leaf: Tensor) -> int:
    """The axis that moments are not taken over: channels of pictures, features of sequences, columns of tables."""
    return 1 if leaf.dim() != 3 else 2


def _missing(found: dict[int, Marker] | None) -> str:
    """What is odd about a number that stands for missing values; "" where there is none."""
    if not found:
        return ""
    one = max(found.values(), key=lambda one: one.far)
    text = f"is exactly {one.value:.4g} in {one.share:.1%} of places, all else lies {one.far:.3g} of its own ranges away"
    return f"{text}, with an sd of {one.sd:.2g}"


def _facts(leaf: Tensor) -> dict[str, Any]:
    """Moments of the whole and of columns; of sparse values those that are not 0."""
    known = torch.where(leaf.isfinite(), leaf, torch.zeros_like(leaf))
    some = known[known != 0]
    share = len(some) / max(known.numel(), 1)
    sparse = share < 0.5
    some = some if sparse and len(some) else known.flatten()
    over = tuple(axis for axis in range(leaf.dim()) if axis != _kept(leaf))
    mean, sd = known.mean(over).flatten(), known.std(over, correction=0).flatten()
    varied = sd > 1e-9 * mean.abs().clamp(min=1e-9)
    size = (mean.square() + sd.square()).sqrt()
    usual = float(sd[varied].median()) if bool(varied.any()) else 1.0
    distance = mean.abs() / sd.clamp(min=1e-9)
    away = distance[varied & ((mean.abs() > AWAY) | ((sd < FAINT) & (distance > FAR)))]
    whole = bool((known == known.round()).all()) and float(known.min()) >= 0
    return {
        "mean": float(some.mean()),
        "sd": float(some.std(correction=0)),
        "rms": float(some.square().mean().sqrt()),
        "largest_column": float(size.max()),
        "widest_to_median": float(sd.max()) / max(usual, 1e-12),
        "sd_away_from_0": 0.0 if sparse or not len(away) else float(away.max()),
        "widest": float(sd.max()),
        "whole_numbers": whole,
        "sparse": sparse,
        "share": share,
    }


def _odd(fact: dict[str, Any]) -> str:
    """What is odd about the scale; "" where nothing is. Counts are held to the coarser bounds alone."""
    if fact["largest_column"] > LARGE:
        return f"reaches {fact['largest_column']:.3g} (root mean square of a column)"
    if 0 < fact["rms"] < SMALL:
        return f"is small: {fact['rms']:.2g} (root mean square)"
    if fact["widest_to_median"] > UNLIKE and fact["largest_column"] > WIDE:
        return f"has a column {fact['widest_to_median']:.3g} x as wide as the others"
    if fact["whole_numbers"]:
        return ""
    if fact["sd_away_from_0"] > OFF:
        return f"lies {fact['sd_away_from_0']:.3g} sd away from 0"
    return f"has an sd of {fact['widest']:.3g}" if fact["widest"] > WIDE else ""


def _harm(subject: Subject, name: str, change: Callable[[Tensor], Tensor], numbers: dict[str, Any]) -> str:
    """What the network makes of standardised inputs that it does not make of these; "" where that is nothing."""

    def standard(batch: Batch) -> Batch:
        return batch.replace(x=_replaced(batch["x"], name, change))

    try:
        here, there = (_start(subject, change) for change in (lambda batch: batch, standard))
    except (RuntimeError, ValueError):  # a network that takes nothing else than what it gets
        return ""
    numbers["first_loss"], numbers["first_loss_standardised"] = here, there
    if there > 0 and here > WORSE * there + 0.1 * abs(there):
        return f"the first loss is {here:.4g}, with standardised inputs {there:.4g}"
    if not subject.run.optimizers or subject.run.steps < STEPS // 2:
        return ""
    raw, better = _learned(subject, subject.few), _learned(subject, standard(subject.few))
    numbers["loss_after"], numbers["loss_after_standardised"] = raw, better
    gained = there - better
    if gained > MOVES * abs(there) and raw - better > BEHIND * gained:
        return f"one batch is learned to a loss of {raw:.4g}, with standardised inputs to {better:.4g}"
    return ""


def _unheard(subject: Subject, name: str, scaling: Scaling, numbers: dict[str, Any]) -> str:
    """How much less measured values move the untrained network than they would if they were standardised; "" where that is much."""
    run, raw = subject.copy(), subject.few
    measured = scaling.measured(parts(raw["x"])[name])
    other = measured & measured.roll(1, 0)

    def outputs(change: Callable[[Tensor], Tensor]) -> Any:
        batch = raw.replace(x=_replaced(raw["x"], name, change))
        return subject.outputs(run, subject.prepared(run, batch), training=False)

    def exchanged(leaf: Tensor) -> Tensor:
        return torch.where(other, leaf.roll(1, 0), leaf)

    here = gap(outputs(lambda leaf: leaf), outputs(exchanged))
    there = gap(outputs(scaling.of), outputs(lambda leaf: scaling.of(exchanged(leaf))))
    numbers["moved_by_measured"], numbers["moved_standardised"] = here, there
    if not here < UNHEARD * there:
        return ""
    return f"measured values move the outputs {here / there:.1%} of what they would if they were standardised"


def _replaced(x: Any, name: str, change: Callable[[Tensor], Tensor]) -> Any:
    """x with its leaf called `name` changed."""
    wanted = list(parts(x)).index(name)
    places = iter(range(len(parts(x))))
    return map_leaves(lambda leaf: change(leaf) if next(places) == wanted else leaf, x)


def _start(subject: Subject, change: Callable[[Batch], Batch]) -> float:
    """The loss of the untrained network, as in training."""
    run = subject.copy()
    return subject.batch_loss(run, subject.prepared(run, change(subject.few)), training=True)


def _learned(subject: Subject, raw: Batch) -> float:
    """The loss on a batch after steps on it alone; infinite where they break."""
    run = subject.copy()
    try:
        for _ in subject.fit(run, raw, STEPS):
            pass
    except NonFinite:
        return math.inf
    return subject.batch_loss(run, subject.prepared(run, raw), training=True)
