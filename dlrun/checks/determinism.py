"""The same seed gives the same weights: networks built twice and trained for three steps each are compared bit by bit.

Rounding that depends on the order of threads is a note (below 1e-5 of the weights); what differs by more draws from a generator that
nothing seeds, or keeps state outside the run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import steps_on
from dlrun.environment import shape_modules
from dlrun.finite import NonFinite
from dlrun.run import Run

STEPS, ROUNDING = 3, 1e-5
RULE = f"equal bits on a CPU; a difference below {ROUNDING:g} of the weights is a note"


@check(stage="learning", moment="check", recipe="seed everything, and prove it", follows=("item_stability",))
def determinism(subject: Subject) -> Finding:
    """Two fresh builds from the run's seed, three steps each on up to 32 rows of the same batches."""
    reason = idle(subject)
    if reason:
        return skipped(reason)
    if subject.expects.get("stochastic_train"):
        return skipped("declared by expects.stochastic_train")
    one, two = built(subject), built(subject)
    if one is None or two is None:
        text = "a second build gives the very same objects as the first: they live outside the run"
        return Finding("info", text, numbers={}, threshold=RULE)
    numbers: dict[str, Any] = {}
    numbers["built"], name = _apart(one, two)
    if numbers["built"] > 0:
        where = f"two builds from seed {subject.run.seed} start with other weights ({name}: by {numbers['built']:.2g} of their size)"
        cause = "an initialisation draws from a generator of its own that nothing seeds"
        return _verdict(where, numbers["built"], cause, numbers)
    try:
        for run in (one, two):
            steps_on(run, 0, STEPS)
    except NonFinite as error:
        return skipped(f"{error}: see step_lowers_loss")
    numbers["trained"], name = _apart(one, two)
    if numbers["trained"] > 0:
        where = f"two runs from seed {subject.run.seed} differ after {STEPS} steps ({name}: by {numbers['trained']:.2g} of its size)"
        cause = "something draws from a generator that nothing seeds, or keeps state from run to run"
        return _verdict(where, numbers["trained"], cause, numbers)
    return Finding("ok", f"two builds from one seed are equal to the bit after {STEPS} steps", numbers=numbers, threshold=RULE)


def _verdict(text: str, apart: float, cause: str, numbers: dict[str, Any]) -> Finding:
    if apart < ROUNDING:
        return Finding("info", f"{text}: as rounding does", numbers=numbers, threshold=RULE)
    step = "draw from torch's default generator, or seed your own; or declare expects.stochastic_train=true"
    return Finding("warning", text, cause, step, numbers, RULE)


def built(subject: Subject) -> Run | None:
    """A fresh build, copied so that nothing done to it reaches the run; None where it is made of the run's own parameters."""
    mine = {id(p): p for module in subject.run.modules.values() for p in module.parameters()}
    kept = {key: p.detach().clone() for key, p in mine.items()}
    made = subject.fresh()
    shared = [p for module in made.modules.values() for p in module.parameters() if id(p) in mine]
    if shared:  # a network that lives outside its factory: building it again may have drawn the run's weights anew
        for key, p in mine.items():
            p.data.copy_(kept[key])
        return None
    shape_modules({**made.train, "compile": False}, made.modules)  # another memory layout takes other kernels, and those other bits
    return Subject(made, subject.patience).copy()


def _apart(one: Run, two: Run) -> tuple[float, str]:
    """(largest difference of two tensors of the networks' state, relative to the tensor's size; its name)."""
    worst, where = 0.0, ""
    for name, module in one.modules.items():
        theirs = two.modules[name].state_dict()
        for key, value in module.state_dict().items():
            other = theirs.get(key)
            if not isinstance(value, Tensor) or not isinstance(other, Tensor) or value.shape != other.shape or torch.equal(value, other):
                continue
            apart = float((value.double() - other.double()).norm() / value.double().norm().clamp(min=1e-12))
            if apart > worst or apart != apart:
                worst, where = apart if apart == apart else 0.0, f"{name}.{key}"
    return worst, where
