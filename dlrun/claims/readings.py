"""What one run has to say to a claim: a number, or why there is none. Imports no torch."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from dlrun.claims import tree
from dlrun.claims.evidence import RunEvidence, Series
from dlrun.claims.grid import Cell, Gap
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable


def of_run(node: tree.Read | tree.Event | tree.Fact, run: RunEvidence | None, argument: Cell | None, label: str) -> Cell:
    """The number that `node` asks of `run`; `argument` is the step asked for, `label` names the run in reasons."""
    if run is None:
        return Gap(True, f"{label} has no run")
    if run.status != "finished" and not run.diverged:
        why = f" ({printable(run.reason, 120)})" if run.reason else ""
        return Gap(True, f"{label} is {printable(run.status, 20)} at step {run.step} of {run.steps}{why}: {printable(run.path)}")
    if isinstance(node, tree.Event):
        if node.what == "happened":
            return float(node.event in run.events)
        return float(run.events[node.event]) if node.event in run.events else Gap(False, f"{label}: {node.event} did not happen")
    if isinstance(node, tree.Fact):
        facts = {"steps": run.step, "seconds": run.seconds, "parameters": run.parameters, "diverged": run.diverged}
        return float(facts[node.what])
    if isinstance(argument, Gap):
        return argument
    return _of_series(node, run, argument, label)


def _of_series(node: tree.Read, run: RunEvidence, step: float | None, label: str) -> Cell:
    """`.first` and `.at` of a run that diverged are what was logged until then; what takes in its end has no value."""
    ended = node.how == "at" and step is not None and step > run.step
    if run.diverged and (ended or node.how in ("final", "min", "max", "mean")):
        return Gap(False, f"{label} diverged at step {run.step}")
    if ended:
        return Gap(True, f"{label} ends at step {run.step}, asked for step {step:g}")
    series = run.series.get(node.metric)
    if series is None or not series.values:
        there = sorted(run.series)
        close = hint(nearest(node.metric, there))
        return Gap(not run.diverged, f"{label} logs no {printable(node.metric, 60)}; it has {listing(there, 40) or 'no metrics'}{close}")
    values = _chosen(series, node.how, step)
    if not values:
        return Gap(True, f"{label}: {node.metric} stands at steps {series.steps[0]} to {series.steps[-1]}, asked for step {step:g}")
    value = _reduced(values, node.how)
    return value if math.isfinite(value) else Gap(False, f"{label}: {printable(node.metric, 60)} is {value}")


def _chosen(series: Series, how: str, step: float | None) -> Sequence[float]:
    """The values that count: all, the last, the first, that at a step (the last at or before it), those from a step on."""
    if how == "at":
        end = bisect_right(series.steps, step or 0.0)
        return series.values[max(end - 1, 0) : end]
    if how == "mean":
        return series.values[bisect_left(series.steps, step or 0.0) :]
    return {"final": series.values[-1:], "first": series.values[:1]}.get(how, series.values)


def _reduced(values: Sequence[float], how: str) -> float:
    """The values' smallest, largest, mean, or the one there is; NaN where one of them is."""
    if any(math.isnan(value) for value in values):
        return math.nan
    if how in ("min", "max"):
        return min(values) if how == "min" else max(values)
    return math.fsum(value / len(values) for value in values) if all(map(math.isfinite, values)) else sum(values)


def of_measure(node: tree.Measured, numbers: Mapping[str, float] | None, label: str) -> Cell:
    """A number of a measure; `numbers` are those its probe gave, none where a run diverged, None where it was not made."""
    if numbers is None:
        return Gap(True, f"{label} was not measured")
    if not numbers:
        return Gap(False, f"{label}: a run it measures diverged")
    if node.number not in numbers:
        there = sorted(numbers)
        return Gap(
            True,
            f"{label} has no {printable(node.number, 60)}; it has {listing(there, 40)}{hint(nearest(node.number, there))}",
        )
    value = float(numbers[node.number])
    return value if math.isfinite(value) else Gap(False, f"{label}: {printable(node.number, 60)} is {value}")
