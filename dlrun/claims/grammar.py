"""The grammar of claims: nodes of Python's syntax into nodes of a claim; every form that is not named here is refused.

No attribute of a Python object is ever looked up and nothing is called: names are compared with those of the experiment. Imports no torch.
"""

from __future__ import annotations

import ast
import math
import warnings

from dlrun.claims import tree
from dlrun.claims.calls import Call
from dlrun.claims.functions import FACTS, FUNCTIONS, HAPPENINGS, READINGS, SPLITS, WITH_STEP
from dlrun.claims.names import Names, WrongError, no_axes_left, numeric, unknown
from dlrun.claims.tree import Node
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable

MOST_CHARACTERS, MOST_DEEP = 500, 20
ALIASES = {"last": "final", "end": "final", "start": "first", "initial": "first", "average": "mean"}
"""What others call it."""
TRUTHS = ("happened", "diverged")
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
SIGNS = {ast.GtE: ">=", ast.LtE: "<=", ast.Gt: ">", ast.Lt: "<"}


def read(text: str, names: Names) -> Node:
    """The tree of `text`, a number or a condition; WrongError."""
    if len(text) > MOST_CHARACTERS:
        raise WrongError(f"{len(text)} characters; a claim has at most {MOST_CHARACTERS}: split it, or define an event")
    line = " ".join(text.split())
    if not line.isprintable() or "#" in line or "\\" in line:
        raise WrongError("it holds a control character, a # or a \\: a claim is plain text without comments")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of `1or 2`, and reads it as it stands
            body = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        near = f" at character {error.offset}" if error.offset and 0 < error.offset <= len(line) else ""
        raise WrongError(f"not an expression{near}: {printable(error.msg, 80)}" + _equals(line)) from None
    except (ValueError, MemoryError, RecursionError):
        raise WrongError(f"not an expression, or nested too deep (at most {MOST_DEEP})") from None
    return Parser(names, line).node(body, 1)


def _equals(line: str) -> str:
    return "; say >=, <=, or abs(a - b) <= tolerance" if "=" in line.replace(">=", "").replace("<=", "") else ""


def truth(node: Node, names: Names, what: str) -> Node:
    """`node` as the condition that it is 1, where it is 0 or 1; else as it is."""
    if not isinstance(node, (tree.Event, tree.Fact)) or node.what not in TRUTHS:
        return node
    no_axes_left(node, names, what)
    return tree.Holds(node)


class Parser:
    """Turns nodes of Python's syntax into nodes of a claim; `line` is the text they came from."""

    def __init__(self, names: Names, line: str) -> None:
        self.names, self.line = names, line

    def node(self, found: ast.expr, depth: int) -> Node:
        """The claim's node for `found`."""
        if depth > MOST_DEEP:
            raise WrongError(f"nested more than {MOST_DEEP} deep: split it")
        if isinstance(found, ast.Constant):
            return self._constant(found)
        if isinstance(found, ast.Name):
            return self._name(found.id)
        if isinstance(found, ast.BinOp):
            return self._arithmetic(found, depth)
        if isinstance(found, ast.UnaryOp):
            return self._unary(found, depth)
        if isinstance(found, ast.BoolOp):
            word = "and" if isinstance(found.op, ast.And) else "or"
            return tree.Logic(word, tuple(self.condition(part, depth + 1, word) for part in found.values))
        if isinstance(found, ast.Compare):
            return self._compare(found, depth)
        if isinstance(found, (ast.Attribute, ast.Subscript)):
            return self._reading(found, None, depth)
        if isinstance(found, ast.Call):
            return self._call(found, depth)
        raise WrongError(
            f"{self.quote(found)} is no part of a claim: it has numbers, names, + - * / **, comparisons, and or not, functions"
        )

    def quote(self, found: ast.expr) -> str:
        """The text of `found`, for a message."""
        return printable(self.line.encode()[found.col_offset : found.end_col_offset].decode(), 60)  # one line, counted in bytes

    def number(self, found: ast.expr, depth: int, what: str) -> Node:
        """The node for `found`, which has to be a number."""
        node = self.node(found, depth)
        if tree.is_condition(node):
            raise WrongError(f"{self.quote(found)} is a condition, {what} takes numbers")
        return node

    def condition(self, found: ast.expr, depth: int, what: str) -> Node:
        """The node for `found`, which has to be a condition; what is 0 or 1 is one."""
        node = truth(self.node(found, depth), self.names, self.quote(found))
        if not tree.is_condition(node):
            raise WrongError(f"{self.quote(found)} is a number, {what} takes conditions: compare it with >=, <=, > or <")
        return node

    def _constant(self, found: ast.Constant) -> Node:
        value = found.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise WrongError(f'{self.quote(found)} is no number; text in quotes names a metric: arm["test/accuracy"].final')
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise WrongError(f"{self.quote(found)} is too large for a number")
        return tree.Number(number)

    def _name(self, name: str) -> Node:
        if name in self.names.axes:
            numeric(name, self.names, f"{name} in an expression")
            return tree.Values(name)
        if name in self.names.arms:
            raise WrongError(f'{name} is an arm: say {name}["test/accuracy"].final, {name}.EVENT.step or {name}.steps')
        if name in self.names.measures:
            raise WrongError(f"{name} is a measure: say {name}.NUMBER, one of the numbers its probe gives")
        if name in FUNCTIONS:
            raise WrongError(f"{name} is a function: {FUNCTIONS[name].form}")
        raise WrongError(unknown(name, self.names))

    def _arithmetic(self, found: ast.BinOp, depth: int) -> Node:
        sign = OPERATORS.get(type(found.op))
        if sign is None:
            raise WrongError(f"{self.quote(found)}: no such operator in a claim; there are + - * / **")
        return tree.Apply(sign, tuple(self.number(part, depth + 1, sign) for part in (found.left, found.right)))

    def _unary(self, found: ast.UnaryOp, depth: int) -> Node:
        if isinstance(found.op, ast.Not):
            return tree.Logic("not", (self.condition(found.operand, depth + 1, "not"),))
        if isinstance(found.op, ast.USub):
            return tree.Apply("neg", (self.number(found.operand, depth + 1, "-"),))
        raise WrongError(f"{self.quote(found)}: no such operator in a claim; there are - and not")

    def _compare(self, found: ast.Compare, depth: int) -> Node:
        for sign in found.ops:
            if isinstance(sign, (ast.Eq, ast.NotEq)):
                raise WrongError("== and != ask for equal numbers, which no two trainings have: say abs(a - b) <= tolerance")
            if type(sign) not in SIGNS:
                raise WrongError(f"{self.quote(found)}: no such comparison in a claim; there are >= <= > <")
        sides = [found.left, *found.comparators]
        parts = tuple(self.number(part, depth + 1, "a comparison") for part in sides)
        for side, part in zip(sides, parts, strict=True):
            no_axes_left(part, self.names, self.quote(side))
        return tree.Compare(tuple(SIGNS[type(sign)] for sign in found.ops), parts)

    def _reading(self, found: ast.expr, argument: ast.expr | None, depth: int) -> Node:
        """`arm["split/metric"].how`, `arm.event.what`, `arm.fact`, `measure.number`; `argument` where it was called."""
        owner, keys = _chain(found)
        if owner in self.names.measures and owner not in self.names.arms:
            return self._measured(owner, keys, argument)
        if owner not in self.names.arms:
            what = f"{self.quote(found)} begins with no name" if owner is None else unknown(owner, self.names)
            raise WrongError(f"{owner} is no arm" if owner in (*self.names.axes, *FUNCTIONS) else what)
        first = keys[0]
        if isinstance(first, Metric):
            return self._series(owner, first, keys[1:], argument, depth)
        if argument is not None:
            raise WrongError(f"{self.quote(found)} is no function: leave the () out")
        if len(keys) == 1 and first in FACTS:
            return tree.Fact(owner, first)
        return self._event(owner, [str(key) for key in keys])

    def _event(self, arm: str, keys: list[str]) -> Node:
        events = self.names.events
        if events is not None and keys[0] not in events:
            there = f"events {listing(events)}, and " if events else "no events; "
            close = hint(nearest(keys[0], [*events, *FACTS]), f"{arm}.")
            raise WrongError(f"{arm} has no {printable(keys[0], 60)}; there are {there}{', '.join(FACTS)}{close}")
        if len(keys) != 2 or keys[1] not in HAPPENINGS:
            found = printable(".".join([arm, *keys]), 80)
            close = hint(nearest(keys[1], HAPPENINGS), f"{arm}.{keys[0]}.") if len(keys) > 1 else ""
            raise WrongError(f"{found}: an event has .step and .happened{close}")
        return tree.Event(arm, keys[0], keys[1])

    def _measured(self, measure: str, keys: list[str | Metric], argument: ast.expr | None) -> Node:
        if len(keys) != 1 or argument is not None:
            raise WrongError(f'{measure} is a measure: say {measure}.NUMBER or {measure}["NUMBER"], without more behind it')
        return tree.Measured(measure, str(keys[0]))

    def _series(self, arm: str, metric: str, keys: list[str | Metric], argument: ast.expr | None, depth: int) -> Node:
        label = f'{arm}["{printable(metric, 60)}"]'
        split, slash, _ = metric.partition("/")
        if not slash or split not in SPLITS:
            close = hint(nearest(split, SPLITS)) if slash else ""
            raise WrongError(f"{label}: a metric is split/name, such as test/accuracy; splits are {', '.join(SPLITS)}{close}")
        ways = ", ".join(f".{how}(STEP)" if how in WITH_STEP else f".{how}" for how in READINGS)
        if len(keys) != 1 or keys[0] not in READINGS:
            close = hint(ALIASES.get(str(keys[0])) or nearest(str(keys[0]), READINGS), f"{label}.") if keys else ""
            raise WrongError(f"{label} is a series: say one of {ways}{close}")
        how = str(keys[0])
        if how in WITH_STEP and argument is None:
            raise WrongError(f"{label}.{how}: say .{how}(STEP)")
        if how not in WITH_STEP and argument is not None:
            raise WrongError(f"{label}.{how} takes no argument: leave the () out")
        node = None if argument is None else self.number(argument, depth + 2, f".{how}")
        if node is not None and tree.over_seeds(node):
            raise WrongError(f"{label}.{how}: a step of each seed, not over all seeds")
        return tree.Read(arm, metric, how, node)

    def _call(self, found: ast.Call, depth: int) -> Node:
        if any(isinstance(argument, ast.Starred) for argument in found.args) or any(keyword.arg is None for keyword in found.keywords):
            raise WrongError(f"{self.quote(found)}: no * in a claim: write the arguments out")
        if isinstance(found.func, ast.Name):
            return self._function(found, found.func.id, depth + 1)
        if found.keywords or len(found.args) != 1:
            raise WrongError(f"{self.quote(found)}: expected one argument, as in .at(STEP) and .mean(STEP); the others take no ()")
        if not isinstance(found.func, (ast.Attribute, ast.Subscript)):
            raise WrongError(f"{self.quote(found)}: functions are called by name: {listing(tuple(FUNCTIONS), 40)}")
        return self._reading(found.func, found.args[0], depth)

    def _function(self, found: ast.Call, name: str, depth: int) -> Node:
        def number(part: ast.expr, what: str) -> Node:
            return self.number(part, depth, what)

        def condition(part: ast.expr, what: str) -> Node:
            return self.condition(part, depth, what)

        return Call(self.names, self.quote, number, condition).node(found, name)


class Metric(str):
    """Text in brackets: the name of a metric, or of a measure's number."""


def _chain(found: ast.expr) -> tuple[str | None, list[str | Metric]]:
    """The name that attributes and brackets hang on, None where it is none, and these from left to right."""
    keys: list[str | Metric] = []
    while isinstance(found, (ast.Attribute, ast.Subscript)):
        if isinstance(found, ast.Attribute):
            keys.append(found.attr)
        elif isinstance(found.slice, ast.Constant) and isinstance(found.slice.value, str):
            keys.append(Metric(found.slice.value))
        else:
            raise WrongError('in brackets stands the name of a metric in quotes: arm["test/accuracy"]')
        found = found.value
    return (found.id if isinstance(found, ast.Name) else None), keys[::-1]
