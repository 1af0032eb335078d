"""Metrics say what they seem to say: perfect outputs score best, rows stand in any order, each output is held against its own target.

Perfect outputs are made from the targets, in the form that the network gives, and used only where the loss agrees that they are: then a
metric that ranks others above them chooses the wrong checkpoint. Nothing is asked of a metric's name or formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._downhill import against, led, start
from dlrun.checks._forms import Form, form
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._probe import Probe, probe, put
from dlrun.checks._pull import hot, refusal
from dlrun.parts import slots
from dlrun.task import LossTask
from dlrun.types import Metric

SURE = 8.0
STEPS = (10.0, 3.0, 1.0)
SMALL = 0.3
RULE = "perfect outputs score best, the order of rows does not matter, targets of other rows score worse"


@check(stage="loss", recipe="Hacker's Guide: test the metric on known answers", follows=("shape_contract",))
def metric_recheck(subject: Subject) -> Finding:
    """Each metric on perfect, wrong, random and reordered outputs for one batch."""
    asked = probe(subject)
    if asked is None:
        return skipped("there is no single loss of tensors")
    metrics = asked.run.task.metrics
    if not metrics:
        return skipped("there are no metrics")
    shape = form(subject, asked)
    spec = subject.run.data.spec
    if asked.targets.mode == "none" or (asked.targets.mode == "classes" and refusal(asked, spec.classes or spec.vocab)):
        return _led_astray(asked, shape) or skipped("what perfect outputs would be is not known")
    perfect = _perfect(asked, shape)
    rolled = perfect.roll(1, 0)
    if len(asked.out) < 4 or not _agrees(asked, perfect, rolled):
        return _led_astray(asked, shape) or skipped("the loss does not take the targets for the best outputs")
    numbers: dict[str, Any] = {}
    asked_for = {part["name"] if slot == "metric" else slot for slot, part in slots(subject.run.config.get("metric"), "metric").items()}
    aside = ""
    for name, metric in metrics.items():
        found = _of_one(asked, shape, metric, perfect, rolled, numbers)
        if found is not None and name not in asked_for:  # it came along with the task: its number says little, nobody's part is wrong
            aside = f"metric {name}, which comes with the task, does not read these outputs: {found.message}"
        elif found is not None:
            found.message = f"metric {name}: {found.message}"
            return found
    if worse := _led_astray(asked, shape):
        return worse
    if aside:
        return Finding("info", aside, numbers=numbers, threshold=RULE)
    return Finding("ok", f"perfect outputs score best: {', '.join(metrics)}", numbers=numbers, threshold=RULE)


def _led_astray(asked: Probe, shape: Form) -> Finding | None:
    """The finding where a metric that was asked for gets worse as free outputs descend the loss, and better as they climb it."""
    chosen = [part["name"] for slot, part in slots(asked.run.config.get("metric"), "metric").items()]
    metrics = [m for m in asked.run.task.metrics.values() if m.best in ("max", "min") and m.name in chosen]
    if not metrics or shape.name != "free" or not asked.steady or asked.kind in ("gan", "contrastive"):
        return None
    begun = start(asked)
    down, up = led(asked, begun), led(asked, begun, -1.0)
    if down is None or up is None or not asked.at(down) < asked.at(begun) < asked.at(up):
        return None
    for metric in metrics:
        values = [_value(asked, metric, z) for z in (begun, down, up)]
        known = [value for value in values if value is not None]
        found = against(metric.name, str(metric.best), (known[0], known[1], known[2])) if len(known) == 3 else None
        if found is not None:
            return found
    return None


def _perfect(asked: Probe, shape: Form, size: float = SURE) -> Tensor:
    """The best outputs of the network's form for the targets of the batch."""
    if asked.targets.mode == "numbers":
        return asked.targets.like(asked.out)
    if asked.targets.mode == "shares":
        y = asked.targets.like(asked.out)
        return y if shape.name == "shares" else y.clamp(min=1e-6).log()
    up = hot(asked.targets, asked.targets.layouts[0]) if asked.targets.mode == "classes" else asked.targets.like(asked.out)
    return shape.of(size * (2 * up - 1))


def _agrees(asked: Probe, perfect: Tensor, rolled: Tensor) -> bool:
    """Whether the loss, too, is lower for perfect outputs than for those of other rows and for outputs that are all alike."""
    try:
        best, others = asked.at(perfect), asked.at(rolled)
        flat = asked.at(perfect.mean(0, keepdim=True).expand_as(perfect).clone())
    except Exception:
        return False
    return math.isfinite(best) and best < others and best < flat


def _of_one(asked: Probe, shape: Form, metric: Metric, perfect: Tensor, rolled: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """What is wrong with one metric."""
    outputs = {"perfect": perfect, "rolled": rolled, "random": shape.of(asked.noise("one")), "alike": perfect.mean(0, keepdim=True)}
    outputs["alike"] = outputs["alike"].expand_as(perfect).clone()
    values = {way: _value(asked, metric, z) for way, z in outputs.items()}
    numbers[metric.name] = values
    order = torch.randperm(len(perfect), generator=torch.Generator().manual_seed(0))
    best = values["perfect"]
    if best is None:
        return None
    moved = None if metric.whole else _value(asked, metric, outputs["random"], order)
    here = values["random"]
    if moved is not None and here is not None and abs(moved - here) > 1e-4 * max(abs(here), 1e-3):
        text = f"it is {here:.4g}, and {moved:.4g} for the same rows in another order"
        return Finding("error", text, "an average over the wrong axis, or a fixed row", "average over rows", numbers, RULE)
    if metric.best is None:
        return None
    better: Callable[[float], bool] = (lambda v: v > best + _slack(best)) if metric.best == "max" else (lambda v: v < best - _slack(best))
    for way in ("rolled", "random", "alike"):
        value = values[way]
        if value is not None and better(value):
            return _ranks_wrongly(metric, way, best, value, numbers)
    known = [values[way] for way in ("rolled", "random", "alike")]
    if all(value is not None and abs(value - best) <= _slack(best) for value in known):
        text = f"it is {best:.4g} for perfect outputs, for those of other rows, for random and for equal ones"
        cause = "it compares every output with every target (shapes [B, 1] and [B]), or does not read both"
        return Finding("error", text, cause, "print the shapes inside the metric", numbers, RULE)
    return _threshold(asked, shape, metric, best, numbers)


def _slack(value: float) -> float:
    return 1e-5 * max(abs(value), 1e-2)


def _ranks_wrongly(metric: Metric, way: str, best: float, value: float, numbers: dict[str, Any]) -> Finding:
    said = {"rolled": "those of other rows", "random": "random ones", "alike": "outputs that are all alike"}[way]
    text = f"perfect outputs score {best:.4g}, {said} {value:.4g}, and best is {metric.best}"
    cause = "best says the wrong direction, or the metric compares along the wrong axis or every output with every target"
    return Finding("error", text, cause, "try it on targets you know, and look at shapes and direction", numbers, RULE)


def _threshold(asked: Probe, shape: Form, metric: Metric, best: float, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a metric cuts logits at another place than 0: right for outputs of 1 and more, wrong for small ones."""
    if asked.targets.mode != "labels" or shape.name != "free":
        return None
    sure = [_value(asked, metric, _perfect(asked, shape, size)) for size in STEPS]
    small = _value(asked, metric, _perfect(asked, shape, SMALL))
    if small is None or any(value != best for value in sure) or small == best:
        return None
    try:
        at_zero = asked.slope(torch.zeros_like(asked.out))
        y = asked.targets.like(asked.out)
    except Exception:
        return None
    if not bool(((at_zero < 0) == (y > 0.5)).all()):  # the loss, too, has its middle elsewhere
        return None
    numbers["at_small_logits"] = small
    text = f"logits of {SMALL:g} on the right side of 0 score {small:.4g}, those of 1 score {best:.4g}"
    cause = "it cuts logits at 0.5 (round, > 0.5), which is where probabilities are cut"
    return Finding("warning", text, cause, "cut logits at 0, or take their sigmoid first", numbers, RULE)


def _value(asked: Probe, metric: Metric, z: Tensor, order: Tensor | None = None) -> float | None:
    """The metric of outputs `z`, rows in the given order; None where it is undefined or does not take them."""
    task = asked.run.task
    assert isinstance(task, LossTask)
    try:
        batch, outputs = asked.batch, put(asked.outputs, asked.out, z.to(asked.out.dtype))
        if order is not None:
            if outputs is not z and not isinstance(outputs, Tensor):
                return None
            batch, outputs = batch.map(lambda t: t[order.to(t.device)]), outputs[order.to(z.device)]
        with torch.no_grad():
            out, y, rows = task.compared(outputs, batch)
            value = float(metric(out, y, rows).value())
    except Exception:
        return None
    return value if math.isfinite(value) else None
