"""Tasks: finite losses, references that are known, the parts of a loss as parts, kinds as inferred."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parts import CLASSES, NUMBERS, POINTS, RING, TOKENS, B, batch_for, bound, built, networks, rows, task
from torch import Tensor, nn

from dlrun import registry
from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.task import LossTask
from dlrun.types import DataSpec, Networks

CASES: list[tuple[str, DataSpec, dict[str, Any]]] = [
    ("classification", CLASSES, {}),
    ("supervised", CLASSES, {}),
    ("supervised", POINTS, {}),
    ("supervised", NUMBERS, {}),
    ("supervised", TOKENS, {}),
    ("language_model", TOKENS, {}),
    ("gan", RING, {}),
    ("gan", RING, {"critic_steps": 3, "r1": 1.0}),
    ("gan", CLASSES, {}),
    ("autoencoder", CLASSES, {}),
    ("autoencoder", RING, {"latent": 2}),
    ("vae", CLASSES, {"latent": 4}),
    ("diffusion", RING, {"timesteps": 5}),
    ("diffusion", CLASSES, {"schedule": "linear"}),
    ("vae", RING, {"reduction": "mean", "weight": 50.0}),
]
IDS = [f"{name}-{spec.kind}-{len(changed)}" for name, spec, changed in CASES]


def test_every_task_is_tried() -> None:
    apart = {"contrastive", "maml", "adversarial", "distillation", "least_squares"}  # test_parts_contrastive.py, test_parts_maml.py ...
    apart |= {"learned_loss_gan", "imitation"}
    assert {name for name, *_ in CASES} | apart == set(registry.builtin_names("task"))


@pytest.mark.parametrize(("name", "spec", "changed"), CASES, ids=IDS)
def test_losses_are_finite_and_every_network_learns(name: str, spec: DataSpec, changed: dict[str, Any]) -> None:
    made, nets, batch = built(name, spec, changed)
    updated = set()
    for objective in made.objectives(nets, batch):
        named = [p for net in objective.update for p in nets[net].parameters()]
        gradients = torch.autograd.grad(objective.loss, named)
        assert objective.loss.shape == () and objective.loss.isfinite() and float(objective.count) > 0
        assert all(gradient.isfinite().all() for gradient in gradients) and any(gradient.any() for gradient in gradients)
        assert all(term.shape == () and term.isfinite() for term in objective.terms.values())
        updated.update(objective.update)
    assert updated == set(nets)


@pytest.mark.parametrize(("name", "spec", "changed"), CASES, ids=IDS)
def test_evaluation_is_exact_over_unequal_batches(name: str, spec: DataSpec, changed: dict[str, Any]) -> None:
    made, nets, batch = built(name, spec, changed, n=60)
    with torch.no_grad():
        whole = made.evaluate(nets, batch)
        cut = [made.evaluate(nets, batch[a:b]) for a, b in ((0, 7), (7, 8), (8, 60))]
    for key, value in whole.items():
        if key == "energy_distance":  # of samples that a diffusion draws anew
            continue
        total = cut[0][key] + cut[1][key] + cut[2][key]
        assert total.value() == pytest.approx(value.value(), rel=1e-5, abs=1e-6, nan_ok=True), key
    assert set(made.default_metrics(spec)) <= set(whole)


@pytest.mark.parametrize(("name", "spec", "changed"), CASES, ids=IDS)
def test_microbatches_weighed_by_count_give_the_gradient_of_the_whole(name: str, spec: DataSpec, changed: dict[str, Any]) -> None:
    """In float64, also for masked tokens; the players of a game are compared one by one."""
    made, nets, batch = built(name, spec, changed)
    for net in nets.values():
        net.module.double()
    batch = batch.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    if spec.vocab:
        y = batch["y"].clone()
        y[:11] = -100  # the first micro-batch counts next to nothing
        batch = batch.replace(y=y)
    pieces = [batch[:12], batch[12:17], batch[17:]]
    for whole, *parts in zip(made.objectives(nets, batch), *(made.objectives(nets, piece) for piece in pieces), strict=True):
        named = [p for net in whole.update for p in nets[net].parameters()]
        total = sum(float(part.count) for part in parts)
        assert total == float(whole.count)
        summed = sum(part.loss * (float(part.count) / total) for part in parts)
        for one, many in zip(torch.autograd.grad(whole.loss, named), torch.autograd.grad(summed, named), strict=True):
            torch.testing.assert_close(one, many, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "spec", "changed"), CASES, ids=IDS)
def test_preparing_is_a_function_of_the_noise_key_alone(name: str, spec: DataSpec, changed: dict[str, Any]) -> None:
    made = task(name, spec, **changed)
    torch.manual_seed(1)
    one = made.prepare(batch_for(spec), Noise(0, 5))
    torch.manual_seed(2)
    two, other = made.prepare(batch_for(spec), Noise(0, 5)), made.prepare(batch_for(spec), Noise(0, 6))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert len(one) == B
    assert name != "gan" or not torch.equal(one["z"], other["z"])


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("classification", CLASSES, math.log(10)),
        ("supervised", CLASSES, math.log(10)),
        ("supervised", POINTS, math.log(2)),
        ("supervised", TOKENS, math.log(11)),
        ("language_model", TOKENS, math.log(11)),
    ],
)
def test_the_first_loss_is_the_expected_one(name: str, spec: DataSpec, expected: float) -> None:
    made, nets, batch = built(name, spec, {})
    assert made.expected_initial_loss(spec) == pytest.approx(expected)
    assert made.loss_floor(spec) == 0
    assert next(made.objectives(nets, batch)).loss.item() == pytest.approx(expected, abs=0.1)


def test_a_loss_of_the_users_own_has_no_reference() -> None:
    for name in ("classification", "supervised", "language_model"):
        made = task(name, TOKENS if name == "language_model" else CLASSES, loss=lambda out, y: out.sum())
        assert made.expected_initial_loss(CLASSES) is None and made.loss_floor(CLASSES) is None


def test_smoothing_raises_the_floor_and_not_the_start() -> None:
    made = task("classification", CLASSES, loss=bound("loss", "cross_entropy", label_smoothing=0.1))
    assert made.expected_initial_loss(CLASSES) == pytest.approx(math.log(10))
    assert made.loss_floor(CLASSES) == pytest.approx(-(0.91 * math.log(0.91) + 9 * 0.01 * math.log(0.01)))


@pytest.mark.parametrize(("name", "spec", "changed"), [case for case in CASES if case[0] != "gan"])
def test_outputs_loss_and_objective_agree(name: str, spec: DataSpec, changed: dict[str, Any]) -> None:
    """Checks take a LossTask to pieces: what they see must be what is trained."""
    made, nets, batch = built(name, spec, changed)
    assert isinstance(made, LossTask)
    objective = next(made.objectives(nets, batch))
    loss = made.loss(made.outputs(nets, batch), batch)
    assert torch.equal(loss[0] if isinstance(loss, tuple) else loss, objective.loss)
    with torch.no_grad():
        assert made.evaluate(nets, batch)["loss"].value() == pytest.approx(objective.loss.item(), rel=1e-6)
        measured = made.measure(objective.outputs, batch)
    of_batches = {name for name in made.default_metrics(spec) if not made.metrics[name].whole}
    assert set(measured) <= of_batches and bool(measured) == bool(of_batches)


# language model


def test_tokens_are_counted_and_masks_honoured() -> None:
    made = task("language_model", TOKENS)
    batch = batch_for(TOKENS)
    assert float(made.count(batch)) == B * 5
    mask = torch.zeros(B, 6, dtype=torch.bool)
    mask[:, :2] = True
    prepared = made.prepare(batch.replace(mask=mask), Noise(0))
    assert float(made.count(prepared)) == B * 2
    out = torch.randn(B, 6, 11)
    kept = F.cross_entropy(out[:, :2].reshape(-1, 11), batch["y"][:, :2].reshape(-1))
    assert made.loss(out, prepared).item() == pytest.approx(kept.item(), rel=1e-6)
    assert made.networks(TOKENS)["model"] == ((6,), (6, 11))
    with pytest.raises(UsageError, match="reads tokens x and next tokens y"):
        made.prepare(Batch({"tokens": batch["x"]}), Noise(0))
    with pytest.raises(UsageError, match="needs tokens and a vocabulary; found kind classification"):
        made.networks(CLASSES)


# supervised


def supervised(spec: DataSpec, loss: Any = "default", kind: str | None = None) -> Any:
    return task("supervised", spec, loss=loss, kind=kind)


@pytest.mark.parametrize(
    ("spec", "loss", "kind", "out_shape"),
    [
        (CLASSES, "default", "classification", (10,)),
        (POINTS, "default", "binary", ()),
        (NUMBERS, "default", "regression", ()),
        (TOKENS, "default", "language_model", (6, 11)),
        (CLASSES, nn.MSELoss(), "regression", ()),
        (DataSpec((2,), (2,), "classification", 2), nn.BCEWithLogitsLoss(), "binary", ()),
        (POINTS, nn.CrossEntropyLoss(), "classification", (2,)),
        (TOKENS, nn.CrossEntropyLoss(), "language_model", (6, 11)),
        (DataSpec((2,), (3,), "graph", 3), nn.CrossEntropyLoss(), "graph", (3,)),
        (DataSpec((2,), (2,), "vae"), nn.MSELoss(), "vae", (2,)),
        (DataSpec((2,), (3,), classes=3), "default", "classification", (3,)),
        (DataSpec((2,), (2,)), nn.HuberLoss(), "regression", (2,)),
        (DataSpec((2,), (2,)), lambda out, y: out.sum(), "other", (2,)),
        (CLASSES, lambda out, y: out.sum(), "classification", (10,)),
    ],
)
def test_the_kind_is_inferred_from_data_and_loss(spec: DataSpec, loss: Any, kind: str, out_shape: tuple[int, ...]) -> None:
    made = supervised(spec, loss)
    assert (made.kind, made.kind_inferred, made.networks(spec)["model"].out_shape) == (kind, True, out_shape)
    metrics = {"classification": "accuracy", "binary": "accuracy", "regression": "mae", "language_model": "accuracy", "graph": "accuracy"}
    assert made.default_metrics(spec)[:1] == ((metrics[kind],) if kind in metrics else ())


def test_a_kind_that_is_said_is_taken() -> None:
    made = supervised(CLASSES, lambda out, y: out.sum(), kind="contrastive")
    assert made.kind == "contrastive" and not made.kind_inferred
    assert supervised(NUMBERS, kind="binary").default_loss(NUMBERS) == "bce"
    assert registry.get("task", "supervised")(kind="vae", scores=None).kind == "vae"


def test_a_kind_without_a_usual_loss_asks_for_one() -> None:
    with pytest.raises(UsageError, match="of kind vae has no usual loss: say loss=NAME") as caught:
        supervised(DataSpec((2,), (2,), "vae"))
    assert "\n" not in str(caught.value)


class Twofold(nn.Module):
    """Takes a tuple or a dict, gives a tuple: what a user's own network may do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        first, second = x.values() if isinstance(x, Mapping) else x
        return self.layer(first), self.layer(second)


@pytest.mark.parametrize("form", [tuple, dict])
def test_inputs_and_outputs_pass_as_they_are(form: type) -> None:
    x = (torch.randn(B, 3), torch.randn(B, 3))
    batch = Batch({"x": {"a": x[0], "b": x[1]} if form is dict else x})
    seen: list[Any] = []

    def loss(out: tuple[Tensor, Tensor], y: None) -> Tensor:
        seen.append((out, y))
        return (out[0] - out[1]).square().mean()

    made, nets = supervised(DataSpec((3,), (3,), "contrastive"), loss), Networks({"model": Twofold()})
    objective = next(made.objectives(nets, batch))
    assert objective.count == B and objective.loss.isfinite()
    assert isinstance(seen[0][0], tuple) and seen[0][1] is None
    assert torch.equal(made.logits(objective.outputs), objective.outputs[0])


def test_a_loss_may_give_terms() -> None:
    made = supervised(NUMBERS, lambda out, y: (out.mean(), {"kl": out.std()}), kind="vae")
    objective = next(made.objectives(networks(made, NUMBERS), batch_for(NUMBERS)))
    assert set(objective.terms) == {"kl"}
    assert set(made.evaluate(networks(made, NUMBERS), batch_for(NUMBERS))) == {"loss", "kl"}


def test_rows_without_x_are_named() -> None:
    made = supervised(NUMBERS)
    with pytest.raises(UsageError, match="this dataset gives image, label: name them x and y"):
        made.outputs(networks(made, NUMBERS), Batch({"image": torch.zeros(2, 3), "label": torch.zeros(2)}))


STEPS = DataSpec(in_shape=(6,), out_shape=(2,), kind="classification", classes=2, vocab=11)


@pytest.mark.parametrize("name", ["supervised", "classification"])
@pytest.mark.parametrize("network", ["lstm", "gru", "rnn", "transformer"])
def test_a_mask_beside_x_reaches_a_network_that_takes_it(name: str, network: str) -> None:
    made = task(name, STEPS)
    nets = networks(made, STEPS, model=network)
    x, real = torch.randint(0, 11, (B, 6)), torch.arange(6) < torch.randint(2, 7, (B, 1))
    y = torch.randint(0, 2, (B,))
    padded = torch.where(real, x, torch.randint(0, 11, (B, 6)))
    given: list[dict[str, Any]] = [{"x": x, "mask": real}, {"x": padded, "mask": real}, {"x": (x, real)}, {"x": x}]
    with torch.no_grad():
        beside, other, paired, unmasked = [made.evaluate(nets, Batch({**found, "y": y}))["loss"].value() for found in given]
    assert beside == other == paired != unmasked  # what stands in the padding changes no number


@pytest.mark.parametrize("name", ["supervised", "classification"])
def test_a_mask_that_nobody_reads_is_refused(name: str) -> None:
    made = task(name, CLASSES)
    nets = networks(made, CLASSES)
    batch = Batch({"x": rows((1, 8, 8)), "y": torch.randint(0, 10, (32,)), "mask": torch.ones(32, 8, dtype=torch.bool)})
    with pytest.raises(UsageError, match=r"or which steps of x there are \(this network takes none.*found \[32, 8\] bool"):
        made.evaluate(nets, batch)
    with pytest.raises(UsageError, match="takes mask, bool"):
        made.evaluate(nets, batch.replace(mask=torch.ones(32)))


def test_classification_counts_every_row() -> None:
    made = task("classification", CLASSES)
    batch = Batch({"x": rows((1, 8, 8)), "y": torch.randint(0, 10, (32,)), "mask": torch.arange(32) < 9})
    with pytest.raises(UsageError, match="say task=supervised, which reads mask"):
        made.evaluate(networks(made, CLASSES), batch)
