"""train() and eval() reach every layer: dropout acts in training only, batch norms learn their statistics there and keep them in
evaluation.

A frozen part may rest in eval mode: what is no fault is a batch norm without trainable scale or with statistics of another training, and
a dropout among frozen layers. A momentum that leaves the running statistics where they began makes evaluation another network than the
one trained. Of players each is asked by itself; noise from dropout in evaluation may be meant there (Isola et al. 2017, "pix2pix").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._dependence import calls, sample
from dlrun.checks._dropouts import Dropouts
from dlrun.checks._frame import Finding, Subject, check, tensors
from dlrun.checks._modes import ACTS_BY_MODE, DROPOUTS, NORMS, asleep, fresh_statistics, named, state, stuck, written
from dlrun.checks._players import each
from dlrun.checks._reach import reach
from dlrun.run import Run

__all__ = ["DROPOUTS", "mode_switch"]

SAMPLES = ("vae", "diffusion", "gan", "other")
"""Kinds of task whose outputs may be drawn, in evaluation too."""
RULE = "difference <= 10 x that of equal noise + 1e-6 x largest output"
ROWS = 29
"""A prime: an axis of this size in the state is one of rows."""
SLOW = 0.5
"""Share of its first value that a running statistic still holds after the whole training."""


@check(stage="outputs", moment="fast", recipe="Hacker's Guide: model.eval(), and look at model.training")
def mode_switch(subject: Subject) -> Finding:
    """Forwards in eval mode under different noise agree; dropouts are called, in train mode only; batch norms learn in train mode."""
    task = subject.loss_task
    if task is None:
        return each(subject, mode_switch, lambda player, found: "dropout is active" in found.cause)
    run = subject.copy()
    left = stuck(run.modules)
    heard = Dropouts()
    with heard:
        gap, bound = _gap(subject, run)
    numbers = {"difference": gap, "bound": bound}
    if left and (gap > bound or isinstance(left[1], ACTS_BY_MODE)):
        text, cause = f"after eval() layer {left[0]} is still in train mode", "a train() method of the network's own does not reach it"
        changed = [name for name, _ in written(subject, subject.prepared(run, subject.few))][:10]
        return Finding("error", text, cause, "call super().train(mode)", numbers | {"layer": left[0], "changed": changed}, RULE)
    declared = subject.expects.get("stochastic_eval")
    if gap > bound and not declared:
        return _varies(subject, task, gap, heard, numbers)
    if declared and gap <= bound:
        text = "declared by expects.stochastic_eval, yet evaluation repeats itself"
        return Finding("warning", text, "nothing is drawn in eval mode", "drop the declaration", numbers, "> bound")
    found = _resting(subject, numbers) or _statistics(subject, numbers) or _dropouts(subject, numbers)
    if found:
        return found
    drawn = "evaluation is drawn at random, as declared" if declared else "evaluation repeats itself"
    return Finding("ok", f"train() and eval() reach every layer, {drawn}", numbers=numbers, threshold=RULE)


def _varies(subject: Subject, task: Any, gap: float, heard: Dropouts, numbers: dict[str, Any]) -> Finding:
    """The verdict on an evaluation that does not repeat itself: dropout is a fault, other noise may be meant."""
    text = f"two evaluations of the same batch differ by {gap:.3g}"
    if heard.active:
        cause, step = "dropout is active in eval mode", "F.dropout(x, p, training=self.training), or nn.Dropout"
        return Finding("error", text, cause, step, numbers, RULE)
    if reach(subject).anew:
        return Finding("info", f"{text}: parameters are drawn anew in every forward (graph_reach)", numbers=numbers, threshold=RULE)
    said = subject.run.data.spec.kind
    kind = getattr(task, "kind", said)
    if kind in SAMPLES or said in SAMPLES[:2]:
        return Finding("info", f"{text}: outputs of this kind ({kind}) are drawn", numbers=numbers, threshold=RULE)
    step = "draw in training only (self.training), or declare expects.stochastic_eval=true"
    return Finding("warning", text, "something is drawn at random in eval mode", step, numbers, RULE)


def _resting(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The finding where train() does not reach layers that are to act in training, or forward itself switches the mode."""
    run = subject.copy()
    sleeping = asleep(run.modules)
    rule = "a dropout or batch norm that is trained is in train mode after train()"
    if sleeping and not (subject.expects.get("pretrained") or run.config.get("start")):
        every = not any(part.training for module in run.modules.values() for part in module.modules())
        text = f"after train() {sleeping[0]} is still in eval mode ({len(sleeping)} such layers)"
        cause = "a train() method of the network's own swallows the switch" if every else "a train() method of its own, or eval() of a part"
        step = "call super().train(mode) and return self"
        return Finding("error" if every else "warning", text, cause, step, numbers | {"layers": sleeping[:10]}, rule)
    with torch.no_grad(), run.precision.autocast():
        for module in run.modules.values():
            module.train()
        before = [name for name, part in named(run.modules) if part.training]
        run.task.outputs(run.nets, subject.prepared(run, subject.few))  # type: ignore[attr-defined]
    parts = dict(named(run.modules))
    switched = [name for name in before if not parts[name].training and isinstance(parts[name], ACTS_BY_MODE)]
    if not switched:
        return None
    text = f"forward leaves {switched[0]} in eval mode ({len(switched)} such layers): later steps train without it"
    cause, step = "forward calls eval() on the network or a part of it", "leave train() and eval() to the loop"
    return Finding("error", text, cause, step, numbers | {"layers": switched[:10]}, rule)


def _statistics(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The finding where evaluation writes into the network, or where a training forward leaves running statistics as they were made."""
    run = subject.copy()
    batch = sample(subject, run, ROWS)
    changed = written(subject, batch)
    if changed and len(batch) not in {size for _, shape in changed for size in shape}:  # an axis of rows: a hidden state
        text = f"an evaluation changes {changed[0][0]}: what it gives depends on what was evaluated before"
        cause, step = "statistics are updated in eval mode too", "update them only where self.training is true"
        return Finding("error", text, cause, step, numbers | {"changed": [name for name, _ in changed[:10]]}, "no float changes")
    if subject.expects.get("pretrained") or run.config.get("start"):
        return None
    norms = {name: part for name, part in named(run.modules) if isinstance(part, NORMS) and fresh_statistics(part)}
    if not norms:
        return None
    before, called = state(run), _called(subject, run, batch)
    after = state(run)
    still = [n for n in norms if n in called and norms[n].training and torch.equal(before[f"{n}.running_var"], after[f"{n}.running_var"])]
    slow = {n: _kept(norms[n], run.steps) for n in norms if n in called and n not in still}
    late = [n for n, kept in slow.items() if kept > SLOW and run.steps >= 100]
    if not still and not late:
        return None
    name = (still or late)[0]
    share = "never move" if still else f"still hold {slow[name]:.0%} of their first values after {run.steps} steps"
    text = f"the running statistics of {name} {share} (momentum {getattr(norms[name], 'momentum', None)})"
    cause = "its momentum is the share of the new batch in torch: 0.1 is usual, 0.01 where others write 0.99"
    rule = f"they move, and hold less than {SLOW:.0%} of their first values at the end"
    return Finding("error" if still else "warning", text, cause, "set momentum=0.1", numbers | {"layers": (still or late)[:10]}, rule)


def _called(subject: Subject, run: Run, batch: Any) -> set[str]:
    """Names of the layers that one forward in train mode calls in train mode."""
    seen: set[str] = set()
    calls(subject, run, batch, lambda name, module, inputs, out: seen.add(name) if module.training else None, training=True)
    return seen


def _kept(norm: nn.Module, steps: int) -> float:
    """Share of the first running statistics that is left after `steps` steps."""
    momentum = getattr(norm, "momentum", None)
    return 0.0 if momentum is None else float((1 - momentum) ** steps)


def _dropouts(subject: Subject, numbers: dict[str, Any]) -> Finding | None:
    """The finding on dropout layers that are never called, drop everything, or stand behind the last layer."""
    run = subject.copy()
    layers = {name: part for name, part in named(run.modules) if isinstance(part, DROPOUTS) and part.p > 0}
    if not layers:
        return None
    made: dict[str, Tensor] = {}
    heard = Dropouts()

    def note(name: str, module: nn.Module, inputs: Any, out: Any) -> None:
        if name in layers and isinstance(out, Tensor):
            made[name] = out

    with heard:
        outputs = calls(subject, run, subject.prepared(run, subject.few), note, training=True)
    rule = "called, or used by name"
    everything = [name for name in made if layers[name].p >= 1]
    if everything:
        text, cause = f"{everything[0]} drops everything: its p is 1", "p is the share to drop, not to keep"
        return Finding("error", text, cause, "use p = 1 - the share to keep", numbers | {"layers": everything}, "p < 1")
    last = [name for name, out in made.items() if any(t is out for t in tensors(outputs)[:1])]
    if last and layers[last[0]].p >= 0.05:
        text, cause = (
            f"{last[0]} drops {layers[last[0]].p:.0%} of the network's outputs in training",
            "dropout stands behind the last layer",
        )
        return Finding("warning", text, cause, "move it before the last layer", numbers | {"layers": last}, "no dropout of outputs")
    silent = [] if heard.active else sorted(layers)
    if not silent:
        return None
    text, cause = f"{len(silent)} dropout layers that forward never calls: {', '.join(silent[:3])}", "they were made and forgotten"
    return Finding("warning", text, cause, "call them in forward", numbers | {"layers": silent[:10]}, rule)


def _gap(subject: Subject, run: Run) -> tuple[float, float]:
    """The largest difference of two evaluations under different noise, and the bound that equal noise sets."""
    batch = subject.prepared(run, subject.few)
    one, same, other = (tensors(subject.outputs(run, batch, training=False, key=key)) for key in ("one", "one", "two"))
    top = max((float(a.abs().max()) for a in one if a.numel() and a.is_floating_point()), default=0.0)
    return _difference(one, other), 10 * _difference(one, same) + 1e-6 * top


def _difference(one: list[Tensor], two: list[Tensor]) -> float:
    pairs = [(a, b) for a, b in zip(one, two) if a.shape == b.shape and a.numel()]
    return max((float((a.float() - b.float()).abs().nan_to_num(0).max()) for a, b in pairs), default=0.0)
