"""Which numbers of the outputs a loss compares with which numbers of the targets: each with its own, all of them, no two with one.

Asked by slopes at outputs and targets that a check makes up, each column of the targets in an order of its own, so that columns that go
together in the data do not here. Errors that are added up before they are squared pull all columns of a row alike, wherever they are: then
they may cancel, and nothing tells the columns apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._forms import Form
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._probe import Probe, put
from dlrun.checks._targets import Targets, layouts_of
from dlrun.noise import seed_generators

DRAWS, ENOUGH, WIDEST = 4, 12, 1024
COLUMNS, ALONE = 16, 8
DRAWN, NOT = -0.8, -0.3
OWN = 0.95
RULE = "each column of the outputs is drawn to its own column of the targets, independently of the others"


def miswired(asked: Probe, shape: Form) -> Finding | None:
    """The finding where columns are pulled alike, or by targets of another column."""
    if asked.targets.mode not in ("numbers", "labels") or asked.kind == "vae" or not asked.steady or asked.run.task.couples_rows:
        return None
    return _alike(asked, shape) or _crossed(asked, shape)


def summed(asked: Probe, shape: Form) -> Finding | None:
    """The finding where each row's slopes keep their proportions wherever its outputs are, targets of another form than the outputs.

    A mask leaves out other places in each row; a loss that is linear in the outputs (slopes of one size) is another matter.
    """
    out = asked.out
    if asked.targets.mode != "none" or asked.kind not in ("regression", "sequence", "diffusion", "graph") or shape.name != "free":
        return None
    if out.dim() < 2 or len(out) != len(asked.batch) or len(out) < ENOUGH or not asked.steady or asked.run.task.couples_rows:
        return None
    size = max(float(out.std()), 0.1)
    try:
        slopes = torch.stack([asked.slope(out + size * asked.noise(f"wired {n}")) for n in range(DRAWS)]).flatten(2).double()
    except Exception:  # numbers beyond its range may be refused
        return None
    several = (slopes != 0).sum(2).amin(0) > 2
    rows = slopes[:, several]
    if not bool(torch.isfinite(slopes).all()) or rows.shape[1] < ENOUGH:
        return None
    norms = rows.norm(dim=2)
    straight = float(((rows[1:] * rows[:1]).sum(2).abs() / (norms[1:] * norms[:1]).clamp(min=1e-30)).min())
    if straight < 1 - 1e-5 or float((norms.std(0) / norms.mean(0)).median()) < 0.05:
        return None
    text = "the loss pulls all places of a row's outputs in fixed proportions, whatever their own errors are"
    cause = "errors are added up (or averaged) over a row before they are squared: they cancel out"
    step = "square (or take the absolute value of) each error first, then add"
    return Finding("error", text, cause, step, {"rows": rows.shape[1], "cosine": straight}, RULE)


def cut(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where the loss changes with an output and has no slope at it, while it has one at another output."""
    outs = [t for t in tensors(asked.outputs) if t.is_floating_point() and t.dim() and len(t) == len(asked.batch)]
    if len(outs) < 2 or not asked.steady or asked.kind in ("contrastive", "gan", "vae"):
        return None
    with torch.no_grad():
        here = float(asked.of(asked.outputs))
    silent, pulled = [], []
    for number, t in enumerate(outs):
        own = replace(asked, out=t)
        places = [t + max(float(t.std()) if t.numel() > 1 else 0.0, 0.1) * own.noise(f"cut {draw}") for draw in range(3)]
        if any(bool((own.slope(z) != 0).any()) for z in places):
            pulled.append(number)
        elif all(own.at(z) != here for z in places):
            silent.append(number)
    if not silent or not pulled or not _trained(subject, asked, outs[silent[0]]):
        return None
    text = f"the loss changes with output {silent[0] + 1} and has no slope at it: nothing learns from that term"
    cause = "it is detached inside the loss (detach, item, numpy), or rounded"
    return Finding("warning", text, cause, "leave the output as it is in its own term", {"outputs": silent}, RULE)


def _trained(subject: Subject, asked: Probe, out: Tensor) -> bool:
    """Whether the network would learn from an output: it has a way back to the parameters."""
    run, place = subject.copy(), next(i for i, t in enumerate(tensors(asked.outputs)) if t is out)
    with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
        seed_generators(run.seed, "check")
        found = tensors(run.task.outputs(run.nets, asked.batch.map(torch.clone)))  # type: ignore[attr-defined]
        weights = list(subject.parameters(run).values())
        if place >= len(found) or not found[place].requires_grad or not weights:
            return False
        slopes = torch.autograd.grad(found[place].sum(), weights, allow_unused=True)
    return any(slope is not None for slope in slopes)


def others(asked: Probe) -> Iterator[Probe]:
    """The probe of each further output that has a tensor of numbers of its own shape among several targets."""
    known = [leaf for leaf in leaves(asked.batch.get("y", ())) if leaf.is_floating_point() and leaf.dim() > 1]
    if asked.kind in ("contrastive", "gan", "vae") or len(list(leaves(asked.batch.get("y", ())))) < 2:
        return
    for t in (t for t in tensors(asked.outputs) if t.is_floating_point() and t is not asked.targets.value):
        same = [leaf for leaf in known if leaf.shape == t.shape]
        if len(same) == 1 and bool(torch.isfinite(same[0]).all()):
            yield replace(asked, out=t, targets=Targets("numbers", same[0], "y"))


def _places(asked: Probe, shape: Form) -> list[Tensor]:
    """Outputs about the targets, where every error is another one."""
    y = torch.nan_to_num(asked.targets.like(asked.out))
    spread = float(y.std()) if y.numel() > 1 else 1.0
    drawn = [asked.noise(f"wired {number}") for number in range(DRAWS)]
    return [y + max(spread, 1e-3) * noise if shape.name == "free" else shape.of(noise) for noise in drawn]


def _alike(asked: Probe, shape: Form) -> Finding | None:
    """The finding where slopes along an axis are one and the same list of numbers, up to a factor for each row."""
    try:
        slopes = torch.stack([asked.slope(z) for z in _places(asked, shape)])
    except Exception:  # numbers beyond its range may be refused
        return None
    if not bool(torch.isfinite(slopes).all()):
        return None
    for axis in range(1, asked.out.dim()):
        width = asked.out.shape[axis]
        rows = slopes.movedim(axis + 1, -1).reshape(-1, width).double()
        rows = rows[(rows != 0).any(1)][: 4 * WIDEST]
        if not 2 <= width <= WIDEST or len(rows) < ENOUGH:
            continue
        rows = rows / rows.norm(dim=1, keepdim=True)
        way = rows[0]
        if float((rows - (rows @ way)[:, None] * way).abs().max()) > 1e-3:
            continue
        counted = way.abs() > 1e-3 * way.abs().max()
        numbers: dict[str, Any] = {"axis": axis, "columns": width, "counted": int(counted.sum())}
        if int(counted.sum()) == 1:
            return _only(asked, int(counted.nonzero()), axis, numbers)
        if max(int((way[counted] > 0).sum()), int((way[counted] < 0).sum())) > 1:
            text = f"the loss pulls all {width} columns (axis {axis}) of a row's outputs alike, whatever their own errors are"
            cause = "errors are added up (or averaged) over the columns before they are squared: they cancel out"
            return Finding("error", text, cause, "square (or take the absolute value of) each error first, then add", numbers, RULE)
    return None


def _only(asked: Probe, column: int, axis: int, numbers: dict[str, Any]) -> Finding | None:
    """The finding where one column of a few counts, and the targets of the others vary."""
    y, width = asked.targets.like(asked.out), asked.out.shape[axis]
    others = [j for j in range(width) if j != column]
    if asked.out.dim() != 2 or width > ALONE or asked.kind not in ("regression", "binary", "diffusion") or asked.targets.mask is not None:
        return None
    if not bool(torch.isfinite(y).all()) or any(bool((y[:, j] == y[0, j]).all()) for j in others):
        return None
    text = f"only column {column} of the {width} columns of outputs and targets counts: the loss has no slope at the others"
    return Finding("warning", text, "an index picks one column", "compare all columns", numbers, RULE)


def _crossed(asked: Probe, shape: Form) -> Finding | None:
    """The finding where a column of the outputs is drawn to another column of the targets, and not to its own."""
    y = asked.targets.like(asked.out)
    if y.dim() != 2 or not 2 <= y.shape[1] <= COLUMNS or len(y) < ENOUGH or not bool(torch.isfinite(y).all()) or shape.name != "free":
        return None
    value = asked.targets.value
    assert value is not None
    columns = [y[_order(asked, len(y), j), j] for j in range(y.shape[1])]
    mixed = torch.stack(columns, 1).reshape(value.shape).to(value.dtype)
    pulls = torch.stack([_ranked(asked.slope(torch.full_like(y, float(c.median())), mixed), c) for c in columns], 1)
    for j in range(y.shape[1]):
        k = int(pulls[j].argmin())
        if k != j and float(pulls[j, k]) < DRAWN and float(pulls[j, j]) > NOT:
            text = f"column {j} of the outputs is drawn to column {k} of the targets, not to column {j}"
            cause = "an index was copied, or columns are taken in another order"
            numbers: dict[str, Any] = {"rank_correlations": [[round(v, 2) for v in row] for row in pulls.tolist()]}
            return Finding("error", text, cause, "compare each column with its own", numbers, RULE)
    return None


def twice(asked: Probe) -> Finding | None:
    """The finding where two outputs are drawn to one and the same target, and another target of that form is not read at all."""
    rows = len(asked.batch)
    known = [leaf for leaf in leaves(asked.batch.get("y", ())) if leaf.dim() and len(leaf) == rows and leaf.numel() >= rows]
    outs = [t for t in tensors(asked.outputs) if t.is_floating_point() and t.dim() and len(t) == rows]
    if not 2 <= len(known) <= 6 or not 2 <= len(outs) <= 6 or rows < ENOUGH or not asked.steady:
        return None
    read = [any(_reads(asked, t, leaf) for t in outs) for leaf in known]
    for unread in (leaf for leaf, used in zip(known, read, strict=True) if not used and bool((leaf != leaf[:1]).any())):
        for leaf in (leaf for leaf, used in zip(known, read, strict=True) if used):
            alike = leaf.dtype == unread.dtype and leaf.shape == unread.shape
            mine = [i for i, t in enumerate(outs) if alike and _drawn(asked, t, leaf)]
            if len(mine) > 1 and any(_takes(outs[i], unread) for i in mine):
                first, other = (next(i for i, each in enumerate(known) if each is t) + 1 for t in (leaf, unread))
                text = f"outputs {mine[0] + 1} and {mine[1] + 1} are both drawn to target {first}, target {other} is not read"
                cause = "a term of the loss was copied, and one name in it not changed"
                return Finding("warning", text, cause, "compare each output with its own target", {"outputs": mine}, RULE)
    return None


def _order(asked: Probe, rows: int, number: int) -> Tensor:
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(number))
    return order.to(asked.out.device)


def _ranked(slope: Tensor, y: Tensor) -> Tensor:
    """Rank correlations of each column of slopes with y."""
    ranks = slope.argsort(0).argsort(0).double()
    own = torch.stack([y, *slope.unbind(1)]).double()
    level = torch.unique(y, return_inverse=True)[1].double()
    ranks, level = ranks - ranks.mean(0), level - level.mean()
    still = own[1:].std(1) <= 1e-6 * own[1:].abs().amax(1)
    found = (ranks * level[:, None]).sum(0) / (ranks.norm(dim=0) * level.norm()).clamp(min=1e-12)
    return torch.where(still, torch.zeros_like(found), found)


def _slope(asked: Probe, t: Tensor, z: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The loss's slope at `z` in the place of the output `t`, with the target `new` in the place of `old`."""
    batch = asked.batch.replace(y=put(asked.batch["y"], old, new))
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        loss = asked.of(put(asked.outputs, t, leaf * 1.0), batch)
        slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return torch.zeros_like(z) if slope is None else slope.detach()


def _reads(asked: Probe, t: Tensor, leaf: Tensor) -> bool:
    """Whether the slope at an output hangs on a target: on that of other rows in its place."""
    z = t + 0.1 * replace(asked, out=t).noise("reads")
    return not torch.equal(_slope(asked, t, z, leaf, leaf), _slope(asked, t, z, leaf, leaf[_order(asked, len(leaf), 1)]))


def _drawn(asked: Probe, t: Tensor, leaf: Tensor) -> bool:
    """Whether an output is drawn to a target: numbers up where it is larger, the logit of its class most."""
    mixed = leaf[_order(asked, len(leaf), 2)]
    if not _takes(t, leaf):
        return False
    if leaf.is_floating_point():
        z = torch.full_like(t, float(mixed.median()))
        return float(_ranked(_slope(asked, t, z, leaf, mixed).reshape(-1, 1), mixed.flatten())[0]) < DRAWN
    slope = _slope(asked, t, 0.01 * replace(asked, out=t).noise("drawn"), leaf, mixed)
    rows = layouts_of(t, leaf)[0].flat(slope)
    return bool((rows != 0).any()) and float((rows.argmin(1) == mixed.flatten()).float().mean()) > OWN


def _takes(t: Tensor, leaf: Tensor) -> bool:
    """Whether an output has the form for a target: as many numbers, or logits of its classes."""
    if leaf.is_floating_point():
        return t.numel() == leaf.numel() and bool(torch.isfinite(leaf).all())
    found = layouts_of(t, leaf)
    return bool(found) and int(leaf.min()) >= 0 and int(leaf.max()) < found[0].classes
