"""The views of `dlrun data`: pixels come back as they were, counts are counts, copies are found, pictures show what training sees."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_rows import Rows, data_of
from PIL import Image

from dlrun import Splits, registry
from dlrun.augments.mixup import mixup
from dlrun.augments.noise import noise
from dlrun.cli import main
from dlrun.look import duplicates, everything, inputs, neighbours, outliers, targets
from dlrun.look.augmented import draw_augments, plain_batch
from dlrun.look.batch import text_lines
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.types import DataSpec

BYTES = torch.randint(0, 256, (30, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SPEC = DataSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))


def test_pictures_of_bytes_are_the_bytes_again() -> None:
    for spec in (SPEC, None):
        data = data_of((BYTES, torch.arange(30) % 3), spec=spec)
        batch = next(data.evaluation("val"))
        shown = Pixels(data, batch["x"]).show(batch["x"])
        raw = data.raw("val").take(torch.arange(len(batch)))["x"]
        np.testing.assert_allclose(np.stack(shown), raw.permute(0, 2, 3, 1).numpy() / 255, atol=1e-6)


def test_pictures_of_other_numbers_are_stretched_by_one_range_which_is_said() -> None:
    x = torch.linspace(-3, 5, 4 * 25).view(4, 1, 5, 5)
    data = data_of((x, torch.arange(4) % 2))
    pixels = Pixels(data, x)
    np.testing.assert_allclose(np.stack(pixels.show(x))[..., 0], (x[:, 0].numpy() + 3) / 8, atol=1e-6)
    assert "black is -3.00" in pixels.words and "white 5.00" in pixels.words
    brighter = pixels.show(x + 4)
    assert float(brighter[0].mean()) > float(pixels.show(x)[0].mean()) + 0.4 and max(image.max() for image in brighter) == 1
    flat = Pixels(data, torch.full((2, 1, 5, 5), float("nan"))).show(torch.full((2, 1, 5, 5), float("nan")))
    assert np.isfinite(flat).all()


@pytest.mark.parametrize(
    ("shape", "yes"), [((4, 1, 8, 8), True), ((4, 3, 8, 8), True), ((4, 8, 8), True), ((4, 2, 8, 8), False), ((4, 8), False)]
)
def test_what_counts_as_pictures(shape: tuple[int, ...], yes: bool) -> None:
    assert are_images(torch.rand(shape)) is yes


@pytest.mark.parametrize(
    ("y", "text"),
    [
        (torch.tensor(1), "boot"),
        (torch.tensor(7), "7"),
        (torch.tensor([0.25, 0.75, 0.0]), "boot 0.75\nbag 0.25"),
        (torch.tensor([0.0, 1.0, 0.0]), "boot"),
        (torch.tensor([0.5, 0.3, 0.2]), "bag 0.50\nboot 0.30 …"),
        (torch.tensor([0.999, 0.001, 0.0]), "bag 0.9990\nboot 0.0010"),
        (torch.tensor(1.5), "1.50"),
        (torch.rand(3, 3), ""),
    ],
)
def test_labels_in_a_few_characters(y: torch.Tensor, text: str) -> None:
    assert label(y, ("bag", "boot", "cap")) == text


def test_counts_and_histograms_are_those_of_numpy() -> None:
    x, y = torch.randn(300, 4), torch.arange(300) % 7
    data = data_of((x, y), (x[:50] * 2, y[:50]))
    counted = targets.measure(data)
    assert counted["train"]["counts"] == np.bincount(y).tolist() and counted["val"]["rows"] == 50
    facts = inputs.measure(data)
    edges = facts["train"]["edges"]
    assert edges == facts["val"]["edges"] and edges[0] == pytest.approx(min(float(x.min()), 2 * float(x[:50].min())))
    assert facts["train"]["histogram"] == np.histogram(x.numpy(), bins=len(edges) - 1, range=(edges[0], edges[-1]))[0].tolist()
    assert facts["val"]["std"] == pytest.approx(float((2 * x[:50]).double().std(correction=0))) and facts["val"]["mean"] == pytest.approx(
        float(2 * x[:50].double().mean())
    )
    numbers = targets.measure(data_of((x, x.sum(1)), (x[:50], x[:50].sum(1))))["train"]
    assert numbers["mean"] == pytest.approx(float(x.sum(1).mean())) and sum(numbers["histogram"]) == 300


def test_the_entropy_of_a_target_in_bits() -> None:
    """Shares 1/2, 1/4, 1/8, 1/8: 1.75 bits; one class: none."""
    x, y = torch.randn(64, 4), torch.tensor([0] * 32 + [1] * 16 + [2] * 8 + [3] * 8)
    data = data_of((x, y), (x[:8], y[:8]))
    counted = targets.measure(data)
    assert counted["train"]["bits"] == pytest.approx(1.75) and counted["val"]["bits"] == 0
    assert targets.card(data, counted) == "a row of train: 4 numbers in, a target of 1.75 bits (entropy of the classes)"
    numbers = data_of((x, x[:, 0]), (x, x[:, 0]))
    assert targets.card(numbers, targets.measure(numbers)) == ""


def test_constant_features_and_lost_values_are_counted() -> None:
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(4))
    x[:, 2], x[3, 0], x[4, 1], x[5, 0] = 7.0, float("nan"), float("inf"), -9.0
    facts = inputs.measure(data_of((x, torch.arange(40) % 2), (x[10:], torch.arange(30) % 2)))
    assert facts["train"]["not_finite"] == 2 and facts["train"]["constant"] == 1 and facts["val"]["not_finite"] == 0
    assert (facts["train"]["min"], facts["train"]["max"]) == (-9.0, 7.0) and sum(facts["train"]["histogram"]) == 198
    ids = {"x": torch.arange(20).view(10, 2) % 4, "y": torch.arange(20).view(10, 2) % 4}
    tokens = data_of(ids, ids, spec=DataSpec(kind="language_model", vocab=5))
    assert inputs.measure(tokens)["train"]["counts"] == [5, 5, 5, 5, 0] and targets.measure(tokens)["val"]["counts"] == [5, 5, 5, 5, 0]


def test_copies_are_found_within_and_across_splits_and_nothing_else() -> None:
    x, other = BYTES.clone(), torch.randint(0, 256, (12, 3, 6, 5), dtype=torch.uint8)
    x[20] = x[3]
    other[:5], other[5] = x[7:12], x[13].flip(-1)
    y = torch.arange(30) % 3
    y_other = torch.cat([y[7:12], torch.zeros(7, dtype=torch.long)])
    y_other[0] = (y[7] + 1) % 3
    facts = duplicates.measure(data_of((x, y), (other, y_other), spec=SPEC))
    assert facts["within"]["train"]["repeats"] == 1 and facts["within"]["train"]["pairs"] == [[3, 20]]
    assert facts["within"]["train"]["other_target"] == int(y[3] != y[20]) and facts["within"]["val"]["repeats"] == 0
    assert facts["across"]["train/val"]["pairs"] == [[7, 0], [8, 1], [9, 2], [10, 3], [11, 4]]
    assert facts["across"]["train/val"]["other_target"] == 1
    texts = [text for text, _ in duplicates.lines(facts)]
    assert "overlap: 5 rows of val are in train, byte for byte, 1 with another target" in texts
    assert next(iter(duplicates.lines(duplicates.measure(data_of((BYTES, y), (BYTES // 2, y), spec=SPEC)))))[0].startswith(
        "duplicates: none"
    )


@pytest.mark.real
def test_fashion_mnist_in_use_has_no_equal_rows_and_copies_put_into_it_are_counted(absent: Any) -> None:
    """The 10 test images that its first release had in train were replaced in 2017."""
    from dlrun.build import build_data
    from dlrun.config import compose
    from dlrun.errors import MissingError

    try:
        data = build_data(compose(["dataset=fashion_mnist"]).resolved, 0, torch.device("cpu"))
    except MissingError:
        absent("Fashion-MNIST")
    assert all(fact["repeats"] == 0 for kind in duplicates.measure(data).values() for fact in kind.values())
    train, test = data.raw("train").take(torch.arange(1000)), data.raw("test").take(torch.arange(1000))
    train["x"][100:107] = test["x"][200:207]
    noisy = test["x"][310].int() + torch.randint(-10, 11, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    train["x"][107], train["x"][108] = test["x"][300].flip(-1), noisy.clamp(0, 255).byte()
    copied = data_of((train["x"], train["y"]), (test["x"], test["y"]), spec=data.spec)
    assert duplicates.measure(copied)["across"]["train/val"]["repeats"] == 7
    near = {tuple(pair[:2]): pair[3] for pair in neighbours.measure(copied)["train/val"]["pairs"]}
    assert {(100 + i, 200 + i) for i in range(7)} < near.keys() and near[107, 300] and not near[108, 310]


def test_datasets_read_one_by_one_are_looked_at_in_part_which_is_said() -> None:
    data = data_of(Rows(lambda i: (torch.full((2,), float(i)), i % 2), 2100), Rows(lambda i: (torch.full((2,), -1.0 - i), i % 2), 30))
    facts = everything.measure(data)
    assert facts["inputs"]["train"]["rows"] == 2048 and facts["inputs"]["train"]["max"] == 2047 and facts["inputs"]["val"]["rows"] == 30

    class Screen:
        lines: list[str] = []  # noqa: RUF012

        def line(self, text: str, style: str = "") -> None:
            self.lines.append(text)

        def table(self, *_: Any) -> None:
            pass

    everything.show(Screen(), data, facts)  # type: ignore[arg-type]
    assert "the first 2048 of 2100 rows of train" in Screen.lines[0]


def test_text_is_spelled_with_what_is_to_be_predicted() -> None:
    tokens = {"x": torch.tensor([[0, 1, 2], [2, 2, 0]]), "y": torch.tensor([[1, 2, 0], [2, 0, -100]])}
    data = data_of(tokens, tokens, spec=DataSpec(kind="language_model", vocab=3, tokens=("a", "\n", "bc")), batch_size=2)
    assert text_lines(next(data.evaluation("train")), data.spec) == ["a↵bc|a", "bcbca"]


def cells(path: Path, rows: int, columns: int) -> Any:
    """Means of the pictures of a grid, line by line (roughly: each is looked at in its middle)."""
    image = np.asarray(Image.open(path).convert("L"), dtype=float)
    top = 0.6 * 160
    high, wide = (image.shape[0] - top - 0.07 * 160) / rows, image.shape[1] / columns
    return np.array(
        [
            [
                image[int(top + (r + 0.55) * high) : int(top + (r + 0.7) * high), int((c + 0.3) * wide) : int((c + 0.6) * wide)].mean()
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def test_augmentations_are_drawn_as_training_draws_them(tmp_path: Path) -> None:
    x = torch.arange(24.0).view(24, 1, 1, 1).expand(24, 1, 8, 8).contiguous()
    data = data_of((x, torch.arange(24) % 3), (x, torch.arange(24) % 3), batch_size=24)
    data.augments = (partial(mixup, classes=3, alpha=1.0),)
    plain = plain_batch(data)
    assert torch.equal(plain["y"].sort().values, (torch.arange(24) % 3).sort().values) and data.augments
    paths = draw_augments(data, {"m": "mixup"}, tmp_path, "test")
    assert list(paths) == ["augment-m"]
    grey = cells(paths["augment-m"], 6, 7)
    low, high = float(plain["x"].min()), float(plain["x"].max())
    expected = [plain, *(data.augmented(plain, step) for step in range(6))]
    wanted = np.array([[255 * (float(batch["x"][row].mean()) - low) / (high - low) for batch in expected] for row in range(6)])
    np.testing.assert_allclose(grey, wanted, atol=2)
    data.augments = (partial(noise, std=0.1), partial(noise, std=0.1))
    assert list(draw_augments(data, {"a": "noise", "b": "noise"}, tmp_path, "test")) == ["augment-a", "augment-b", "augments"]


ROWS: dict[str, Any] = {
    "pictures": (torch.rand(12, 3, 8, 8), torch.arange(12) % 2),
    "points": (torch.rand(12, 2), torch.arange(12) % 2),
    "curves": (torch.rand(12, 40), torch.rand(12)),
    "many_classes": (torch.rand(300, 3), torch.arange(300) % 60),
    "lost": (torch.full((12, 3), float("nan")), torch.rand(12)),
    "alone": torch.rand(12, 3),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_kind_of_rows_has_its_pictures_and_json(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(registry.PLUGINS["dataset"], "mine_here", lambda: Splits(ROWS[name], ROWS[name]))
    words = ["data", "dataset=mine_here", "task=supervised", "loss=mse", "augment.n=noise", "--out", str(tmp_path / "p")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"batch", "augment-n", "inputs"} <= set(found["pictures"]) and ("targets" in found["pictures"]) is (name != "alone")
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found["pictures"].values())
    assert found["duplicates"]["across"]["train/val"]["repeats"] == len(ROWS[name][0] if isinstance(ROWS[name], tuple) else ROWS[name])
    assert main(words) == 0
    assert "picture: " in capsys.readouterr().out


def test_the_batch_shown_is_the_augmented_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "augment.m=mixup", "augment.m.alpha=1.0", "--json"]) == 0
    batch = json.loads(capsys.readouterr().out)["batch"]
    assert batch[1]["shape"] == [64, 10] and batch[1]["dtype"] == "float32"


def test_text_and_rows_of_several_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    words = ["data", "dataset=text_file", f"dataset.path={tmp_path / 'text.txt'}", "task=language_model", "--out", str(tmp_path / "p")]
    assert main(words) == 0 and (tmp_path / "p" / "batch.png").is_file()
    pair = {"x": (torch.rand(20, 3), torch.rand(20, 2, 2)), "y": torch.arange(20) % 2}
    monkeypatch.setitem(registry.PLUGINS["dataset"], "pairs_here", lambda: Splits(pair, pair))
    capsys.readouterr()
    assert main(["data", "dataset=pairs_here", "--out", str(tmp_path / "q")]) == 0
    assert "no picture of the batch" in capsys.readouterr().out and (tmp_path / "q" / "targets.png").is_file()


def test_near_copies_and_mirrored_ones_are_found_and_measured_on_x_itself() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(600, 1, 12, 12, generator=generator)
    other = torch.rand(40, 1, 12, 12, generator=generator)
    noise_of = 0.02 * torch.randn(12, 12, generator=generator)
    other[3], other[7], other[9] = x[100], x[200].flip(-1), x[300] + noise_of
    facts = neighbours.measure(data_of((x, torch.arange(600) % 3), (other, torch.arange(40) % 3)))["train/val"]
    assert facts["near"] == 3 and facts["mirrored"] == 1
    assert [pair[:2] for pair in facts["pairs"]] == [[100, 3], [200, 7], [300, 9]] and [pair[3] for pair in facts["pairs"]] == [
        False,
        True,
        False,
    ]
    assert facts["pairs"][0][2] == 0 and facts["pairs"][2][2] == pytest.approx(float(noise_of.norm()), rel=1e-3)
    exact = torch.cdist(other.flatten(1), x.flatten(1)).min(1).values.median()
    assert facts["usual"] == pytest.approx(float(exact), rel=0.15)


def test_neighbours_are_not_sought_where_they_would_mean_nothing() -> None:
    few, lost = torch.rand(30, 2), torch.full((30, 20), float("nan"))
    for x in (few, lost):
        assert "skipped" in neighbours.measure(data_of((x, torch.arange(30) % 2), (x, torch.arange(30) % 2)))


def test_rows_far_out_are_named_with_their_feature() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(3))
    x[:, 4] = 3.0  # never changes: not far out
    x[17, 2], x[40, 0] = 400.0, float("nan")
    facts = outliers.measure(data_of((x, torch.arange(400) % 2), (x, torch.arange(400) % 2)))
    assert facts["rows"][0][0] == 17 and facts["rows"][0][2] == 2 and facts["far"] == 1
    assert all(np.isfinite(score) for _, score, _ in facts["rows"])
    plain = outliers.measure(data_of((torch.randn(400, 6), torch.arange(400) % 2), (x, torch.arange(400) % 2)))
    assert plain["far"] == 0 and plain["median"] == pytest.approx(1, abs=0.15)
