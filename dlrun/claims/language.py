"""The language of claims: text to a closed tree (`grammar.py`, `tree.py`), and what is wrong with it in one line.

Python's own parser reads the text; what a claim means is in docs/claims.md. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlrun.claims import tree
from dlrun.claims.grammar import MOST_CHARACTERS, read, truth
from dlrun.claims.names import Names, WrongError, no_axes_left
from dlrun.claims.tree import Node
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable
from dlrun.errors import UsageError

ENTRY = ("claim", "source", "mutation", "control")
MOST_OVER_SEEDS = 8


@dataclass(frozen=True)
class Claim:
    """A claim as it was written down, and its tree."""

    text: str
    source: str | None
    mutation: Mapping[str, Any]  # overrides for all runs under which it must be judged not met; empty: none given
    control: bool
    tree: Node


def parse(entry: str | Mapping[str, Any], names: Names, source: str | None = None) -> Claim:
    """The claim in an entry of `claims`, whose own source stands over `source`. UsageError, in one line, where it is none."""
    given: Mapping[str, Any] = {"claim": entry} if isinstance(entry, str) else entry
    if not isinstance(given, Mapping) or not isinstance(given.get("claim"), str):
        raise UsageError(f"expected a claim in quotes, or a mapping with one at `claim`; found {printable(str(entry), 80)}")
    text = given["claim"]
    for key in given:
        if key not in ENTRY:
            raise UsageError(
                f"{shown(text)}: unknown key {printable(str(key), 40)}; a claim has {listing(ENTRY)}{hint(nearest(str(key), ENTRY))}"
            )
    said, mutation, control = given.get("source", source), given.get("mutation"), given.get("control", False)
    if not (said is None or isinstance(said, str)):
        raise UsageError(f"{shown(text)}: source: expected text, found {printable(str(said), 60)}")
    if mutation is not None and not (isinstance(mutation, Mapping) and mutation):
        raise UsageError(
            f"{shown(text)}: mutation: expected a mapping of overrides, such as {{optimizer.lr: 0}}; found {printable(str(mutation), 60)}"
        )
    if not isinstance(control, bool):
        raise UsageError(f"{shown(text)}: control: expected true or false, found {printable(str(control), 60)}")
    return Claim(text, said, dict(mutation or {}), control, condition(text, names))


def shown(text: str) -> str:
    """A claim as messages show it."""
    return printable(repr(" ".join(text.split())) if len(text) <= 2 * MOST_CHARACTERS else repr(text), 120)


def condition(text: str, names: Names) -> Node:
    """The tree of a claim: one condition, on one seed or over all. UsageError with what is wrong, in one line."""
    try:
        node = truth(read(text, names), names, "it")
        if not tree.is_condition(node):
            raise WrongError("a number, expected a condition: compare it with >=, <=, > or <")
        if not any(isinstance(part, tree.EVIDENCE) for part in tree.walk(node)):
            raise WrongError("it reads nothing of any run")
        if tree.over_seeds(node):
            _only_over_seeds(node)
        if sum(isinstance(part, tree.OverSeeds) for part in tree.walk(node)) > MOST_OVER_SEEDS:
            raise WrongError(f"more than {MOST_OVER_SEEDS} of every, median and share: split it")
    except WrongError as error:
        raise UsageError(f"{shown(text)}: {error}") from None
    return node


def expression(text: str, names: Names) -> Node:
    """The tree of a number on one seed, such as a baseline's. UsageError with what is wrong, in one line."""
    try:
        node = read(text, names)
        if tree.is_condition(node):
            raise WrongError("a condition, expected a number: leave the comparison out")
        if tree.over_seeds(node):
            raise WrongError("median, share and every go over seeds: they stand in claims only")
        no_axes_left(node, names, "this number")
    except WrongError as error:
        raise UsageError(f"{shown(text)}: {error}") from None
    return node


def _only_over_seeds(node: Node) -> None:
    """Refuse values of one seed beside values over all seeds; numbers are both."""
    if isinstance(node, tree.OverSeeds):
        if tree.over_seeds(node.part):
            raise WrongError("every, median or share inside another: each goes over all seeds, one is enough")
        return
    if isinstance(node, tree.EVIDENCE):
        raise WrongError("one side is over all seeds (every, median, share), the other of one seed: put both inside")
    for child in tree.children(node):
        _only_over_seeds(child)
