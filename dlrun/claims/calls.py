"""The functions of claims, from Python's syntax to nodes: how many arguments of what kind, and the axis they go along. Imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Callable

from dlrun.claims import tree
from dlrun.claims.functions import FUNCTIONS, OVER_AXIS
from dlrun.claims.names import Names, WrongError, no_axes_left, numeric, unknown
from dlrun.claims.tree import Node
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable

Read = Callable[[ast.expr, str], Node]
"""Gives the node of an argument of the function named."""


class Call:
    """A call of a function; `quote` shows a piece of the claim, `number` and `condition` read an argument."""

    def __init__(self, names: Names, quote: Callable[[ast.expr], str], number: Read, condition: Read) -> None:
        self.names, self.quote, self.number, self.condition = names, quote, number, condition

    def node(self, found: ast.Call, name: str) -> Node:
        if name not in FUNCTIONS:
            kind = "an arm" if name in self.names.arms else "a measure" if name in self.names.measures else None
            raise WrongError(f"{name} is {kind}, no function" if kind else unknown(name, self.names))
        form = FUNCTIONS[name].form
        if found.keywords and name != "at":
            raise WrongError(f"{self.quote(found)}: {name} takes no keywords: say {form}")
        if name == "at":
            return self._at(found)
        axis = self._axis(found.args[-1]) if len(found.args) == 2 and name in OVER_AXIS and name != "slope" else None
        if axis is not None:
            return self._reduce(found, name, axis)
        several = name in ("min", "max")
        if several and len(found.args) > 2 and (last := self._axis(found.args[-1])):
            raise WrongError(f"{self.quote(found)}: over axis {last} {name} takes one expression: say {name}({name}(a, b), {last})")
        if name in OVER_AXIS and name != "slope" and not several:
            there = listing(tuple(self.names.axes)) or "none"
            raise WrongError(f"{self.quote(found)}: say {form}; axes here: {there}")
        wanted = 2 if several or name == "slope" else 1
        if len(found.args) < wanted or (len(found.args) > wanted and not several):
            raise WrongError(f"{self.quote(found)}: {len(found.args)} arguments, say {form}")
        return self._applied(found, name)

    def _applied(self, found: ast.Call, name: str) -> Node:
        """A function whose arguments have been counted."""
        if name in ("every", "share"):
            return tree.OverSeeds(name, self.condition(found.args[0], name))
        parts = tuple(self.number(part, name) for part in found.args)
        if name == "median":
            no_axes_left(parts[0], self.names, self.quote(found.args[0]))
            return tree.OverSeeds(name, parts[0])
        if name != "slope":
            return tree.Apply(name, parts)
        both = sorted(tree.axes_of(parts[0], self.names.axes) & tree.axes_of(parts[1], self.names.axes))
        if len(both) != 1:
            have = f"both have the axes {', '.join(both)}: reduce one first" if both else "they share none"
            raise WrongError(f"{self.quote(found)}: slope goes along the one axis that both expressions have; {have}")
        if len(self.names.axes[both[0]]) < 2:
            raise WrongError(f"{self.quote(found)}: a slope needs two values of axis {both[0]}, there is one")
        return tree.Slope(parts[0], parts[1], both[0])

    def _axis(self, found: ast.expr) -> str | None:
        return found.id if isinstance(found, ast.Name) and found.id in self.names.axes else None

    def _reduce(self, found: ast.Call, name: str, axis: str) -> Node:
        part = self.number(found.args[0], name)
        if axis not in tree.axes_of(part, self.names.axes):
            raise WrongError(f"{self.quote(found)}: {self.quote(found.args[0])} is the same along {axis}: leave {name} out")
        if name.startswith("arg"):
            numeric(axis, self.names, name)
        if name == "best_of" and len(tree.directions(part)) != 1:
            raise WrongError(f"{self.quote(found)}: not one metric, so that best has no meaning: say min(..., {axis}) or max(..., {axis})")
        return tree.Reduce(name, part, axis)

    def _at(self, found: ast.Call) -> Node:
        if len(found.args) != 1 or not found.keywords:
            raise WrongError(
                f"{self.quote(found)}: say {FUNCTIONS['at'].form}, with axes {listing(tuple(self.names.axes)) or '(none here)'}"
            )
        part = self.number(found.args[0], "at")
        places = tuple((str(keyword.arg), self._place(keyword)) for keyword in found.keywords)
        for axis, _ in places:
            if axis not in tree.axes_of(part, self.names.axes):
                raise WrongError(f"{self.quote(found)}: {self.quote(found.args[0])} is the same along {axis}: leave it out")
        return tree.At(part, places)

    def _place(self, keyword: ast.keyword) -> int:
        """Where the value of `AXIS=VALUE` stands among the axis' values."""
        axis, given = str(keyword.arg), keyword.value
        if axis not in self.names.axes:
            there = listing(tuple(self.names.axes)) or "none"
            raise WrongError(f"at: no axis {printable(axis, 60)}; there are {there}{hint(nearest(axis, self.names.axes))}")
        negative = isinstance(given, ast.UnaryOp) and isinstance(given.op, ast.USub)
        constant = given.operand if isinstance(given, ast.UnaryOp) and negative else given
        value = constant.value if isinstance(constant, ast.Constant) else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        wanted = -value if negative and number else value  # type: ignore[operator]
        for place, there in enumerate(self.names.axes[axis]):
            if wanted == there and isinstance(wanted, bool) == isinstance(there, bool) and wanted is not None:
                return place
        values = listing([repr(each) for each in self.names.axes[axis]])
        raise WrongError(f"at: axis {axis} has no value {self.quote(given)}; it has {values}")
