"""One forward and backward with an ear at each layer: how far rows still differ there, and how much of the gradient at the outputs
arrives.

Asked of an awake copy (zero tensors filled, see `_dependence.py`), dropout off, in train mode. A layer that is called many times (a
recurrent cell) counts by the call where most of the gradient arrives, so that a network which forgets its first steps is not taken for
one whose gradient vanishes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import awaken, is_layer, sample
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._modes import DROPOUTS
from dlrun.checks._trial import once
from dlrun.noise import seed_generators
from dlrun.run import Run

ROWS = 64
MATRICES = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


@dataclass
class Layer:
    """A layer with weights, in the order of first calls."""

    name: str
    module: nn.Module
    spread: float = 0.0
    """Root mean square of what differs from row to row in its output."""
    into: float = 0.0
    """The same of its input."""
    slope: float = 0.0
    """Norm of the gradient at its output, over that at the outputs of the network."""


@dataclass
class Flow:
    """The layers, and the network's outputs."""

    layers: list[Layer] = field(default_factory=list)
    out: float = 0.0
    """Root mean square of what differs from row to row in the main output."""
    finite: bool = True
    loss: float = float("nan")
    pulled: bool = False
    """Whether the loss has a gradient at the outputs."""


@once
def flow(subject: Subject) -> Flow:
    """The flow through the networks of a LossTask on up to 64 rows."""
    run = awaken(subject.copy())
    batch = sample(subject, run, ROWS)
    quiet(run)
    found, ears = Flow(), _Ears(run)
    try:
        outputs, loss = _live(subject, run, batch)
        found.loss = float(loss.detach().sum())
        ends = [t for t in tensors(outputs) if t.is_floating_point() and t.requires_grad]
        if not loss.requires_grad or not ends:
            return found
        slopes = [s for s in torch.autograd.grad(loss.sum(), ends, retain_graph=True, allow_unused=True) if s is not None]
        top = _norm(slopes)
        loss.sum().backward()
    finally:
        ears.end()
    found.layers, found.pulled = list(ears.layers.values()), top > 0
    for layer in found.layers:
        layer.slope = layer.slope / top if top > 0 else 0.0
    found.out = _spread(ends[0].detach())
    grads = [p.grad for module in run.modules.values() for p in module.parameters() if p.grad is not None and not p.grad.is_sparse]
    found.finite = math.isfinite(top) and all(bool(g.isfinite().all()) for g in grads)
    return found


def quiet(run: Run) -> None:
    """Turn dropout off, in layers that have one of their own as well."""
    for part in (part for module in run.modules.values() for part in module.modules()):
        if isinstance(part, DROPOUTS):
            part.p = 0.0
        if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
            part.dropout = 0.0


def _live(subject: Subject, run: Run, batch: Any) -> tuple[Any, Tensor]:
    """Outputs and loss in train mode, with gradients."""
    for module in run.modules.values():
        module.train()
    seed_generators(run.seed, "flow")
    with torch.enable_grad(), run.precision.autocast():
        outputs = run.task.outputs(run.nets, batch.map(torch.clone))  # type: ignore[attr-defined]
    return outputs, subject.live_loss(run, outputs, batch)


class _Ears:
    """Hooks on every layer with weights of its own."""

    def __init__(self, run: Run) -> None:
        self.layers: dict[str, Layer] = {}
        self.handles = []
        for name, module in run.nets.items():
            for path, part in module.module.named_modules():
                if is_layer(part) and any(p.dim() > 1 for p in part.parameters()):
                    self.handles.append(part.register_forward_hook(self._hook(f"{name}.{path}".rstrip("."))))

    def _hook(self, name: str) -> Any:
        def hear(module: nn.Module, inputs: Any, out: Any) -> None:
            layer = self.layers.setdefault(name, Layer(name, module))
            made = next((t for t in tensors(out) if t.is_floating_point() and t.dim()), None)
            given = next((t for t in tensors(inputs) if t.is_floating_point() and t.dim()), None)
            if made is None:
                return
            layer.spread = max(layer.spread, _spread(made.detach()))
            layer.into = max(layer.into, _spread(given.detach())) if given is not None else layer.into
            if made.requires_grad:
                made.register_hook(lambda slope: self._note(layer, slope))

        return hear

    def _note(self, layer: Layer, slope: Tensor) -> None:
        layer.slope = max(layer.slope, _norm([slope]))

    def end(self) -> None:
        for handle in self.handles:
            handle.remove()


def _spread(t: Tensor) -> float:
    """Root mean square of the deviations from the mean over rows."""
    t = t.float()
    return float((t - t.mean(0, keepdim=True)).square().mean().sqrt()) if len(t) > 1 else 0.0


def _norm(slopes: list[Tensor]) -> float:
    total = sum(float(s.detach().double().square().sum()) for s in slopes)
    return math.sqrt(total) if math.isfinite(total) else math.inf


def gain(module: nn.Module) -> float | None:
    """Root mean square of a weight matrix times the root of its fan-in: the factor by which it scales; None for other layers and zeros.

    A ReLU network keeps its scale at 1.4; the usual initialisations lie between 0.5 and 2.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(module, MATRICES) or not isinstance(weight, Tensor) or weight.dim() < 2:
        return None
    fan = weight[0].numel() if not isinstance(module, nn.modules.conv._ConvTransposeNd) else weight.numel() // max(weight.shape[1], 1)
    value = float(weight.detach().float().square().mean().sqrt()) * math.sqrt(fan)
    return value if value > 0 else None


def gains(run: Run) -> dict[str, float]:
    """The gain of every trainable matrix by the name of its layer, as the networks were built."""
    found = {}
    for name, module in run.modules.items():
        for path, part in module.named_modules():
            value = gain(part)
            if value is not None and bool(part.weight.requires_grad):
                found[f"{name}.{path}".rstrip(".")] = value
    return found
