"""Outputs that are free to go anywhere, led down the loss, and up: what becomes of the user's own metric, of the targets, of the loss.

Whatever the loss is, what lowers it should not make the metric worse, and outputs that have all they need should come to their targets.
Each number of the outputs takes steps of its own size (Riedmiller and Braun 1993), so that losses of any scale are descended alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._finding import Finding
from dlrun.checks._forms import Form
from dlrun.checks._frame import tensors
from dlrun.checks._probe import Probe

STEPS = 60
BETTER, FLOOR = 0.3, 0.1
NEAR, GAINED = 0.4, 0.9
IMPROPER, IDLE = 0.05, 0.85
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 100.0)
RULE = "outputs that descend the loss score better than those that climb it, and come to their targets"


def led(asked: Probe, start: Tensor, sign: float = 1.0) -> Tensor | None:
    """Outputs after a descent (`sign` 1) or a climb (-1) from `start`; None where the loss is not defined on the way."""
    size = max(float(start.std()) if start.numel() > 1 else 0.0, 0.1)
    return descended(asked, start, (0.1 * size, 2 * size), STEPS, sign)


def descended(
    asked: Probe,
    start: Tensor,
    sizes: tuple[float, float],
    steps: int,
    sign: float = 1.0,
    within: Form | None = None,
    kept: Callable[[Tensor], Tensor] | None = None,
) -> Tensor | None:
    """The same in `steps` whose first and largest sizes are given, kept within a form, or where `kept` puts them."""
    z, step, before = start.clone(), torch.full_like(start, sizes[0]), torch.zeros_like(start)
    for _ in range(steps):
        try:
            slope = sign * asked.slope(z)
        except Exception:  # numbers beyond its range may be refused
            return None
        if not bool(torch.isfinite(slope).all()):
            return None
        turn = slope.sign() * before
        step = torch.where(turn > 0, 1.2 * step, torch.where(turn < 0, 0.5 * step, step)).clamp(max=sizes[1])
        z, before = z - step * slope.sign(), slope.sign()
        z = z if within is None else z.clamp(within.low, within.high)
        z = z if kept is None else kept(z)
    return z


def start(asked: Probe) -> Tensor:
    """Outputs about the network's own."""
    return asked.out + max(float(asked.out.std()) if asked.out.numel() > 1 else 0.0, 0.1) * asked.noise("downhill")


def against(name: str, best: str, values: tuple[float, float, float]) -> Finding | None:
    """The finding where the metric of outputs that descended the loss is worse than before, and better where they climbed it."""
    way = 1.0 if best == "max" else -1.0
    here, down, up = (way * value for value in values)
    if not down < here < up or min(here - down, up - here) < BETTER * min(abs(here), 1.0) or up - down < FLOOR:
        return None
    numbers: dict[str, Any] = {"start": values[0], "down": values[1], "up": values[2]}
    before, after, other = values
    text = f"outputs that descend the loss score {after:.3g} (before: {before:.3g}), those that climb it {other:.3g}; best is {best}"
    cause = "the sign of the loss is wrong (or that of the scores in it), or the metric's best says the wrong direction"
    return Finding("error", f"metric {name}: {text}", cause, "minimise what falls as outputs get better", numbers, RULE)


def strays(asked: Probe, shape: Form) -> Finding | None:
    """The finding where free outputs lower the loss to its least, and are not near their targets' order then."""
    y = asked.targets.value
    if asked.targets.mode != "numbers" or shape.name != "free" or y is None or asked.targets.mask is not None or not asked.steady:
        return None
    y = asked.targets.like(asked.out)
    if len(tensors(asked.outputs)) > 1:  # parts of a distribution: what is descended on is one of them
        return None
    if asked.kind != "regression" or not bool(torch.isfinite(y).all()) or len(y) < 16 or y.numel() > 2**16 or y.unique().numel() < 8:
        return None
    spread = float(y.std())
    begun = y.mean() + spread * asked.noise("downhill")
    end = led(asked, begun)
    if end is None:
        return None
    first, last, right = asked.at(begun), asked.at(end), asked.at(y)
    gained = (first - last) / max(first - min(right, last), 1e-12)
    far = float((end - y).square().mean().sqrt()) / spread
    told = float(torch.corrcoef(torch.stack([_ranks(end), _ranks(y)]))[0, 1])
    numbers: dict[str, Any] = {"loss": [first, last, right], "rank_correlation": told, "off_by": far}
    if not all(map(math.isfinite, (first, last, right, told))) or first - last <= 0 or gained < GAINED or told > NEAR or far < 0.5:
        return None
    text = (
        f"outputs that may go anywhere lower the loss from {first:.3g} to {last:.3g} (the targets themselves: {right:.3g}) and do not come "
    )
    text += f"to the targets (rank correlation {told:.2f})"
    cause = "the loss compares a summary of outputs and targets (a norm, a mean, a sum), not each with its own"
    return Finding("error", text, cause, "compare element by element, then take the mean", numbers, RULE)


def _ranks(z: Tensor) -> Tensor:
    return z.flatten().argsort().argsort().double()


def hardened(asked: Probe, shape: Form) -> Finding | None:
    """The finding where shares of classes as targets are answered best by all of the weight on the largest of them."""
    if asked.targets.mode != "shares" or shape.name != "free" or not asked.steady:
        return None
    y = asked.targets.like(asked.out)
    if float((y > 0.95).any(-1).float().mean()) > 0.5:
        return None
    logs = y.clamp(min=1e-6).log()
    costs = [asked.at(scale * (logs - logs.mean(-1, keepdim=True))) for scale in SCALES]
    flat = asked.at(torch.zeros_like(logs))
    if not all(map(math.isfinite, [*costs, flat])) or min(costs) >= flat:
        return None
    own, sharp = min(costs[2:4]), costs[-1]
    if sharp > own - IMPROPER * (flat - sharp) or sharp > min(costs) + 1e-6 * abs(sharp):
        return None
    numbers: dict[str, Any] = {"costs": costs, "scales": SCALES, "equal": flat}
    text = f"outputs that agree with the targets' shares cost {own:.3g}, outputs with all of the weight on the largest share {sharp:.3g}"
    cause = "probabilities stand where the loss takes log-probabilities (kl_div, a cross-entropy by hand)"
    return Finding("error", text, cause, "log_softmax before kl_div, or cross_entropy of plain logits", numbers, RULE)


def faint(asked: Probe, shape: Form, up: Tensor, classes: int) -> Finding | None:
    """The finding where the best outputs cost hardly less than equal ones: the targets tell next to nothing."""
    if shape.name != "free" or not asked.steady:
        return None
    idle = asked.at(torch.zeros_like(asked.out))
    if not math.isfinite(idle) or abs(idle - math.log(classes)) > 0.02 * math.log(classes):
        return None
    least = min(asked.at(scale * up) for scale in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0))
    if not least > IDLE * idle:
        return None
    text = f"the best outputs cost {least:.3f}, outputs that know nothing {idle:.3f}: the loss has next to nothing to give"
    cause = "targets are smoothed nearly flat (a softmax of one-hot targets, label_smoothing near 1), or logits are divided by far too much"
    return Finding("error", text, cause, "give cross_entropy the classes themselves", {"best": least, "equal": idle}, RULE)
