"""Promise S2 on data: idx files, pictures, texts and cache files that lie end in one line that names them, in bounded time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import struct
import time
import zlib
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from dlrun.datasets._decode import BrokenError, decode_idx
from dlrun.datasets._pictures import decode, quiet
from dlrun.datasets.text_file import _read
from dlrun.errors import MissingError


def test_idx_files_that_lie(tmp_path: Path) -> None:
    for name, (rows, shape) in {"train-images-idx3-ubyte": (60_000, (28, 28)), "train-labels-idx1-ubyte": (60_000, ())}.items():
        header = bytes([0, 0, 8, 1 + len(shape)]) + b"".join(n.to_bytes(4, "big") for n in (rows, *shape))
        (tmp_path / name).write_bytes(header + bytes(100))
        (tmp_path / name.replace("train", "t10k")).write_bytes(header)
    for lie in (b"", bytes(3), b"\xff" * 16, bytes([0, 0, 8, 255]), bytes([0, 0, 8, 3]) + b"\xff" * 12, gzip.compress(b"x")):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(lie)
        with pytest.raises(BrokenError):
            decode_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    assert decode_idx(tmp_path) is None


def png(wide: int, high: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    ihdr = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_fuzzed_pictures_are_read_or_named(tmp_path: Path) -> None:
    rng, path = random.Random(77), tmp_path / "x.png"
    seeds = []
    for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(buffer, form)
        seeds.append(buffer.getvalue())
    lies = [
        png(100_000, 100_000),
        png(2**31 - 1, 2**31 - 1),
        png(1, 2**26 + 1),
        png(60_000, 1000),
        b"",
        b"\0" * 100,
        b"%!PS-Adobe",
        b"<svg/>",
        b"P6 99999 99999 255 ",
    ]
    cases = [*lies, *seeds]
    for _ in range(250):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), rng.choice([60, 10**6])))] = rng.choice([0, 255, rng.randrange(256)])
        cases.append(bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])]))
    began, read = time.process_time(), 0
    for data in cases:
        path.write_bytes(data)
        try:
            with quiet():
                pixels, _ = decode(str(path), 8, 3)
            assert pixels.shape == (3, 8, 8)
            read += 1
        except MissingError as error:
            assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600
    assert 7 <= read < len(cases) and time.process_time() - began < 20


def test_texts_that_are_none(tmp_path: Path) -> None:
    for name, data, said in (("binary", bytes(range(256)) * 50, "no UTF-8"), ("half", "é".encode()[:1], "no UTF-8")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MissingError, match=said):
            _read(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(MissingError, match="no regular file"):
            _read(place)
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MissingError, match="at most"):
        _read(tmp_path / "huge")
    (tmp_path / "empty").write_text("")
    assert _read(tmp_path / "empty") == ""
    (tmp_path / "ends").write_bytes(b"a\r\nb\rc\nd")
    assert _read(tmp_path / "ends") == "a\nb\nc\nd"


def test_a_cache_whose_file_was_swapped_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By size, times and inode; whoever can write the note beside the file too can lie (docs/safety.md)."""
    from dlrun.datasets._real import RealData, from_cache, store

    arrays = {"train_x": np.arange(12, dtype=np.uint8).reshape(3, 4)}
    known = {key: (array.shape, hashlib.sha256(array.tobytes()).hexdigest()) for key, array in arrays.items()}
    data = RealData("mine", "Mine", known, lambda folder: None, {})
    store(data, tmp_path, arrays, "a test")
    assert (from_cache(data, tmp_path)["train_x"] == arrays["train_x"]).all() and (tmp_path / "train_x.npy.checked").exists()
    file = tmp_path / "train_x.npy"
    times = file.stat()
    other = bytearray(file.read_bytes())
    other[-1] ^= 1
    file.write_bytes(other)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(BrokenError, match="sha256"):
        from_cache(data, tmp_path)
    for text in (b"", b"[]", b"{", b"[" * 100_000, json.dumps(hostile.ODD[:4]).encode()):
        (tmp_path / "train_x.npy.checked").write_bytes(text)
        with pytest.raises(BrokenError, match="sha256"):
            from_cache(data, tmp_path)
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BrokenError):
        from_cache(data, tmp_path)
