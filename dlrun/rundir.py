"""A run's directory: the only truth about a run. Everything here is atomic or append-only, and one process at a time owns it.

Layout and file formats stand in the contract section of ARCHITECTURE.md.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from dlrun.errors import MissingError
from dlrun.plain_files import fresh, only_plain, read_plain
from dlrun.redact import redact

LARGEST_JSON = 64 << 20
CHUNK_BYTES = 1 << 20


def jsonable(value: Any) -> Any:
    """`value` with non-finite floats as the strings "nan", "inf", "-inf", so that every line is valid JSON, and without secrets."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


PLAIN = json.JSONEncoder(allow_nan=False).encode
"""What `json.dumps` would make anew for every line."""


def row_line(row: Mapping[str, Any]) -> str:
    """A row of numbers as a line of JSON; numbers that are finite, nearly all of them, go there as they are: 3 us instead of 7."""
    if all(type(value) is float or type(value) is int for value in row.values()):
        try:
            return PLAIN(row) + "\n"
        except ValueError:  # one is not finite
            pass
    return PLAIN(jsonable(row)) + "\n"


def fsync_directory(path: Path) -> None:
    """Make renames and new names in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the whole new one, never a part. Of several writers the last one wins."""
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")  # a writer's own
    try:
        with open(fresh(part), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run directory as data; MissingError where it is damaged, not there, or too large."""
    try:
        found = json.loads(read_plain(path, LARGEST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"{path} cannot be read: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise MissingError(f"{path} holds a {type(found).__name__}, expected an object")
    return found


def read_manifest(run: Path) -> dict[str, Any]:
    """manifest.json of a run, its `plugins` (each with name and sha256) and `data` of the form they are read in; MissingError else."""
    found = read_json(run / "manifest.json")
    plugins, data = found.setdefault("plugins", []), found.setdefault("data", {})
    fine = isinstance(plugins, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("sha256"), str) for entry in plugins
    )
    if not fine or not isinstance(data, dict):
        raise MissingError(f"{run / 'manifest.json'}: plugins and data are not of the form that dlrun writes")
    return found


def safe_name(text: str) -> str:
    """`text` as one path component: letters, digits, `.`, `_`, `-`; no leading dot; at most 80 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:80] or "run"


def new_directory(config: Mapping[str, Any]) -> Path:
    """Make the directory of a new run: `output_root/<experiment>/<time>-s<seed>[-<arm>]`, or `run_dir` where the command line names it.

    An existing one is never reused: -2, -3 ... (an empty folder named by `run_dir` is taken as it is).
    """
    if config.get("run_dir"):
        wanted = Path(config["run_dir"]).expanduser()
        if wanted.is_dir() and not any(wanted.iterdir()):
            return wanted
        if wanted.name in ("", ".."):
            raise MissingError(f"run_dir={wanted} is not empty, and -2 cannot stand behind it: name a folder for the run")
    else:
        arm = f"-{safe_name(config['arm'])}" if config.get("arm") else ""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        wanted = (
            Path(config["output_root"]).expanduser() / safe_name(config.get("experiment") or "default") / f"{stamp}-s{config['seed']}{arm}"
        )
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise MissingError(f"cannot make the run directory {wanted}: {error.strerror}; say output_root=FOLDER to write elsewhere") from None
    raise MissingError(f"{wanted} and 9,999 numbered ones exist already: say run_dir=FOLDER")


class HeldError(MissingError):
    """Another process works in a run directory."""


class RunDir:
    """An open run directory, locked against other processes until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = only_plain(path, written=True)
        self._lock = self._acquire()
        self.metrics = open(path / "metrics.jsonl", "ab")  # noqa: SIM115 (lives as long as the run)
        self.events = open(path / "events.jsonl", "ab")  # noqa: SIM115

    def _acquire(self) -> IO[str]:
        lock = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read(200).strip() or "another process"
            lock.close()
            raise HeldError(f"{self.path} is in use by {owner}: wait for it to end, or stop it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        lock.flush()
        return lock

    def close(self) -> None:
        """Give the directory free."""
        for file in (self.metrics, self.events, self._lock):
            file.close()

    def write_json(self, name: str, value: Any) -> None:
        """Replace `name` by `value` as JSON, atomically."""
        write_atomic(self.path / name, json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n")

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to metrics.jsonl."""
        self.metrics.write("".join(row_line(row) for row in rows).encode())
        self.metrics.flush()

    def event(self, event: str, step: int, seconds: float, **facts: Any) -> None:
        """Append a line to events.jsonl; `seconds` is training time."""
        line = {"event": event, "step": step, "time": round(seconds, 6), **facts}
        self.events.write((json.dumps(jsonable(line), allow_nan=False) + "\n").encode())
        self.events.flush()

    def metrics_length(self) -> int:
        """Bytes of metrics.jsonl, made durable: what a checkpoint may count on and where a resume cuts back to."""
        for file in (self.metrics, self.events):
            file.flush()
            os.fsync(file.fileno())
        return self.metrics.tell()

    def cut_back(self, length: int) -> None:
        """Drop the metrics logged after the checkpoint that `length` comes from (those steps run again) and half-written event lines."""
        have = os.path.getsize(self.path / "metrics.jsonl")
        if have < length:
            raise MissingError(
                f"{self.path / 'metrics.jsonl'} has {have} bytes, its checkpoint knows of {length}: the file was cut or replaced"
            )
        os.ftruncate(self.metrics.fileno(), length)
        self.metrics.seek(0, os.SEEK_END)
        os.ftruncate(self.events.fileno(), _whole_lines(self.path / "events.jsonl"))
        self.events.seek(0, os.SEEK_END)


def _whole_lines(path: Path) -> int:
    """Bytes of `path` up to the end of its last whole line, read from the end."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        last = max(0, end - LARGEST_JSON)
        while end > last:
            begin = max(0, end - CHUNK_BYTES)
            file.seek(begin)
            if (found := file.read(end - begin).rfind(b"\n")) >= 0:
                return begin + found + 1
            end = begin
    if last:
        raise MissingError(f"{path} has a line of more than {LARGEST_JSON >> 20} MiB: it is not one of dlrun's")
    return 0


def command_line() -> str:
    """How this process was called, as the user typed it."""
    return " ".join(["dlrun", *sys.argv[1:]])
