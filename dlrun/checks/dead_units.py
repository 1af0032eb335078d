"""Units that give the same for every row: a ReLU that is never above 0 gets no gradient and never wakes, a saturated sigmoid hardly one.

Heard are ReLU, sigmoid and tanh as functions, whoever calls them. A unit counts as dead if it is silent on all rows looked at (512 where
there are so many): one that fires on 1 row of 100 is silent on 512 with probability 0.6 %. Half the units of a healthy layer may be
silent (inputs that are all positive), so a warning takes three quarters of them. Where no function is called and outputs are a linear map
of the inputs, the network is trained beside one with ReLU between its layers. Source: Lu et al. 2019, "Dying ReLU and Initialization",
section 2.
"""

from __future__ import annotations

from typing import Any

from dlrun.checks._changed import affine, hidden_layers, narrow, rectified
from dlrun.checks._dependence import awaken
from dlrun.checks._flow import quiet
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._functions import Functions, Heard
from dlrun.checks._gates import shut
from dlrun.checks._players import each
from dlrun.checks._stream import beside
from dlrun.run import Run

ROWS, BATCHES, FEWEST = 512, 16, 64
UNITS = 4
MOST = 0.75
SATURATED = 0.95
TRIED, GAINS = 200, 0.25
RULE = (
    f"units silent on every row: above {MOST:.0%} of a layer warning, all of them error; values at the bound: above {SATURATED:.0%} warning"
)


@check(stage="gradient", recipe="Karpathy: look for dead or saturated units at the start")
def dead_units(subject: Subject) -> Finding:
    """Forwards in train mode, dropout off, until 512 rows were seen."""
    if subject.loss_task is None:
        return each(subject, dead_units)
    run = awaken(subject.copy())
    quiet(run)
    closed = shut(subject, run)
    if closed:
        return _closed(subject, run, closed)
    calls, rows = _listen(subject, run)
    relus = [(n, heard) for n, heard in enumerate(calls) if heard.kind == "relu" and all(len(u) >= UNITS for u in heard.units)]
    squashed = [(n, heard) for n, heard in enumerate(calls) if heard.kind != "relu" and heard.values >= UNITS * rows]
    numbers: dict[str, Any] = {"rows": rows, "dead": [round(heard.dead, 4) for _, heard in relus][:40]}
    numbers["at_bound"] = [round(heard.bound / heard.values, 4) for _, heard in squashed][:40]
    if not relus and not squashed:
        return _linear(subject, numbers) or skipped("forward calls no ReLU, sigmoid or tanh")
    worst = max((heard.dead for _, heard in relus), default=0.0)
    if worst > MOST:
        place, heard = next((n, h) for n, h in relus if h.dead == (1.0 if worst == 1.0 else worst))
        return _dead(place, heard, worst, rows, numbers)
    bound = max((heard.bound / heard.values for _, heard in squashed), default=0.0)
    if bound > SATURATED:
        place = next(n for n, heard in squashed if heard.bound / heard.values == bound)
        text = f"the {calls[place].kind} that forward calls as number {place + 1} is saturated: {bound:.0%} of its values lie at a bound"
        cause, step = "inputs of a large scale, or large weights", "standardise the inputs; look at the scale of the weights"
        fresh = not (subject.expects.get("pretrained") or run.config.get("start"))
        return Finding("warning" if fresh else "info", text, cause, step, numbers, RULE)
    text = f"at most {worst:.0%} of the units of a layer are silent on {rows} rows, at most {bound:.0%} of values at a bound"
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _closed(subject: Subject, run: Run, text: str) -> Finding:
    """The verdict on a gate of a recurrent layer that is shut."""
    cause, step = "a bias or weights that push the gate to its bound", "start biases of gates near 0, that of forgetting at 1"
    fresh = not (subject.expects.get("pretrained") or run.config.get("start"))
    return Finding("warning" if fresh else "info", text, cause, step, threshold="a gate that is not at one bound everywhere")


def _linear(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The verdict on layers with nothing between them: one linear map, however many, where ReLU between them would learn far more."""
    layers = hidden_layers(subject)
    fresh = not (subject.expects.get("pretrained") or subject.run.config.get("start")) and subject.run.steps > 0
    if len(layers) < 2 or not fresh or not affine(subject) or narrow(layers):
        return None
    before, after, changed, done = beside(subject, rectified(subject), TRIED)
    numbers |= {"layers": [name for name, _ in layers][:10], "before": before, "after": after, "with_relu": changed, "tried": done}
    if not after - changed > GAINS * abs(before):
        return None
    text = f"the network is one linear map, though it has {len(layers)} layers: {done} steps take the loss of new batches "
    text += f"from {before:.4g} to {after:.4g}, with ReLU between the layers to {changed:.4g}"
    cause = "no activation function between the layers"
    return Finding(
        "warning", text, cause, "call ReLU or GELU after each hidden layer", numbers, "outputs of a mean of rows are no mean of outputs"
    )


def _listen(subject: Subject, run: Run) -> tuple[list[Heard], int]:
    """What forward called over several batches, and how many rows these have."""
    functions, rows = Functions(), 0
    for step in range(BATCHES):
        batch = subject.prepared(run, subject.raw if step == 0 else run.data.batches(step)[0])
        functions.restart()
        with functions:
            subject.outputs(run, batch, training=True)
        rows += len(batch)
        if rows >= ROWS:
            break
    return functions.calls, rows


def _dead(place: int, heard: Heard, worst: float, rows: int, numbers: dict[str, Any]) -> Finding:
    """The verdict on a layer most of whose ReLU units are silent."""
    width = max(len(u) for u in heard.units)
    text = f"the ReLU that forward calls as number {place + 1} is 0 on all of {rows} rows for {worst:.0%} of its {width} units"
    cause = "a bias far below 0, large weights, or inputs that are not centred; such units get no gradient"
    level = "error" if worst == 1.0 else "warning"
    if rows < FEWEST and level == "warning":
        level = "info"
    return Finding(level, text, cause, "look at the biases and at the scale of the inputs; LeakyReLU or GELU never dies", numbers, RULE)
