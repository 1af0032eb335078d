"""Real data sets: known by the sha256 of their decoded arrays, so that every source has to give the same bytes; kept decoded in a cache.

Sources are tried in order: the cache, a folder the user names, the folder of a system package. The one used is recorded. Bringing the data
from elsewhere is `dlrun data dataset=NAME --fetch` (`_fetch.py`). In the cache the rows of train are kept so that its last 10 k rows hold
k of each class, up to 500 each: a val split is a slice, and no copy is made. Cache files are checked whole when they are first used; a note
of size, times and inode beside them then spares the check until they change (0.1 s for CIFAR-10; whatever writes to a file changes them).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dlrun.datasets._decode import Array, Arrays, BrokenError, naming
from dlrun.errors import MissingError
from dlrun.noise import hash32
from dlrun.types import DataSpec, Splits

HELD = 500
"""Rows a class that may be held out for val."""


@dataclass(frozen=True)
class RealData:
    """What is known of a data set: the arrays (shape and sha256, train arranged), how to decode its files, where these may come from."""

    name: str
    title: str
    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    decode: Callable[[Path], Arrays | None]
    members: Mapping[str, int]
    """File names in the packages that hold it -> most bytes."""
    in_archive: Mapping[str, int] = field(default_factory=dict)
    """The same for the archive that torchvision's address names, where it names one."""
    system: tuple[str, ...] = ()
    torchvision: str = ""
    debian: str = ""
    npm: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def fetch_command(self) -> str:
        return f"dlrun data dataset={self.name} --fetch"


@dataclass(frozen=True)
class Found:
    """Arrays that passed the check, where they came from, and what is to be said about it."""

    arrays: Arrays
    source: str
    notes: list[str] = field(default_factory=list)


def arrange(labels: Array, held: int = HELD) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """An order of the rows whose last `classes` x k rows hold k of each class, k <= `held`: the last of each class in the file's order."""
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of = np.flatnonzero(labels == label)
        rank[of] = np.arange(len(of))[::-1]
    tail = np.flatnonzero(rank < held)
    return np.concatenate([np.flatnonzero(rank >= held), tail[np.lexsort((labels[tail], -rank[tail]))]])


def check(data: RealData, key: str, array: Array, where: str) -> None:
    """`BrokenError` unless `array` has the known shape and bytes."""
    shape, known = data.arrays[key]
    if array.shape != shape or array.dtype != np.uint8:
        raise BrokenError(f"{where} holds {array.dtype} {array.shape}, expected uint8 {shape}")
    found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    if found != known:
        raise BrokenError(f"{where} has sha256 {found[:12]}..., expected {known[:12]}...")


def decoded(data: RealData, folder: Path, where: str) -> Arrays | None:
    """The checked arrays of the files in `folder`, arranged; None where there are none, `BrokenError` where they are not the data set."""
    arrays = data.decode(folder)
    if arrays is None:
        return None
    if len(arrays["train_x"]) == len(arrays["train_y"]):
        order = arrange(arrays["train_y"])
        arrays["train_x"], arrays["train_y"] = arrays["train_x"][order], arrays["train_y"][order]
    for key in data.arrays:
        check(data, key, arrays[key], f"{where}: {key}")
    return arrays


def _state(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _checked_before(path: Path) -> bool:
    try:
        return bool(json.loads((path.parent / f"{path.name}.checked").read_bytes()[:1000]) == _state(path))
    except (OSError, ValueError, RecursionError):
        return False


def from_cache(data: RealData, folder: Path) -> Arrays:
    """The arrays in the cache, memory-mapped copy-on-write; `BrokenError` names a damaged file, FileNotFoundError a missing one."""
    arrays = {}
    for key in data.arrays:
        path = folder / f"{key}.npy"
        if not path.exists():
            raise FileNotFoundError(path)
        with naming(path):
            arrays[key] = np.load(path, mmap_mode="c")
        if not _checked_before(path):
            check(data, key, arrays[key], str(path))
            _write(folder / f"{key}.npy.checked", json.dumps(_state(path)).encode(), optional=True)
        elif arrays[key].shape != data.arrays[key][0]:
            raise BrokenError(f"{path} holds {arrays[key].shape}, expected {data.arrays[key][0]}")
    return arrays


def _write(path: Path, content: bytes | Array, optional: bool = False) -> None:
    """Write a file whole or not at all. `optional`: a cache that may not be written to stays as it is."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, np.ascontiguousarray(content), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        if not optional:
            raise


def store(data: RealData, folder: Path, arrays: Arrays, source: str) -> None:
    """Put checked arrays into the cache `folder`. Raises OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for key in data.arrays:
        _write(folder / f"{key}.npy", arrays[key])
    _write(folder / "source.json", json.dumps({"source": source}).encode())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _origin(folder: Path) -> str:
    try:
        origin = json.loads((folder / "source.json").read_bytes()[:10_000])["source"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "cache"
    return f"cache, from {''.join(c for c in str(origin)[:200] if c.isprintable())}"


def _from_folder(data: RealData, folder: Path, source: str, cache: Path, notes: list[str]) -> Found | None:
    arrays = decoded(data, folder, str(folder))
    if arrays is None:
        return None
    try:
        store(data, cache, arrays, source)
        notes.append(f"data: {data.title} is read from {folder} and kept decoded in {cache}")
    except OSError as error:
        notes.append(
            f"data: {data.title} is read from {folder}; it cannot be kept in {cache} ({error.strerror}), so this is done every time"
        )
    return Found(arrays, source, notes)


def find(data: RealData, root: str, folder: Path | None) -> Found:
    """The data from the first source in reach. MissingError (one line with the command that brings it) where there is none."""
    cache = Path(root) / data.name
    damage = ""
    try:
        notes = [] if folder is None else [f"data: dataset.folder={folder} was not looked at: the cache has {data.title}"]
        return Found(from_cache(data, cache), _origin(cache), notes)
    except FileNotFoundError:
        pass
    except BrokenError as error:
        damage = f"the cache is damaged: {error}"
    looked = [f"the cache {cache}"]
    try:
        if folder is not None:
            looked.append(str(folder))
            found = _from_folder(data, Path(folder).expanduser(), f"folder {folder}", cache, [f"data: {damage}"] if damage else [])
            if found is None:
                raise MissingError(
                    f"dataset.folder={folder} does not hold the files of {data.title}; or bring them with: {data.fetch_command}"
                )
            return found
        for system in data.system:
            looked.append(system)
            found = _from_folder(data, Path(system), f"system package in {system}", cache, [f"data: {damage}"] if damage else [])
            if found is not None:
                return found
    except BrokenError as error:
        raise MissingError(f"{error}; bring {data.title} with: {data.fetch_command}") from None
    if damage:
        raise MissingError(f"{damage}; bring {data.title} anew with: {data.fetch_command}")
    raise MissingError(f"{data.title} is not on this machine (looked in {', '.join(looked)}); bring it with: {data.fetch_command}")


def splits(data: RealData, root: str, folder: Path | None, val: int, n: int | None = None, label_noise: float = 0) -> Splits:
    """Train, val (the last `val` rows of the arranged train rows) and test, uint8 images memory-mapped, y int64.

    `n`: of train the first rows only. `label_noise`: each label of train is with this chance drawn anew, all classes alike.
    """
    classes = len(data.names)
    if not 1 <= val <= HELD * classes:
        raise ValueError(f"dataset.val is {val}: expected 1..{HELD * classes} rows")
    found = find(data, root, folder)
    x, y = torch.from_numpy(found.arrays["train_x"]), torch.from_numpy(found.arrays["train_y"]).long()
    test = torch.from_numpy(found.arrays["test_x"]), torch.from_numpy(found.arrays["test_y"]).long()
    kept = len(x) - val
    if n is not None and n > kept:
        raise ValueError(f"dataset.n is {n}: train has {kept} rows beside the {val} of val")
    used = kept if n is None else n
    said = ("" if n is None else f" n={n}") + (f" label_noise={label_noise:g}" if label_noise else "")
    digest = hashlib.sha256("".join(known for _, known in data.arrays.values()).encode()).hexdigest()
    spec = DataSpec(
        in_shape=tuple(x.shape[1:]),
        out_shape=(classes,),
        kind="classification",
        classes=classes,
        names=data.names,
        mean=data.mean,
        std=data.std,
        split_rule=f"{used} / {val} / {len(test[0])} rows; val is the last rows of each class in train, in equal shares",
        source=found.source,
        fingerprint=f"sha256:{digest} ({data.title}, decoded arrays) val={val}{said}",
        notes=(f"data: {data.title} from {found.source}", *found.notes),
    )
    return Splits((x[:used], with_noise(y[:used], label_noise, classes)), (x[kept:], y[kept:]), test, spec)


def with_noise(y: torch.Tensor, share: float, classes: int) -> torch.Tensor:
    """Labels [N], each with chance `share` drawn anew from 0..classes-1 (its own among them): always the same draw."""
    if not share:
        return y
    source = torch.Generator().manual_seed(hash32("label noise"))
    again = torch.rand(len(y), generator=source) < share
    return torch.where(again, torch.randint(classes, y.shape, generator=source), y)
