"""Reading and writing in folders that others may have filled: plain files only, bounded, and no link is followed out of a run.

A run directory that came from elsewhere may hold a link in place of `log.txt` (to be written through), a pipe in place of `config.yaml` (to
be waited for) or a file of a terabyte that occupies no disk. Imports no torch.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dlrun.errors import MissingError

FOLDERS = ("checkpoints", "figures", "replay", "probes", "tensorboard", "wandb")
"""What dlrun and its copies make below a run directory, and read again."""
APPENDED = ("metrics.jsonl", "events.jsonl", "histograms.jsonl", "log.txt", ".lock")
"""Files that are changed in place: all others are replaced whole."""
MOST_ENTRIES, MOST_DEPTH = 200_000, 30
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of a regular file that is no link; OSError where it is something else, MissingError where it has more than `limit`."""
    with open(os.open(path, READ), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", os.fspath(path))
        data = file.read(limit + 1) if status.st_size <= limit else b""
    if len(data) > limit or status.st_size > limit:
        raise MissingError(f"{path} is larger than {limit >> 20} MiB: it is not one of dlrun's")
    return data


def only_plain(run: Path, *, written: bool = False) -> Path:
    """`run`, once all that dlrun will touch in it is a plain file or folder; MissingError names the first entry that is not.

    The run's own path may be a link: whoever typed it chose it. With `written` (files will be appended to) no such file may have a second
    name elsewhere, which would change with it.
    """
    try:
        for number, entry in enumerate(_entries(run)):
            if number >= MOST_ENTRIES:
                raise MissingError(f"{run} holds more than {MOST_ENTRIES} files: it is not one of dlrun's")
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # pruned at this moment by the process that trains
                continue
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise MissingError(
                    f"{entry.path} is {_what(status.st_mode)}: a run holds plain files and folders only; remove it, or copy it"
                )
            if written and status.st_nlink > 1 and entry.name in APPENDED and stat.S_ISREG(status.st_mode):
                raise MissingError(f"{entry.path} has a second name elsewhere (a hard link), which would change too: copy the run first")
    except OSError as error:
        raise MissingError(f"{error.filename or run} cannot be read: {error.strerror}") from None
    return run


def _entries(run: Path) -> Iterator[os.DirEntry[str]]:
    """Entries of the run's folder and of `FOLDERS` in it; logs of W&B, which makes links of its own there, are not: nobody reads them."""
    with os.scandir(run) as found:
        for entry in found:
            yield entry
            if entry.name in FOLDERS and entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, entry.name == "wandb")


def _below(folder: str, of_wandb: bool, depth: int = 0) -> Iterator[os.DirEntry[str]]:
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        return
    with found:
        for entry in found:
            yield entry
            if entry.is_dir(follow_symlinks=False) and depth < MOST_DEPTH and not (of_wandb and depth == 1 and entry.name == "logs"):
                yield from _below(entry.path, of_wandb, depth + 1)


def _what(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def fresh(path: Path) -> int:
    """A descriptor to write the new file `path` with; what stood there, a link too, is removed first and never written through."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
