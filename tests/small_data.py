"""What the tests of real data share: a data set of 60 rows that is known, decoded and cached as the large ones are."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dlrun.datasets import _decode
from dlrun.datasets._decode import read_idx
from dlrun.datasets._real import RealData, arrange

DRAW = np.random.default_rng(0)
SMALL_X = DRAW.integers(0, 256, (60, 28, 28), dtype=np.uint8)
SMALL_Y = np.tile(np.arange(10, dtype=np.uint8), 6)


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def sha(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def decode_small(folder: Path) -> _decode.Arrays | None:
    """60 rows in x.gz and y.gz."""
    if not (folder / "x.gz").exists():
        return None
    x, y = read_idx(folder / "x.gz", (60, 28, 28)), read_idx(folder / "y.gz", (60,))
    return {"train_x": x[:, None], "train_y": y, "test_x": x[:20, None], "test_y": y[:20]}


ORDER = arrange(SMALL_Y)
SMALL = RealData(
    name="small",
    title="Small",
    arrays={
        "train_x": ((60, 1, 28, 28), sha(SMALL_X[ORDER])),
        "train_y": ((60,), sha(SMALL_Y[ORDER])),
        "test_x": ((20, 1, 28, 28), sha(SMALL_X[:20])),
        "test_y": ((20,), sha(SMALL_Y[:20])),
    },
    decode=decode_small,
    members={"x.gz": 2**16, "y.gz": 2**16},
    mean=(0.5,),
    std=(0.3,),
    names=tuple("abcdefghij"),
)


def write_files(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "x.gz").write_bytes(gzip.compress(idx(SMALL_X)))
    (folder / "y.gz").write_bytes(gzip.compress(idx(SMALL_Y)))
    return folder


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def archive(members: list[tuple[str, bytes | str]], path: Path) -> Path:
    """A tgz with files (bytes) and symbolic links (str)."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def picture(path: Path, shape: tuple[int, ...] = (9, 8, 3), **options: Any) -> Any:
    """Write noise as a picture; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = DRAW.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels
