"""Mixup and cutmix: what is mixed with what, by which share, what the loss and the metrics make of it, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch
import torch.nn.functional as F
from data_rows import Rows, data_of
from parts import bound, metric

from dlrun import Splits, registry
from dlrun.augments import _mixing
from dlrun.augments.cutmix import cutmix
from dlrun.augments.mixup import mixup
from dlrun.batch import Batch
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.train import build_run

B, C = 64, 5
X = torch.randn(B, 2, 8, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(B) % C
BATCH = Batch({"x": X, "y": Y})
ALL = {"mixup": partial(mixup, classes=C, alpha=1.0), "cutmix": partial(cutmix, classes=C, alpha=1.0, p=1.0)}


def noise(step: int = 0) -> Noise:
    return Noise(0, step, 0, 0, "augment", 0)


def always(monkeypatch: pytest.MonkeyPatch, lam: float) -> None:
    """Let every share drawn be `lam`."""
    fixed = lambda noise, use, alpha, rows: torch.full((rows,), lam, dtype=torch.float64)  # noqa: E731
    for module in ("mixup", "cutmix"):
        monkeypatch.setattr(f"dlrun.augments.{module}.beta", fixed)


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_a_share_of_1_is_the_identity(augment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch, 1.0)
    found = augment(BATCH, noise())
    assert torch.equal(found["x"], X) and torch.equal(found["y"], F.one_hot(Y, C).float())


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_the_noise_decides_and_targets_are_distributions_whose_marginal_is_that_of_the_classes(augment: Any) -> None:
    one, again, other = augment(BATCH, noise()), augment(BATCH, noise()), augment(BATCH, noise(1))
    assert torch.equal(one["x"], again["x"]) and torch.equal(one["y"], again["y"]) and not torch.equal(one["y"], other["y"])
    assert one["x"].dtype == torch.float32 and one["y"].shape == (B, C) and bool((one["y"] >= 0).all())
    torch.testing.assert_close(one["y"].sum(1), torch.ones(B))
    assert augment(BATCH.replace(x=X.double()), noise())["x"].dtype == torch.float64
    assert len(one["y"].max(1).values.unique()) > 10  # rows have shares of their own (of 48 pixels: few values)
    counts = torch.stack([augment(BATCH, noise(step))["y"].sum(0) for step in range(200)]).mean(0)
    torch.testing.assert_close(counts, torch.bincount(Y).float(), atol=0.5, rtol=0)


def test_mixup_mixes_inputs_and_targets_of_a_row_by_one_share() -> None:
    # Inputs that are their own labels must come out as their mixed labels.
    eye = torch.eye(C)[Y]
    found = mixup(Batch({"x": eye, "y": Y}), noise(), C, alpha=0.4)
    torch.testing.assert_close(found["x"], found["y"])


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    drawn = _mixing.beta(noise(), "x", alpha, 20000)
    assert bool(((drawn >= 0) & (drawn <= 1)).all()) and abs(float(drawn.mean()) - 0.5) < 0.02
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_cutmix_targets_hold_the_exact_share_of_pixels() -> None:
    # Each row is one colour, its number: whatever pixels differ come from the partner, whose label must have just that share.
    x = torch.arange(B).float().view(B, 1, 1, 1).expand(B, 2, 8, 6).contiguous()
    found = cutmix(Batch({"x": x, "y": torch.arange(B)}), noise(), B, alpha=1.0, p=1.0)
    for row in range(B):
        values, counts = found["x"][row, 0].unique(return_counts=True)
        expected = torch.zeros(B).index_put((values.long(),), counts / 48)
        assert torch.equal(found["x"][row, 0], found["x"][row, 1]) and torch.allclose(found["y"][row], expected, atol=1e-7)
        assert len(values) <= 2
    taken = found["x"][:, 0] != x[:, 0]
    boxes = taken.any(2).sum(1) * taken.any(1).sum(1)
    assert (
        torch.equal(taken.sum((1, 2)), boxes) and 0.2 < float(taken.float().mean()) < 0.5
    )  # rectangles; half the area less what edges cut


def test_cutmix_mixes_about_a_share_p_of_the_rows() -> None:
    kept = cutmix(BATCH, noise(), C, alpha=1.0, p=0.0)
    assert torch.equal(kept["x"], X) and torch.equal(kept["y"], F.one_hot(Y, C).float())
    always_, half = (
        torch.stack([(cutmix(BATCH, noise(i), C, alpha=1.0, p=p)["x"] != X).flatten(1).any(1) for i in range(30)]).float().mean()
        for p in (1.0, 0.5)
    )
    assert float(half) == pytest.approx(0.5 * float(always_), abs=0.05)


def test_numbers_mix_linearly() -> None:
    x = torch.randn(B, 3)
    found = mixup(Batch({"x": x, "y": x @ torch.tensor([1.0, 2.0, 3.0])}), noise(), None, alpha=1.0)
    torch.testing.assert_close(found["y"], found["x"] @ torch.tensor([1.0, 2.0, 3.0]))  # a linear target stays linear
    counts = mixup(Batch({"x": x, "y": torch.arange(B)}), noise(), None, alpha=1.0)["y"]  # whole numbers without classes are numbers
    assert counts.shape == (B,) and counts.is_floating_point()
    assert "y" not in mixup(Batch({"x": x}), noise(), None, alpha=1.0)
    twice = mixup(mixup(BATCH, noise(), C, alpha=1.0), noise(1), C, alpha=1.0)
    torch.testing.assert_close(twice["y"].sum(1), torch.ones(B))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixed_labels_is_the_mixture_of_cross_entropies(smoothing: float) -> None:
    out, other, lam = torch.randn(B, C), Y.roll(7), 0.3
    loss = bound("loss", "cross_entropy", label_smoothing=smoothing)
    mixed = _mixing.mixed_targets(BATCH, torch.arange(B).roll(7), torch.full((B,), lam), C, "mixup")["y"]
    torch.testing.assert_close(loss(out, mixed), lam * loss(out, Y) + (1 - lam) * loss(out, other))


def test_accuracy_of_mixed_labels_is_that_of_the_larger_share() -> None:
    out = torch.randn(B, C)
    mixed = 0.7 * F.one_hot(Y, C) + 0.3 * F.one_hot(Y.roll(1), C)
    assert metric("accuracy")(out, mixed, B).value() == metric("accuracy")(out, Y, B).value()
    logit, sides = torch.randn(B), Y % 2
    near = torch.where(sides == 1, 0.8, 0.3)
    assert metric("accuracy")(logit, near, B).value() == metric("accuracy")(logit, sides, B).value() > 0.2
    assert metric("accuracy")(logit, torch.tensor([-100.0]).expand(B), B).value() != metric("accuracy")(logit, near, B).value()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"x": torch.ones(4, 8, dtype=torch.int64), "y": torch.ones(4, 8, dtype=torch.int64)}, "tokens"),
        ({"x": (X, X), "y": Y}, "x is tuple"),
        ({"x": X, "y": Y[:, None].expand(B, 3)}, "one target a row"),
        ({"x": X, "y": (Y, Y)}, "one target a row"),
        ({"x": X, "y": torch.where(Y == 2, -100, Y)}, "-100"),
        ({"x": X, "y": Y, "mask": X[:, 0]}, "also holds mask"),
        ({"x": X[:1], "y": Y[:1]}, "one row"),
    ],
)
@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_what_cannot_be_mixed_is_refused(batch: dict[str, Any], words: str, augment: Any) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        augment(Batch(batch), noise())
    assert "\n" not in str(caught.value)


def test_val_and_test_are_never_mixed_and_micro_batches_mix_by_themselves() -> None:
    marks = torch.arange(20.0)[:, None].repeat(1, 3)
    data = data_of((marks, torch.arange(20) % 2), (marks, torch.arange(20) % 2), batch_size=8, accumulate=2)
    data.augments = (partial(mixup, classes=2, alpha=1.0),)
    plain = data_of((marks, torch.arange(20) % 2), (marks, torch.arange(20) % 2), batch_size=8, accumulate=2)
    for mixed, own in zip(data.batches(3), plain.batches(3)):
        assert float(own["x"].min()) <= float(mixed["x"].min()) and float(mixed["x"].max()) <= float(own["x"].max())
        torch.testing.assert_close(mixed["y"].sum(0).sum(), torch.tensor(4.0))
    assert all(torch.equal(a["x"], b["x"]) and torch.equal(a["y"], b["y"]) for a, b in zip(data.evaluation("val"), plain.evaluation("val")))
    assert next(data.evaluation("train"))["y"].dtype == torch.int64


def built(*words: str) -> Any:
    return build_run(compose([*runs.QUIET, *words]))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that compares classes as most people write it: wrong, without an error, on mixed labels of as many rows as classes."""
    monkeypatch.setitem(registry.PLUGINS["metric"], "mine", lambda out, y: (out.argmax(-1) == y).float().mean())


def test_metrics_that_do_not_say_they_read_mixed_labels_are_left_out_of_training_rows_aloud(counted: None, tmp_path: Path) -> None:
    words = ("augment.m=mixup", "augment.m.alpha=1.0", "metric.mine=mine", "train.steps=2", "train.log_every=1")
    notes = built(*words).notes
    assert [note for note in notes if "metric mine is not taken of training batches" in note]
    assert not [note for note in built(*words[2:]).notes if "not taken" in note]
    run, summary, code = runs.start(tmp_path, *words)
    row = next(row for row in runs.rows(run) if row["step"] == 1)
    assert code == 0 and "train/mine" not in row and "train/accuracy" in row and "val/mine" in summary["metrics"]


def test_a_binary_task_mixes_its_0_and_1_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 2)
    y = (x[:, 0] > 0).long()
    monkeypatch.setitem(registry.PLUGINS["dataset"], "sides", lambda: Splits((x, y), (x, y)))
    run = built("dataset=sides", "task=supervised", "task.kind=binary", "augment.m=mixup", "augment.m.alpha=1.0", "train.batch_size=16")
    batch = run.data.batches(0)[0]
    assert batch["y"].shape == (16,) and bool(((batch["y"] > 0) & (batch["y"] < 1)).any())
    whole = built("dataset=sides", "task=supervised", "task.kind=classification", "augment.m=mixup", "train.batch_size=16")
    assert whole.data.batches(0)[0]["y"].shape == (16, 2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("augment.a=flip", "dataset=moons"), r"augment.a \(flip\): needs images"),
        (("augment.rotate=rotate", "augment.rotate.degrees=[3,1]"), r"augment.rotate: degrees is \[3, 1\]"),
        (("augment.m=mixup", "train.batch_size=4", "train.accumulate=4"), "one row"),
    ],
)
def test_an_augmentation_that_cannot_work_is_one_line_before_anything_runs(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        built(*words)


def test_augmentations_get_what_they_ask_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def mine(classes: Any, batch: Any, *, by: float) -> Any:
        seen.append(classes)
        return batch.replace(x=batch["x"] * by)

    class twice:
        def __init__(self, classes: Any, *, by: float) -> None:
            self.by = by

        def __call__(self, noise: Noise, batch: Batch) -> Batch:
            assert isinstance(noise, Noise)
            return batch.replace(x=batch["x"] + self.by)

    for part in (mine, twice):
        monkeypatch.setitem(registry.PLUGINS["augment"], part.__name__, part)
    plain = built().data.batches(0)[0]["x"]
    found = built("augment.a=mine", "augment.a.by=2.0", "augment.b=twice", "augment.b.by=1.0").data.batches(0)[0]["x"]
    assert torch.equal(found, plain * 2 + 1) and seen and set(seen) == {10}  # in the order of the config
    other = built("augment.b=twice", "augment.b.by=1.0", "augment.a=mine", "augment.a.by=2.0").data.batches(0)[0]["x"]
    assert torch.equal(other, (plain + 1) * 2)
    monkeypatch.setitem(registry.PLUGINS["augment"], "odd", lambda rows: rows)
    with pytest.raises(UsageError, match="asks for rows: left of"):
        built("augment.o=odd")


def test_two_of_a_kind_draw_differently() -> None:
    data = built("augment.a=noise", "augment.b=noise", "augment.a.std=1.0", "augment.b.std=1.0").data
    head = data.head("train", 8)
    first, second = (data.augmented(head, 0, only=number)["x"] - head["x"] for number in (0, 1))
    assert not torch.allclose(first, second) and float(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.2
    torch.testing.assert_close(data.augmented(head, 0)["x"], head["x"] + first + second)


def test_items_read_by_workers_are_mixed_like_those_read_here() -> None:
    rows = Rows(lambda i: (torch.full((3,), float(i)), i % 2))
    here, there = data_of(rows, rows, batch_size=6), data_of(rows, rows, batch_size=6, workers=1)
    for data in (here, there):
        data.augments = (partial(mixup, classes=2, alpha=1.0),)
    stream = there.stream(0)
    assert all(torch.equal(here.batches(step)[0]["y"], next(stream)[0]["y"]) for step in range(3))
    stream.close()
    there.close()


@pytest.mark.parametrize("name", ["flip", "cutout", "mixup", "cutmix"])
def test_augmentations_stay_on_the_device_of_the_batch(name: str) -> None:
    """On a pretended GPU, where torch refuses to mix devices; indexing and resampling need a real one."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    given = {"classes": C} if name in ALL else {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(X.shape, device="cuda", dtype=torch.float16)
        found = bound("augment", name)(Batch({"x": x}), noise(), **given)["x"]
    assert found.device.type == "cuda" and found.shape == X.shape and found.dtype == torch.float16


@pytest.mark.parametrize("loss", ["focal", "hinge"])
def test_a_loss_that_would_read_shares_as_labels_is_refused(loss: str) -> None:
    words = ["log.wandb.mode=disabled", f"loss={loss}", "task=supervised", "task.kind=classification"]
    build_run(compose(words))
    with pytest.raises(UsageError, match=f"loss {loss} would read as labels: say loss=cross_entropy"):
        build_run(compose([*words, "augment.mixup=mixup"]))
