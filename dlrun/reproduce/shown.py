"""What an experiment's figure shows: its panels, as the `figure` key asks for them or as its claims read them. Imports no matplotlib."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dlrun.claims import tree
from dlrun.claims.evaluating import evaluate
from dlrun.claims.evidence import Point, SeedEvidence
from dlrun.claims.grid import Gap
from dlrun.claims.readings import of_measure, of_run
from dlrun.errors import UsageError
from dlrun.events import parse
from dlrun.reproduce.outcome import claims_of
from dlrun.reproduce.sheet import Sheet

HOWS = ("final", "first", "min", "max")
SPLITS = ("train", "train_ema", "val", "val_ema", "test", "test_ema")
BEST = {"argmin": "min", "min": "min", "argmax": "max", "max": "max", "best_of": ""}


@dataclass(frozen=True)
class Quantity:
    """What is read of a run, or of a measure: a metric, the step of an event, a fact such as `parameters`, a number of a probe."""

    kind: Literal["metric", "event", "fact", "measure"]
    name: str
    how: str = "final"

    @property
    def split(self) -> str:
        """`test` of `test/accuracy`."""
        return self.name.partition("/")[0] if self.kind == "metric" else ""

    @property
    def title(self) -> str:
        """What stands over its panel: a metric's reading where it is not the last value, an event's step."""
        return {"event": f"step of {self.name}", "metric": self.name if self.how == "final" else f"{self.name}, {self.how}"}.get(
            self.kind, self.name
        )

    @property
    def numbered(self) -> bool:
        """Whether it stands for all numbers of a probe that differ by a number in their names: `cross_entropy_*`."""
        return self.kind == "measure" and self.name.endswith("_*")

    def numbers(self, names: Iterable[str]) -> list[tuple[float, str]]:
        """Of names such as `cross_entropy_0`, `cross_entropy_1` ... those of this quantity with their numbers, sorted."""
        found = (re.fullmatch(re.escape(self.name[:-1]) + r"(\d+(?:\.\d+)?)", name) for name in names)
        return sorted((float(match[1]), match[0]) for match in found if match)

    @property
    def share(self) -> bool:
        """Whether it lies between 0 and 1 by its name."""
        return self.kind == "metric" and any(word in self.name for word in ("accuracy", "recall", "precision", "auc"))

    def value(self, seed: SeedEvidence, owner: str, point: Point) -> float | None:
        """Of arm or measure `owner`, as claims read it; None where nobody knows, NaN where it has none (it diverged, it did not happen)."""
        if self.kind == "measure":
            cell = of_measure(tree.Measured(owner, self.name), seed.measures.get(owner, {}).get(point), owner)
        else:
            cell = of_run(self._node(owner), seed.arms.get(owner, {}).get(point), None, owner)
        if isinstance(cell, Gap):
            return None if cell.missing else math.nan
        return cell

    def _node(self, arm: str) -> tree.Read | tree.Event | tree.Fact:
        if self.kind == "metric":
            return tree.Read(arm, self.name, self.how)
        return tree.Event(arm, self.name, "step") if self.kind == "event" else tree.Fact(arm, self.name)


@dataclass(frozen=True)
class Panel:
    """One picture. `curves`: against the step; `axis`: against an axis; `best`: where along `along` the best lies, against an axis;
    `numbered`: numbers of measures against the number in their names; `dots`.

    `owners`: arms or measures, a line or row each; `points`: of the axes that are not on x, a line each.
    """

    form: Literal["curves", "axis", "best", "numbered", "dots"]
    quantity: Quantity
    owners: tuple[str, ...]
    axis: str = ""
    points: tuple[Point, ...] = ((),)
    best: str = ""
    along: str = ""

    @property
    def title(self) -> str:
        """What stands over it."""
        one = self.owners[0] + ": " if self.form == "axis" and len(self.points) > 1 and self.owners[0] != "run" else ""
        return (
            f"{self.along} of the {'lowest' if self.best == 'min' else 'highest'} {self.quantity.name}"
            if self.form == "best"
            else one + self.quantity.title
        )


def wanted(sheet: Sheet) -> list[Quantity]:
    """What is drawn, train before val before test where only the split differs."""
    nodes = [node for claim in claims_of(sheet) for node in tree.walk(claim.tree)]
    hows = {node.metric: node.how for node in reversed(nodes) if isinstance(node, tree.Read) and node.how in HOWS}
    asked = sheet.figure.get("y")
    if asked is not None:
        return [_asked(sheet, str(text), hows) for text in ([asked] if isinstance(asked, str) else asked)]
    found = dict.fromkeys(one for node in nodes if (one := _read_by(node, hows)) is not None)
    events = sheet.config.get("events") or {}
    named = [parse(one.name, events[one.name])[0] for one in found if one.kind == "event" and one.name in events]
    found |= dict.fromkeys(Quantity("metric", metric, hows.get(metric, "final")) for metric in named)
    return sorted(found, key=_rank(found))


def _read_by(node: tree.Node, hows: Mapping[str, str]) -> Quantity | None:
    if isinstance(node, tree.Read):
        return Quantity("metric", node.metric, hows.get(node.metric, "final"))
    if isinstance(node, tree.Event):
        return Quantity("event", node.event)
    if isinstance(node, tree.Fact) and node.what != "diverged":
        return Quantity("fact", node.what)
    return Quantity("measure", node.number) if isinstance(node, tree.Measured) else None


def _rank(found: Iterable[Quantity]) -> Any:
    """Metrics of one name side by side, in the order of the splits; else as they were read."""
    places: dict[str, int] = {}
    for one in found:
        places.setdefault(one.name.rpartition("/")[2], len(places))
    return lambda one: (places[one.name.rpartition("/")[2]], SPLITS.index(one.split) if one.split in SPLITS else -1)


def _asked(sheet: Sheet, text: str, hows: Mapping[str, str]) -> Quantity:
    """`test/accuracy`, `EVENT.step`, `MEASURE.NUMBER` (of all measures that give it), or a fact: `parameters`."""
    head, _, tail = text.partition(".")
    split, slash, _ = text.partition("/")
    if slash and split in SPLITS:
        return Quantity("metric", text, hows.get(text, "final"))
    if head in (sheet.config.get("events") or {}) and tail == "step":
        return Quantity("event", head)
    if head in (sheet.config.get("measures") or {}) and tail:
        return Quantity("measure", tail)
    return Quantity("fact", text)


def panels(sheet: Sheet, evidence: Sequence[SeedEvidence]) -> list[Panel]:
    """All panels, in the order they are drawn."""
    nodes = [node for claim in claims_of(sheet) for node in tree.walk(claim.tree)]
    quantities = wanted(sheet)
    axis = _axis(sheet, nodes)
    # once each: several measures give a number of one name
    found = dict.fromkeys(panel for one in quantities for panel in _panels_of(sheet, one, axis, evidence, nodes))
    curves = any(panel.form == "curves" for panel in found)
    explicit = "y" in sheet.figure
    kept = [panel for panel in found if explicit or not (curves and panel.form == "dots" and panel.quantity.kind == "event")]
    return kept + _bests(sheet, axis, quantities, nodes)


def _axis(sheet: Sheet, nodes: Sequence[tree.Node]) -> str:
    """What stands on x: asked for, or the axis along which claims look for the best, or are reduced, or the first; else `step`."""
    asked = sheet.figure.get("x")
    if asked:
        return str(asked)
    reduced = [node for node in nodes if isinstance(node, (tree.Reduce, tree.Slope))]
    reduced.sort(key=lambda node: not (isinstance(node, tree.Reduce) and node.function.startswith("arg")))
    names = [*(node.axis for node in reduced), *(axis.name for axis in sheet.axes)]
    return next((name for name in names if any(name == axis.name for axis in sheet.axes)), "step")


def _panels_of(sheet: Sheet, one: Quantity, axis: str, evidence: Sequence[SeedEvidence], nodes: Sequence[tree.Node]) -> list[Panel]:
    owners = tuple(sheet.config.get("measures") or {}) if one.kind == "measure" else sheet.arms
    owners = _owners(one, owners, evidence)
    every = tuple(sheet.points)
    if one.numbered:
        return [Panel("numbered", one, owners, points=every)]
    if axis == "step":
        long = one.kind == "metric" and _longest(one, evidence) > 2
        return [Panel("curves" if long else "dots", one, owners, points=every)]
    others = tuple(dict.fromkeys(tuple(pair for pair in point if pair[0] != axis) for point in every))
    best = next((BEST[node.function] or _way(one) for node in nodes if isinstance(node, tree.Reduce) and _reads(node, one, axis)), "")
    if len(others) == 1:
        return [Panel("axis", one, owners, axis, others, best)]
    return [Panel("axis", one, (owner,), axis, others, best) for owner in owners]


def _owners(one: Quantity, owners: tuple[str, ...], evidence: Sequence[SeedEvidence]) -> tuple[str, ...]:
    """Of measures those that give the number; arms all."""
    if one.kind != "measure":
        return owners
    return tuple(
        owner
        for owner in owners
        if any(one.name in numbers or one.numbers(numbers) for seed in evidence for numbers in seed.measures.get(owner, {}).values())
    )


def _longest(one: Quantity, evidence: Sequence[SeedEvidence]) -> int:
    runs = (run for seed in evidence for at in seed.arms.values() for run in at.values() if run)
    return max((len(run.series[one.name].values) for run in runs if one.name in run.series), default=0)


def _way(one: Quantity) -> str:
    return "min" if tree.better(one.name) == "down" else "max"


def _reads(node: tree.Reduce, one: Quantity, axis: str) -> bool:
    """Whether `node` looks for the best of this quantity along the axis."""
    below = [_read_by(child, {one.name: one.how}) for child in tree.walk(node.part)]
    return node.function in BEST and node.axis == axis and one in below


def _bests(sheet: Sheet, axis: str, quantities: Sequence[Quantity], nodes: Sequence[tree.Node]) -> list[Panel]:
    """Where claims ask for the place of the best along x and one more axis is left: that place against this axis."""
    rest = [other.name for other in sheet.axes if other.name != axis]
    if len(rest) != 1 or axis == "step":
        return []
    found: dict[Quantity, dict[str, str]] = {}
    for node in nodes:
        if isinstance(node, tree.Reduce) and node.function.startswith("arg") and node.axis == axis and isinstance(node.part, tree.Read):
            one = next((one for one in quantities if one.name == node.part.metric and one.how == node.part.how), None)
            if one is not None:
                found.setdefault(one, {})[node.part.arm] = BEST[node.function]
    return [
        Panel("best", one, tuple(arm for arm in sheet.arms if arm in ways), rest[0], best=next(iter(ways.values())), along=axis)
        for one, ways in found.items()
    ]


def values_at(panel: Panel, evidence: Sequence[SeedEvidence], owner: str, point: Point) -> list[float]:
    """What the seeds have there, NaN for those that diverged; seeds without it are left out."""
    found = (panel.quantity.value(seed, owner, point) for seed in evidence)
    return [value for value in found if value is not None]


def numbered_values(panel: Panel, evidence: Sequence[SeedEvidence], owner: str, point: Point) -> list[tuple[float, list[float]]]:
    """Of a `numbered` panel: each number in the names with what the seeds have there."""
    one = panel.quantity
    names = {name for seed in evidence for name in seed.measures.get(owner, {}).get(point) or ()}
    every = ((x, replace(panel, quantity=replace(one, name=name))) for x, name in one.numbers(names))
    return [(x, values_at(single, evidence, owner, point)) for x, single in every]


def points_along(sheet: Sheet, axis: str, rest: Point) -> list[tuple[Any, Point]]:
    """Every value of an axis with the point it makes with `rest`, in the order of the axes."""
    known = dict(rest)
    names = [one.name for one in sheet.axes]
    values = next(one.values for one in sheet.axes if one.name == axis)
    return [(value, tuple((name, value if name == axis else known[name]) for name in names)) for value in values]


def best_places(panel: Panel, sheet: Sheet, evidence: Sequence[SeedEvidence], owner: str, value: Any) -> list[float]:
    """Of a `best` panel: where along `panel.along` the best lies, seed by seed, by the claims' own rule for ties."""
    text = f'at(arg{panel.best}({owner}["{panel.quantity.name}"].{panel.quantity.how}, {panel.along}), {panel.axis}={value!r})'
    found = []
    for seed in evidence:
        try:
            found.append(float(evaluate(text, seed)))
        except (UsageError, ValueError, ArithmeticError, LookupError):
            continue
    return [each for each in found if math.isfinite(each)]
