"""By how much a condition holds: margins, their `and`, `or` and `not`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dlrun.claims import tree
from dlrun.claims.evaluating import Evaluator
from dlrun.claims.grid import Cell, Gap, finite, gap_of
from dlrun.claims.tree import Node

ROUNDING = 1e-12
"""Sides that differ by less than this share of the larger one are equal: 0.95 - 0.9 >= 0.05 holds, whatever floats make of it."""


class Margin(NamedTuple):
    """By how much a condition holds, below 0: fails; `strict` is -1 where 0 is not enough, else 0. Margins compare as pairs."""

    value: float
    strict: int

    @property
    def met(self) -> bool:
        """Whether the condition holds."""
        return self >= (0.0, 0)


Outcome = Margin | Gap


def condition(node: Node, evaluator: Evaluator, every: Mapping[Node, Outcome] | None = None) -> Outcome:
    """By how much `node` holds: `a >= b` by a - b, `and` by the least, `or` by the most of its parts, `not` by the opposite.

    `every` says it of the conditions over all seeds.
    """
    if isinstance(node, tree.Compare):
        return _compared(node, sides(node, evaluator))
    if isinstance(node, tree.Holds):
        cell = evaluator.number(node.part).cells[()]
        return cell if isinstance(cell, Gap) else Margin(cell - 0.5, 0)
    if isinstance(node, tree.Logic):
        return _logic(node.word, [condition(part, evaluator, every) for part in node.parts])
    if every is not None and node in every:
        return every[node]
    raise TypeError(f"no condition: {type(node).__name__}")


def sides(node: tree.Compare, evaluator: Evaluator) -> list[Cell]:
    """The numbers that are compared."""
    return [evaluator.number(part).cells[()] for part in node.parts]


def _compared(node: tree.Compare, cells: Sequence[Cell]) -> Outcome:
    gap = gap_of(cells)
    if gap is not None:
        return gap
    numbers = [cell for cell in cells if not isinstance(cell, Gap)]
    found = [_pair(sign, left, right) for sign, left, right in zip(node.signs, numbers, numbers[1:], strict=False)]
    return _logic("and", found)


def _pair(sign: str, left: float, right: float) -> Outcome:
    larger, smaller = (left, right) if sign[0] == ">" else (right, left)
    value = finite(lambda: larger - smaller, f"{larger:g} - {smaller:g}")
    if isinstance(value, Gap):
        return value
    close = abs(value) <= ROUNDING * max(abs(left), abs(right))
    return Margin(0.0 if close else value, 0 if sign.endswith("=") else -1)


def _logic(word: str, parts: Sequence[Outcome]) -> Outcome:
    """What is missing stays missing. What cannot be met (an event that did not happen) is not met, and neither is its opposite."""
    margins = [part for part in parts if isinstance(part, Margin)]
    gaps = [part for part in parts if isinstance(part, Gap)]
    if gaps and (word != "or" or any(gap.missing for gap in gaps) or not any(margin.met for margin in margins)):
        return gap_of(gaps) or gaps[0]
    if word == "not":
        return Margin(-margins[0].value, -1 - margins[0].strict)
    return min(margins) if word == "and" else max(margins)
