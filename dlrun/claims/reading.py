"""A run directory as evidence, whoever wrote it: plain files only, bounded, every value of the type it should have. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import stat
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from dlrun.claims.evidence import RunEvidence, Series
from dlrun.claims.names import defined
from dlrun.config.places import printable
from dlrun.config.reading import MAX_BYTES, parse
from dlrun.errors import MissingError, UsageError
from dlrun.plain_files import READ, read_plain
from dlrun.rundir import read_json

MOST_BYTES, MOST_LINE, MOST_METRICS, MOST_VALUES = 1 << 30, 1 << 20, 10_000, 20_000_000
LARGEST = 1 << 53
"""Steps above it are no integers as floats."""
STATUSES = ("running", "finished", "stopped", "interrupted", "failed")
NAMED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
NOT_METRICS = ("step", "time")


def read(folder: str) -> RunEvidence:
    """The run in `folder`; MissingError where it is none, or damaged."""
    path = Path(folder)
    if not path.is_dir():
        raise MissingError(f"{printable(folder)} is no run directory")
    summary = read_json(path / "summary.json")
    config = _config(path / "config.yaml")
    status, reason = _one(summary, "status", str, path), _one(summary, "reason", (str, type(None)), path)
    if status not in STATUSES:
        raise _wrong(path, "status", status)
    step = _count(summary, "step", path)
    return RunEvidence(
        path=folder,
        status=status,
        step=step,
        steps=_asked(config, step),
        series=_series(path / "metrics.jsonl"),
        events=_events(summary, path),
        seconds=_seconds(summary, path),
        parameters=_count(summary, "parameters", path),
        diverged=status == "failed" and (reason or "").startswith("non-finite"),
        claims=_claims(config),
        reason=reason or "",
        defined=defined(config),
    )


def _wrong(path: Path, key: str, value: Any) -> MissingError:
    return MissingError(f"{printable(str(path))}/summary.json: {key} is {printable(repr(value), 60)}: not what dlrun writes")


def _one(summary: Mapping[str, Any], key: str, kind: Any, path: Path) -> Any:
    value = summary.get(key)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise _wrong(path, key, value)
    return value


def _count(summary: Mapping[str, Any], key: str, path: Path) -> int:
    value = int(_one(summary, key, int, path))
    if not 0 <= value < LARGEST:
        raise _wrong(path, key, value)
    return value


def _seconds(summary: Mapping[str, Any], path: Path) -> float:
    value = _one(summary, "seconds", (int, float), path)
    if not 0 <= value < LARGEST:
        raise _wrong(path, "seconds", value)
    return float(value)


def _events(summary: Mapping[str, Any], path: Path) -> dict[str, int]:
    found = _one(summary, "events", dict, path)
    return {name: _count(found, name, path) for name in found}


def _config(path: Path) -> dict[str, Any]:
    """config.yaml as data, by the strict reader that configs go through."""
    try:
        return parse(read_plain(path, MAX_BYTES), str(path)).values
    except UsageError as error:
        raise MissingError(error.lines[0]) from None
    except OSError as error:
        raise MissingError(f"{printable(str(path))} cannot be read: {error.strerror}") from None


def _asked(config: Mapping[str, Any], step: int) -> int:
    """The steps asked for; of a run that was told epochs those it has made."""
    train = config.get("train")
    steps = train.get("steps") if isinstance(train, dict) else None
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and 0 <= steps < LARGEST else step


def _claims(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts of the claims that the run was made for; what is no claim is none."""
    entries = config.get("claims")
    texts = [entry.get("claim") if isinstance(entry, dict) else entry for entry in (entries if isinstance(entries, list) else [])]
    return tuple(text for text in texts if isinstance(text, str))


def _series(path: Path) -> dict[str, Series]:
    """The metrics in metrics.jsonl, by name."""
    steps: dict[str, array[int]] = {}
    values: dict[str, array[float]] = {}
    last, total = -1, 0
    for number, row in enumerate(_rows(path), 1):
        step, where = row.get("step"), f"{printable(str(path))}:{number}"
        if not isinstance(step, int) or isinstance(step, bool) or not last < step < LARGEST:
            raise MissingError(
                f"{printable(str(path))}:{number}: step {printable(repr(step), 40)} after {last}: steps are integers that increase"
            )
        last = step
        for name in row.keys() - NOT_METRICS:
            steps.setdefault(name, array("q")).append(step)
            values.setdefault(name, array("d")).append(_value(row[name], f"{where}: {printable(name, 60)}"))
        total += len(row)
        if total > MOST_VALUES or len(values) > MOST_METRICS:
            raise MissingError(
                f"{printable(str(path))} has more than {MOST_VALUES} values or {MOST_METRICS} metrics: it is not one of dlrun's"
            )
    return {name: Series(tuple(steps[name]), tuple(values[name])) for name in sorted(values)}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON objects; one that is cut short at the end, where a process was killed, is left out."""
    shown = printable(str(path))
    try:
        with open(os.open(path, READ), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MissingError(f"{shown} is not a regular file")
            if status.st_size > MOST_BYTES:
                raise MissingError(f"{shown} is larger than {MOST_BYTES >> 20} MiB: it is not one of dlrun's")
            yield from (_row(line, f"{shown}:{number}") for number, line in enumerate(_lines(file), 1))
    except OSError as error:
        raise MissingError(f"{shown} cannot be read: {error.strerror}") from None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, and one that is too long to be one."""
    while (line := file.readline(MOST_LINE)).endswith(b"\n") or len(line) == MOST_LINE:
        yield line


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise MissingError(f"{where}: no JSON object: the file is damaged")
    return row


def _value(value: Any, where: str) -> float:
    """A number of a row; what is not finite stands there as text."""
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    raise MissingError(f"{where} is {printable(repr(value), 60)}: expected a number")
