"""Cells frozen: every one composed, validated and written down with its sum before the first of them runs.

What a cell is does not change afterwards, whatever happens to the files it was composed from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from dlrun.config.composing import Config, Nodes, compose
from dlrun.config.dump import dump
from dlrun.config.places import printable
from dlrun.config.reach import seals
from dlrun.errors import UsageError
from dlrun.study.plan import Cell, Job
from dlrun.study.space import Point, Space

MAX_ERRORS = 20
TYPED = "command line: "
"""What errors of overrides begin with, whoever wrote those."""
Errors = dict[str, tuple[str, int]]
"""Line of an error -> how it is said, and how often it came."""


@dataclass
class Freezer:
    """Composes cells of one study; what Hydra makes of the same parts is asked for once, and so files are read once."""

    words: tuple[str, ...]
    config_dir: str | None = None
    from_file: str | None = None
    seeds: tuple[int, ...] = ()
    memory: dict[Any, Nodes] = field(default_factory=dict)

    def compose(self, points: Sequence[Point], *more: str) -> Config:
        """The config of a cell. Raises UsageError."""
        words = [*self.words, *(word for point in points for word in point.words), *more]
        return compose(words, config_dir=self.config_dir, from_file=self.from_file, memory=self.memory)

    def cell(self, number: int, points: Sequence[Point], source: str = "grid") -> Cell:
        """The cell at `points`, one job a seed. Raises UsageError."""
        jobs = []
        for seed in self.seeds or (None,):
            config = self.compose(points, *([] if seed is None else [f"seed={seed}"]))
            text = dump(config.saved)
            jobs.append(Job(number, config.resolved["seed"], text, sha256(text.encode()).hexdigest(), seals(config.paths) or {}))
        params = {key: value for point in points for key, value in point.values.items()}
        return Cell(number, params, tuple(jobs), source)


def freeze(freezer: Freezer, combinations: Iterable[Sequence[Point]]) -> list[Cell]:
    """Every cell of a grid. Raises UsageError with what is wrong in any of them."""
    cells, errors = list[Cell](), Errors()
    for number, points in enumerate(combinations):
        try:
            cells.append(freezer.cell(number, points))
        except UsageError as error:
            note(errors, points, error)
    if errors:
        raise UsageError(told(errors))
    return cells


def probe(freezer: Freezer, space: Space) -> list[Cell]:
    """Compose the corners of a space that is searched: a value that cannot be is found out before the first run. Raises UsageError.

    No cell is frozen yet: a search asks for them one by one.
    """
    errors = Errors()
    for points in space.corners():
        try:
            freezer.compose(points, *(f"seed={seed}" for seed in freezer.seeds[:1]))
        except UsageError as error:
            note(errors, points, error)
    if errors:
        raise UsageError(whole_numbers(told(errors), space))
    return []


def advised(lines: Sequence[str], space: Space) -> list[str]:
    """Errors with the file that a value is written in, and with what to do where only some of the parts have a key that is swept."""
    found = []
    for line in lines:
        word = next((word for word in space.places if line.startswith(f"{TYPED}{word}:")), None)
        found.append(f"{space.places[word]}: {line.removeprefix(TYPED)}" if word else line)
    swept = {key for axis in space.axes for key in axis.keys}
    some = [key for key in swept if "." in key and key.rpartition(".")[0] in swept and any(f" {key}=" in line for line in lines)]
    advice = "{0}: only some of the parts that {1} takes have it: in a sweep=FILE write when: {{{0}: {{{1}: THOSE}}}}"
    return found + [advice.format(key, key.rpartition(".")[0]) for key in sorted(some)]


def whole_numbers(lines: list[str], space: Space) -> list[str]:
    """The errors; of an interval of numbers where whole ones are wanted what to say instead."""
    for axis in space.axes:
        key = axis.keys[0]
        mine = [line for line in lines if f"{key}=" in line and "expected an integer" in line]
        if mine and not axis.listed and not axis.whole:
            hint = f"{key}: takes whole numbers, and interval() gives fractions: say {key}=int(interval({axis.low:g}, {axis.high:g}))"
            lines = [hint, *(line for line in lines if line not in mine)]
    return lines


def note(errors: Errors, points: Sequence[Point], error: UsageError) -> None:
    """Count each line; the first cell that it comes from is named where its line does not name the values already."""
    values = " ".join(word for point in points for word in point.words)
    for line in error.lines:
        named = any(word in line for point in points for word in point.words)
        text, times = errors.get(line, (line if named or not values else f"{line} (cell {printable(values, 120)})", 0))
        errors[line] = text, times + 1


def told(errors: Errors) -> list[str]:
    """The lines as they are said, with how many cells each is true of."""
    lines = [f"{text} (in {times} cells)" if times > 1 else text for text, times in errors.values()]
    return lines[:MAX_ERRORS] + ([f"and {len(lines) - MAX_ERRORS} more errors"] if len(lines) > MAX_ERRORS else [])
