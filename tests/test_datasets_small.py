"""Datasets that need no download: known counts, fixed splits, geometry, tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlrun.config import defaults
from dlrun.data import Data, prepare
from dlrun.datasets.digits import digits
from dlrun.datasets.moons import moons
from dlrun.datasets.ring import ring
from dlrun.datasets.text_file import UNKNOWN, text_file
from dlrun.errors import MissingError
from dlrun.types import Splits


def data_of(splits: Splits) -> Data:
    return prepare(splits, name="mine", seed=0, dataset_seed=0, batch_size=8, accumulate=1, workers=0, device="cpu", augments=())


def rows(splits: Splits, split: str) -> set[bytes]:
    return {row.numpy().tobytes() for row in getattr(splits, split)["x"]}


def test_digits_are_those_of_scikit_learn_split_1197_300_300() -> None:
    from sklearn.datasets import load_digits

    splits = digits(seed=0)
    data = data_of(splits)
    assert data.rows == {"train": 1197, "val": 300, "test": 300}
    assert [torch.bincount(data.targets(split)).tolist() for split in ("val", "test")] == [[30] * 10] * 2  # type: ignore[arg-type]
    known = load_digits()
    labels = torch.cat([data.targets(split) for split in data.rows])  # type: ignore[misc]
    assert torch.equal(torch.bincount(labels), torch.bincount(torch.from_numpy(known.target)))
    pixels = torch.cat([getattr(splits, split)["x"] for split in data.rows]).view(-1, 64).double()
    restored = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 16
    published = torch.from_numpy(known.data)
    assert sorted(map(tuple, restored.round().int().tolist())) == sorted(map(tuple, published.int().tolist()))


def test_digits_are_standardised_with_trains_statistics() -> None:
    splits = digits(seed=0)
    assert float(splits.train["x"].mean()) == pytest.approx(0, abs=1e-5) and float(splits.train["x"].std()) == pytest.approx(1, abs=1e-5)
    assert abs(float(splits.test["x"].mean())) > 1e-4


def test_the_seed_picks_the_split_of_digits_and_splits_share_no_row() -> None:
    one, again, other = digits(seed=0), digits(seed=0), digits(seed=1)
    assert torch.equal(one.train["x"], again.train["x"]) and torch.equal(one.test["y"], again.test["y"])
    assert not torch.equal(one.test["x"], other.test["x"])
    assert len(rows(one, "train") | rows(one, "val") | rows(one, "test")) == 1797


def test_digits_are_read_without_importing_scikit_learn() -> None:
    script = "import sys; from dlrun.datasets.digits import digits; digits(seed=0); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], check=False).returncode == 0


def test_digits_fall_back_to_scikit_learns_own_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digits(seed=0)
    monkeypatch.setattr("gzip.decompress", lambda data: b"1,2\n3")
    assert torch.equal(digits(seed=0).train["x"], expected.train["x"])


def test_moons_are_half_circles_with_balanced_classes() -> None:
    splits = moons(n=1000, noise=0.0, seed=0)
    data = data_of(splits)
    assert data.rows == {"train": 600, "val": 200, "test": 200} and data.spec.classes == 2
    x, y = splits.train
    assert int(y.sum()) == 300
    assert float((x[y == 0].norm(dim=1) - 1).abs().max()) < 1e-6 and float(x[y == 0][:, 1].min()) >= 0
    assert float(((x[y == 1] - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs().max()) < 1e-6
    noisy = moons(n=1000, noise=0.3, seed=0)
    assert float((noisy.train[0] - x).std()) == pytest.approx(0.3, rel=0.05)
    assert not torch.equal(moons(n=1000, noise=0.0, seed=1).train[0], x)
    with pytest.raises(ValueError, match="at least 10 rows"):
        moons(n=9, noise=0.0, seed=0)


def test_the_ring_has_its_modes_where_it_says() -> None:
    splits = ring(modes=8, radius=2.0, std=0.02, n=8000, seed=0)
    data = data_of(splits)
    assert data.rows == {"train": 8000, "val": 2000, "test": 2000} and data.spec.kind == "gan"
    assert splits.train["y"][:10].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    by_mode = splits.train["x"].view(-1, 8, 2)
    angles = torch.arange(8) * torch.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert float((by_mode.mean(0) - centres).abs().max()) < 0.003
    assert float((by_mode - centres).std()) == pytest.approx(0.02, rel=0.05)
    with pytest.raises(ValueError, match="4 rows a mode"):
        ring(modes=8, radius=2.0, std=0.02, n=31, seed=0)


TEXT = "abcab\n" * 40 + "abcabX" * 10 + "äbc☃😀" * 12


def text(path: Path, content: str = TEXT, **changes: object) -> Splits:
    path.write_text(content, encoding="utf-8")
    options: dict[str, object] = {
        "tokenizer": "characters",
        "vocab": None,
        "context": 5,
        "stride": None,
        "val": 60 / len(TEXT),
        "test": 60 / len(TEXT),
        **changes,
    }
    return text_file(path=path, **options)  # type: ignore[arg-type]


def test_text_is_cut_into_consecutive_windows_of_characters(tmp_path: Path) -> None:
    data = data_of(text(tmp_path / "t.txt"))
    assert data.spec.tokens == (UNKNOWN, "\n", "a", "b", "c") and data.spec.vocab == 5
    assert (data.spec.kind, data.spec.in_shape, data.spec.out_shape) == ("language_model", (5,), (5, 5))
    batch = next(data.evaluation("train", 2))
    decode = lambda row: "".join(data.spec.tokens[i] for i in row.tolist())  # noqa: E731
    assert [decode(batch[name][0]) for name in "xy"] == ["abcab", "bcab\n"]
    every = "".join(decode(row) for batches in data.evaluation("train") for row in batches["y"])
    assert every == TEXT[1 : len(every) + 1] and len(every) == 5 * 47  # each character is predicted once
    assert data.rows == {"train": 47, "val": 11, "test": 11}


def test_characters_that_train_lacks_share_a_token_and_cannot_change_the_vocabulary(tmp_path: Path) -> None:
    data = data_of(text(tmp_path / "t.txt"))
    assert any("'train': 0, 'val': 10, 'test': 36" in note for note in data.notes)
    assert next(data.evaluation("val", 1))["y"].tolist() == [[3, 4, 2, 3, 0]]
    other = data_of(text(tmp_path / "t.txt", TEXT[:-60] + "zyxwv" * 12))
    assert other.spec.tokens == data.spec.tokens
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(data.evaluation("train"), other.evaluation("train"), strict=True))


def test_a_stride_gives_overlapping_windows_in_train_only(tmp_path: Path) -> None:
    data = data_of(text(tmp_path / "t.txt", stride=1))
    assert data.rows == {"train": 240 - 5, "val": 11, "test": 11}
    batch = next(data.evaluation("train", 3))["x"]
    assert torch.equal(batch[1, :-1], batch[0, 1:]) and torch.equal(batch[2, :-1], batch[1, 1:])


def test_what_is_wrong_with_a_text_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset.path=FILE"):
        text_file(**defaults("dataset/text_file"))
    with pytest.raises(MissingError, match="cannot be read: No such file"):
        text_file(**{**defaults("dataset/text_file"), "path": tmp_path / "none"})
    (tmp_path / "b").write_bytes(b"ab\xff\xfe")
    with pytest.raises(MissingError, match="no UTF-8 text .byte 2."):
        text_file(**{**defaults("dataset/text_file"), "path": tmp_path / "b"})
    with pytest.raises(ValueError, match="val share .* has 60 characters: expected more than context, 60"):
        text(tmp_path / "t.txt", context=60)
    with pytest.raises(ValueError, match="would leak"):
        text(tmp_path / "t.txt", val=0.0)
