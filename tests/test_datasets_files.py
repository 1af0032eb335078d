"""Files of others: idx, CIFAR's binary batches and PNG strips, tar archives; damaged and hostile ones end in one line."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_data import DRAW, SMALL_X, SMALL_Y, archive, idx

from dlrun.datasets import _decode
from dlrun.datasets._decode import BrokenError, decode_cifar, read_idx, take_members, take_members_gz


def test_idx_files_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(idx(SMALL_X))
    assert np.array_equal(read_idx(path, SMALL_X.shape), SMALL_X)
    good = idx(SMALL_Y)
    for content, reason in [
        (good[:-1], "holds 67 bytes, expected 68"),
        (good + b"0", "more than"),
        (b"\0\0\x0d" + good[3:], "no idx file"),
        (b"", "no idx file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(BrokenError, match=reason):
            read_idx(path, (60,))
    for content in (b"no gzip", gzip.compress(good)[:-12], gzip.compress(good)[:20] + b"\xff" * 20):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(BrokenError, match=r"a\.gz"):
            read_idx(tmp_path / "a.gz", (60,))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(SMALL_Y) + bytes(10**8)))
    asked = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or original(self, size))
    with pytest.raises(BrokenError, match="more than"):
        read_idx(tmp_path / "a.gz", (60,))
    assert asked == [69]


@pytest.fixture
def five_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR batches of 5 rows instead of 10,000."""
    monkeypatch.setattr(_decode, "CIFAR_ROWS", 5)
    original = _decode.read_labels
    monkeypatch.setattr(_decode, "read_labels", lambda path, rows: original(path, rows // 2000))


def cifar_files(folder: Path, form: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """30 rows of CIFAR-10 in one of its forms; returns images [30, 3, 32, 32] and labels."""
    folder.mkdir(exist_ok=True)
    x, y = DRAW.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8), DRAW.integers(0, 10, 30).astype(np.uint8)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = slice(5 * number, 5 * number + 5)
        if form == "bin":
            (folder / f"{name}.bin").write_bytes(np.concatenate([y[rows, None], x[rows].reshape(5, -1)], axis=1).tobytes())
        else:
            Image.fromarray(x[rows].transpose(0, 2, 3, 1).reshape(5, 1024, 3)).save(folder / f"{name}.png")
    if form == "png":
        (folder / "train_lables.json").write_text(json.dumps(y[:25].tolist()))
        (folder / "test_lables.json").write_text(json.dumps(y[25:].tolist()))
    return x, y


@pytest.mark.parametrize("form", ["bin", "png"])
@pytest.mark.usefixtures("five_rows")
def test_both_forms_of_cifar_decode_to_the_same(tmp_path: Path, form: str) -> None:
    x, y = cifar_files(tmp_path / "cifar-10-batches-bin", form)
    arrays = decode_cifar(tmp_path)
    assert arrays is not None
    assert np.array_equal(arrays["train_x"], x[:25]) and np.array_equal(arrays["test_x"], x[25:])
    assert np.array_equal(arrays["train_y"], y[:25]) and np.array_equal(arrays["test_y"], y[25:])
    assert decode_cifar(tmp_path.parent) is None


@pytest.mark.usefixtures("five_rows")
def test_broken_cifar_files_are_named(tmp_path: Path) -> None:
    def broken(name: str, content: bytes, reason: str) -> None:
        form = "bin" if name.endswith("bin") else "png"
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        cifar_files(folder, form)
        (folder / name).write_bytes(content)
        with pytest.raises(BrokenError, match=reason) as caught:
            decode_cifar(folder)
        assert name in str(caught.value) and "\n" not in str(caught.value)

    picture = io.BytesIO()
    Image.new("RGB", (1024, 6)).save(picture, "PNG")
    grey = io.BytesIO()
    Image.new("L", (1024, 5)).save(grey, "PNG")
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (2**31 - 1).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0\0\0\0\0"
    broken("data_batch_2.bin", b"0" * 100, "has 100 bytes, expected 15365")
    broken("test_batch.png", picture.getvalue(), "picture of .1024, 6.")
    broken("test_batch.png", grey.getvalue(), "is a L picture")
    broken("test_batch.png", b"not a picture", "cannot be read")
    broken("test_batch.png", picture.getvalue()[:60], "cannot be read|picture of")
    broken("test_batch.png", huge, "cannot be read|picture of")
    broken("train_lables.json", b"[" * 100_000, "cannot be read")
    broken("train_lables.json", b"[1, 2", "cannot be read")
    broken("train_lables.json", json.dumps([10] * 25).encode(), "no list of 25 classes")
    broken("train_lables.json", json.dumps([True] * 25).encode(), "no list of 25 classes")


WANTED = {"a": 100, "b": 100}


def test_wanted_files_are_taken_whatever_folder_they_name(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    escapes: list[tuple[str, bytes | str]] = [("../../a", b"1"), ("/tmp/b", b"2"), ("../evil", b"3"), ("package/c", b"4")]
    take_members_gz(archive(escapes, tmp_path / "t.tgz"), WANTED, out)
    assert (out / "a").read_bytes() == b"1" and (out / "b").read_bytes() == b"2"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "deep/out/a",
        "deep/out/b",
        "t.tgz",
    ]


HOSTILE: list[tuple[list[tuple[str, bytes | str]], str]] = [
    ([("a", b"1"), ("b", "/etc/passwd")], "does not hold b"),
    ([("a", b"1"), ("x/a", b"2"), ("b", b"1")], "holds a twice"),
    ([("a", b"1" * 101), ("b", b"")], "with 101 bytes where at most 100"),
    ([("x", "/etc"), ("x/a", b"1")], "does not hold b"),
    ([], "does not hold a, b"),
]


@pytest.mark.parametrize(("members", "reason"), HOSTILE, ids=lambda value: str(value)[:30])
def test_hostile_archives_end_in_one_line(tmp_path: Path, members: list[tuple[str, bytes | str]], reason: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BrokenError, match=reason):
        take_members_gz(archive(members, tmp_path / "t.tgz"), WANTED, tmp_path / "out")
    assert all(not path.is_symlink() and path.name in WANTED for path in (tmp_path / "out").iterdir())


def test_archives_that_are_none_or_unpack_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = archive([("a", b"1"), ("b", b"2")], tmp_path / "t.tgz").read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2], gzip.compress(b"\xff" * 2000)):
        (tmp_path / "t.tgz").write_bytes(content)
        with pytest.raises(BrokenError, match=r"t\.tgz"):
            take_members_gz(tmp_path / "t.tgz", WANTED, tmp_path)
        for name in WANTED:
            (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.setattr(_decode, "SLACK_BYTES", 10**5)
    with pytest.raises(BrokenError, match="unpacks to more than it should hold"):
        take_members_gz(archive([("filler", bytes(10**7)), ("a", b"1"), ("b", b"2")], tmp_path / "t.tgz"), WANTED, tmp_path)
    with pytest.raises(BrokenError, match="does not hold"):
        take_members(io.BytesIO(bytes(10240)), "empty", WANTED, tmp_path)
