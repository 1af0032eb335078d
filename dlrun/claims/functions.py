"""The words of claims, how each is written and what it means: what a run can be asked, and functions. docs/claims.md has these tables."""

from __future__ import annotations

from typing import NamedTuple


class Function(NamedTuple):
    """How a function is written, and what it gives."""

    form: str
    says: str


POINTWISE = {
    "abs": Function("abs(e)", "the size of e without its sign"),
    "log": Function("log(e)", "natural logarithm"),
    "log2": Function("log2(e)", "logarithm to base 2"),
    "log10": Function("log10(e)", "logarithm to base 10"),
    "exp": Function("exp(e)", "Euler's number to the power of e"),
    "sqrt": Function("sqrt(e)", "square root"),
}
OVER_AXIS = {
    "min": Function("min(e, AXIS) or min(a, b, ...)", "the smallest over an axis, or of several expressions"),
    "max": Function("max(e, AXIS) or max(a, b, ...)", "the largest over an axis, or of several expressions"),
    "mean": Function("mean(e, AXIS)", "the mean over an axis"),
    "argmin": Function("argmin(e, AXIS)", "the axis value with the smallest e; those within 1 % of it: their geometric mean"),
    "argmax": Function("argmax(e, AXIS)", "the axis value with the largest e; those within 1 % of it: their geometric mean"),
    "best_of": Function("best_of(e, AXIS)", "the best over an axis: the smallest of a loss or an error, the largest of anything else"),
    "slope": Function("slope(y, x)", "slope of the least-squares line of y over x, along the one axis that both have"),
    "at": Function("at(e, AXIS=VALUE)", "e at one value of an axis"),
}
OVER_SEEDS = {
    "every": Function("every(CONDITION)", "it holds with every seed"),
    "median": Function("median(e)", "the median of e over the seeds"),
    "share": Function("share(CONDITION)", "the share of seeds with which it holds, from 0 to 1"),
}
FUNCTIONS = POINTWISE | OVER_AXIS | OVER_SEEDS
SPLITS = ("train", "val", "test", "train_ema", "val_ema", "test_ema")
READINGS = {
    "final": Function('ARM["split/metric"].final', "the last value"),
    "first": Function('ARM["split/metric"].first', "the first value"),
    "max": Function('ARM["split/metric"].max', "the largest value"),
    "min": Function('ARM["split/metric"].min', "the smallest value"),
    "at": Function('ARM["split/metric"].at(STEP)', "the last value at or before a step; beyond the run's end there is none"),
    "mean": Function('ARM["split/metric"].mean(STEP)', "the mean of the values from a step on"),
}
WITH_STEP = ("at", "mean")
HAPPENINGS = {
    "step": Function("ARM.EVENT.step", "the first step at which the event's condition held; one that did not happen has none"),
    "happened": Function("ARM.EVENT.happened", "1 if it happened, else 0; a condition too"),
}
FACTS = {
    "steps": Function("ARM.steps", "steps trained"),
    "seconds": Function("ARM.seconds", "seconds of training"),
    "parameters": Function("ARM.parameters", "how many numbers the networks have"),
    "diverged": Function("ARM.diverged", "1 if the run stopped on a value that is not finite, else 0; a condition too"),
}
MEASURES = {"number": Function('MEASURE.NUMBER or MEASURE["NUMBER"]', "a number that the measure's probe gave")}
