"""`dlrun data`: what it prints, its JSON, `--fetch`, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlrun.cli import main
from dlrun.datasets import _fetch


def document(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["data", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_is_one_document_with_the_batch_as_the_network_gets_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "dataset=digits", "train.batch_size=32")
    assert found["rows"] == {"train": 1197, "val": 300, "test": 300} and found["batch_size"] == 32
    assert [row["name"] for row in found["batch"]] == ["x", "y"] and found["batch"][0]["shape"] == [32, 1, 8, 8]
    assert found["classes"]["val"] == [30] * 10 and found["spec"]["classes"] == 10
    assert found["fingerprint"].startswith("sha256:")
    full = document(capsys, "dataset=digits", "train.batch_size=full")["batch"][0]
    assert full["mean"] == pytest.approx(0, abs=1e-5) and full["var"] == pytest.approx(1, abs=1e-2)


def test_plain_output_shows_splits_classes_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "dataset=moons", "dataset.n=100", "train.batch_size=1000", "train.accumulate=2"]) == 0
    text = capsys.readouterr().out
    for part in ("upper", "lower", "60 / 20 / 20 rows", "train.batch_size is 1000", "the first of 2 parts", "fingerprint: sha256:"):
        assert part in text, part


def test_cfg_prints_the_config_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "dataset=cifar10", "--cfg"]) == 0
    assert "name: cifar10" in capsys.readouterr().out


def test_a_dataset_without_files_has_nothing_to_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "dataset=digits", "--fetch"]) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_absent_data_is_exit_3_and_names_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DLRUN_CACHE", str(tmp_path))
    assert main(["data", "dataset=cifar10"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "dlrun data dataset=cifar10 --fetch" in error


def test_fetch_prints_source_and_sums_on_stdout_and_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DLRUN_CACHE", str(tmp_path))
    monkeypatch.setattr(_fetch, "_fetch", lambda data, cache, say: say("trying") or "a test")
    assert main(["data", "dataset=fashion_mnist", "--fetch"]) == 0
    out = capsys.readouterr()
    assert "from a test" in out.out and "ff0ab3b3c208aee5" in out.out and out.err == "trying\n"
    found = document(capsys, "dataset=fashion_mnist", "--fetch")
    assert found["source"] == "a test" and found["cache"] == str(tmp_path / "fashion_mnist") and len(found["sha256"]) == 4


@pytest.mark.parametrize(("words", "code", "fragment"), [(("dataset=moons",), 0, "picture: "), (("dataset=digits",), 0, "picture: ")])
def test_out_draws_the_batch(words: tuple[str, ...], code: int, fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *words, "--out", str(tmp_path / "pictures")]) == code
    assert fragment in capsys.readouterr().out
    assert (tmp_path / "pictures" / "batch.png").read_bytes().startswith(b"\x89PNG")
