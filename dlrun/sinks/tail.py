"""Reading a run's files while they are being written: whole lines only, in the order of steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlrun.errors import MissingError
from dlrun.plain_files import read_plain

CHUNK_BYTES = 1 << 22
LARGEST_JSON = 1 << 26
MOST_EVENTS = 1_000_000

Row = dict[str, Any]


class Tail:
    """Reads what is appended to a file of JSON lines, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> Iterator[list[Row]]:
        """The rows since the last call, in portions."""
        while True:
            try:
                with open(self._path, "rb") as file:
                    file.seek(self._offset)
                    chunk = file.read(CHUNK_BYTES)
            except FileNotFoundError:
                return
            whole = chunk.rfind(b"\n") + 1
            if not whole and len(chunk) == CHUNK_BYTES:
                raise MissingError(f"{self._path.name} has a line of more than {CHUNK_BYTES >> 20} MiB: it is not one of dlrun's")
            if not whole:
                return
            self._offset += whole
            yield [row for line in chunk[:whole].splitlines() if (row := parsed(line)) is not None]


class Rows:
    """The rows of metrics.jsonl after step `last`, each step once, with the histograms of the same step in them.

    Histograms are written before the row of their step, so that all up to a row are there when the row is.
    """

    def __init__(self, directory: Path, last: int) -> None:
        self._metrics, self._histograms = Tail(directory / "metrics.jsonl"), Tail(directory / "histograms.jsonl")
        self._waiting: list[Row] = []
        self._last = last

    def read(self, over: bool = False) -> Iterator[list[Row]]:
        """What is new, in portions; `over`: nothing more will come, so that histograms of a step without a row are not kept back."""
        for rows in self._metrics.read():
            self._waiting += [row for portion in self._histograms.read() for row in portion]
            yield from self._ordered([merged for row in rows if "step" in row for merged in self._merge(row)])
        if over:
            rest = [*self._waiting, *(row for portion in self._histograms.read() for row in portion)]
            yield from self._ordered(rest)

    def _merge(self, row: Row) -> Iterator[Row]:
        while self._waiting and self._waiting[0].get("step", 0) <= row["step"]:
            first = self._waiting.pop(0)
            if first["step"] == row["step"]:
                row = {**first, **row}
            else:
                yield first
        yield row

    def _ordered(self, rows: list[Row]) -> Iterator[list[Row]]:
        new = []
        for row in rows:
            if isinstance(row.get("step"), int) and row["step"] > self._last:
                self._last = row["step"]
                new.append(row)
        if new:
            yield new


def parsed(line: bytes) -> Row | None:
    """A row with the strings "nan", "inf", "-inf" as the numbers they stand for; None for a line that is no JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    return {name: float(value) if value in ("nan", "inf", "-inf") else value for name, value in row.items()}


def events_of(directory: Path) -> list[Row]:
    """All events of a run."""
    events: list[Row] = []
    for rows in Tail(directory / "events.jsonl").read():
        events += rows
        if len(events) > MOST_EVENTS:
            raise MissingError(f"events.jsonl has more than {MOST_EVENTS} lines: it is not one of dlrun's")
    return events


def summary_of(directory: Path) -> Row:
    """The run's summary as it stands, {} where there is none."""
    try:
        return parsed(read_plain(directory / "summary.json", LARGEST_JSON)) or {}
    except (OSError, MissingError):
        return {}
