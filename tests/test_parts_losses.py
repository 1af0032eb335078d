"""Losses beside the first ones: equal to torch's, torchvision's, scikit-learn's or the formula written out."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import sklearn.metrics as sk
import torch
import torch.nn.functional as F
from parts import bound
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from dlrun import DataSpec, Splits, registry
from dlrun.config import compose
from dlrun.functional.criteria import reference, units
from dlrun.train import build_run
from dlrun.vision import torchvision

B, C, D = 17, 5, 6


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(seed: int, *shape: int, least: int = 0) -> Tensor:
    return torch.randint(least, C, shape, generator=torch.Generator().manual_seed(seed))


# weights


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_class_weights_are_torchs(seed: int, smoothing: float) -> None:
    out, y, weight = draw(seed, B, C), classes(seed, B), [0.5, 2.0, 0.0, 1.0, 3.5]
    y[::4] = -100
    loss = bound("loss", "cross_entropy", weight=weight, label_smoothing=smoothing)
    expected = F.cross_entropy(out, y, torch.tensor(weight, dtype=torch.float64), label_smoothing=smoothing)
    assert torch.equal(loss(out, y), expected)
    sequence = loss(out[: B - 1].view(4, 4, C), y[: B - 1].view(4, 4))
    torch.testing.assert_close(sequence, loss(out[: B - 1], y[: B - 1]))
    assert units(loss, y) == torch.tensor(weight).double()[y[y >= 0]].sum()
    assert units(bound("loss", "cross_entropy"), y) == (y >= 0).sum()


def test_balanced_weights_are_scikit_learns() -> None:
    out, y = draw(0, B, C), torch.arange(B) % C
    counts = (60, 20, 10, 7, 3)
    rows = np.repeat(np.arange(C), counts)
    weights = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(C), y=rows))
    loss = bound("loss", "cross_entropy", weight="balanced")
    torch.testing.assert_close(loss(out, y, class_counts=counts), F.cross_entropy(out, y, weights))
    with pytest.raises(ValueError, match="class 1 does not occur in train"):
        loss(out, y, class_counts=(3, 0, 1, 1, 1))
    with pytest.raises(ValueError, match="give a list, one weight a class"):
        loss(out, y)
    with pytest.raises(ValueError, match=r"weight has 2 numbers, the outputs \[17, 5\] have 5 classes"):
        bound("loss", "cross_entropy", weight=[1.0, 2.0])(out, y)


def test_a_run_counts_the_classes_of_train() -> None:
    run = build_run(compose([*runs.QUIET, "loss.weight=balanced"]))
    counts = run.task.criterion.keywords["class_counts"]
    assert sum(counts) == 1197 and len(counts) == 10 and list(counts) == torch.bincount(run.data.targets("train")).tolist()  # type: ignore[arg-type]


def test_a_batch_without_a_counted_target_adds_nothing() -> None:
    for changed in ({}, {"label_smoothing": 0.1}, {"weight": [1.0] * C}):
        out = draw(1, 4, C).requires_grad_()
        loss = bound("loss", "cross_entropy", **changed)(out, torch.full((4,), -100))
        loss.backward()
        assert loss.item() == 0 and out.grad is not None and not out.grad.any()


def test_masked_and_weighted_rows_accumulate_to_the_full_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-batches hold unequal weights of counted rows: a mean of their means would be another loss."""
    x, y = draw(2, 64, D).float(), classes(2, 64)
    y[torch.arange(64) % 16 < 9] = -100
    spec = DataSpec((D,), (C,), "classification", C)
    monkeypatch.setitem(registry.PLUGINS["dataset"], "partly", lambda: Splits((x, y), (x[:40], y[:40]), spec=spec))
    common = (
        "dataset=partly",
        "model=linear",
        "loss.weight=[1,4,2,1,0.5]",
        "optimizer=sgd",
        "train.batch_size=64",
        "train.steps=3",
        "seed=3",
    )
    found = []
    for parts in (1, 4):
        run, summary, code = runs.start(tmp_path / str(parts), *common, f"train.accumulate={parts}", "train.clip_norm=null")
        assert code == 0
        found.append((summary["metrics"]["val/loss"], runs.rows(run)[-1]["train/loss"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    weight = torch.tensor([1, 4, 2, 1, 0.5])
    made = build_run(compose([*runs.QUIET, *common]))
    with torch.no_grad():
        out = made.modules["model"](x[:40])
        parts = [dict(made.task.evaluate(made.nets, batch))["loss"] for batch in made.data.evaluation("val", 7)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total.value() == pytest.approx(F.cross_entropy(out, y[:40], weight).item(), rel=1e-6)


# one logit a target


@pytest.mark.parametrize("pos_weight", [3.0, [1.0, 2.0, 0.5, 4.0, 1.5]])
def test_weights_of_the_ones_are_torchs(pos_weight: Any) -> None:
    out, y = draw(3, B, C), (draw(4, B, C) > 0).double()
    expected = F.binary_cross_entropy_with_logits(out, y, pos_weight=torch.tensor(pos_weight, dtype=torch.float64))
    assert torch.equal(bound("loss", "bce", pos_weight=pos_weight)(out, y), expected)
    with pytest.raises(ValueError, match=r"pos_weight has 2 numbers, a row of outputs has shape \[5\]"):
        bound("loss", "bce", pos_weight=[1.0, 2.0])(out, y)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_binary_focal_loss_is_torchvisions(gamma: float, alpha: float | None) -> None:
    torchvision()
    from torchvision.ops import sigmoid_focal_loss

    out, y = 3 * draw(5, B, 3), (draw(6, B, 3) > 0).double()
    expected = sigmoid_focal_loss(out, y, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(bound("loss", "focal", gamma=gamma, alpha=alpha)(out, y), expected)


@pytest.mark.parametrize("alpha", [None, [0.1, 1.0, 2.0, 0.5, 1.5]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_classes_is_its_formula(gamma: float, alpha: Any) -> None:
    out, y = 3 * draw(7, B, C), classes(7, B)
    y[3] = -100
    p = out.softmax(1)
    weights = alpha or [1.0] * C
    rows = [-weights[t] * (1 - p[i, t]) ** gamma * p[i, t].log() for i, t in enumerate(y.tolist()) if t >= 0]
    loss = bound("loss", "focal", gamma=gamma, alpha=alpha)
    torch.testing.assert_close(loss(out, y), torch.stack(rows).mean())
    torch.testing.assert_close(loss(out[1:].view(4, 4, C), y[1:].view(4, 4)), loss(out[1:], y[1:]))


def test_two_logits_and_one_have_the_same_focal_loss() -> None:
    z, y = 4 * draw(8, B), torch.arange(B) % 2
    two = torch.stack((torch.zeros_like(z), z), 1)
    torch.testing.assert_close(bound("loss", "focal")(two, y), bound("loss", "focal")(z, y.double()))


@pytest.mark.parametrize("name", ["focal", "hinge"])
def test_far_logits_have_finite_gradients(name: str) -> None:
    for out, y in ((torch.tensor([[90.0, -90], [-90, 90]]), torch.tensor([0, 0])), (torch.tensor([99.0, -99]), torch.tensor([1.0, 1]))):
        leaf = out.clone().requires_grad_()
        loss = bound("loss", name)(leaf, y)
        loss.backward()
        assert loss.isfinite() and leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", ["focal", "hinge"])
def test_losses_of_both_forms_refuse_what_fits_neither(name: str) -> None:
    for out, y in ((torch.zeros(4, 1), torch.zeros(3)), (torch.zeros(4), torch.zeros(3)), ((torch.zeros(2),), torch.zeros(2))):
        with pytest.raises(ValueError, match=rf"^{name}: .* found"):
            bound("loss", name)(out, y)
    with pytest.raises(ValueError, match="alpha is a list of 2 for 0/1 targets"):
        bound("loss", "focal", alpha=[1.0, 2.0])(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match="alpha is a list of 5 weights or null"):
        bound("loss", "focal", alpha=0.25)(torch.zeros(4, 5), torch.zeros(4).long())


@pytest.mark.parametrize(("name", "changed"), [("cross_entropy", {"weight": [1.0] * C}), ("focal", {}), ("focal", {"gamma": 0.7})])
def test_first_losses_are_what_zero_logits_cost(name: str, changed: dict[str, Any]) -> None:
    loss = bound("loss", name, **changed)
    cost = loss(torch.zeros(B, C, dtype=torch.float64), classes(0, B)).item()
    assert reference(loss, "initial", DataSpec(kind="classification", classes=C)) == pytest.approx(cost)


def test_first_losses_with_weights_are_not_made_up() -> None:
    spec = DataSpec(kind="binary", classes=2)
    assert reference(bound("loss", "focal"), "initial", spec) == pytest.approx(log(2) / 4)
    assert reference(bound("loss", "focal", alpha=0.25), "initial", spec) is None
    assert reference(bound("loss", "bce", pos_weight=2.0), "initial", spec) is None
    smoothed = bound("loss", "cross_entropy", weight=[1.0, 2.0], label_smoothing=0.1)
    assert reference(smoothed, "initial", spec) is None and reference(smoothed, "floor", spec) is None


@pytest.mark.parametrize("seed", range(5))
def test_hinge_loss_is_scikit_learns(seed: int) -> None:
    out, y = draw(seed, 40, C), torch.cat((torch.arange(C), classes(seed, 35)))
    assert bound("loss", "hinge")(out, y).item() == pytest.approx(sk.hinge_loss(y, out.numpy(), labels=range(C)))
    assert bound("loss", "hinge")(out[:, 0], y % 2).item() == pytest.approx(sk.hinge_loss(2 * (y % 2) - 1, out[:, 0].numpy()))
    z = out[:, 0].clamp(-1, 1)  # no margin is exceeded, so that the square is that of each row
    assert bound("loss", "hinge", squared=True)(z, torch.ones(40)).item() == pytest.approx((1 - z).square().mean().item())
    assert bound("loss", "hinge", margin=0.3)(torch.full((3,), 0.3), torch.ones(3)).item() == pytest.approx(0, abs=1e-7)


def test_regression_losses_are_torchs() -> None:
    out, y = draw(9, B, 3), draw(10, B, 3)
    assert torch.equal(bound("loss", "l1")(out, y), F.l1_loss(out, y))
    assert torch.equal(bound("loss", "huber", delta=0.4)(out, y), F.huber_loss(out, y, delta=0.4))
    torch.testing.assert_close(bound("loss", "huber", delta=1e6)(out, y), F.mse_loss(out, y) / 2)


def test_divergence_is_cross_entropy_less_entropy_and_zero_for_a_fit() -> None:
    out, p = draw(11, B, C), draw(12, B, C).softmax(1)
    p[0] = F.one_hot(torch.tensor(2), C).double()
    entropy = -torch.special.xlogy(p, p).sum(1).mean()
    torch.testing.assert_close(bound("loss", "kl")(out, p), F.cross_entropy(out, p) - entropy)
    torch.testing.assert_close(bound("loss", "kl")(out.view(1, B, C), p.view(1, B, C)), bound("loss", "kl")(out, p))
    assert bound("loss", "kl")(p.clamp(min=1e-300).log(), p).abs().item() < 1e-12
    with pytest.raises(ValueError, match="say loss=cross_entropy"):
        bound("loss", "kl")(out, classes(0, B))
