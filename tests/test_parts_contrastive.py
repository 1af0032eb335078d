"""Contrastive learning: two views that differ, metrics with known values, and collapse where nothing keeps rows apart."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest
import runs
import torch
import torch.nn.functional as F

from dlrun import Splits, registry
from dlrun.batch import Batch
from dlrun.checks import run_checks
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.run import Run
from dlrun.train import build_run

VIEWS = ("task=contrastive", "augment.random_crop=random_crop", "augment.random_crop.pad=1", "augment.noise=noise")


def built(*words: str) -> Run:
    return build_run(compose([*runs.QUIET, *VIEWS, *words]))


def test_views_differ_from_each_other_and_repeat_themselves() -> None:
    run = built()
    raw = run.data.batches(0)[0]
    assert torch.equal(raw["x"], run.data.batches(0)[0]["x"])  # the data gives the row itself: augmentation is the task's
    one, again, other = (run.task.prepare(raw, Noise(0, step)) for step in (1, 1, 2))
    assert torch.equal(one["x"], again["x"]) and torch.equal(one["x2"], again["x2"])
    assert not torch.equal(one["x"], one["x2"]) and not torch.equal(one["x"], other["x"])
    for view in (one["x"], one["x2"]):
        near = F.cosine_similarity(view.flatten(1), raw["x"].flatten(1)).mean()
        assert near > F.cosine_similarity(view.flatten(1), raw["x"].roll(1, 0).flatten(1)).mean() + 0.1
    assert torch.equal(one["y"], raw["y"])


def test_a_second_view_of_the_dataset_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"x": torch.randn(40, 3), "x2": torch.randn(40, 3)}
    monkeypatch.setitem(registry.PLUGINS["dataset"], "paired", lambda: Splits(rows, rows))
    run = build_run(compose([*runs.QUIET, "task=contrastive", "dataset=paired", "train.batch_size=full"]))
    batch = run.task.prepare(run.data.batches(0)[0], Noise(0))
    assert torch.equal(batch["x"], rows["x"]) and torch.equal(batch["x2"], rows["x2"])


def test_without_augmentations_views_differ_by_noise_of_its_size() -> None:
    run = build_run(compose([*runs.QUIET, "task=contrastive", "task.noise=0.25"]))
    raw = run.data.head("train", 300)
    one, again = (run.task.prepare(raw, Noise(0, 3)) for _ in range(2))
    first, second = one["x"] - raw["x"], one["x2"] - raw["x"]
    assert first.std() == pytest.approx(0.25, rel=0.02) and second.std() == pytest.approx(0.25, rel=0.02)
    assert abs(float((first * second).mean())) < 0.25**2 * 0.03 and torch.equal(one["x2"], again["x2"])
    assert any("views differ by noise of 0.25" in note for note in run.notes)


def test_tokens_alone_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"x": torch.randint(0, 9, (40, 3))}
    monkeypatch.setitem(registry.PLUGINS["dataset"], "whole", lambda: Splits(whole, whole))
    with pytest.raises(UsageError, match="two views of floating-point rows by noise; of others give x2"):
        runs.start(tmp_path, "task=contrastive", "dataset=whole")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="train.accumulate must be 1"):
        built("train.accumulate=2")


def test_metrics_of_known_embeddings() -> None:
    """Four rows at the ends of two axes, their second views on the same spot, then on the opposite one."""
    run = built("train.batch_size=4")
    spots = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    x = torch.zeros(4, 1, 8, 8)

    def measured(first: torch.Tensor, second: torch.Tensor) -> dict[str, float]:
        run.task.outputs = lambda nets, batch: (first, second)  # type: ignore[attr-defined]
        found = run.task.evaluate(run.nets, Batch({"x": x, "x2": x}))
        return {name: mean.value() for name, mean in found.items()}

    same = measured(3 * spots, spots)
    assert same["alignment"] == pytest.approx(0, abs=1e-12) and same["pair_accuracy"] == 1
    pairs = 4 * torch.tensor(-4.0).exp() + 2 * torch.tensor(-8.0).exp()  # squared distances: four of 2, two of 4
    assert same["uniformity"] == pytest.approx(torch.log(pairs / 6).item(), rel=1e-5)
    opposite = measured(spots, -spots)
    assert opposite["alignment"] == pytest.approx(4) and opposite["pair_accuracy"] == 0
    point = measured(torch.ones(4, 2), torch.ones(4, 2))
    assert point["uniformity"] == pytest.approx(0, abs=1e-6) and point["loss"] == pytest.approx(log(7))


def test_evaluation_batches_are_as_large_as_those_of_training() -> None:
    """A loss over 512 rows is another number than one over 64: ln 1023 against ln 127 for guessing."""
    run = built("train.batch_size=60")
    seen = []
    evaluate = run.task.evaluate
    run.task.evaluate = lambda nets, batch: (seen.append(len(batch)), evaluate(nets, batch))[1]  # type: ignore[func-returns-value, method-assign]
    from dlrun.evaluate import evaluate as over_split

    assert over_split(run, run.modules, "val", 0)["loss"] < log(119)
    assert seen == [60] * 5


def test_checks_know_the_reference_and_warn_of_nothing() -> None:
    findings = {finding.check: finding for finding in run_checks(built(), "fast")}
    assert not [f for f in findings.values() if f.level in ("warning", "error")]
    assert "outputs of zero, ln 127 would give 4.8442" in findings["init_loss"].message


@pytest.mark.slow
def test_alignment_alone_collapses_and_uniformity_prevents_it(tmp_path: Path) -> None:
    common = (*VIEWS, "train.steps=300", "train.batch_size=128", "train.eval_every=0")
    found = {}
    for name, words in {"both": (), "align": ("loss.uniformity=0",), "info_nce": ("loss=info_nce",)}.items():
        loss = words if "loss=info_nce" in words else ("loss=align_uniform", *words)
        _, summary, code = runs.start(tmp_path / name, *common, *loss)
        assert code == 0
        found[name] = summary["metrics"]
    assert found["align"]["test/uniformity"] > -0.1 and found["align"]["test/alignment"] < 0.01
    assert found["both"]["test/uniformity"] < -2 and found["info_nce"]["test/uniformity"] < -1.5
    assert found["info_nce"]["test/pair_accuracy"] > 0.4 > found["align"]["test/pair_accuracy"]
