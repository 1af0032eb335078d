"""The gradient neither vanishes nor explodes on its way from the outputs to the first layers.

Measured is the gradient at the output of each layer, relative to that at the outputs of the network; not that at the weights, which
differs by orders of magnitude between healthy layers (a branch scaled by 1e-6, an embedding with few hits). It vanishes where even the
best of the first third of the layers gets less than 1e-4 of it: behind a residual connection some early layer gets its full share,
whatever its branches get. Source: Glorot, Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
section 4.2.
"""

from __future__ import annotations

import math

from dlrun.checks._flow import Flow, flow, gains
from dlrun.checks._frame import Finding, Subject, check, skipped

WEAK, GONE = 1e-4, 1e-7
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
    if most > STRONG:
        at = max(slopes, key=lambda name: slopes[name])
        text = f"the gradient explodes: at {at} it is {most:.2g} times that at the outputs"
        return Finding("error" if most > BURST else "warning", text, _why(subject, found, False), _step(False), numbers, RULE)
    text = f"of the gradient at the outputs {early:.2g} arrives at the first layers, at most {most:.2g} anywhere"
    return Finding("ok", text, numbers=numbers, threshold=RULE)


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
