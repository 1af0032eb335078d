"""Readers of the published file formats: idx (MNIST and its kin), CIFAR's binary batches and PNG strips, members of tar archives.

All of it may be damaged or hostile: sizes are known beforehand, nothing is read beyond them, no name in an archive becomes a path. Whatever
is wrong ends in a `BrokenError` of one line. CIFAR's Python version is a pickle and is never read.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.uint8]]
Arrays = dict[str, Array]

CHUNK = 2**20
SLACK_BYTES = 2**26
"""What an archive may hold, unpacked, beside the members that are wanted."""
CIFAR_ROWS = 10_000
IDX_FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}


class BrokenError(ValueError):
    """A file that is not what its name says; the message is one line."""


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn what readers raise on bad bytes into `BrokenError` with the file's name."""
    try:
        yield
    except BrokenError:
        raise
    except (OSError, EOFError, ValueError, SyntaxError, RecursionError, zlib.error, tarfile.TarError, OverflowError) as error:
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise BrokenError(f"{path} cannot be read: {reason}") from None


def idx_shape(rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the images and labels of `rows` 28 x 28 images."""
    return {"x": (rows, 28, 28), "y": (rows,)}


def read_idx(path: Path, shape: tuple[int, ...]) -> Array:
    """The uint8 array in an idx file, plain or gzipped, which must have `shape`; reads one byte more than that at most."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    wanted = len(header) + int(np.prod(shape))
    with naming(path), open(path, "rb") as raw:
        file: IO[bytes] = gzip.open(raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]  # noqa: SIM115 (raw is closed)
        data = file.read(wanted + 1)
    if data[: len(header)] != header:
        raise BrokenError(f"{path} is no idx file of shape {shape}")
    if len(data) != wanted:
        raise BrokenError(f"{path} holds {'more than ' if len(data) > wanted else ''}{min(len(data), wanted)} bytes, expected {wanted}")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def decode_idx(folder: Path) -> Arrays | None:
    """Images [N, 1, 28, 28] and labels [N] of the four idx files in `folder`, or None where they do not lie there."""
    found = {key: path for key, name in IDX_FILES.items() for path in (folder / f"{name}.gz", folder / name) if path.is_file()}
    if len(found) < len(IDX_FILES):
        return None
    arrays = {key: read_idx(path, idx_shape(60_000 if key.startswith("train") else 10_000)[key[-1]]) for key, path in found.items()}
    return {key: array[:, None] if key.endswith("x") else array for key, array in arrays.items()}


def read_strip(path: Path) -> Array:
    """uint8 [10000, 3, 32, 32] of a PNG with one image a row: 1024 pixels, each red, green, blue."""
    from PIL import Image

    with naming(path), Image.open(path, formats=["PNG"]) as image:
        if image.size != (1024, CIFAR_ROWS) or image.mode != "RGB":
            raise BrokenError(f"{path} is a {image.mode} picture of {image.size}, expected RGB of (1024, {CIFAR_ROWS})")
        pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.reshape(CIFAR_ROWS, 32, 32, 3).transpose(0, 3, 1, 2))


def read_labels(path: Path, rows: int) -> Array:
    """uint8 [rows] of a JSON list of classes."""
    with naming(path), open(path, "rb") as file:
        labels = json.loads(file.read(2**20))
    if not isinstance(labels, list) or len(labels) != rows or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise BrokenError(f"{path} is no list of {rows} classes in 0..9")
    return np.array(labels, dtype=np.uint8)


def _read_binary(path: Path) -> Array:
    size = CIFAR_ROWS * 3073
    if path.stat().st_size != size:
        raise BrokenError(f"{path} has {path.stat().st_size} bytes, expected {size}")
    with naming(path):
        return np.fromfile(path, dtype=np.uint8).reshape(CIFAR_ROWS, 3073)


def decode_cifar(folder: Path) -> Arrays | None:
    """Images [N, 3, 32, 32] and labels [N] of CIFAR-10's binary batches or PNG strips in `folder`; None where they do not lie there."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    if all((folder / f"{name}.bin").is_file() for name in names):
        batches = [_read_binary(folder / f"{name}.bin") for name in names]
        train, test = np.concatenate(batches[:5]), batches[5]
        images = {key: rows[:, 1:].reshape(-1, 3, 32, 32) for key, rows in (("train_x", train), ("test_x", test))}
        return {**images, "train_y": train[:, 0].copy(), "test_y": test[:, 0].copy()}
    if all((folder / f"{name}.png").is_file() for name in names):
        strips = [read_strip(folder / f"{name}.png") for name in names]
        labels = {"train_y": read_labels(folder / "train_lables.json", 50_000), "test_y": read_labels(folder / "test_lables.json", 10_000)}
        return {"train_x": np.concatenate(strips[:5]), "test_x": strips[5], **labels}
    return None


class _Bounded:
    """A stream that refuses to give more than `limit` bytes: a small archive can unpack to any size."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream, self.left = stream, limit

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(min(size, CHUNK) if size >= 0 else CHUNK)
        self.left -= len(data)
        if self.left < 0:
            raise BrokenError("the archive unpacks to more than it should hold")
        return data


def _copy_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    with open(target, "xb") as file:
        while piece := content.read(CHUNK):
            file.write(piece)


def take_members(stream: IO[bytes], label: str, wanted: Mapping[str, int], folder: Path) -> None:
    """Write the regular files of an uncompressed tar `stream` whose last name is in `wanted` (-> most bytes) into `folder`.

    Links, devices, folders and every other name are passed over; the path inside the archive plays no part in where a file is written.
    """
    bounded: Any = _Bounded(stream, sum(wanted.values()) + SLACK_BYTES)
    taken = set()
    with naming(label), tarfile.open(fileobj=bounded, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name not in wanted or not member.isreg():
                continue
            if name in taken or member.size > wanted[name]:
                raise BrokenError(f"{label} holds {name} twice, or with {member.size} bytes where at most {wanted[name]} are expected")
            taken.add(name)
            _copy_member(archive, member, folder / name)
    if missing := sorted(wanted.keys() - taken):
        raise BrokenError(f"{label} does not hold {', '.join(missing)}")


def take_members_gz(path: Path, wanted: Mapping[str, int], folder: Path) -> None:
    """`take_members` of a gzipped tar file."""
    with naming(path), gzip.open(path) as stream:
        take_members(stream, path.name, wanted, folder)  # type: ignore[arg-type]
