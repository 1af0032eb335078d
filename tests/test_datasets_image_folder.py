"""Pictures of the user's own: rows and pixels that are known, a cache that cannot go stale, and every odd file named."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_data import picture

from dlrun.config import defaults
from dlrun.data import Data, prepare
from dlrun.data.sources import Items, Tensors
from dlrun.datasets import _kept
from dlrun.datasets._pictures import decode
from dlrun.datasets.image_folder import image_folder
from dlrun.errors import MissingError
from dlrun.types import Splits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten pictures of 8 x 8."""
    for name in ("cat", "dog"):
        for number in range(10):
            picture(tmp_path / "all" / name / f"{number}.png", (8, 8, 3))
    return tmp_path / "all"


def read(folder: Path, **changes: Any) -> Splits:
    options = {**defaults("dataset/image_folder"), "folder": folder, "size": 8, **changes}
    return image_folder(str(folder.parent / "cache"), **{key: value for key, value in options.items() if key != "name"})


def data_of(splits: Splits, workers: int = 0) -> Data:
    return prepare(splits, name="mine", seed=0, dataset_seed=0, batch_size=4, accumulate=1, workers=workers, device="cpu", augments=())


def said(splits: Splits) -> str:
    assert splits.spec is not None
    return "\n".join(splits.spec.notes)


def test_rows_are_the_pictures_in_the_order_of_names_and_splits_share_none(folder: Path) -> None:
    data = data_of(read(folder, val=0.2, test=0.1))
    assert data.rows == {"train": 14, "val": 4, "test": 2} and data.spec.names == ("cat", "dog") and data.spec.in_shape == (3, 8, 8)
    assert {split: torch.bincount(data.targets(split)).tolist() for split in data.rows} == {"train": [7, 7], "val": [2, 2], "test": [1, 1]}  # type: ignore[arg-type]
    every = {
        row.numpy().tobytes(): int(y)
        for split in data.rows
        for row, y in zip(*data.raw(split).take(torch.arange(data.rows[split])).values())
    }
    for name, label in (("cat", 0), ("dog", 1)):
        for number in range(10):
            pixels = np.asarray(Image.open(folder / name / f"{number}.png")).transpose(2, 0, 1)
            assert every.pop(np.ascontiguousarray(pixels).tobytes()) == label
    assert not every
    other = data_of(read(folder, val=0.2, test=0.1, seed=1))
    assert other.fingerprint != data.fingerprint


def test_mean_and_std_are_those_of_train(folder: Path) -> None:
    for cache in (True, False):
        batches = torch.cat([batch["x"] for batch in data_of(read(folder, cache=cache)).evaluation("train")])
        assert torch.allclose(batches.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
        assert torch.allclose(batches.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_files_read_one_by_one_by_workers_give_the_batches_of_the_cache(folder: Path) -> None:
    kept, one_by_one = data_of(read(folder)), data_of(read(folder, cache=False), workers=2)
    assert isinstance(kept.raw("train"), Tensors) and isinstance(one_by_one.raw("train"), Items)
    assert "read from their files" in "\n".join(one_by_one.notes) and one_by_one.targets("train") is not None
    stream = one_by_one.stream(0)
    for step in range(5):
        (here,), (there,) = kept.batches(step), next(stream)
        assert torch.allclose(here["x"], there["x"], atol=1e-5) and torch.equal(here["y"], there["y"])
    stream.close()
    one_by_one.close()


def test_a_picture_that_breaks_during_training_is_one_line_also_from_a_worker(folder: Path) -> None:
    data = data_of(read(folder, cache=False), workers=1)
    for path in folder.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    stream = data.stream(0)
    with pytest.raises(MissingError, match=r"\.png cannot be read as a picture") as caught:
        next(stream)
    assert "\n" not in str(caught.value)
    data.close()


def test_folders_with_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / "s" / split / name / "deep" / f"{number}.png", (8, 8, 3))
    splits = read(tmp_path / "s")
    data = data_of(splits)
    assert data.rows == {"train": 10, "val": 4, "test": 6} and "dataset.val=0.1 and dataset.seed have no effect" in said(splits)
    shutil.rmtree(tmp_path / "s" / "valid")
    splits = read(tmp_path / "s", val=0.2)
    assert data_of(splits).rows == {"train": 8, "val": 2, "test": 6} and "val is cut from train" in data_of(splits).spec.split_rule
    picture(tmp_path / "s" / "test" / "c" / "x.png", (8, 8, 3))
    with pytest.raises(MissingError, match="test/c is a class that train does not have: expected a, b"):
        read(tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "test" / "c")
    (tmp_path / "s" / "extra").mkdir()
    with pytest.raises(MissingError, match="extra lies beside train"):
        read(tmp_path / "s")


def bomb(wide: int, high: int) -> bytes:
    """A PNG of some bytes whose header promises `wide` x `high` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


BROKEN = {
    "empty": b"",
    "text": b"no picture at all",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "bomb": bomb(60_000, 60_000),
    "large": bomb(9_000, 9_000),
    "cut": bomb(300, 300),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named_and_nothing_is_kept(folder: Path, name: str) -> None:
    (folder / "cat" / "3.png").write_bytes(BROKEN[name])
    for cache in (True, None):
        with pytest.raises(MissingError, match=r"cat/3\.png cannot be read as a picture") as caught:
            read(folder, cache=cache)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not list((folder.parent / "cache" / _kept.PLACE).glob("*/*"))
    (folder / "dog" / "5.png").write_bytes(b"")
    with pytest.raises(MissingError, match="2 of 20 pictures cannot be read"):
        read(folder)


def test_a_strip_that_would_grow_beyond_bounds_is_refused(folder: Path) -> None:
    Image.new("L", (70_000, 1)).save(folder / "cat" / "3.png")
    with pytest.raises(MissingError, match="too long and narrow"):
        read(folder, size=64)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


ODD = {
    "hidden file": (lambda f: (f / "cat/.DS_Store").write_bytes(b"x"), r"cat/\.DS_Store is hidden.*dataset\.skip=\[\.\*\]"),
    "hidden folder": (lambda f: (f / ".ipynb_checkpoints").mkdir(), r"\.ipynb_checkpoints is hidden"),
    "text": (lambda f: (f / "cat/notes.txt").write_text("x"), r"cat/notes\.txt is no picture by its name.*skip=\[notes\.txt\]"),
    "picture above": (lambda f: picture(f / "x.png"), r"x\.png is no folder"),
    "link out": (lambda f: (f / "cat/z.png").symlink_to(f.parent / "outside.png"), r"z\.png is a link that leaves the folder"),
    "folder link out": (lambda f: (f / "eel").symlink_to(f.parent), r"eel is a link that leaves the folder"),
    "folder link": (lambda f: (f / "eel").symlink_to(f / "cat"), r"eel is a link to a folder"),
    "loop": (lambda f: (f / "cat/again").symlink_to(f / "cat"), r"again is a link to a folder"),
    "dangling": (lambda f: (f / "cat/z.png").symlink_to(f / "gone.png"), r"z\.png is a link to nothing"),
    "pipe": (lambda f: _fifo(f / "cat/z.png"), r"z\.png is no regular file"),
    "empty class": (lambda f: (f / "eel").mkdir(), r"eel holds no pictures"),
    "escape codes": (lambda f: (f / "cat/\x1b[31m.txt").write_text("x"), r"\\x1b\[31m\.txt is no picture"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_picture_is_named(folder: Path, name: str) -> None:
    make, message = ODD[name]
    picture(folder.parent / "outside.png")
    make(folder)
    with pytest.raises(MissingError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_links_inside_the_folder_are_read_and_skip_leaves_out_by_name_aloud(folder: Path) -> None:
    (folder / "cat" / "z.png").symlink_to(folder / "dog" / "1.png")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "README.md").write_text("x")
    splits = read(folder, skip=[".*", "README*"])
    assert sum(data_of(splits).rows.values()) == 21
    assert "dataset.skip leaves out 2 by name, first" in said(splits)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="say dataset.folder=FOLDER"):
        image_folder(str(tmp_path), **{key: value for key, value in defaults("dataset/image_folder").items() if key != "name"})
    with pytest.raises(MissingError, match="is not there"):
        read(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="holds no class folders"):
        read(tmp_path / "empty")
    picture(tmp_path / "flat" / "x.png")
    with pytest.raises(MissingError, match="flat holds pictures itself: expected class folders"):
        read(tmp_path / "flat")


def kept_pixels(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache").rglob("pixels.npy"))


def test_pictures_are_decoded_once_and_again_when_any_of_them_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(folder)
    assert "decoded once and kept" in said(first) and len(kept_pixels(folder)) == 1
    calls: list[str] = []
    monkeypatch.setattr(_kept, "decode", lambda path, *rest: calls.append(path) or decode(path, *rest))
    again = read(folder)
    assert not calls and again.spec is not None and first.spec is not None
    assert again.spec.fingerprint == first.spec.fingerprint and "decoded once" not in said(again)
    path = folder / "cat" / "4.png"
    times, size = path.stat(), path.stat().st_size
    content = bytearray(path.read_bytes())
    other = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other.save(path)
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))  # as long as before, and its time put back
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == len(content) and path.stat().st_mtime_ns == times.st_mtime_ns
    changed = read(folder)
    assert len(calls) == 20 and changed.spec is not None and changed.spec.fingerprint != first.spec.fingerprint
    assert len(kept_pixels(folder)) == 1  # the entry that nobody can use any more is gone
    (folder / "cat" / "9.png").unlink()
    assert sum(data_of(read(folder)).rows.values()) == 19
    read(folder, channels=1)
    assert len(kept_pixels(folder)) == 2


def test_a_copy_of_the_folder_elsewhere_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    one, two = read(folder), read(tmp_path / "copy")
    assert one.spec is not None and two.spec is not None and one.spec.fingerprint == two.spec.fingerprint
    assert one.spec.mean == two.spec.mean


@pytest.mark.parametrize("file", ["pixels.npy", "facts.npy", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_entry_is_decoded_anew_and_that_is_said(folder: Path, file: str, damage: str) -> None:
    first = read(folder)
    path = kept_pixels(folder)[0].with_name(file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.unlink()  # who has it mapped keeps it
    if damage != "gone":
        path.write_bytes({"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[damage])
    second = read(folder)
    assert "is damaged: decoded anew" in said(second)
    assert first.spec is not None and second.spec is not None and second.spec.fingerprint == first.spec.fingerprint
    assert torch.equal(data_of(second).batches(0)[0]["x"], data_of(first).batches(0)[0]["x"])


def test_an_untouched_entry_is_not_hashed_and_a_copied_one_is(folder: Path) -> None:
    read(folder)
    entry = kept_pixels(folder)[0]
    content = entry.read_bytes()
    entry.unlink()
    entry.write_bytes(content)  # another inode, the same pixels
    assert "damaged" not in said(read(folder))


def test_a_cache_that_cannot_be_written_still_gives_the_pictures(folder: Path) -> None:
    (folder.parent / "cache").write_text("a file where a folder should be")
    splits = read(folder)
    assert "cannot be kept" in said(splits) and sum(data_of(splits).rows.values()) == 20


def test_pictures_of_test_that_train_has_too_are_said(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            picture(tmp_path / "s" / split / name / "x.png", (8, 8, 3))
    shutil.copy(tmp_path / "s/train/a/x.png", tmp_path / "s/test/b/y.png")
    assert "1 of 3 pictures of test are in train too, pixel for pixel: test/b/y.png first" in said(read(tmp_path / "s"))


def test_pictures_of_several_sizes_need_a_size(folder: Path) -> None:
    assert data_of(read(folder, size=None)).spec.in_shape == (3, 8, 8)
    picture(folder / "dog" / "5.png", (8, 9, 3))
    with pytest.raises(MissingError, match=r"dog/5\.png has 8 x 9 pixels .high x wide.*8 x 8: say dataset.size=N"):
        read(folder, size=None)


def test_the_index_is_plain_json_without_paths_of_pictures(folder: Path) -> None:
    read(folder)
    index = json.loads(kept_pixels(folder)[0].with_name("index.json").read_text())
    assert set(index) == {"sha256", "state", "remarks", "facts", "sum"}
