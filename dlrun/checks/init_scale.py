"""The scale of the initial weights: root mean square x root of the fan-in of each matrix, and whether the signal survives it.

An odd scale by itself is a note: low-rank adapters, small heads and sine layers have theirs. A warning needs the consequence as well:
what tells rows apart shrinks or grows a thousandfold between the first layer and the last. Scales that are only somewhat small (0.01 in
layers of 100) shrink it as much where there are many; then the same weights scaled to 1 must also learn far more in 100 steps.
Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.checks._flow import Flow, flow, gain, gains
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._stream import beside
from dlrun.run import Run

LOW, HIGH = 0.05, 5.0
FACTOR = 1e3
BEYOND = 100.0
SMALL, DEEP, TRIED, TWICE, LEARNS = 0.3, 3, 100, 2.0, 0.15
RULE = f"root mean square x root of fan-in in [{LOW:g}, {HIGH:g}]; warning if rows also differ {FACTOR:g} times less or more behind them"


@check(
    stage="gradient",
    recipe="Karpathy: look at the statistics of weights and activations at the start",
    follows=("init_loss",),
)
def init_scale(subject: Subject) -> Finding:
    """Gains of all trainable matrices, and the spread between rows from layer to layer."""
    known = gains(subject.run)
    if not known:
        return skipped("there is no linear or convolutional layer with trainable weights that are not zero")
    odd = {name: value for name, value in known.items() if not LOW <= value <= HIGH}
    numbers: dict[str, Any] = {"layers": len(known), "odd": dict(list(odd.items())[:10])}
    wrong = _shrinks(subject, known, numbers)
    if wrong:
        return wrong
    if not odd:
        least, most = min(known.values()), max(known.values())
        return Finding("ok", f"{len(known)} layers scale by {least:.2g} to {most:.2g}", numbers=numbers, threshold=RULE)
    name = min(odd) if len(odd) == 1 else max(odd, key=lambda key: max(odd[key], 1 / odd[key]))
    text = f"{len(odd)} of {len(known)} layers have an unusual scale: {name} scales by {odd[name]:.2g}"
    effect = _effect(subject, odd) if _fresh(subject) else ""
    if not effect:
        return Finding("info", text, numbers=numbers, threshold=RULE)
    cause = f"the initial weights are too {'large' if odd[name] > 1 else 'small'}"
    return Finding(
        "warning", f"{text}, and {effect}", cause, "use torch's own initialisation, or He's: std = sqrt(2 / fan_in)", numbers, RULE
    )


def _fresh(subject: Subject) -> bool:
    """Whether the weights are those of the start, and the task has one loss."""
    return subject.loss_task is not None and not (subject.expects.get("pretrained") or subject.run.config.get("start"))


def _shrinks(subject: Subject, known: dict[str, float], numbers: dict[str, Any]) -> Finding | None:
    """The verdict on many layers of which each shrinks the signal, where larger weights would learn."""
    small = sorted(name for name, value in known.items() if value < SMALL)
    if len(small) < DEEP or 2 * len(small) <= len(known) or not _fresh(subject) or subject.run.steps == 0:
        return None
    layers = [layer for layer in flow(subject).layers if layer.spread > 0]
    if len(layers) < 2 or not layers[-1].spread < (first := layers[0].into or layers[0].spread) / FACTOR:
        return None
    before, after, larger, done = beside(subject, lambda run: _enlarge(run, small), TRIED)
    numbers |= {"small": {name: known[name] for name in small[:10]}, "before": before, "after": after, "larger": larger, "tried": done}
    if not (before - larger > LEARNS * abs(before) and before - larger > TWICE * (before - after)):
        return None
    scale = sorted(known[name] for name in small)[len(small) // 2]
    text = f"{len(small)} of {len(known)} layers scale by {scale:.2g}: "
    text += f"what tells rows apart shrinks from {first:.2g} to {layers[-1].spread:.2g}"
    text += f"; {done} steps take the loss from {before:.4g} to {after:.4g}, with weights that scale by 1 to {larger:.4g}"
    step = "use torch's own initialisation, or He's: std = sqrt(2 / fan_in)"
    return Finding("warning", text, "the initial weights are too small", step, numbers, RULE)


def _enlarge(run: Run, names: list[str]) -> None:
    """Weights of the layers `names` multiplied so that each scales by 1."""
    for name in names:
        part = run.modules[name.split(".")[0]].get_submodule(name.partition(".")[2])
        value = gain(part)
        if value is not None and isinstance(part.weight, Tensor):
            part.weight.data /= value


def _effect(subject: Subject, odd: dict[str, float]) -> str:
    """What the odd scales do to the signal, in words; "" where norms or other layers make up for them."""
    found = flow(subject)
    layers = [layer for layer in found.layers if layer.spread > 0]
    if len(layers) < 2 or not any(layer.name in odd for layer in layers):
        return ""
    low, high = [n for n, value in odd.items() if value < LOW], [n for n, value in odd.items() if value > HIGH]
    first, last = layers[0].into or layers[0].spread, layers[-1].spread
    if len(low) > 1 and last < first / FACTOR:
        return f"what tells rows apart shrinks from {first:.2g} to {last:.2g}"
    far = _beyond(subject, found)
    if high and (last > first * FACTOR or far > BEYOND):
        return f"what tells rows apart grows from {first:.2g} to {last:.2g}"
    return ""


def _beyond(subject: Subject, found: Flow) -> float:
    """Spread of the outputs over that of the targets, where these are numbers; 0 elsewhere."""
    y = subject.raw.get("y")
    if not isinstance(y, Tensor) or not y.is_floating_point() or len(y) < 2 or subject.kind != "regression":
        return 0.0
    spread = float(y.float().std())
    return found.out / spread if spread > 0 else 0.0
