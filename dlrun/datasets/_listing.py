"""Which pictures lie in a folder of class folders: every entry is a picture of a class, left out by name, or an error that names it.

Nothing outside the folder is read: a link that leaves it is refused, links to folders are not followed. Names are sorted, so that a copy
of a folder gives the same rows in the same order on every file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from dlrun.errors import MissingError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ORDER = ("train", "val", "test")
DEPTH = 16
"""Folders below a class folder."""


@dataclass(frozen=True)
class Picture:
    """One file: its path, its name below the folder, its class, its split ("" where the folder has none), and what changes with it."""

    path: str
    name: str
    label: int
    split: str
    state: tuple[int, ...]
    """Size in bytes, times of change of content and of entry (ns), inode: whoever writes to a file changes the second time."""


@dataclass
class Listing:
    """All pictures by split, class and name; class names fit to print; how many entries `skip` left out, and by what name the first."""

    pictures: list[Picture] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    has_splits: bool = False
    left_out: list[str] = field(default_factory=list)


def shown(name: object) -> str:
    """A file's name as one printable line: control codes and what is no UTF-8 become escapes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(name))


class _Walk:
    """One reading of `root`; what is wrong is gathered, so that the error can say how much of it there is."""

    def __init__(self, root: str, skip: Sequence[str]) -> None:
        self.real, self.skip = Path(os.path.realpath(root)), skip
        self.left_out: list[str] = []
        self.wrong: list[tuple[str, str]] = []

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What lies in `folder`, by name, without what `skip` names, hidden entries and links that are not read."""
        kept = []
        with os.scandir(folder) as found:
            for entry in sorted(found, key=lambda entry: entry.name):
                if any(fnmatchcase(entry.name, pattern) for pattern in self.skip):
                    self.left_out.append(entry.path)
                elif reason := self._refused(entry):
                    self.wrong.append((entry.path, reason))
                else:
                    kept.append(entry)
        return kept

    def _refused(self, entry: os.DirEntry[str]) -> str:
        if entry.name.startswith("."):
            return "is hidden, as what systems and editors leave behind"
        if not entry.is_symlink():
            return ""
        target = Path(os.path.realpath(entry.path))
        if not target.is_relative_to(self.real):
            return "is a link that leaves the folder"
        return "" if target.is_file() else f"is a link to {'a folder' if target.is_dir() else 'nothing'}"

    def folders(self, folder: str) -> list[os.DirEntry[str]]:
        """The folders in `folder`, where nothing else may lie."""
        entries = self._entries(folder)
        if entries and all(entry.is_file() and os.path.splitext(entry.name)[1].lower() in SUFFIXES for entry in entries):
            raise MissingError(
                f"{shown(folder)} holds pictures itself: expected class folders, CLASS/x.png; name the folder above it, or make one"
            )
        self.wrong += [(entry.path, "is no folder: only class folders are expected beside it") for entry in entries if not entry.is_dir()]
        return [entry for entry in entries if entry.is_dir()]

    def files(self, folder: str, depth: int = 0) -> Iterator[os.DirEntry[str]]:
        """The picture files in `folder` and below, by name."""
        for entry in self._entries(folder):
            if entry.is_dir() and depth < DEPTH:
                yield from self.files(entry.path, depth + 1)
            elif not entry.is_file():
                self.wrong.append((entry.path, "is no regular file" if depth < DEPTH else f"lies more than {DEPTH} folders deep"))
            elif os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
                self.wrong.append((entry.path, "is no picture by its name"))
            else:
                yield entry

    def refuse(self) -> None:
        """MissingError where anything was wrong."""
        if not self.wrong:
            return
        path, reason = self.wrong[0]
        more = f" (and {len(self.wrong) - 1} more such entries)" if len(self.wrong) > 1 else ""
        pattern = ".*" if os.path.basename(path).startswith(".") else shown(os.path.basename(path))
        raise MissingError(f"{shown(path)} {reason}{more}: remove it, or leave it out by its name: 'dataset.skip=[{pattern}]'")


def _splits(walk: _Walk, root: str) -> dict[str, list[os.DirEntry[str]]]:
    """Class folders of each split, of "" where the folder has none."""
    top = walk.folders(root)
    if "train" not in {entry.name for entry in top}:
        return {"": top}
    found: dict[str, list[os.DirEntry[str]]] = {}
    for entry in top:
        split = SPLITS.get(entry.name)
        if split is None or split in found:
            walk.wrong.append((entry.path, "lies beside train, where only val and test are expected, each once"))
        else:
            found[split] = walk.folders(entry.path)
    return found


def _picture(entry: os.DirEntry[str], root: str, label: int, split: str) -> Picture:
    facts = entry.stat()
    name = os.path.relpath(entry.path, root).replace(os.sep, "/")
    return Picture(entry.path, name, label, split, (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino))


def _of_class(walk: _Walk, folder: os.DirEntry[str], names: list[str], root: str, split: str) -> list[Picture]:
    if folder.name not in names:
        raise MissingError(f"{shown(folder.path)} is a class that train does not have: expected {shown(', '.join(names[:20]))}")
    label, before = names.index(folder.name), len(walk.wrong)
    files = [_picture(entry, root, label, split) for entry in walk.files(folder.path)]
    if not files and len(walk.wrong) == before:
        raise MissingError(f"{shown(folder.path)} holds no pictures: fill or remove it")
    return files


def listing(root: str, skip: Sequence[str]) -> Listing:
    """The pictures in the folder `root`. MissingError (one line) names an entry that is none, a class without any, an unreadable folder."""
    walk = _Walk(root, skip)
    found = Listing(left_out=walk.left_out)
    try:
        splits = _splits(walk, root)
        names = [entry.name for entry in splits.get("train", splits.get("", []))]
        found.classes, found.has_splits = tuple(shown(name) for name in names), "train" in splits
        for split in sorted(splits, key=("", *ORDER).index):
            for folder in splits[split]:
                found.pictures += _of_class(walk, folder, names, root, split)
    except OSError as error:
        raise MissingError(f"{shown(error.filename or root)} cannot be read: {error.strerror}") from None
    walk.refuse()
    if not names:
        raise MissingError(f"{shown(root)} holds no class folders: expected FOLDER/CLASS/x.png or FOLDER/train/CLASS/x.png")
    return found
