"""A network that predicts the next input sees no later one: outputs before a changed step stay as they are, the one at it changes.

Exact, and no matter of names: all steps from t on are exchanged for those of other rows, and outputs before t must not move. It applies
where the task is shifted: targets are the inputs one place on (or the loss compares them so), or expects.causal says it. A masked
language model, whose targets are filled gaps, may look both ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch, leaves
from dlrun.checks._dependence import awaken, patched, sample
from dlrun.checks._frame import Finding, Subject, check, gap, largest, skipped
from dlrun.checks._modes import stuck
from dlrun.checks._probe import put
from dlrun.checks.shape_contract import main_output
from dlrun.run import Run

ROWS = 8
SHIFTED = 0.9
SLACK = 1e-5
RULE = f"outputs before a changed step move by less than 10 x equal forwards + {SLACK:g} x the largest output"


@check(stage="outputs", recipe="Karpathy: use backprop to chart dependencies (the future must have no gradient)")
def causality(subject: Subject) -> Finding:
    """Exchange the steps from t on, for three t; look at the outputs before t and at t."""
    if subject.loss_task is None:
        return skipped("a task of several objectives has no single output a step")
    run = awaken(subject.copy())
    batch = sample(subject, run, ROWS)
    declared = bool(subject.expects.get("causal"))
    x = _sequence(batch, declared)
    if x is None or len(batch) < 2 or x.shape[1] < 3:
        return skipped("the inputs are no sequences")
    if not declared and not _shifted(subject, run, batch, x):
        return skipped("the targets are not the inputs one step on")
    if stuck(run.modules):
        return skipped("layers stay in train mode, see mode_switch")
    base = _out(subject, run, batch)
    axis = None if base is None else _time_axis(base, x, batch.get("y"))
    if base is None or axis is None:
        text = "declared by expects.causal, yet the outputs have no axis of steps"
        return Finding("warning", text, "one output a row", "drop the declaration") if declared else skipped("no output for each step")
    return _judge(subject, run, batch, x, base.movedim(axis, 1), axis)


def _judge(subject: Subject, run: Run, batch: Batch, x: Tensor, base: Tensor, axis: int) -> Finding:
    """The verdict, from the outputs [B, T, ...] on the sample and on three changed ones."""
    steps = x.shape[1]
    again = _out(subject, run, batch)
    bound = 10 * gap(base.movedim(1, axis), again) + SLACK * largest(base)
    counted = _counted(subject, run, batch, base, axis)
    leak, blind = 0.0, []
    numbers: dict[str, Any] = {"bound": bound, "steps": steps}
    for t in sorted({steps // 4, steps // 2, steps - 1} - {0}):
        out = _out(subject, run, _exchanged(batch, x, t))
        if out is None or out.shape != base.movedim(1, axis).shape:
            continue
        moved = (out.movedim(axis, 1) - base).abs().nan_to_num(0) * counted.reshape(*counted.shape, *[1] * (base.dim() - 2))
        changed = _differs(x, t)
        leak = max(leak, float(moved[:, :t].max()))
        if bool((changed & counted[:, t]).any()) and float(moved[:, t][changed].max()) <= bound:
            blind.append(t)
        if leak > bound:
            numbers |= {"t": t, "change": leak, "steps_before_that_move": _where(moved[:, :t], bound)}
            break
    if leak > bound:
        seen = numbers["steps_before_that_move"]
        text = f"the output of step {seen[-1]} changes by {leak:.3g} when only steps from {numbers['t']} on are changed: it sees the future"
        cause = "the mask is missing, shifted by one or turned round, or something averages or runs backwards over all steps"
        step = "print the mask for 4 steps: row i may allow columns 0 to i only (is_causal=True, bidirectional=False)"
        return Finding("error", text, cause, step, numbers, RULE)
    if blind and len(blind) == len({steps // 4, steps // 2, steps - 1} - {0}):
        text = "the output of a step does not depend on the input of that very step"
        cause, step = "the inputs are shifted once too often: in the data and in the network", "shift in one place only"
        return Finding("warning", text, cause, step, numbers | {"t": blind}, "the output at a changed step changes")
    return Finding("ok", f"no output sees a later step ({steps} steps)", numbers=numbers | {"change": leak}, threshold=RULE)


def _sequence(batch: Batch, declared: bool) -> Tensor | None:
    """The tensor of x whose axis 1 is steps: tokens [B, T], or numbers [B, T, F]; numbers [B, T] where that is declared or y has them."""
    y = batch.get("y")
    for leaf in leaves(batch.get("x", ())):
        tokens = leaf.dim() == 2 and not leaf.is_floating_point() and leaf.dtype != torch.bool
        series = leaf.dim() == 2 and leaf.is_floating_point() and (declared or (isinstance(y, Tensor) and y.shape == leaf.shape))
        if tokens or series or (leaf.dim() == 3 and leaf.is_floating_point()):
            return leaf
    return None


def _shifted(subject: Subject, run: Run, batch: Batch, x: Tensor) -> bool:
    """Whether targets are the inputs one step on: given so, or compared so by the loss."""
    y = batch.get("y")
    if not isinstance(y, Tensor):
        return subject.kind == "language_model" and _by_loss(subject, run, batch, x)
    if y.shape != x.shape:
        return False
    counted = torch.ones_like(y[:, :-1], dtype=torch.bool) if y.is_floating_point() else y[:, :-1] >= 0
    if not bool(counted.any()):
        return False
    equal, still = (torch.isclose(y[:, :-1].double(), other.double())[counted] for other in (x[:, 1:], x[:, :-1]))
    if float(equal.float().mean()) >= SHIFTED and float(still.float().mean()) < SHIFTED:
        return True
    return float(still.float().mean()) >= SHIFTED and not x.is_floating_point() and _by_loss(subject, run, batch, x)


def _by_loss(subject: Subject, run: Run, batch: Batch, x: Tensor) -> bool:
    """Whether the loss drives the logits of step t towards the token at t + 1."""
    out = main_output(run, subject.outputs(run, batch, training=False))
    if out is None or out.dim() != 3 or out.shape[:2] != x.shape or not out.is_floating_point():
        return False
    leaf = out.detach().clone().requires_grad_()
    with torch.enable_grad():
        live = subject.live_loss(run, leaf, batch)
        slope = torch.autograd.grad(live, leaf, allow_unused=True)[0] if live.requires_grad else None
    if slope is None or int(x.max()) >= out.shape[2] or int(x.min()) < 0:
        return False
    wanted = slope[:, :-1].argmin(-1)
    counted = slope[:, :-1].abs().amax(-1) > 0
    ahead, here = ((wanted == other)[counted].float().mean() if bool(counted.any()) else torch.zeros(()) for other in (x[:, 1:], x[:, :-1]))
    return float(ahead) >= SHIFTED > float(here)


def _out(subject: Subject, run: Run, batch: Batch) -> Tensor | None:
    """The main output, where it is one of floating-point numbers."""
    found = main_output(run, subject.outputs(run, batch, training=False))
    return found.float() if found is not None and found.is_floating_point() else None


def _counted(subject: Subject, run: Run, batch: Batch, base: Tensor, axis: int) -> Tensor:
    """[B, T]: steps whose outputs the loss looks at; all where it does not say so, or where expects.causal does.

    A prefix that is read and not written may see itself whole.
    """
    y, everywhere = batch.get("y"), torch.ones(base.shape[:2], dtype=torch.bool, device=base.device)
    if subject.expects.get("causal"):
        return everywhere
    named = y >= 0 if isinstance(y, Tensor) and not y.is_floating_point() and y.shape == base.shape[:2] else everywhere
    try:
        outputs = subject.outputs(run, batch, training=False)
        main = main_output(run, outputs)
        assert main is not None
        leaf = main.detach().float().requires_grad_()
        with torch.enable_grad():
            live = subject.live_loss(run, put(outputs, main, leaf), batch)
            (slope,) = torch.autograd.grad(live, leaf)
    except Exception:  # a loss that takes no such outputs: other checks say why
        return named
    pulled = (slope != 0).movedim(axis, 1).flatten(2).any(2) if slope.dim() > 2 else slope != 0
    counted = named & pulled
    return counted if bool(counted.any()) and pulled.shape == everywhere.shape else named


def _time_axis(out: Tensor, x: Tensor, y: Any) -> int | None:
    """The axis of `out` [B, ...] that has as many places as x has steps: axis 1, unless only another fits."""
    axes = [axis for axis in range(1, out.dim()) if out.shape[axis] == x.shape[1]] if out.dim() > 1 and out.shape[0] == x.shape[0] else []
    return axes[0] if axes else None


def _exchanged(batch: Batch, x: Tensor, t: int) -> Batch:
    """`batch` with the steps from t on of x taken from other rows."""
    donor = x.roll(1, 0)
    return batch.replace(x=patched(batch["x"], x, (slice(None), slice(t, None)), donor))


def _differs(x: Tensor, t: int) -> Tensor:
    """[B]: whether the exchange changes step t of a row."""
    return (x.roll(1, 0)[:, t] != x[:, t]).reshape(len(x), -1).any(1)


def _where(moved: Tensor, bound: float) -> list[int]:
    """Steps of [B, t, ...] that moved."""
    return (moved.flatten(2) if moved.dim() > 2 else moved[..., None]).amax((0, 2)).gt(bound).nonzero().flatten().tolist()[-5:]
