"""Figures: what is read from metrics.jsonl, and that a PNG of a sane size comes out of whatever there is to draw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlrun.sinks.curves import moving_mean, panels_of, read_curves
from dlrun.sinks.figures import _image, draw
from dlrun.sinks.paint import literal, mosaic
from dlrun.types import Look


def write(run: Path, rows: list[dict[str, object]]) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def rows(steps: int) -> list[dict[str, object]]:
    return [
        {"step": i, "time": i / 9, "train/loss": 2.3 * 0.98**i, "train/lr": 1e-3, "train/accuracy": i / steps}
        | ({"val/loss": 1.0, "val/accuracy": 0.5, "val_ema/accuracy": 0.6} if i % 10 == 0 else {})
        for i in range(steps)
    ]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        colours = image.convert("RGB").getcolors(1 << 24)
        assert colours is not None and len(colours) > 3  # something was drawn
        return image.size


def test_curves_hold_what_was_logged(tmp_path: Path) -> None:
    run = write(tmp_path / "r", [*rows(30), {"step": 30, "train/loss": "nan"}])
    curves = read_curves(run / "metrics.jsonl")
    steps, values = curves["loss"]["train"]
    assert list(steps) == list(range(31)) and values[1] == pytest.approx(2.3 * 0.98) and np.isnan(values[30])
    assert list(curves["accuracy"]["val_ema"][0]) == [0, 10, 20]
    assert panels_of(curves) == ["loss", "accuracy"]  # not the learning rate


def test_a_long_file_keeps_every_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.sinks.curves.MOST_ROWS", 50)
    run = write(tmp_path / "r", rows(1001))
    curves = read_curves(run / "metrics.jsonl")
    assert len(curves["loss"]["val"][0]) == 101 and len(curves["loss"]["train"][0]) < 200


def test_moving_mean() -> None:
    values = np.arange(400.0)
    assert np.allclose(moving_mean(values), values)  # a centred mean leaves a straight line as it is, at its ends as well
    noisy = values + np.where(np.arange(400) % 2, 1.0, -1.0)
    assert np.abs(moving_mean(noisy) - values)[20:-20].max() < 0.15
    noisy[200] = np.nan
    assert np.isfinite(moving_mean(noisy)).all()


def looks() -> dict[str, Look]:
    points = torch.randn(50, 2)
    return {
        "samples": Look("scatter", {"data": points, "generated": points + 1}, "generated over data"),
        "deep/../points": Look("scatter", torch.randn(20, 5), "embedding"),
        "images": Look("images", torch.randn(9, 3, 8, 8), "samples"),
        "digits": Look("images", {"images": torch.rand(5, 8, 8), "captions": ["a $x$"] * 5}, "with captions"),
        "lines": Look("lines", {"a": torch.rand(9), "b": (torch.arange(9), torch.rand(9)), "xlabel": "frequency (Hz)"}, "spectrum"),
        "text": Look("text", ["To be, or not to be $x", "y" * 500], "sample"),
    }


def test_everything_is_drawn_with_whatever_names(tmp_path: Path) -> None:
    run = write(tmp_path / "[bold] $\\frac \x1b[31m" / "s0 数字", rows(60))
    (run / "summary.json").write_text(
        json.dumps({"baselines": {"test/majority_accuracy": 0.1}, "best": {"step": 50, "metric": "val/accuracy", "value": 0.5}})
    )
    counts = torch.eye(3, dtype=torch.int64) * 50 + 1
    errors = [{"x": torch.randn(1, 8, 8), "true": 0, "predicted": 1, "probability": 0.9, "row": i} for i in range(16)]
    paths = draw(run, looks(), counts, ("$cat", "数字", "[/x]\x1b"), errors)
    names = "curves confusion worst-errors samples deep-..-points images digits lines text"
    assert [path.stem for path in paths] == names.split()
    assert all(path.parent == run / "figures" for path in paths)
    assert all(200 < side < 3000 for path in paths for side in size(path))


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"step": 0, "time": 0.0, "val/loss": 2.3}],
        [{"step": i, "train/loss": "nan"} for i in range(30)],
        [{"step": i, "train/loss": 0.0} for i in range(30)],
        [{"step": i, "train/loss": "inf" if i == 3 else 10.0 ** (-i)} for i in range(30)],
        [{"step": 0, "time": 0.0, "note/text": "no number", "other": 1}],
    ],
)
def test_odd_metrics(tmp_path: Path, metrics: list[dict[str, object]]) -> None:
    run = write(tmp_path / "r", metrics)
    drawn = draw(run, {})
    wanted = any(name.endswith("/loss") for row in metrics for name in row)
    assert [path.name for path in drawn] == (["curves.png"] if wanted else [])
    assert all(size(path) for path in drawn)


@pytest.mark.parametrize("classes", [1, 2, 10, 40, 100])
def test_confusion_of_any_size_with_an_empty_class(tmp_path: Path, classes: int) -> None:
    counts = np.eye(classes, dtype=int) * 9
    counts[-1] = 0
    (path,) = draw(write(tmp_path / "r", []), {}, counts, [f"a rather long class name {i}" for i in range(classes)])
    assert max(size(path)) < 2500


def test_errors_that_are_no_images_become_a_table(tmp_path: Path) -> None:
    errors = [{"x": x, "true": 0, "predicted": 1, "probability": 0.9, "row": 3} for x in (torch.randn(2), None)]
    (path,) = draw(write(tmp_path / "r", []), {}, None, (), errors)
    assert size(path)[0] > 300
    assert draw(tmp_path / "r", {}, None, (), []) == []


def test_an_unknown_look_is_named_after_the_others_are_drawn(tmp_path: Path) -> None:
    run = write(tmp_path / "r", rows(5))
    with pytest.raises(ValueError, match=r"cannot draw sound \(audio\)"):
        draw(run, {"sound": Look("audio", None)})
    assert (run / "figures" / "curves.png").exists()


def test_images_are_stretched_to_their_range_and_put_side_by_side() -> None:
    image = _image(torch.tensor([[[-2.0, 0.0], [2.0, float("nan")]]]).repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert image is not None and image.shape == (8, 8, 1) and (image[0, 0, 0], image[0, 7, 0], image[7, 0, 0]) == (0, 0.5, 1)
    assert _image(torch.zeros(2)) is None and _image(torch.zeros(5, 8, 8)) is None
    picture, places = mosaic([np.full((8, 8, 3), i / 4) for i in range(3)], 2, 0.1)
    assert picture.shape[2] == 3 and len(places) == 3
    assert [picture[int(top + 1), int(left + 1), 0] for left, top in places] == [0, 0.25, 0.5]


def test_texts_are_drawn_letter_by_letter() -> None:
    assert literal("$\\frac\x1b\n50 %") == "\\$\\frac\\x1b\n50 %"
