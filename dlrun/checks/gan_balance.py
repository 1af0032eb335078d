"""Players that train against each other: each gets a gradient, and none has won before the game began.

The catalogue's form (a critic's loss below 0.05 for 200 steps) needs a long training; here up to 40 steps are taken, and only what cannot
get better is said: a player without any gradient. A critic that wins fast is a note.
"""

from __future__ import annotations

import math
from typing import Any

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import Trial, trial
from dlrun.run import Run

RULE = "every player has a gradient above 0 in some step; info where one has less than a millionth of another's"


@check(stage="learning", moment="check", recipe="Goodfellow 2014: a critic that is too good teaches nothing", follows=("update_size",))
def gan_balance(subject: Subject) -> Finding:
    """Gradient norms of each network over the trial steps, after clipping."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    if subject.loss_task is not None or len(subject.run.optimizers) < 2:
        return skipped("there is one player")
    found = trial(subject)
    slopes = _by_network(subject.run, found)
    numbers: dict[str, Any] = {"gradients": slopes, "losses": found.losses, "steps": found.done}
    if found.broken is not None:
        text = f"non-finite {found.broken.what} in step {found.broken.step} of players against each other"
        return Finding("error", text, "the steps are far too large", "try a tenth of the learning rates", numbers, RULE)
    dead = [name for name, norms in slopes.items() if norms and max(norms) == 0]
    if dead:
        text = f"{dead[0]} gets no gradient in {found.done} steps: it cannot learn"
        cause = "its loss is cut off from it (detach, no_grad), or the other player is saturated"
        step = "look where its samples are detached: only in the other player's loss"
        return Finding("error", text, cause, step, numbers, RULE)
    last = {name: norms[-1] for name, norms in slopes.items() if norms}
    shown = ", ".join(f"{name} {norm:.2g}" for name, norm in last.items())
    weak = min(last.values(), default=1.0) < 1e-6 * max(last.values(), default=1.0)
    return Finding("info" if weak else "ok", f"gradient norms after {found.done} steps: {shown}", numbers=numbers, threshold=RULE)


def _by_network(run: Run, found: Trial) -> dict[str, list[float]]:
    """Norm of the gradient of each network with trainable parameters at each step; None counts as 0."""
    places = {name: [n for n, full in enumerate(found.names) if full.split(".")[0] == name] for name in run.modules}
    return {
        name: [math.sqrt(sum(row[n] ** 2 for n in mine if row[n] == row[n])) for row in found.slopes]
        for name, mine in places.items()
        if mine
    }
