"""Claims that say themselves what they ask of their seeds: `every`, `median`, `share`. Decided by the plain numbers. Imports no torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Literal

from dlrun.claims import tree
from dlrun.claims.conditions import Margin, Outcome, condition
from dlrun.claims.evaluating import Evaluator
from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.grid import Gap
from dlrun.claims.tree import Node, OverSeeds


def per_seed_condition(node: Node) -> Node | None:
    """What a claim asks of a single seed: without `every` and `median`, the condition in `share`. None where there is no such thing."""
    if isinstance(node, OverSeeds):
        return node.part
    if isinstance(node, tree.Logic):
        parts = tuple(per_seed_condition(part) for part in node.parts)
        kept = tuple(part for part in parts if part is not None)
        return dataclasses.replace(node, parts=kept) if len(kept) == len(parts) else None
    shares = [part for part in tree.walk(node) if isinstance(part, OverSeeds) and part.function == "share"]
    medians = [part for part in tree.walk(node) if isinstance(part, OverSeeds) and part.function == "median"]
    if shares:
        return shares[0].part if len(shares) == 1 and not medians else None
    return _without_medians(node)


def _without_medians(node: Node) -> Node:
    """`node` with e where median(e) stood."""
    if isinstance(node, OverSeeds):
        return node.part
    if isinstance(node, (tree.Compare, tree.Apply)):
        return dataclasses.replace(node, parts=tuple(_without_medians(part) for part in node.parts))
    return node


def over_seeds_verdict(node: Node, seeds: Sequence[SeedEvidence]) -> tuple[Literal["met", "not_met", "undecided"], str]:
    """Whether `node` holds over `seeds`, and why.

    A seed that has no number (an event that did not happen, a NaN) meets no condition; in a median it may stand on either side, and the
    claim is met only if it holds both ways.
    """
    parts = list(dict.fromkeys(part for part in tree.walk(node) if isinstance(part, OverSeeds)))
    found = {part: [_of_seed(part, Evaluator(seed)) for seed in seeds] for part in parts}
    for outcomes in found.values():
        for seed, outcome in zip(seeds, outcomes, strict=True):
            if isinstance(outcome, Gap) and outcome.missing:
                return "undecided", f"seed {seed.seed}: {outcome.reason}"
    every: dict[Node, Outcome] = {part: _least(found[part]) for part in parts if part.function == "every"}
    plain = [part for part in parts if part.function != "every"]
    numbers = [_share(found[part]) if part.function == "share" else _medians(found[part]) for part in plain]
    ways: list[dict[Node, float]] = [dict(zip(plain, way, strict=True)) for way in itertools.product(*numbers)]
    results = [_decided(node, seeds[0], way, every) for way in ways]
    unknown = next((result for result in results if isinstance(result, Gap) and result.missing), None)
    if unknown is not None:
        return "undecided", unknown.reason
    met = all(isinstance(result, Margin) and result.met for result in results)
    return ("met" if met else "not_met"), _said(parts, found, len(seeds))


def _of_seed(part: OverSeeds, evaluator: Evaluator) -> Outcome | float:
    return evaluator.number(part.part).cells[()] if part.function == "median" else condition(part.part, evaluator)


def _least(outcomes: Sequence[Outcome | float]) -> Outcome:
    """The margin of the seed with the least; one without a number is not met."""
    gap = next((outcome for outcome in outcomes if isinstance(outcome, Gap)), None)
    return gap or min(outcome for outcome in outcomes if isinstance(outcome, Margin))


def _share(outcomes: Sequence[Outcome | float]) -> list[float]:
    return [sum(isinstance(outcome, Margin) and outcome.met for outcome in outcomes) / len(outcomes)]


def _medians(cells: Sequence[Outcome | float]) -> list[float]:
    """The median with the seeds that have no number below all others, and above."""
    numbers = [cell for cell in cells if isinstance(cell, float)]
    failed = len(cells) - len(numbers)
    return list(dict.fromkeys(statistics.median([*numbers, *[side] * failed]) for side in (-math.inf, math.inf)))


def _decided(node: Node, seed: SeedEvidence, numbers: dict[Node, float], every: dict[Node, Outcome]) -> Outcome:
    if not all(math.isfinite(number) for number in numbers.values()):
        return Gap(False, "half of the seeds have no number")
    return condition(node, Evaluator(seed, numbers), every)


def _said(parts: Sequence[OverSeeds], found: dict[OverSeeds, list[Outcome | float]], seeds: int) -> str:
    """The numbers that decided, in words."""
    words = []
    for part in parts:
        outcomes = found[part]
        met = sum(isinstance(outcome, Margin) and outcome.met for outcome in outcomes)
        words.append(f"{part.function}: {_number(outcomes)}" if part.function == "median" else f"{met} of {seeds} seeds meet it")
    return "; ".join(dict.fromkeys(words))


def _number(cells: Sequence[Outcome | float]) -> str:
    """A median as a reason shows it, or both that it may be."""
    return " or ".join(f"{value:.4g}" if math.isfinite(value) else "none" for value in _medians(cells))
