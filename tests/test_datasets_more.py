"""Spirals, tables and their units, and how rows are shared out: geometry, published values, closed forms, failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch

from dlrun import DataSpec
from dlrun.build import build
from dlrun.config import compose
from dlrun.data import Data, prepare
from dlrun.datasets._shares import cut
from dlrun.datasets.mnist1d import draw_rows, mnist1d, smoothed, templates
from dlrun.datasets.spirals import INNER, spirals
from dlrun.datasets.tabular import TABLES, tabular
from dlrun.errors import UsageError
from dlrun.types import Splits

DIABETES = ("dataset=tabular", "dataset.table=diabetes", "task=supervised")


def data_of(splits: Splits) -> Data:
    return prepare(splits, name="mine", seed=0, dataset_seed=0, batch_size=8, accumulate=1, workers=0, device="cpu", augments=())


def test_spirals_lie_on_their_curves_and_apart() -> None:
    splits = spirals(classes=3, n=3000, noise=0.0, turns=2.0, seed=0)
    data = data_of(splits)
    assert data.rows == {"train": 1800, "val": 600, "test": 600} and data.spec.classes == 3
    x, y = splits.train["x"].double(), splits.train["y"]
    assert torch.bincount(y).tolist() == [600] * 3
    radius = x.norm(dim=1)
    assert INNER <= float(radius.min()) < 0.08 and 0.99 < float(radius.max()) <= 1 + 1e-6
    angle = 2 * torch.pi * (2 * (radius - INNER) / (1 - INNER) + y / 3)
    assert torch.allclose(x, torch.stack([radius * angle.cos(), radius * angle.sin()], 1), atol=1e-5)
    third = torch.tensor(2 * torch.pi / 3)
    turn = torch.stack([torch.stack([third.cos(), third.sin()]), torch.stack([-third.sin(), third.cos()])]).double()
    moved = x[y == 0] @ turn  # spiral 0 turned by a third is spiral 1, far from what is left of spiral 0
    far, near = (torch.cdist(moved, x[y == k]).min(1).values for k in (0, 1))
    assert float(near.max()) < 0.05 < float(far[moved.norm(dim=1) > 0.3].min())


def test_noise_and_seed_of_spirals() -> None:
    still, noisy = (spirals(classes=2, n=5000, noise=noise, turns=1.0, seed=3) for noise in (0.0, 0.05))
    assert float((noisy.train["x"] - still.train["x"]).std()) == pytest.approx(0.05, rel=0.05)
    other = spirals(classes=2, n=5000, noise=0.0, turns=1.0, seed=4)
    assert not torch.equal(other.train["x"], still.train["x"])
    assert noisy.spec is not None and "overlap" not in noisy.spec.notes[0]
    close = spirals(classes=2, n=100, noise=0.1, turns=3.0, seed=0)
    assert close.spec is not None and "they overlap" in close.spec.notes[0]


@pytest.mark.parametrize(("options", "said"), [({"classes": 1}, "at least 2 spirals"), ({"n": 9}, "at least 5 rows a spiral, 10")])
def test_spirals_that_cannot_be(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spirals(**{"classes": 2, "n": 100, "noise": 0.0, "turns": 1.0, "seed": 0, **options})  # type: ignore[arg-type]


def test_shares_are_the_same_of_every_class_and_no_row_is_in_two_parts() -> None:
    labels = torch.tensor([0] * 10 + [1] * 35 + [2] * 5)[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    parts = cut(labels, 50, 0.2, 0.4, seed=0)
    assert {split: torch.bincount(labels[rows]).tolist() for split, rows in parts.items()} == {
        "train": [4, 14, 2],
        "val": [2, 7, 1],
        "test": [4, 14, 2],
    }
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(50))
    assert parts["val"].tolist() != cut(labels, 50, 0.2, 0.4, seed=1)["val"].tolist()
    assert set(cut(None, 10, 0.1, 0.0, seed=0)) == {"train", "val"}


@pytest.mark.parametrize(
    ("val", "test", "said"),
    [(0.0, 0.1, "dataset.val is 0"), (0.5, 0.5, "leave nothing for train"), (0.4, 0.5, "class b has 2 rows: expected more than the 2")],
)
def test_shares_that_cannot_be_met(val: float, test: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cut(torch.tensor([0] * 20 + [1] * 2), 22, val, test, seed=0, names=("a", "b"))


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_scikit_learn(name: str) -> None:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    splits = tabular(table=name, val=0.2, test=0.2, seed=0)  # type: ignore[arg-type]
    assert splits.spec is not None
    classes = splits.spec.kind == "classification"
    rows = cut(torch.from_numpy(loaded.target).long() if classes else None, len(loaded.data), 0.2, 0.2, seed=0)
    table = torch.from_numpy(loaded.data)
    scaled = (table - table[rows["train"]].mean(0)) / table[rows["train"]].std(0, correction=0)
    for split, part in rows.items():
        y = torch.from_numpy(loaded.target)[part].double()
        assert torch.allclose(getattr(splits, split)["x"].double(), scaled[part], atol=1e-5)
        assert torch.allclose(splits.spec.own_unit(getattr(splits, split)["y"]).double(), y, atol=1e-4)
        if classes and split != "train":
            assert ((torch.bincount(y.long()) - torch.bincount(torch.from_numpy(loaded.target)) / 5).abs() <= 0.5).all()
    assert list(splits.spec.features) == [feature.replace("_", " ") for feature in loaded.feature_names]
    assert not classes or [label.replace("_", " ") for label in loaded.target_names] == list(splits.spec.names)


@pytest.mark.parametrize("name", TABLES)
def test_features_are_standardised_with_trains_statistics(name: str) -> None:
    splits = tabular(table=name, val=0.2, test=0.2, seed=0)  # type: ignore[arg-type]
    x = splits.train["x"].double()
    assert float(x.mean(0).abs().max()) < 1e-6 and float((x.std(0, correction=0) - 1).abs().max()) < 1e-6
    assert float(splits.test["x"].mean(0).abs().max()) > 1e-3
    other = tabular(table=name, val=0.2, test=0.2, seed=1)  # type: ignore[arg-type]
    assert not torch.equal(other.train["x"], splits.train["x"])


def test_tables_are_read_without_importing_scikit_learn_and_otherwise_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from dlrun.datasets.tabular import tabular; tabular(table='wine', val=0.2, test=0.2, seed=0)"
    script = f"import sys; {code}; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], check=False).returncode == 0
    for name in TABLES:
        expected = tabular(table=name, val=0.2, test=0.2, seed=0)  # type: ignore[arg-type]
        with monkeypatch.context() as changed:
            changed.setattr("dlrun.datasets.tabular._numbers", lambda path: path.with_name("gone").read_bytes())
            again = tabular(table=name, val=0.2, test=0.2, seed=0)  # type: ignore[arg-type]
        assert torch.allclose(again.train["x"], expected.train["x"], atol=1e-5) and torch.equal(again.test["y"], expected.test["y"])


def evaluated(*words: str) -> tuple[Any, dict[str, float]]:
    from dlrun.evaluate import evaluate

    run = build(compose([*runs.QUIET, *words]))
    return run, evaluate(run, run.modules, "test", 0)


def test_metrics_of_a_standardised_target_are_in_its_own_unit_and_the_loss_is_not() -> None:
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    run, metrics = evaluated(*DIABETES, "model=linear", "metric=mae")
    spec, test = run.data.spec, next(run.data.evaluation("test"))
    assert 60 < spec.target_std[0] < 90 and 130 < spec.target_mean[0] < 170
    with torch.no_grad():
        out = run.modules["model"](test["x"])
    raw, predicted = (side.double().numpy() * spec.target_std[0] + spec.target_mean[0] for side in (test["y"], out))
    assert (abs(raw - raw.round()) < 1e-4).all() and raw.min() >= 25 and raw.max() <= 346  # the numbers of the table
    assert metrics["mae"] == pytest.approx(mean_absolute_error(raw, predicted), rel=1e-6)
    assert metrics["r2"] == pytest.approx(r2_score(raw, predicted), rel=1e-6)
    assert metrics["loss"] == pytest.approx(mean_squared_error(test["y"].numpy(), out.numpy()), rel=1e-6)


def test_metrics_of_training_batches_are_in_the_same_unit(tmp_path: Path) -> None:
    words = ("train.steps=1", "train.batch_size=full", "train.log_every=1", "train.eval_splits=[train]")
    rows = runs.rows(runs.start(tmp_path, *DIABETES, *words)[0])
    first, step = rows[0], next(row for row in rows if row["step"] == 1)
    assert 60 < first["train/mae"] < 80 and step["train/loss"] == pytest.approx(1.0, abs=0.3)


def test_own_units_of_several_targets_and_of_outputs_that_are_none() -> None:
    spec = DataSpec(target_mean=(10.0, 20.0), target_std=(2.0, 3.0))
    assert spec.own_unit(torch.ones(4, 2)).tolist() == [[12.0, 23.0]] * 4
    assert DataSpec().own_unit(torch.ones(2)).tolist() == [1.0, 1.0]
    from dlrun.task import in_own_unit

    out, y = torch.ones(4, 7), torch.ones(4, 2)
    assert in_own_unit(spec, out, y) == (out, y) and in_own_unit(spec, out, None) == (out, None)


def test_the_default_task_on_a_number_says_what_to_type() -> None:
    with pytest.raises(UsageError) as caught:
        build(compose([*runs.QUIET, "dataset=tabular", "dataset.table=diabetes"]))
    assert "task=supervised" in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="breast_cancer, diabetes, iris, wine"):
        compose([*runs.QUIET, "dataset=tabular", "dataset.table=boston"])


def test_templates_of_mnist1d_are_curves_of_one_height_that_begin_and_end_at_zero() -> None:
    curves = templates()
    assert curves.shape == (10, 12) and np.allclose(curves[:, [0, -1]], 0) and np.allclose(curves.std(axis=1), 1 / 6)


def test_the_correlated_noise_of_mnist1d_is_scipys_gaussian_filter() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = np.random.default_rng(0).standard_normal((4, 72))
    assert np.allclose(smoothed(noise), ndimage.gaussian_filter1d(noise, 2, axis=1), atol=1e-14)


class Still:
    """A generator whose every draw is in the middle, and whose noise is none."""

    def __init__(self, integers: list[int]) -> None:
        self.answers = iter(integers)

    def random(self, shape: tuple[int, ...]) -> Any:
        return np.full(shape, 0.5)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> Any:
        return np.full(shape, next(self.answers))

    def standard_normal(self, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape)


def test_curves_of_mnist1d_are_dilated_moved_and_sampled() -> None:
    """Most padding: the canvas has a point a template point; 36 zeros fewer in a canvas of equal size: stretched by 71 / 47."""
    every = np.arange(10)
    plain = draw_rows(every, 72, Still([60, 0]))  # type: ignore[arg-type]
    assert np.allclose(plain[:, :12], templates()) and not plain[:, 12:].any()
    moved = draw_rows(every, 72, Still([60, 5]))  # type: ignore[arg-type]
    assert np.allclose(moved[:, 5:17], templates()) and not moved[:, :5].any()
    wide = draw_rows(every, 72, Still([36, 0]))  # type: ignore[arg-type]
    at = np.arange(72) * 47 / 71
    assert np.allclose(wide, [np.interp(at, np.arange(48), np.pad(curve, (0, 36))) for curve in templates()])
    sampled = draw_rows(every, 40, Still([60, 0]))  # type: ignore[arg-type]
    assert np.allclose(sampled, [np.interp(np.linspace(0, 71, 40), np.arange(72), curve) for curve in plain])


def test_mnist1d_has_the_published_form_and_its_test_rows_do_not_depend_on_n() -> None:
    small, large = (mnist1d(n=n, length=40, shuffle=False, seed=0) for n in (4000, 100))
    data = data_of(small)
    assert data.rows == {"train": 4000, "val": 1000, "test": 1000} and data.spec.in_shape == (40,) and data.spec.classes == 10
    assert torch.bincount(small.test["y"]).tolist() == [100] * 10
    x = small.train["x"].double()
    assert abs(float(x.mean())) < 1e-5 and float(x.std()) == pytest.approx(1, abs=1e-3)
    back = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in ((small.test["x"], large.test["x"]),)]
    assert back[0] == pytest.approx(1, abs=1e-6)  # equal but for train's mean and std
    shuffled = mnist1d(n=4000, length=40, shuffle=True, seed=0)
    order = [int((small.train["x"] - column[:, None]).abs().sum(0).argmin()) for column in shuffled.train["x"].T]
    assert sorted(order) == list(range(40)) != order and torch.equal(small.test["x"][:, order], shuffled.test["x"])
    assert not torch.equal(mnist1d(n=100, length=40, shuffle=False, seed=1).train["x"], large.train["x"])
    with pytest.raises(ValueError, match="at least 2 points"):
        mnist1d(n=10, length=1, shuffle=False, seed=0)


def test_a_linear_model_learns_of_mnist1d_what_is_published() -> None:
    """32 per cent; the mean of five seeds."""
    from sklearn.linear_model import LogisticRegression

    scores = []
    for seed in range(5):
        splits = mnist1d(n=4000, length=40, shuffle=False, seed=seed)
        fitted = LogisticRegression(max_iter=300).fit(splits.train["x"].numpy(), splits.train["y"].numpy())
        scores.append(fitted.score(splits.test["x"].numpy(), splits.test["y"].numpy()))
    assert sum(scores) / 5 == pytest.approx(0.32, abs=0.03)


def test_rows_of_many_numbers_are_drawn_as_curves_and_tables_are_not() -> None:
    from matplotlib.figure import Figure

    from dlrun.look.series import LEAST_POINTS, are_series, draw_series

    x = torch.stack([torch.linspace(-2, 2, 40), torch.full((40,), torch.nan)])
    figure = Figure()
    draw_series(figure, x, ["a $b", ""], "title")
    (axes,) = figure.axes
    drawn = axes.lines[1].get_ydata()
    assert np.allclose(np.diff(drawn), np.diff(drawn)[0]) and (drawn[0] + drawn[-1]) / 2 == pytest.approx(axes.lines[0].get_ydata()[0])
    assert "from -2 to 2" in axes.get_title()
    assert are_series(x, DataSpec()) and not are_series(x, DataSpec(features=("age",)))
    assert not are_series(x[:, : LEAST_POINTS - 1], DataSpec()) and not are_series(x.long(), DataSpec())
