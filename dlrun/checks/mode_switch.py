"""train() and eval() reach every layer: evaluation repeats itself, dropout acts in training only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlrun.checks._frame import Finding, Subject, check, skipped, tensors
from dlrun.run import Run

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
ACTS_BY_MODE = (*DROPOUTS, nn.modules.batchnorm._NormBase)
SAMPLES = ("vae", "diffusion", "gan", "other")
"""Kinds of task whose outputs may be drawn, in evaluation too."""
FUNCTIONS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    F.scaled_dot_product_attention,
)
RULE = "difference <= 10 x that of equal noise + 1e-6 x largest output"


@check(stage="loss", moment="fast", recipe="Hacker's Guide: model.eval(), and look at model.training")
def mode_switch(subject: Subject) -> Finding:
    """Forwards in eval mode under different noise must agree; dropout layers are called, in train mode only."""
    task = subject.loss_task
    if task is None:
        return skipped("a task of several objectives has no single output to repeat")
    run = subject.copy()
    before = {name: copy.deepcopy(module.state_dict()) for name, module in run.modules.items()}
    stuck = _stuck(run.modules)
    heard = _Dropouts()
    with heard:
        gap, bound = _gap(subject, run)
    changed = _changed(before, run.modules)
    numbers = {"difference": gap, "bound": bound}
    if stuck and (gap > bound or isinstance(stuck[1], ACTS_BY_MODE)):
        text, cause = f"after eval() layer {stuck[0]} is still in train mode", "a train() method of the network's own does not reach it"
        return Finding("error", text, cause, "call super().train(mode)", numbers | {"layer": stuck[0], "changed": changed}, RULE)
    declared = subject.expects.get("stochastic_eval")
    if gap > bound and not declared:
        return _varies(run, task, gap, heard, numbers)
    if declared and gap <= bound:
        text = "declared by expects.stochastic_eval, yet evaluation repeats itself"
        return Finding("warning", text, "nothing is drawn in eval mode", "drop the declaration", numbers, "> bound")
    silent = _silent(subject, run)
    if silent:
        text, cause = f"{len(silent)} dropout layers that forward never calls: {', '.join(silent[:3])}", "they were made and forgotten"
        return Finding("warning", text, cause, "call them in forward", numbers | {"layers": silent[:10]}, "called, or used by name")
    drawn = "evaluation is drawn at random, as declared" if declared else "evaluation repeats itself"
    return Finding("ok", f"train() and eval() reach every layer, {drawn}", numbers=numbers, threshold=RULE)


def _varies(run: Run, task: Any, gap: float, heard: _Dropouts, numbers: dict[str, Any]) -> Finding:
    """The verdict on an evaluation that does not repeat itself: dropout is a fault, other noise may be meant."""
    text = f"two evaluations of the same batch differ by {gap:.3g}"
    if heard.active:
        cause, step = "dropout is active in eval mode", "F.dropout(x, p, training=self.training), or nn.Dropout"
        return Finding("error", text, cause, step, numbers, RULE)
    kind = getattr(task, "kind", run.data.spec.kind)
    if kind in SAMPLES or run.data.spec.kind in SAMPLES[:2]:
        return Finding("info", f"{text}: outputs of this kind ({kind}) are drawn", numbers=numbers, threshold=RULE)
    step = "draw in training only (self.training), or declare expects.stochastic_eval=true"
    return Finding("warning", text, "something is drawn at random in eval mode", step, numbers, RULE)


class _Dropouts(TorchFunctionMode):
    """Hears whether a dropout function acts, whoever calls it."""

    active = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in FUNCTIONS:
            self.active = self.active or _acts(func, args, named)
        return func(*args, **named)


def _acts(func: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a call of one of `FUNCTIONS` drops anything; all but attention take (input, p, training)."""
    if func is F.scaled_dot_product_attention:
        return bool(named.get("dropout_p", args[4] if len(args) > 4 else 0.0) > 0)
    usual = 0.5 if func is not F.alpha_dropout and func is not F.feature_alpha_dropout else 0.0
    p = named.get("p", args[1] if len(args) > 1 else usual)
    training = named.get("training", named.get("train", args[2] if len(args) > 2 else func in (F.dropout, *FUNCTIONS[1:4])))
    return bool(training) and p > 0


def _gap(subject: Subject, run: Run) -> tuple[float, float]:
    """The largest difference of two evaluations under different noise, and the bound that equal noise sets."""
    batch = subject.prepared(run, subject.few)
    one, same, other = (tensors(subject.outputs(run, batch, training=False, key=key)) for key in ("one", "one", "two"))
    top = max((float(a.abs().max()) for a in one if a.numel() and a.is_floating_point()), default=0.0)
    return _difference(one, other), 10 * _difference(one, same) + 1e-6 * top


def _difference(one: list[Tensor], two: list[Tensor]) -> float:
    pairs = [(a, b) for a, b in zip(one, two) if a.shape == b.shape and a.numel()]
    return max((float((a.float() - b.float()).abs().nan_to_num(0).max()) for a, b in pairs), default=0.0)


def _stuck(modules: dict[str, nn.Module]) -> tuple[str, nn.Module] | None:
    """The first layer that stays in train mode after eval(), those that act by mode first."""
    for module in modules.values():
        module.train()
        module.eval()
    found = [(f"{name}.{path}".rstrip("."), part) for name, m in modules.items() for path, part in m.named_modules() if part.training]
    return next((pair for pair in found if isinstance(pair[1], ACTS_BY_MODE)), found[0] if found else None)


def _changed(before: Mapping[str, Mapping[str, Any]], modules: Mapping[str, nn.Module]) -> list[str]:
    """Entries of the networks' state that evaluating changed."""
    pairs = [
        (f"{name}.{key}", before[name].get(key), value) for name, module in modules.items() for key, value in module.state_dict().items()
    ]
    return [name for name, old, new in pairs if isinstance(new, Tensor) and isinstance(old, Tensor) and not torch.equal(old, new)][:10]


def _silent(subject: Subject, run: Run) -> list[str]:
    """Dropout layers that a training forward neither calls nor seems to use; empty where any dropout function acts."""
    layers = {f"{name}.{path}": part for name, module in run.modules.items() for path, part in module.named_modules()}
    active = {name: part for name, part in layers.items() if isinstance(part, DROPOUTS) and part.p > 0}
    if not active:
        return []
    heard = _Dropouts()
    with heard:
        subject.outputs(run, subject.prepared(run, subject.few), training=True)
    return [] if heard.active else sorted(active)
