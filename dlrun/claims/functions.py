"""The functions of claims: their names, how they are written and what they mean. docs/claims.md has this table."""

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
