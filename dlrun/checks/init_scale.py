"""The scale of the initial weights: root mean square x root of the fan-in of each matrix, and whether the signal survives it.

An odd scale by itself is a note: low-rank adapters, small heads and sine layers have theirs. A warning needs the consequence as well:
what tells rows apart shrinks or grows a thousandfold between the first layer and the last. Source: He et al. 2015, "Delving Deep into
Rectifiers", section 2.2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.checks._flow import Flow, flow, gains
from dlrun.checks._frame import Finding, Subject, check, skipped

LOW, HIGH = 0.05, 5.0
FACTOR = 1e3
BEYOND = 100.0
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
    if not odd:
        least, most = min(known.values()), max(known.values())
        return Finding("ok", f"{len(known)} layers scale by {least:.2g} to {most:.2g}", numbers=numbers, threshold=RULE)
    name = min(odd) if len(odd) == 1 else max(odd, key=lambda key: max(odd[key], 1 / odd[key]))
    text = f"{len(odd)} of {len(known)} layers have an unusual scale: {name} scales by {odd[name]:.2g}"
    fresh = not (subject.expects.get("pretrained") or subject.run.config.get("start"))
    effect = _effect(subject, odd) if subject.loss_task is not None and fresh else ""
    if not effect:
        return Finding("info", text, numbers=numbers, threshold=RULE)
    cause = f"the initial weights are too {'large' if odd[name] > 1 else 'small'}"
    return Finding(
        "warning", f"{text}, and {effect}", cause, "use torch's own initialisation, or He's: std = sqrt(2 / fan_in)", numbers, RULE
    )


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
