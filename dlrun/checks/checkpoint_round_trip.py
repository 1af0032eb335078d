"""A run that is stopped, saved and resumed goes on to the same bits: what is not in a state_dict is lost without a word.

Three steps, the state as a checkpoint keeps it, a fresh build that takes it, two more steps on both. What differs first says where the
state was: outputs of the evaluated networks, the loss of the next step, or the weights after it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlrun.checkpoint import Checkpoint
from dlrun.checks._frame import Finding, Subject, check, gap, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import Losses, steps_on
from dlrun.checks.determinism import ROUNDING, _apart, built
from dlrun.errors import MissingError
from dlrun.finite import NonFinite
from dlrun.run import Run
from dlrun.state import capture, restore

STEPS, MORE = 3, 2
RULE = f"the same bits after {MORE} more steps; a difference below {ROUNDING:g} of the weights is a note"


@check(stage="learning", moment="check", recipe="resume once before you need to", follows=("determinism",))
def checkpoint_round_trip(subject: Subject) -> Finding:
    """Steps on up to 32 rows of the run's batches; the uninterrupted run is repeated where the two differ, to tell chance from loss."""
    reason = idle(subject)
    if reason or subject.run.steps < 2:
        return skipped(reason or "a run of one step is not resumed")
    going, resumed = subject.copy(), built(subject)
    if resumed is None:
        return skipped("the networks live outside their factory: see determinism")
    numbers: dict[str, Any] = {}
    try:
        at = numbers["saved_at"] = steps_on(going, 0, min(STEPS, subject.run.steps - 1))
        restore(resumed, _saved(going, at))
        return _compared(subject, going, resumed, at, numbers)
    except NonFinite as error:
        return skipped(f"{error}: see step_lowers_loss")
    except MissingError as error:
        text = f"what a checkpoint would keep cannot be saved or taken back: {error}"
        cause = "a state_dict with objects in it, or a load_state_dict that does not fit it"
        return Finding("error", text, cause, "keep tensors, numbers, strings, lists and dicts in state_dict", numbers, RULE)


def _saved(run: Run, step: int) -> Checkpoint:
    """The state of `run` as it comes back from files: plain JSON, and tensors that share nothing with it."""
    state, files = capture(run)
    tensors = {name: {key: value.detach().clone() for key, value in some.items()} for name, some in files.items() if some}
    return Checkpoint(Path("checkpoint"), step, json.loads(json.dumps(state)), tensors)


def _compared(subject: Subject, going: Run, resumed: Run, at: int, numbers: dict[str, Any]) -> Finding:
    """The verdict on what the two do next."""
    outputs = 0.0
    if subject.loss_task is not None:
        one, two = (subject.outputs(run, subject.prepared(run, subject.few), training=False) for run in (going, resumed))
        outputs = numbers["outputs"] = gap(one, two)
    seen = [Losses(going.device), Losses(going.device)]
    for run, watch in zip((going, resumed), seen, strict=True):
        steps_on(run, at, at + MORE, watch)
    apart, name = _apart(going, resumed)
    numbers |= {"weights": apart, "losses": [watch.seen for watch in seen]}
    if apart == 0 and outputs == 0:
        return Finding("ok", f"saved after step {at} and resumed: the same bits {MORE} steps later", numbers=numbers, threshold=RULE)
    again = subject.copy()
    steps_on(again, 0, at + MORE)
    if _apart(going, again)[0] > 0:
        return skipped("the run does not repeat itself, interrupted or not: see determinism")
    text = f"saved after step {at} and resumed, {name or 'the output'} differs {MORE} steps later by {apart:.2g} of its size"
    if max(apart, outputs) < ROUNDING:
        return Finding("info", f"{text}: as rounding does", numbers=numbers, threshold=RULE)
    first = [watch.seen[:1] for watch in seen]
    if outputs > 0 or first[0] != first[1]:
        cause = "the network, loss or task keeps state that is in no state_dict: a plain attribute that changes in training"
        return Finding("error", text, cause, "register_buffer for tensors, get_extra_state for the rest", numbers, RULE)
    text += "; the loss of the next step is the same, the weights after it are not"
    cause = "the optimizer (or its schedule) keeps state that its state_dict lacks, or that load_state_dict does not take"
    return Finding("error", text, cause, "put every tensor and counter of it into state_dict", numbers, RULE)
