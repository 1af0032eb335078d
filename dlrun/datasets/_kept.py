"""Decoded pictures, kept: one uint8 file in the data cache that is memory-mapped, thrown away as soon as a picture changed.

A cache entry is named by what it was made from: name, size, times and inode of every file, the options, the release of Pillow. Whoever
writes to a file, replaces, adds or removes one changes that name (the time of change of a file's entry cannot be set back by a program), so
the old entry is not found and goes. The pixels are known by their sha256, checked when the file is not in the state it was left in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlrun.datasets._listing import Picture, shown
from dlrun.datasets._pictures import Array, decode, quiet
from dlrun.errors import MissingError

VERSION = 1
"""Of the entries; another one when pictures are decoded otherwise."""
CHUNK = 256
SLOW = 2000
"""Pictures from which on decoding is announced: it takes seconds to minutes."""
PLACE = "image_folder"


@dataclass
class Kept:
    """Pixels [N, C, H, W], facts int64 [N, 1 + 2 C] (a digest, sums and sums of squares of each channel), sha256 of the pixels."""

    pixels: Array
    facts: Any
    sha256: str
    remarks: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def name_of(pictures: Sequence[Picture], size: int | None, channels: int) -> str:
    """The name of the entry that these pictures, as their files are now, are kept under."""
    from PIL import __version__

    content = [VERSION, __version__, size, channels, [[picture.name, picture.state] for picture in pictures]]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _facts(pixels: Array) -> list[int]:
    """A digest of one picture and, for each channel, the sum of its values and of their squares: exact integers."""
    digest = int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "little", signed=True)
    wide = pixels.reshape(len(pixels), -1).astype(np.int64)
    return [digest, *wide.sum(1).tolist(), *(wide * wide).sum(1).tolist()]


Decoded = tuple[Array, set[str], list[int]]


def _each(pictures: Sequence[Picture], size: int | None, channels: int) -> Iterator[Decoded]:
    """Every picture decoded, in order, by one thread a core (Pillow lets others run). MissingError says how many cannot be read."""

    def one(picture: Picture) -> Decoded | MissingError:
        try:
            pixels, remarks = decode(picture.path, size, channels)
            return pixels, remarks, _facts(pixels)
        except MissingError as error:
            return error

    broken: list[MissingError] = []
    with quiet(), ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        chunks = (pool.map(one, pictures[low : low + CHUNK]) for low in range(0, len(pictures), CHUNK))  # the writer may be slower
        for found in itertools.chain.from_iterable(chunks):
            if isinstance(found, MissingError):
                broken.append(found)
            elif not broken:
                yield found
    if broken:
        raise MissingError(f"{broken[0]}" + (f" ({len(broken)} of {len(pictures)} pictures cannot be read)" if len(broken) > 1 else ""))


def _fill(pictures: Sequence[Picture], size: int | None, channels: int, begin: Callable[[tuple[int, ...]], Callable[[Array], Any]]) -> Kept:
    """Decode all pictures into what `begin(shape)` gives to write to; `pixels` of the answer is empty."""
    digest, facts, remarks = hashlib.sha256(), [], dict[str, int]()
    write: Callable[[Array], Any] | None = None
    shape: tuple[int, ...] = ()
    for picture, (pixels, flags, numbers) in zip(pictures, _each(pictures, size, channels)):
        if write is None:
            shape, write = pixels.shape, begin((len(pictures), *pixels.shape))
        if pixels.shape != shape:
            one, other = (" x ".join(map(str, found[1:])) for found in (shape, pixels.shape))
            first = shown(pictures[0].path)
            raise MissingError(
                f"{shown(picture.path)} has {other} pixels (high x wide), {first} {one}: say dataset.size=N to scale all to one size"
            )
        write(pixels)
        digest.update(pixels.data)
        facts.append(numbers)
        for flag in flags:
            remarks[flag] = remarks.get(flag, 0) + 1
    return Kept(np.empty(0, np.uint8), np.array(facts, dtype=np.int64), digest.hexdigest(), remarks)


def _in_memory(pictures: Sequence[Picture], size: int | None, channels: int) -> Kept:
    rows: list[Array] = []
    kept = _fill(pictures, size, channels, lambda shape: rows.append)
    kept.pixels = np.stack(rows)
    return kept


def _state(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _on_disk(pictures: Sequence[Picture], size: int | None, channels: int, entry: Path) -> None:
    """Decode into the cache folder `entry`, which is there whole or not at all. Raises OSError where it cannot be written."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    for stale in entry.parent.parent.glob("part-*"):  # of a process that was killed
        if time.time() - stale.stat().st_mtime > 86_400:
            shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=entry.parent.parent, prefix="part-"))
    try:
        with open(part / "pixels.npy", "wb") as file:

            def begin(shape: tuple[int, ...]) -> Callable[[Array], Any]:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                return lambda pixels: file.write(pixels.data)

            kept = _fill(pictures, size, channels, begin)
            file.flush()
            os.fsync(file.fileno())
        np.save(part / "facts.npy", kept.facts, allow_pickle=False)
        index = {"sha256": kept.sha256, "state": _state(part / "pixels.npy"), "remarks": kept.remarks, "facts": _sum_of(kept.facts)}
        (part / "index.json").write_text(json.dumps({**index, "sum": _own_sum(index)}), encoding="utf-8")
        for older in entry.parent.iterdir():  # of the same folder as it was before; who has one mapped keeps it
            shutil.rmtree(older, ignore_errors=True)
        os.replace(part, entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sum_of(facts: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(facts).data).hexdigest()


def _own_sum(index: dict[str, Any]) -> str:
    content = {key: value for key, value in index.items() if key != "sum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _from_cache(entry: Path, rows: int) -> Kept | None:
    """What is kept in `entry`; None where nothing is, or where it is not what was put there."""
    try:
        index = json.loads((entry / "index.json").read_bytes()[:100_000])
        pixels = np.load(entry / "pixels.npy", mmap_mode="c", allow_pickle=False)
        facts = np.load(entry / "facts.npy", allow_pickle=False)
        whole = pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == len(facts) == rows
        whole = whole and _own_sum(index) == index["sum"] and _sum_of(facts) == index["facts"]
        if whole and _state(entry / "pixels.npy") != index["state"]:
            whole = hashlib.sha256(pixels.data).hexdigest() == index["sha256"]
        return Kept(pixels, facts, str(index["sha256"]), {str(k): int(v) for k, v in index["remarks"].items()}) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError):
        return None


def keep(pictures: Sequence[Picture], size: int | None, channels: int, root: Path, folder: str) -> Kept:
    """The decoded pictures of `folder`, from the cache in `root` or decoded now and put there."""
    place = hashlib.sha256(json.dumps([os.path.realpath(folder), size, channels]).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    entry = root / PLACE / place / name_of(pictures, size, channels)
    if (kept := _from_cache(entry, len(pictures))) is not None:
        return kept
    damaged = [f"data: what was kept of {shown(folder)} in {entry} is damaged: decoded anew"] if entry.exists() else []
    if len(pictures) >= SLOW:
        print(f"data: decoding {len(pictures)} pictures of {shown(folder)} into {entry}, once", file=sys.stderr, flush=True)
    try:
        _on_disk(pictures, size, channels, entry)
        kept, said = _from_cache(entry, len(pictures)), f"data: decoded once and kept in {entry}"
    except OSError as error:
        kept, said = None, f"data: decoded pictures cannot be kept in {root / PLACE} ({error.strerror or error}): this is done every time"
    kept = kept or _in_memory(pictures, size, channels)
    kept.notes = [*damaged, said]
    return kept
