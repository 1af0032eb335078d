"""The gradient neither vanishes nor explodes on its way from the outputs to the first layers.

Measured is the gradient at the output of each layer, relative to that at the outputs of the network; not that at the weights, which
differs by orders of magnitude between healthy layers (a branch scaled by 1e-6, an embedding with few hits). It vanishes where even the
best of the first third of the layers gets less than 1e-4 of it: behind a residual connection some early layer gets its full share,
whatever its branches get. Where a thousandth or less arrives, the same network with SiLU in the place of sigmoid and tanh is trained
beside it for 100 steps: a warning takes that it learns far more. Source: Glorot, Bengio 2010, "Understanding the difficulty of training
deep feedforward neural networks", section 4.2.
"""

from __future__ import annotations

import math
from typing import Any

from dlrun.checks._changed import steeper
from dlrun.checks._flow import Flow, flow, gains
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._stream import beside

WEAK, GONE, FAINT = 1e-4, 1e-7, 1e-3
TRIED, TWICE, LESS, LEARNS = 100, 2.0, 4.0, 0.15
STRONG, BURST = 1e4, 1e7
LEAST = 3
SMALL, LARGE = 0.2, 3.0
RULE = (
    f"gradient at the first third of the layers over that at the outputs below {WEAK:g} warning, {GONE:g} error; "
    f"at any layer above {STRONG:g} warning, {BURST:g} error"
)


@check(stage="gradient", recipe="Hacker's Guide: look at gradients layer by layer", follows=("unit_symmetry", "dead_units", "init_scale"))
def gradient_profile(subject: Subject) -> Finding:
    """Gradients at every layer with weights on one batch, of a copy whose zero tensors were filled."""
    if subject.loss_task is None:
        return skipped("a task of several objectives has no single path of gradients")
    found = flow(subject)
    slopes = {layer.name: layer.slope for layer in found.layers}
    numbers = {"layers": {name: float(f"{slope:.3g}") for name, slope in list(slopes.items())[:40]}, "loss": found.loss}
    if math.isfinite(found.loss) and not found.finite:
        text, cause = (
            "the loss is finite, its gradient is not",
            "the root or logarithm of 0, or a norm of a zero vector, in network or loss",
        )
        return Finding("error", text, cause, "add a small number below the root: (x + 1e-8).sqrt()", numbers, "finite gradients")
    if not found.pulled or len(slopes) < LEAST:
        reason = f"fewer than {LEAST} layers with weights" if found.pulled else "the loss has no gradient at the outputs of this batch"
        return skipped(reason)
    values = list(slopes.values())
    early, most = max(values[: math.ceil(len(values) / 3)]), max(values)
    numbers |= {"early": early, "most": most}
    if early < WEAK and _fades(values):
        text = f"the gradient vanishes: of that at the outputs {early:.2g} arrives at the first layers ({len(values)} layers with weights)"
        return Finding("error" if early < GONE else "warning", text, _why(subject, found, True), _step(True), numbers, RULE)
    flat = _flat(subject, values, early, numbers) if early < FAINT and _fades(values) else None
    if flat:
        return flat
    if most > STRONG:
        at = max(slopes, key=lambda name: slopes[name])
        text = f"the gradient explodes: at {at} it is {most:.2g} times that at the outputs"
        return Finding("error" if most > BURST else "warning", text, _why(subject, found, False), _step(False), numbers, RULE)
    text = f"of the gradient at the outputs {early:.2g} arrives at the first layers, at most {most:.2g} anywhere"
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _flat(subject: Subject, values: list[float], early: float, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on a gradient that fades through flat functions, where the same network with SiLU in their place learns far more."""
    fresh = not (subject.expects.get("pretrained") or subject.run.config.get("start"))
    if subject.patience < 1 or not fresh or subject.run.steps == 0:
        return None
    before, after, changed, done = beside(subject, steeper, TRIED)
    numbers |= {"new_before": before, "new_after": after, "new_with_silu": changed, "tried": done}
    twice = before - changed > TWICE * (before - after)
    if not (after - changed > LEARNS * abs(before) and (twice or after > LESS * changed > 0)):
        return None
    text = f"the gradient fades: of that at the outputs {early:.2g} arrives at the first layers ({len(values)} layers with weights); "
    text += f"{done} steps take the loss of new batches from {before:.4g} to {after:.4g}, with SiLU for sigmoid and tanh to {changed:.4g}"
    cause = "many layers in a row whose function is flat (sigmoid, tanh), without norm or residual connection"
    return Finding("warning", text, cause, _step(True), numbers, RULE)


def _fades(values: list[float]) -> bool:
    """Whether the gradient grows smaller over several layers; cut at one place it is no matter of depth (`graph_reach`, `dead_units`)."""
    last = max(values[-math.ceil(len(values) / 3) :])
    between = [v for v in values if 0 < v < last / 10 and v > 10 * values[0]] if values[0] else [v for v in values if 0 < v < last / 10]
    return bool(between)


def _why(subject: Subject, found: Flow, vanishes: bool) -> str:
    known = [value for layer in found.layers for name, value in [(layer.name, gains(subject.run).get(layer.name))] if value is not None]
    odd = [value for value in known if (value < SMALL if vanishes else value > LARGE)]
    if len(odd) > len(known) / 2:
        size, middle = "small" if vanishes else "large", sorted(odd)[len(odd) // 2]
        return f"the initial weights are too {size}: they scale by {middle:.2g} a layer, 1.4 is usual"
    if vanishes:
        return "many layers in a row whose function is flat (sigmoid, tanh) or whose weights shrink, without norm or residual connection"
    return "weights or factors that enlarge from layer to layer, or a division by something near 0"


def _step(vanishes: bool) -> str:
    return (
        "ReLU or GELU with He's initialisation, norms, residual connections"
        if vanishes
        else "a smaller initialisation, a norm, or clip_norm"
    )
