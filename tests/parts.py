"""What the tests of parts share: a part built from its YAML's defaults, and data that fits."""

from __future__ import annotations

import functools
from typing import Any

import torch
from architecture_rules import ROOT
from part_rules import NOT_OPTIONS, options_of
from torch import Tensor, nn

from dlrun import registry
from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.types import DataSpec, Metric, Networks


def options(group: str, name: str, **changed: Any) -> dict[str, Any]:
    """The defaults of a part's YAML with some options set anew; naming one that does not exist is an error of the test."""
    values = {key: value for key, value in options_of(ROOT / "conf" / group / f"{name}.yaml").items() if key not in NOT_OPTIONS}
    assert changed.keys() <= values.keys(), f"{group}/{name} has no {changed.keys() - values.keys()}"
    return values | changed


def bound(group: str, name: str, **changed: Any) -> Any:
    """A part that is called later, with its options bound as the builder binds them."""
    return functools.partial(registry.get(group, name), **options(group, name, **changed))


def model(name: str, in_shape: tuple[int, ...], out_shape: tuple[int, ...], vocab: int | None = None, **changed: Any) -> nn.Module:
    """A network, built as the builder builds it from a fixed seed."""
    torch.manual_seed(0)
    supplied = {"in_shape": in_shape, "out_shape": out_shape, "classes": None, "vocab": vocab}
    built = registry.wire(f"model {name}", registry.get("model", name), supplied, options("model", name, **changed))
    assert isinstance(built, nn.Module)
    return built


def metric(name: str, **changed: Any) -> Metric:
    """A metric ready for use."""
    part = registry.get("metric", name)
    return Metric(name, bound("metric", name, **changed), part.best, getattr(part, "whole", False))


def task(name: str, spec: DataSpec, loss: Any = "default", **changed: Any) -> Any:
    """A task, bound to its default loss and metrics (or to `loss`)."""
    made = registry.get("task", name)(**options("task", name, **changed))
    if loss == "default":
        loss = made.default_loss(spec) and bound("loss", made.default_loss(spec))
    made.bind(spec, loss, {key: metric(key) for key in made.default_metrics(spec)})
    return made


def networks(made: Any, spec: DataSpec, **models: str) -> Networks:
    """Small networks for a task: an mlp each, or the model named."""
    modules = {}
    for key, shape in made.networks(spec).items():
        name = models.get(key, "mlp")
        small = {"width": 16, "depth": 1} | ({"heads": 2} if name == "transformer" else {})
        modules[key] = model(name, shape.in_shape, shape.out_shape, spec.vocab, **small)
    return Networks(modules)


def rows(in_shape: tuple[int, ...], vocab: int | None = None, n: int = 32) -> Tensor:
    """Standard normal rows, or tokens where there is a vocabulary; the same ones every time."""
    generator = torch.Generator().manual_seed(1)
    if vocab is not None:
        return torch.randint(0, vocab, (n, *in_shape), generator=generator)
    return torch.randn(n, *in_shape, generator=generator)


B = 24
CLASSES = DataSpec(in_shape=(1, 8, 8), out_shape=(10,), kind="classification", classes=10)
POINTS = DataSpec(in_shape=(2,), out_shape=(), kind="binary", classes=2)
TOKENS = DataSpec(in_shape=(6,), out_shape=(6, 11), kind="language_model", vocab=11)
RING = DataSpec(in_shape=(2,), out_shape=(8,), kind="classification", classes=8)
NUMBERS = DataSpec(in_shape=(3,), out_shape=(), kind="regression")


def batch_for(spec: DataSpec, n: int = B) -> Batch:
    x = rows(spec.in_shape, spec.vocab, n)
    if spec.kind == "language_model":
        return Batch({"x": x, "y": torch.cat((x[:, 1:], torch.full((n, 1), -100)), 1)})
    if spec.kind == "regression":
        return Batch({"x": x, "y": x.sum(1)})
    return Batch({"x": x, "y": torch.arange(n) % (spec.classes or 2)})


def built(name: str, spec: DataSpec, changed: dict[str, Any], **batch: Any) -> tuple[Any, Networks, Batch]:
    made = task(name, spec, **changed)
    nets = networks(made, spec, **({"model": "transformer"} if spec.vocab else {}))
    return made, nets, made.prepare(batch_for(spec, **batch), Noise(0, 0))
