"""In eval mode the output of a row depends on that row alone: not on the rows beside it, nor on the batches before it.

Exact: one row is exchanged, every other row's output must stay as it is. In train mode a batch norm mixes rows by design, so only
evaluation is asked. What mixes rows: axis 0 read as time (batch_first), attention or softmax or a mean over the batch, a view that cuts
across rows, statistics of the batch where running ones belong. What carries over: a hidden state kept from one call to the next. Of
players those that make rows of data are held to it; a critic may compare the rows of a batch (Salimans et al. 2016, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, leaves
from dlrun.checks._dependence import awaken, calls, sample
from dlrun.checks._frame import Finding, Subject, check, gap, largest, skipped, tensors
from dlrun.checks._modes import stuck, written
from dlrun.checks._players import each
from dlrun.noise import seed_generators
from dlrun.run import Run

ROWS = 7
"""A prime: an axis of another meaning has this size by chance seldom."""
SLACK, EXACT = 1e-5, 1e-6
"""Bounds beside the noise of equal forwards; the second one where these are equal to the bit."""
RULE = f"rows beside an exchanged one change by less than 10 x equal forwards + {SLACK:g} x the largest output"


@dataclass
class Setting:
    """A copy of the networks with two batches of different rows."""

    subject: Subject
    run: Run
    batch: Batch
    other: Batch

    def out(self, batch: Batch) -> list[Tensor]:
        found = tensors(self.subject.outputs(self.run, batch, training=False))
        return [t.float() for t in found if t.is_floating_point() and t.dim()]


@check(stage="outputs", recipe="Karpathy: use backprop to chart dependencies; a row must not see its neighbours")
def sample_independence(subject: Subject) -> Finding:
    """Exchange the first and the last of 7 rows; run a batch before and after another one; look whether forward writes into its input."""
    if subject.loss_task is None:
        return each(subject, sample_independence, lambda player, found: not player.makes)
    setting = _setting(subject)
    if setting is None:
        return skipped("there are fewer than two different rows")
    if stuck(setting.run.modules):
        return skipped("layers stay in train mode, see mode_switch")
    declared = subject.expects.get("rows_interact")
    if not declared and not subject.expects.get("stochastic_eval"):
        carried = _carried(setting) or _writes(setting)
        if carried:
            return carried
    reason = _by_design(subject, setting)
    if reason and not declared:
        return skipped(reason)
    numbers = _mixing(setting)
    if numbers is None:
        return skipped("no output has a place for each row")
    mixed = numbers["change"] > numbers["bound"]
    if declared:
        text = "declared by expects.rows_interact; in eval mode no row depends on another (in training or the loss they may)"
        return Finding(
            "ok" if mixed else "info", "rows depend on each other, as declared" if mixed else text, numbers=numbers, threshold=RULE
        )
    if not mixed:
        moved = _by_place(setting)
        if moved > numbers["bound"]:
            text = f"in eval mode the outputs of rows change by {moved:.3g} when the rows of the batch change places"
            cause = "something is chosen by the number of the row in the batch: positions or weights counted along axis 0"
            step = "count positions along the axis of time: torch.arange(x.shape[1])"
            return Finding("error", text, cause, step, numbers | {"by_place": moved}, RULE)
        return Finding("ok", "in eval mode each row's output depends on that row alone", numbers=numbers, threshold=RULE)
    return _mixed(setting, numbers)


def _setting(subject: Subject) -> Setting | None:
    """7 rows, or as many as there are, and as many others."""
    run = awaken(subject.copy())
    batch = sample(subject, run, 2 * ROWS)
    half = min(ROWS, len(batch) // 2)
    if half < 2:
        return None
    mine, other = batch[:half], batch[half : 2 * half]
    same = all(torch.equal(a, b) for a, b in zip(leaves(dict(mine)), leaves(dict(other)), strict=True))
    return None if same else Setting(subject, run, mine, other)


def _by_design(subject: Subject, setting: Setting) -> str:
    """Why rows of this set-up may depend on each other; "" where they may not."""
    rows, outputs = len(setting.batch), setting.out(setting.batch)
    if subject.kind == "contrastive" or setting.run.task.couples_rows:
        return "rows are compared with each other in this task"
    if any(t.shape[:2] == (rows, rows) and t.dim() == 2 for t in outputs):
        longer = setting.out(setting.batch[: rows - 1])
        if any(t.shape == (rows - 1, rows - 1) for t in longer):
            return "the outputs compare every row with every other"
    x = list(leaves(setting.batch.get("x", ())))
    if subject.kind == "graph" and not any(t.dim() >= 3 for t in x):
        return "rows are nodes of one graph"
    norms = [
        part for module in setting.run.modules.values() for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)
    ]
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None for part in norms):
        return "a batch norm without running statistics uses those of the batch in evaluation too"
    return ""


def _mixing(setting: Setting) -> dict[str, Any] | None:
    """How far outputs of other rows move when the first or the last row is exchanged, and the bound; None where rows have no place."""
    rows = len(setting.batch)
    base, again = setting.out(setting.batch), setting.out(setting.batch)
    bound, change, share, tried = 10 * gap(base, again) + SLACK * largest(base), 0.0, 0.0, False
    for row in (0, rows - 1):
        swapped = setting.out(_exchange(setting.batch, setting.other, row))
        for one, two in zip(base, swapped):
            moved = _elsewhere(one, two, rows, row)
            if moved is None:
                continue
            tried = True
            change, share = max(change, float(moved.max())), max(share, float((moved > bound).float().mean()))
    return {"change": change, "bound": bound, "share_of_rows": share, "rows": rows} if tried else None


def _by_place(setting: Setting) -> float:
    """How far outputs of rows move when the rows of the batch are turned round; 0 where rows have no place on axis 0, or each its noise."""
    rows, subject = len(setting.batch), setting.subject
    with_noise = tensors(subject.outputs(setting.run, setting.batch, training=False, key="other noise"))
    if gap([t.float() for t in with_noise if t.is_floating_point() and t.dim()], setting.out(setting.batch)) > 0:
        return 0.0
    turned: Batch = setting.batch.map(lambda t: t.flip(0) if t.dim() and len(t) == rows else t)
    pairs = list(zip(setting.out(setting.batch), setting.out(turned)))
    placed = [(a, b.flip(0)) for a, b in pairs if a.shape == b.shape and len(a) == rows and gap(a, b) > 0]
    whole = all(a.shape == b.shape and (len(a) == rows or gap(a, b) == 0) for a, b in pairs)
    return gap([a for a, _ in placed], [b for _, b in placed]) if whole else 0.0


def _exchange(batch: Batch, other: Batch, row: int) -> Batch:
    """`batch` with one row taken from `other`."""
    return Batch.cat([batch[:row], other[row : row + 1], batch[row + 1 :]])


def _elsewhere(one: Tensor, two: Tensor, rows: int, row: int) -> Tensor | None:
    """The largest change of each other row's outputs; None where this tensor has no place for each row.

    Rows may stand on another axis (time first), or several times (both views one after another, positions flattened): of these
    readings the one counts in which rows mix least.
    """
    if one.shape != two.shape:
        return None
    moved = (one - two).abs().nan_to_num(0)
    axes = [axis for axis, size in enumerate(one.shape) if size == rows]
    readings = [moved.movedim(axis, 0).reshape(rows, -1) for axis in (axes if 0 not in axes else [0])]
    if not axes and one.shape[0] % rows == 0:
        flat = moved.reshape(one.shape[0], -1)
        readings = [flat.reshape(rows, -1), flat.reshape(-1, rows, flat.shape[1]).transpose(0, 1).reshape(rows, -1)]
    kept = [torch.cat((m[:row], m[row + 1 :])).amax(1) for m in readings]
    return min(kept, key=lambda m: float(m.max())) if kept else None


def _mixed(setting: Setting, numbers: dict[str, Any]) -> Finding:
    """The verdict on rows that depend on each other, with the layer in which that begins."""
    name, layer = _first_mixing(setting, numbers["bound"])
    text = f"in eval mode the output of a row changes by {numbers['change']:.3g} when another row of the batch is exchanged"
    step = "keep rows on axis 0 and let nothing reduce, normalise or attend over it; or declare expects.rows_interact=true"
    if getattr(layer, "batch_first", True) is False:
        cause, step = f"{name} reads axis 0, the rows, as time (batch_first is False)", "build it with batch_first=True"
    elif layer is not None:
        cause = f"rows first mix in {name} ({type(layer).__name__}): its input has rows on another axis than it takes them from"
    else:
        cause = "an operation in forward runs over axis 0: a softmax, mean, norm or attention over the batch, or a view that cuts rows"
    return Finding("error", text, cause, step, numbers | {"layer": name}, RULE)


def _first_mixing(setting: Setting, bound: float) -> tuple[str, nn.Module | None]:
    """The first layer whose inputs keep rows apart and whose outputs do not; ("", None) where forward itself mixes them."""
    rows = len(setting.batch)
    heard: list[list[tuple[str, nn.Module, list[Tensor], list[Tensor]]]] = []
    for batch in (setting.batch, _exchange(setting.batch, setting.other, 0)):
        seen: list[tuple[str, nn.Module, list[Tensor], list[Tensor]]] = []
        calls(setting.subject, setting.run, batch, lambda n, m, i, o, seen=seen: seen.append((n, m, _floats(i), _floats(o))))  # type: ignore[misc]
        heard.append(seen)
    for one, two in zip(*heard):
        before, after = (_mixes(one[side], two[side], rows, bound) for side in (2, 3))
        if before:
            return "", None
        if after:
            return one[0], one[1]
    return "", None


def _floats(value: Any) -> list[Tensor]:
    return [t.detach().float().clone() for t in tensors(value) if t.is_floating_point() and t.dim()]


def _mixes(one: list[Tensor], two: list[Tensor], rows: int, bound: float) -> bool:
    """Whether rows beside the exchanged first one differ, in tensors that have rows on axis 0."""
    pairs = [(a, b) for a, b in zip(one, two) if a.shape == b.shape and a.shape[0] == rows]
    return any(float((a[1:] - b[1:]).abs().nan_to_num(0).max()) > max(1e-6 * float(a.abs().max()), 1e-9) for a, b in pairs if a[1:].numel())


def _carried(setting: Setting) -> Finding | None:
    """The finding where a batch gives other outputs after another batch than at once; None where it does not."""
    subject, outputs = setting.subject, []
    for before in ([], [], [setting.other]):
        fresh = Setting(subject, awaken(subject.copy()), setting.batch, setting.other)
        for batch in before:
            fresh.out(batch)
        outputs.append(fresh.out(setting.batch))
    one, same, after = outputs
    floor = gap(one, same)
    bound = 10 * floor + (SLACK if floor else EXACT) * largest(one)
    moved = gap(one, after)
    if moved <= bound or [t.shape for t in one] != [t.shape for t in after]:
        return None
    buffers = written(subject, setting.other)
    if buffers and not any(len(setting.batch) in shape for _, shape in buffers):
        return skipped(f"evaluating changes {buffers[0][0]}, see mode_switch")
    text = f"the same batch gives other outputs (by {moved:.3g}) after another batch was evaluated"
    cause = "a state is kept from one call of forward to the next: hidden state, statistics or a counter"
    step = "start it anew in each call of forward"
    return Finding("error", text, cause, step, {"change": moved, "bound": bound, "buffers": [name for name, _ in buffers]}, RULE)


def _writes(setting: Setting) -> Finding | None:
    """The finding where forward writes into its input and the loss reads what it left there; None where that changes nothing."""
    subject, run, task = setting.subject, setting.run, setting.subject.loss_task
    assert task is not None
    copies: dict[tuple[Any, ...], Tensor] = {}  # targets that are the inputs themselves (an autoencoder's) stay so
    given: Batch = setting.batch.map(lambda t: copies.setdefault((t.data_ptr(), t.shape, t.stride(), t.dtype), t.clone()))
    with subject.forward(run, True), run.precision.autocast():
        seed_generators(run.seed, "check")
        outputs = run.task.outputs(run.nets, given)  # type: ignore[attr-defined]
    changed = [
        name for name in given if any(not _same(a, b) for a, b in zip(leaves(given[name]), leaves(setting.batch[name]), strict=True))
    ]
    if not changed:
        return None
    after, untouched = (float(subject.loss_of(run, outputs, batch)) for batch in (given, setting.batch))
    if abs(after - untouched) <= 1e-5 * max(abs(untouched), 1e-12):
        return None
    text = f"forward writes into {', '.join(changed)}, and the loss is {after:.4f} instead of {untouched:.4f} by that"
    cause = "an operation in place (x -= ..., x[...] = ..., inplace=True) on the input, which the loss reads too"
    return Finding(
        "error", text, cause, "begin forward with x = x.clone(), or write x = x - ...", {"changed": changed}, "loss equal to 1e-5"
    )


def _same(one: Tensor, two: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(one) if one.is_floating_point() else one, torch.nan_to_num(two) if two.is_floating_point() else two)
