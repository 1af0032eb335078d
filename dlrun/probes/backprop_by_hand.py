"""Backpropagation by hand: cross-entropy's gradients through linear layers and ReLUs, in float64, against autograd's.

Source: Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors", eqs. 4-7; softmax with cross-entropy:
Bishop 2006, "Pattern Recognition and Machine Learning", eq. 4.109. B rows, D features, C classes.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.nn.layers import Flatten
from dlrun.probes._features import chosen
from dlrun.ranges import Count
from dlrun.trained import Trained


def backprop_by_hand(
    run: Trained,
    *,
    network: str | None,
    split: Literal["train", "val", "test"],
    rows: Count,
    precision: Literal["float64", "float32"],
) -> dict[str, float]:
    """relative_error: largest |by hand - autograd| / |autograd| over weights and biases, as norms; loss_error, the same of the loss; loss
    in nats; layers, how many are linear; rows. Autograd works in float64, what is by hand in `precision`.

    Raises ValueError for a network that is no chain of linear layers and ReLUs, and for targets that are no classes.
    """
    name, module = chosen(run, network)
    layers = _layers(name, module)
    x, y = _rows(run, split, rows)
    used = torch.float64 if precision == "float64" else torch.float32
    loss, found = by_hand([deepcopy(layer).to(used) for layer in layers], x.to(used), y)
    known = F.cross_entropy(nn.Sequential(*layers)(x), y)
    weights = [weight for layer in layers for weight in layer.parameters()]
    wanted = torch.autograd.grad(known, weights)
    known = known.detach()
    apart = [float((mine - its).norm() / its.norm()) if bool(its.any()) else float(mine.norm()) for mine, its in zip(found, wanted)]
    return {
        "relative_error": max(apart),
        "loss_error": float((loss - known).abs() / known),
        "loss": float(loss),
        "layers": sum(isinstance(layer, nn.Linear) for layer in layers),
        "rows": len(x),
    }


@torch.no_grad()
def by_hand(layers: list[nn.Module], x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(mean cross-entropy of rows x [B, D] with classes y [B], its gradients in the order of the layers' weights and biases)."""
    inputs = []
    for layer in layers:
        inputs.append(x)
        x = x @ layer.weight.T + layer.bias if isinstance(layer, nn.Linear) else x * (x > 0)
    shifted = x - x.amax(1, keepdim=True)
    total = shifted.exp().sum(1, keepdim=True)
    each = torch.arange(len(x), device=x.device)
    loss = (total.log()[:, 0] - shifted[each, y]).mean()
    back = shifted.exp() / total
    back[each, y] -= 1
    back = back / len(x)  # d loss / d logits = (softmax - one-hot) / B
    found: list[Tensor] = []
    for layer, z in zip(reversed(layers), reversed(inputs)):
        if isinstance(layer, nn.Linear):
            found[:0] = [back.T @ z, back.sum(0)]
            back = back @ layer.weight
        else:
            back = back * (z > 0)
    return loss, found


def _layers(name: str, module: nn.Module) -> list[nn.Module]:
    """Linear layers with a bias and ReLUs in float64, copies; what flattens is left out, rows are flat already."""
    parts = [part for part in module.modules() if not next(part.children(), None)]
    kept = [deepcopy(part).double() for part in parts if not isinstance(part, (Flatten, nn.Flatten))]
    known = [isinstance(part, nn.ReLU) or (isinstance(part, nn.Linear) and part.bias is not None) for part in kept]
    if not isinstance(module, (nn.Sequential, nn.Linear)) or not all(known) or not any(isinstance(part, nn.Linear) for part in kept):
        odd = next((type(part).__name__ for part, ok in zip(kept, known) if not ok), type(module).__name__)
        raise ValueError(f"network {name} is no chain of linear layers with biases and ReLUs (model=mlp): it has a {odd}")
    return kept


def _rows(run: Trained, split: str, rows: int) -> tuple[Tensor, Tensor]:
    """x [B, D] float64 and classes y [B]."""
    found: list[tuple[Tensor, Any]] = [(batch["x"].double().flatten(1), batch.get("y")) for batch in run.batches(split, rows)]
    if any(not isinstance(y, Tensor) or y.dim() != 1 or y.is_floating_point() for _, y in found):
        raise ValueError("needs a class for every row, y of whole numbers")
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])
