"""Steps move every trainable weight, and keep what they moved: sizes of the updates in up to 20 trial steps.

The catalogue warns of a median ||dw||/||w|| above 0.2 or below 1e-7. Networks whose layers are normalised do well above, pretrained ones
far below, so that a size alone is a note here; what it does to the loss decides (`lr_sanity`, `step_lowers_loss`). Facts are errors: a
weight with a gradient that never moves, or moves to the same place whatever its gradient is, weights that are set back between steps.
"""

from __future__ import annotations

from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._pulse import pulses
from dlrun.checks._rates import idle
from dlrun.checks._trial import Trial, trial

LARGE, SMALL = 0.2, 1e-7
RULE = "every weight with a gradient moves at a rate above 0 and stays where the optimizer put it"


@check(stage="update", moment="fast", recipe="Karpathy: watch the ratio of updates to weights", follows=("optimizer_owns", "frozen_report"))
def update_size(subject: Subject) -> Finding:
    """||change|| / ||weights|| of every tensor and step at the scheduled rate."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    found = trial(subject)
    ratios = found.relative()
    numbers: dict[str, Any] = {"median_by_step": ratios, "rates": found.rates, "steps": found.done}
    wrong = _undone(found, numbers) or _ignored(subject, found, numbers) or _still(subject, found, numbers)
    if wrong:
        return wrong
    if not any(value > 0 for row in found.moves for value in row):
        rate = max(found.rates, default=0.0)
        live = any(value > 0 for row in found.slopes for value in row)
        why = f"the learning rate is {rate:g} there" if rate == 0 else "too small for a float" if live else "no gradient reaches them"
        return Finding("info", f"no weight moved in {found.done} steps at rate {rate:.3g}: {why}", numbers=numbers, threshold=RULE)
    if not ratios:
        return Finding("ok", f"weights move in {found.done} steps", numbers=numbers, threshold=RULE)
    middle = sorted(ratios)[len(ratios) // 2]
    text = f"a step changes weights by {middle:.2g} of their size (median of {len(ratios)} steps)"
    odd = "large" if middle > LARGE else "small" if middle < SMALL else ""
    if odd:
        return Finding("info", f"{text}: unusually {odd}; 0.001 is common in long runs", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _undone(found: Trial, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on weights that do not keep what the optimizer did."""
    if found.replaced:
        text = f"{len(found.replaced)} parameters are other objects after {found.done} steps: {', '.join(found.replaced[:3])}"
        cause = "forward makes layers or parameters anew, which the optimizer does not know"
        return Finding("error", text, cause, "make layers in __init__ only", numbers | {"replaced": found.replaced[:10]}, RULE)
    names = sorted({name for _, name, _ in found.undone})
    if not names:
        return None
    step, first, how = found.undone[0]
    text = f"{len(names)} parameters lose their updates: before step {step} {first} holds {how} again"
    text = text.replace("other numbers again", "quite other numbers")
    cause = "something sets weights back or draws them anew between steps: an initialisation in forward, or a load of old weights"
    return Finding("error", text, cause, "initialise in __init__ only", numbers | {"undone": found.undone[:10]}, RULE)


def _still(subject: Subject, found: Trial, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on weights that never moved though they had a gradient.

    Steps may be too small for a float, or vanish with a gradient that is mere rounding (a bias before a normalisation): only what plain,
    large gradients do not move either is left out by the optimizer.
    """
    still = found.still()
    kept = {name for pulse in pulses(subject) for name in pulse.still} if still else set()
    left = [name for name in still if name in kept]
    if not left:
        return None
    numbers["still"] = left[:10]
    text = f"{len(left)} of {len(found.names)} parameters have gradients and never move: {', '.join(left[:3])}"
    cause = "the optimizer's step leaves them out" if len(left) < len(found.names) else "the optimizer's step changes nothing, or a copy"
    step = "look at what its step loops over, and that it writes in place (p.sub_, under no_grad)"
    return Finding("error", text, cause, step, numbers, RULE)


def _ignored(subject: Subject, found: Trial, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on an optimizer that moves weights (by decay), but not by their gradients; asked on request only."""
    if subject.patience < 1:
        return None
    sloped = {name for place, name in enumerate(found.names) if any(row[place] > 0 for row in found.slopes)}
    deaf = [name for pulse in pulses(subject) for name in pulse.deaf if name in sloped]
    if not deaf:
        return None
    deaf = [*dict.fromkeys(deaf + [name for pulse in pulses(subject) for name in pulse.still if name in sloped])]  # zeros do not decay
    numbers["deaf"] = deaf[:10]
    text = f"the gradients of {len(deaf)} of {len(found.names)} parameters have no effect: a step is the same for their opposite"
    cause = "gradients are cleared between backward and the step, or step does not read p.grad"
    step = "the order is zero_grad, backward, step; only weight decay moves the weights now"
    return Finding("error", f"{text}: {', '.join(deaf[:3])}", cause, step, numbers, RULE)
