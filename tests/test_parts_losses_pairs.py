"""Losses that compare the rows of a batch with each other: NT-Xent, alignment and uniformity, triplets, written out row by row."""

from __future__ import annotations

import itertools
from math import exp, log

import pytest
import runs
import torch
import torch.nn.functional as F
from parts import bound
from test_parts_losses import B, D, classes, draw
from torch import Tensor

from dlrun import registry
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.functional.criteria import couples_rows, units
from dlrun.train import build_run

# two views


def pairs(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent of stacked z, row by row as in the paper."""
    z, n = z / z.norm(dim=1, keepdim=True), len(z)
    rows = []
    for i in range(n):
        j = (i + n // 2) % n
        others = torch.stack([z[i] @ z[k] / temperature for k in range(n) if k != i])
        rows.append(others.logsumexp(0) - z[i] @ z[j] / temperature)
    return torch.stack(rows).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_is_nt_xent(temperature: float) -> None:
    z = draw(13, 2 * B, D)
    loss = bound("loss", "info_nce", temperature=temperature)
    expected = pairs(z, temperature)
    torch.testing.assert_close(loss(z, None), expected)
    torch.testing.assert_close(loss((z[:B], z[B:]), torch.arange(B)), expected)
    alternating = torch.stack((z[:B], z[B:]), 1).flatten(0, 1)
    torch.testing.assert_close(bound("loss", "info_nce", temperature=temperature, views="alternating")(alternating, None), expected)
    torch.testing.assert_close(loss(z * draw(14, 2 * B, 1).abs(), None), expected)  # lengths say nothing
    floor = log(1 + (2 * B - 2) * exp(-2 / temperature))
    assert floor < expected.item()


def test_info_nce_across_views_is_the_symmetric_cross_entropy() -> None:
    a, b = F.normalize(draw(15, B, D)), F.normalize(draw(16, B, D))
    rows = torch.stack([(a[i] @ b.T / 0.1).logsumexp(0) + (b[i] @ a.T / 0.1).logsumexp(0) - 2 * a[i] @ b[i] / 0.1 for i in range(B)]) / 2
    torch.testing.assert_close(bound("loss", "info_nce", temperature=0.1, negatives="across")((a, b), None), rows.mean())


def test_one_point_costs_as_much_as_guessing() -> None:
    z = torch.ones(2 * B, D)
    assert bound("loss", "info_nce")(z, None).item() == pytest.approx(log(2 * B - 1), rel=1e-6)
    assert bound("loss", "info_nce", negatives="across")(z, None).item() == pytest.approx(log(B), rel=1e-6)
    assert bound("loss", "align_uniform")(z, None).item() == pytest.approx(0, abs=1e-6)


def test_alignment_and_uniformity_are_the_papers() -> None:
    x, y = F.normalize(draw(17, B, D)), F.normalize(draw(18, B, D))
    align = (x - y).norm(dim=1).pow(3).mean()
    uniform = (torch.pdist(x).pow(2).mul(-1.5).exp().mean().log() + torch.pdist(y).pow(2).mul(-1.5).exp().mean().log()) / 2
    loss = bound("loss", "align_uniform", alpha=3.0, t=1.5, alignment=0.7, uniformity=2.0)
    torch.testing.assert_close(loss((x, y), None), 0.7 * align + 2 * uniform)


@pytest.mark.parametrize("name", ["info_nce", "align_uniform"])
def test_one_view_of_each_row_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="one view of each: say task=contrastive"):
        bound("loss", name)(torch.randn(8, 3), torch.arange(8) % 3)
    assert bound("loss", name)(torch.randn(8, 3), torch.arange(8) % 4).isfinite()  # labels say that these are views
    for wrong in (torch.randn(7, 3), torch.randn(8), (torch.randn(4, 3), torch.randn(3, 3)), {}):
        with pytest.raises(ValueError, match=f"{name} takes embeddings of two views"):
            bound("loss", name)(wrong, None)


def test_bfloat16_embeddings_are_compared_in_float32() -> None:
    z = draw(19, 2 * B, D).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = bound("loss", "info_nce", temperature=0.05)(z, None)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), pairs(z.double(), 0.05), rtol=1e-4, atol=1e-4)


# triplets


def mined(z: Tensor, y: list[int], margin: float, mining: str) -> list[Tensor]:
    """Each mined triplet's loss, found by looking at them all."""

    def apart(i: int, j: int) -> Tensor:
        return (z[i] - z[j]).square().sum()

    found, rows = [], range(len(y))
    for a in rows:
        positives, negatives = [p for p in rows if p != a and y[p] == y[a]], [n for n in rows if y[n] != y[a]]
        if not positives or not negatives:
            continue
        if mining == "hard":
            chosen = [(max(apart(a, p) for p in positives), min(apart(a, n) for n in negatives))]
        elif mining == "all":
            chosen = [(apart(a, p), apart(a, n)) for p, n in itertools.product(positives, negatives)]
        else:
            beyond = {p: [apart(a, n) for n in negatives if apart(a, n) > apart(a, p)] for p in positives}
            chosen = [(apart(a, p), min(beyond[p]) if beyond[p] else max(apart(a, n) for n in negatives)) for p in positives]
        found += [(positive - negative + margin).clamp(min=0) for positive, negative in chosen]
    return found


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_triplets_are_those_found_by_looking_at_all(seed: int, mining: str) -> None:
    z, y = F.normalize(draw(seed, 14, 3)), classes(seed, 14)
    y[0] = 99  # alone in its class: an anchor without a positive
    loss = bound("loss", "triplet", mining=mining, margin=0.4)
    expected = mined(z, y.tolist(), 0.4, mining)
    torch.testing.assert_close(loss(3 * z, y), torch.stack(expected).mean())
    assert units(loss, y) == len(expected)
    root = bound("loss", "triplet", mining=mining, margin=0.4, distance="euclidean", normalize=False)
    assert root(z, y).isfinite() and root(z, y) != loss(z, y)
    masked = torch.where(y == 1, -100, y)
    kept = masked >= 0
    torch.testing.assert_close(loss(z, masked), loss(z[kept], y[kept]))


def test_a_negative_as_far_as_the_positive_does_not_lie_beyond_it() -> None:
    z, y = (2 * draw(3, 14, 2)).round(), classes(3, 14)  # whole numbers: many distances are equal
    loss = bound("loss", "triplet", margin=1.5, normalize=False)
    torch.testing.assert_close(loss(z, y), torch.stack(mined(z, y.tolist(), 1.5, "semi_hard")).mean())


def test_views_without_labels_are_classes_of_their_own() -> None:
    z = draw(20, 2 * B, D)
    loss = bound("loss", "triplet")
    torch.testing.assert_close(loss((z[:B], z[B:]), None), loss(z, torch.arange(B).repeat(2)))
    with pytest.raises(ValueError, match="triplet takes embeddings"):
        loss(z, None)


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
def test_a_batch_without_triplets_costs_nothing_and_one_point_has_finite_gradients(mining: str) -> None:
    for y in (torch.zeros(6).long(), torch.arange(6)):
        z = draw(21, 6, 3).requires_grad_()
        loss = bound("loss", "triplet", mining=mining)(z, y)
        loss.backward()
        assert loss.item() == 0 and z.grad is not None and not z.grad.any()
    point = torch.ones(6, 3, requires_grad=True)
    loss = bound("loss", "triplet", mining=mining, distance="euclidean", normalize=False)(point, torch.arange(6) % 2)
    loss.backward()
    assert loss.item() == pytest.approx(0.2) and point.grad is not None and point.grad.isfinite().all()


# what couples the rows of a batch


def test_losses_over_the_whole_batch_refuse_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    coupled = {name for name in registry.builtin_names("loss") if couples_rows(registry.get("loss", name))}
    assert coupled == {"info_nce", "align_uniform", "triplet"}
    common = [*runs.QUIET, "task=supervised", "train.accumulate=2"]
    with pytest.raises(UsageError, match="loss triplet couples the rows of a batch"):
        build_run(compose([*common, "loss=triplet"]))
    monkeypatch.setitem(registry.PLUGINS["loss"], "mine", None)

    @registry.register.loss(couples_rows=True, kind="contrastive")
    def mine(out: Tensor, y: Tensor) -> Tensor:
        return out.std(0).mean()

    with pytest.raises(UsageError, match="loss mine couples the rows of a batch"):
        build_run(compose([*common, "loss=mine"]))
    run = build_run(compose([*runs.QUIET, "task=supervised", "loss=mine"]))
    assert run.task.couples_rows and run.task.kind == "contrastive" and not run.task.metrics  # type: ignore[attr-defined]


def test_a_loss_of_another_kind_is_no_classifiers() -> None:
    for name in ("triplet", "mse", "bce"):
        with pytest.raises(UsageError, match="say task=supervised"):
            build_run(compose([*runs.QUIET, f"loss={name}"]))
