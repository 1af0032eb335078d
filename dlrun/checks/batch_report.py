"""The first training batch as the networks get it: type, shape, range, mean and spread of every tensor. Never a warning: it is for eyes.

Isola's Hacker's Guide: look at the data right before `model(data)`; most mistakes of type, range and layout show there.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check
from dlrun.checks._inputs import parts

SHOWN = 4
MOST_VALUES = 2_000_000


@check(stage="data", recipe="Hacker's Guide: look at the data right before model(data)")
def batch_report(subject: Subject) -> Finding:
    """Facts on each tensor of the first micro-batch, prepared and augmented; `unique` is the share of values that differ."""
    batch = subject.batch
    named = {key: leaf for name in batch for key, leaf in parts(batch[name], name).items()}
    numbers: dict[str, Any] = {name: facts(leaf) for name, leaf in named.items()}
    texts = [f"{name} {_said(fact)}" for name, fact in list(numbers.items())[:SHOWN]]
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return Finding("info", f"{len(batch)} rows: {'; '.join(texts)}{more}", numbers=numbers)


def facts(leaf: Tensor) -> dict[str, Any]:
    """Type, shape of a row, and of the finite values min, max, mean, std, the shares of NaN and of different values."""
    values = leaf.detach().flatten()[:MOST_VALUES].cpu().double()
    found: dict[str, Any] = {"dtype": str(leaf.dtype).removeprefix("torch."), "shape": list(leaf.shape)}
    if not values.numel():
        return found
    known = values[values.isfinite()]
    found |= {"nan": float(values.isnan().double().mean()), "unique": len(known.unique()) / len(values)}
    if known.numel():
        found |= {"min": float(known.min()), "max": float(known.max()), "mean": float(known.mean()), "std": float(known.std(correction=0))}
    return found


def _said(fact: dict[str, Any]) -> str:
    where = f" {fact['min']:.4g} to {fact['max']:.4g}, mean {fact['mean']:.4g}, sd {fact['std']:.4g}" if "min" in fact else ""
    lost = f", {fact['nan']:.1%} NaN" if fact.get("nan") else ""
    return f"{fact['dtype']} {fact['shape']}{where}{lost}"
