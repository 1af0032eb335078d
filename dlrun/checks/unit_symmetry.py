"""Units that start equal and stay equal: a layer of constant weights is one unit, however wide it is.

Equal rows at the start are no fault by themselves (a zero head, a low-rank part): what counts is that they are equal after five steps.
These are steps of our own, of each tensor along its gradient, since an optimizer that warms up from 0 would move nothing; dropout is off,
for its noise would part the units by chance. The last layer is left out: its rows belong to different outputs, of which those that no
target names stay alike for long. Source: Goodfellow, Bengio, Courville 2016, "Deep Learning", section 8.4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import calls
from dlrun.checks._flow import quiet
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.noise import seed_generators
from dlrun.run import Run

STEPS, SHARE, ALMOST, UNITS = 5, 0.5, 0.95, 4
STEP, CLOSE = 0.1, 1e-4
KNOWN = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)
RULE = f"more than {SHARE:.0%} of the units of a layer with equal weights, at the start and after {STEPS} steps"


@check(stage="gradient", recipe="never start from constant weights")
def unit_symmetry(subject: Subject) -> Finding:
    """Equal units of hidden layers at the start, and again after five steps where there are any."""
    if subject.loss_task is None:
        return skipped("a task of several objectives has no single gradient")
    run = subject.copy()
    suspects = {name: p for name, p in _hidden(subject, run).items() if _equal(p, name) > SHARE}
    before = {name: p.detach().clone() for name, p in suspects.items() if name.endswith(("(rows)", "(columns)"))}
    if not suspects:
        return Finding("ok", "no layer starts with equal units", threshold=RULE)
    quiet(run)
    moved = _descend(subject, run)
    shares = {name: _equal(p, name, before.get(name)) for name, p in suspects.items() if name in moved}
    still = {name: share for name, share in shares.items() if share > (ALMOST if name.endswith("(rows)") else SHARE)}
    if not still:
        text = f"{len(suspects)} layers start with equal units and part from each other as they learn"
        return Finding("ok", text, numbers={"layers": list(suspects)[:10]}, threshold=RULE)
    name = next(iter(still))
    text = f"{still[name]:.0%} of the units of {name} {tuple(suspects[name].shape)} start with equal weights and stay equal"
    cause = "constant (or all zero) initial weights: every unit of a layer learns the same"
    numbers: dict[str, Any] = {"layers": dict(list(still.items())[:10]), "steps": STEPS}
    return Finding("error", text, cause, "draw them at random: torch's own initialisation, or nn.init.kaiming_normal_", numbers, RULE)


def _hidden(subject: Subject, run: Run) -> dict[str, Tensor]:
    """Trainable weights of the layers but for the last one that forward calls, by name; of matrices of a network's own as well."""
    order: list[nn.Module] = []
    calls(subject, run, subject.prepared(run, subject.few), lambda name, module, inputs, out: order.append(module))
    weighted = [module for module in order if isinstance(module, KNOWN)]
    last = {id(p) for p in weighted[-1].parameters()} if weighted else set()
    found: dict[str, Tensor] = {}
    for name, p in subject.parameters(run).items():
        if p.dim() >= 2 and id(p) not in last:
            found[name] = p
    rows = {id(p) for m in run.modules.values() for part in m.modules() if isinstance(part, KNOWN) for p in part.parameters(recurse=False)}
    embedded = {id(p) for m in run.modules.values() for part in m.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    suspects: dict[str, Tensor] = {name if id(p) in rows else f"{name} (columns)": p for name, p in found.items() if id(p) not in embedded}
    return suspects | {f"{name} (rows)": p for name, p in found.items() if id(p) not in embedded | rows}


def _equal(p: Tensor, name: str, before: Tensor | None = None) -> float:
    """The share of units whose weights equal those of another: rows of torch's layers, columns of a matrix that is used as x @ W.

    Of a parameter of the network's own rows may be units too (means of a mixture): only those count that moved since `before`.
    """
    units = p.detach().float().flatten(1)
    moved = torch.ones(len(units), dtype=torch.bool, device=units.device)
    if before is not None:  # rows that no gradient came to are not asked: words that were not read
        moved = (units != before.float().flatten(1)).any(1)
    if name.endswith("(columns)"):
        units = (units[moved] if bool(moved.any()) else units).T
    else:
        units = units[moved]
    if len(units) < UNITS or units.shape[1] == 0:
        return 0.0
    scale = float(units.abs().max())
    rounded = (units / (scale * CLOSE)).round() if scale > 0 else units
    _, counts = torch.unique(rounded[:, :64], dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / len(units)


def _descend(subject: Subject, run: Run) -> set[str]:
    """Five steps on batches of train; gives the names of parameters for which a gradient came, zero or not."""
    known, reached = subject.parameters(run), set()
    for step in range(STEPS):
        batch = subject.prepared(run, subject.raw if step == 0 else run.data.batches(step)[0])
        for module in run.modules.values():
            module.train()
        seed_generators(run.seed, step, "symmetry")
        with torch.enable_grad(), run.precision.autocast():
            outputs = run.task.outputs(run.nets, batch)  # type: ignore[attr-defined]
        loss = subject.live_loss(run, outputs, batch)
        if not loss.requires_grad:
            return set()
        slopes = torch.autograd.grad(loss.sum(), list(known.values()), allow_unused=True)
        for (name, p), slope in zip(known.items(), slopes, strict=True):
            if slope is not None:
                reached |= {name, f"{name} (columns)", f"{name} (rows)"}
                _step(p, slope.to_dense())
    return reached


@torch.no_grad()
def _step(p: Tensor, slope: Tensor) -> None:
    """Move a parameter down its gradient by a tenth of its own size."""
    size = float(p.square().mean().sqrt()) or 0.1
    p.sub_(slope * (STEP * size / max(float(slope.square().mean().sqrt()), 1e-12)))
