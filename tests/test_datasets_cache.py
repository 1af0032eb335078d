"""The cache of real data: sources in their order, every kind of damage found out and named, nothing half written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import DRAW, ORDER, SMALL, SMALL_X, SMALL_Y, flip_bit, idx, write_files

from dlrun.data import prepare
from dlrun.datasets import _real
from dlrun.datasets._real import arrange, find, splits, with_noise
from dlrun.errors import MissingError


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """A cache that holds the small data set."""
    root = str(tmp_path / "cache")
    find(SMALL, root, write_files(tmp_path / "files"))
    return root


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


def test_the_first_rows_of_train_and_labels_drawn_anew(cached: str) -> None:
    whole, part = splits(SMALL, cached, None, 20), splits(SMALL, cached, None, 20, n=30)
    assert torch.equal(part.train[0], whole.train[0][:30]) and torch.equal(part.train[1], whole.train[1][:30])
    assert torch.equal(part.val[0], whole.val[0]) and whole.spec is not None and part.spec is not None
    assert part.spec.fingerprint == f"{whole.spec.fingerprint} n=30" and part.spec.split_rule.startswith("30 / 20 / 20 rows")
    with pytest.raises(ValueError, match=r"dataset.n is 41: train has 40 rows beside the 20 of val"):
        splits(SMALL, cached, None, 20, n=41)
    noisy = splits(SMALL, cached, None, 20, label_noise=0.2)
    assert noisy.spec is not None and noisy.spec.fingerprint == f"{whole.spec.fingerprint} label_noise=0.2"
    assert all(torch.equal(getattr(noisy, held)[1], getattr(whole, held)[1]) for held in ("val", "test"))


def test_labels_drawn_anew_are_any_with_the_same_chance() -> None:
    y = torch.zeros(100_000, dtype=torch.int64)
    assert torch.equal(with_noise(y, 0.0, 10), y) and torch.equal(with_noise(y, 0.2, 10), with_noise(y, 0.2, 10))
    for share in (0.2, 1.0):  # a redrawn label is its old one in a tenth of cases; three standard deviations are 0.003
        counts = torch.bincount(with_noise(y, share, 10), minlength=10) / len(y)
        assert counts[0] == pytest.approx(1 - 0.9 * share, abs=0.004) and torch.allclose(counts[1:], torch.tensor(share / 10), atol=0.004)


def test_writing_into_a_batch_does_not_reach_the_cache_file(cached: str) -> None:
    split = splits(SMALL, cached, None, 20)
    split.train[0].zero_()
    assert np.array_equal(find(SMALL, cached, None).arrays["train_x"][:, 0], SMALL_X[ORDER])


def _keep_times(path: Path) -> None:
    times = path.stat()
    flip_bit(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip_bit,
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
    flip_bit(Path(cached) / "small" / "train_x.npy")
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
