"""After `zero_grad` no gradient is left: else every step follows the sum of all gradients so far.

An optimizer that adds up the gradients of some calls on purpose, and keeps the weights still meanwhile, is no fault. What the catalogue's
row asks besides (the gradient at `step` equals the batch's own) follows from it: the loop runs one backward between the two.
"""

from __future__ import annotations

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import Trial, trial

RULE = "every gradient None or 0 after zero_grad, in each trial step that moved weights"


@check(stage="update", moment="fast", recipe="Hacker's Guide: zero_grad, backward, step, in this order")
def grads_cleared(subject: Subject) -> Finding:
    """Norms of all gradients after the optimizers' `zero_grad`, in up to 20 trial steps."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    found = trial(subject)
    left = _left(found)
    norms = [_total(row) for row in found.slopes]
    numbers = {"steps": len(found.left), "left": left[:10], "norms_at_step": norms}
    if not left:
        return Finding("ok", f"zero_grad leaves no gradient in {len(found.left)} steps", numbers=numbers, threshold=RULE)
    moving = [step for step, row in enumerate(found.left) if _total(row) > 0 and step < len(found.moves) and _total(found.moves[step]) > 0]
    text = f"zero_grad leaves the gradients of {len(left)} of {len(found.names)} parameters ({', '.join(left[:3])})"
    if len(moving) < 2:
        return Finding("info", f"{text}, in steps that keep the weights still: gradients are added up", numbers=numbers, threshold=RULE)
    if len(norms) > 1:
        text += f": their norm at step 1 is {norms[0]:.3g}, at step {len(norms)} {norms[-1]:.3g}"
    cause = "the optimizer's zero_grad does nothing, or not for all parameters: every step follows the sum of all gradients so far"
    return Finding("error", text, cause, "set p.grad = None for every parameter in zero_grad", numbers, RULE)


def _left(found: Trial) -> list[str]:
    return [name for place, name in enumerate(found.names) if any(row[place] > 0 for row in found.left)]


def _total(row: list[float]) -> float:
    return float(sum(value * value for value in row if value == value) ** 0.5)
