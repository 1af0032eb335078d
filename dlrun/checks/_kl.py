"""A KL term has a lowest point: at some mean that is not at infinity, and at a variance that is neither 0 nor infinite.

Asked of the loss far out, so that it holds for any prior, weight, or way to write a variance (its logarithm, that of a deviation, a
deviation itself): 0.5 (mu^2 + var - ln var - 1) grows with mu either way, with var, and with -ln var. A square, a logarithm or an
exponential left out, or a sign turned inside the bracket, makes it fall without end, or leaves it lowest where no noise is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dlrun.checks._finding import Finding

FAR, THIRD = 100.0, 20.0
MIDDLE = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
STEP = "write it down anew: -0.5 * sum(1 + logvar - mu^2 - exp(logvar))"
RULE = "the KL term grows far out: with mu either way, with the variance, and as the variance goes to 0"


def endless(of_mu: Callable[[Tensor], float], of_third: Callable[[float], float], mu: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where the KL term falls far out. `of_mu`: what codes cost beside codes of 0; `of_third`: the loss at a third output."""
    far = [of_mu(sign * FAR * mu) for sign in (1.0, -1.0)]
    numbers["far_mu"] = far
    if all(map(math.isfinite, far)) and min(far) < -1e-3 * max(map(abs, far)):
        way = "above" if far[0] < far[1] else "below"
        both = max(far) < 0
        text = f"the KL term falls without end as mu goes {'away from' if both else f'far {way}'} 0: by {-min(far):.3g} at {FAR:g}"
        cause = "its sign is wrong" if both else "mu stands in it without its square"
        return Finding("error", text, cause, STEP, numbers, RULE)
    middle = [cost for value in MIDDLE if math.isfinite(cost := of_third(value))]
    ends = {sign: cost for sign in (-1, 1) if math.isfinite(cost := of_third(sign * THIRD))}
    numbers["far_third"] = list(ends.values())
    if len(middle) < 3 or not ends:
        return None
    sign, lowest = min(ends.items(), key=lambda pair: pair[1])
    if lowest > min(middle) - 1e-5 * abs(min(middle)) - 1e-6:
        return None
    text = f"the KL term is no KL: at {sign * THIRD:g} for logvar it costs {min(middle) - lowest:.3g} less than at any from -4 to 4"
    cause = "logvar is missing beside its exponential (no noise at all is best)" if sign < 0 else "the sign of exp(logvar) is turned"
    return Finding("error", text, cause, STEP, numbers, RULE)
