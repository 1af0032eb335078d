"""The first loss against the value an untrained network should have: ln C for C classes (ln 2 = 0.693), else that of all-zero outputs.

Hacker's Guide (compare with a reference value such as ln 2); Karpathy's recipe (verify loss at init). One batch's loss proves little: a
network that is sure of itself may be right by luck, and a healthy one a little off. So three numbers are read together: the loss, the loss
of the same outputs on shuffled targets (what the confidence costs where nothing is known), and the spread of the logits for unit noise
into the last layer, which tells a last layer that is too large (1.4 in the usual initialisations) from features that are.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch, map_leaves
from dlrun.build import build_networks
from dlrun.checks._far import too_far
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._scale import factor_on_logits
from dlrun.checks.shape_contract import class_count, main_output
from dlrun.finite import Watch
from dlrun.loop import train_step
from dlrun.run import Run
from dlrun.steplog import StepLog

ROWS = 128
SLACK = 0.25
CONFIDENT = 2.0
"""Standard deviation of logits across classes above which a start is over-confident; usual initialisations give 0.1 to 1.5."""
GAIN = 2.4
"""Spread of logits for unit noise into the last layer that no usual initialisation reaches (He, orthogonal: 1.4; Xavier with gain: 2)."""
TIMES = (0.03, 8.0)
"""Factors of a loss on logits that are usual: a learned temperature starts near 1."""
COSTLY = 1.15
STEPS = 30
"""Steps of training within which a start that is merely over-confident (distances, cosines times a factor) mends itself."""
KNOWS = 0.75
LOGS = 1e-3
"""How far the sum of probabilities may be from 1, in its logarithm."""
FAR = 5.0
RULE = (
    f"error: last layer's gain > {GAIN} and shuffled targets cost > {COSTLY} x expected, or loss and shuffled loss > {FAR:g} x expected; "
    f"warning: logits spread > {CONFIDENT:g} and loss > expected + {SLACK}"
)


ROOTS = ("input_scale", "shape_contract", "output_form", "ce_gradient_signature", "loss_coverage", "loss_direction")
"""Whose findings make the value of the first loss worthless."""


@check(stage="loss", moment="fast", recipe="Karpathy: verify loss @ init; Hacker's Guide: ln 2", follows=ROOTS, shown=True)
def init_loss(subject: Subject) -> Finding:
    """Loss of the untrained networks on up to 128 rows, in train mode, beside its reference."""
    if subject.loss_task is None:
        return skipped("a task of several objectives has no single first loss")
    run = subject.copy()
    batch = _rows(subject, run)
    outputs = subject.outputs(run, batch, training=True)
    loss = float(subject.loss_of(run, outputs, batch))
    numbers: dict[str, Any] = {"loss": loss, "rows": len(batch)}
    if not math.isfinite(loss):
        cause = "an overflow, a logarithm of 0 or a division by 0 in network or loss, or inputs of a huge scale"
        return Finding("error", f"first loss is {loss}", cause, "look at outputs and loss of one row", numbers, "finite")
    far = too_far(subject)
    if far is not None:
        return far
    expected, name = reference(subject, run, outputs, batch)
    if expected is None:
        return Finding("info", f"first loss {loss:.4f}; there is no reference value for this task", numbers=numbers)
    numbers["expected"] = expected
    logits = main_output(run, outputs)
    if logits is None or not _nats(subject, run, logits, batch, expected):
        return Finding("info", f"first loss {loss:.4f}; {name} would give {expected:.4f}", numbers=numbers)
    numbers |= {"shuffled": _shuffled(subject, run, outputs, batch, loss), "logit_spread": spread(logits, batch)}
    factor, cosines = factor_on_logits(subject)
    numbers["cosines"] = cosines
    if factor is not None and not TIMES[0] < factor < TIMES[1]:
        numbers["factor"] = factor
    return _judge(subject, run, batch, f"first loss {loss:.4f}, expected {expected:.4f} ({name})", numbers)


def _judge(subject: Subject, run: Run, batch: Batch, text: str, numbers: dict[str, Any]) -> Finding:
    """The verdict on a loss in nats that has a reference."""
    loss, expected, shuffled, sure = (numbers[key] for key in ("loss", "expected", "shuffled", "logit_spread"))
    if subject.expects.get("pretrained") or run.config.get("start"):
        return Finding("info", f"{text}; the weights are not fresh", numbers=numbers)
    if shuffled > COSTLY * expected:
        numbers["last_layer_gain"] = last_gain(subject, run, batch)
    large = (numbers.get("last_layer_gain") or 0.0) > GAIN
    if numbers["cosines"]:
        return Finding("info", f"{text}; outputs are cosines, which the loss multiplies", numbers=numbers, threshold=RULE)
    detail = f"{text}, {shuffled:.4f} with shuffled targets"
    scaled = _scaled(detail, numbers)
    if scaled is not None:
        return scaled
    if large and loss < expected:  # right by luck, or by what it learned before: other seeds tell
        numbers["other_seeds"] = others = _of_other_seeds(subject, run, batch)
        detail += f", {others:.4f} with other seeds"
        large = others > COSTLY * expected
    if loss < KNOWS * expected and not large:
        return Finding("info", f"{text}: lower than that of a network that knows nothing", numbers=numbers, threshold=RULE)
    if large:
        cause = f"the last layer starts too large: unit noise gives logits that spread by {numbers['last_layer_gain']:.1f}"
        return Finding("error", detail, cause, "initialise the last layer smaller", numbers, RULE)
    if min(loss, shuffled) > FAR * expected:
        cause = f"the network starts over-confident: logits spread by {sure:.1f}"
        return Finding("error", detail, cause, "look at the scale of the inputs and of the initial weights", numbers, RULE)
    if sure > CONFIDENT and loss > expected + SLACK:
        numbers["after_some_steps"] = later = _later(subject)
        if later is not None and later < expected:
            return Finding("info", f"{detail}; {STEPS} steps mend it ({later:.4f})", numbers=numbers, threshold=RULE)
        cause = f"over-confident at the start: logits spread by {sure:.1f}"
        return Finding("warning", detail, cause, "look at the scale of the inputs and of the initial weights", numbers, RULE)
    return Finding("ok", f"{text}: as it should be", numbers=numbers, threshold=RULE)


def _later(subject: Subject) -> float | None:
    """The mean of the last 5 of 30 losses of a copy in training, each before its step on new rows; None without so many steps."""
    run, log, watch, losses = subject.copy(), StepLog(), Watch(subject.run.device), []
    if run.steps < STEPS:
        return None
    for module in run.modules.values():
        module.train()
    for step in range(STEPS):
        raws = run.data.batches(step)
        if step >= STEPS - 5:
            losses.append(sum(subject.batch_loss(run, subject.prepared(run, raw)) for raw in raws) / len(raws))
        log.begin(False)
        train_step(run, step, [raw.map(torch.clone) for raw in raws], log, watch)
    later = sum(losses) / len(losses)
    return later if math.isfinite(later) else None


def _scaled(detail: str, numbers: dict[str, Any]) -> Finding | None:
    """The finding where the loss multiplies logits by a factor that makes them far too sure, or far too alike."""
    factor, sure = numbers.get("factor"), numbers["logit_spread"]
    if factor is None:
        return None
    if factor < 1:
        text = f"{detail}; the loss divides logits by {1 / factor:.0f}"
        cause = "a temperature far above 1: logits must grow a hundredfold before the loss can fall"
        return Finding("warning", text, cause, "take the temperature out of the loss, or near 1", numbers, RULE)
    if sure * factor < CONFIDENT or numbers["loss"] < numbers["expected"] + SLACK:
        return None
    text = f"{detail}; the loss multiplies logits by {factor:.0f}, they spread by {sure * factor:.1f} then"
    cause = "a temperature far below 1 (or a multiplication where a division was meant): over-confident at the start"
    return Finding("warning", text, cause, "take the temperature out of the loss, or near 1", numbers, RULE)


def _of_other_seeds(subject: Subject, run: Run, batch: Batch) -> float:
    """The mean first loss of three networks built from other seeds; that of weights which come from a file is the same again."""
    losses = []
    for seed in range(run.seed + 1, run.seed + 4):
        built = build_networks(run.config, run.task, run.data.spec, seed)
        other = replace(run, modules={**run.modules, **{name: module.to(run.device) for name, module in built.items()}})
        losses.append(subject.batch_loss(other, batch))
    return sum(losses) / len(losses)


def _rows(subject: Subject, run: Run) -> Batch:
    """The first training batches up to 128 rows, prepared; the first one alone where more rows would mean another loss."""
    first = subject.prepared(run, subject.raw)
    if run.task.couples_rows or run.task.expected_initial_loss(run.data.spec) is None:
        return first
    if len(first) >= ROWS or not getattr(run.data.raw("train"), "in_memory", False):
        return first
    wanted = min(math.ceil(ROWS / max(run.data.batch_size, 1)), 16)
    raws = [raw for step in range(wanted) for raw in run.data.batches(step)]
    try:
        joined: Batch = Batch.cat([subject.prepared(run, raw) for raw in raws])[:ROWS]
        return joined
    except (RuntimeError, KeyError, IndexError):
        return first


def reference(subject: Subject, run: Run, outputs: Any, batch: Batch) -> tuple[float | None, str]:
    """The loss of an untrained network and what it is called."""
    known = run.task.expected_initial_loss(run.data.spec)
    logits = main_output(run, outputs)
    mine = class_count(logits, batch.get("y")) if logits is not None else 0
    if known is not None and run.data.spec.classes and mine not in (0, 1, run.data.spec.classes):
        return math.log(mine), f"ln {mine}: the network has {mine} outputs, the data {run.data.spec.classes} classes"
    if known is not None:
        count = round(math.exp(known))
        return known, f"ln {count}" if abs(math.log(max(count, 1)) - known) < 1e-6 else "expected for this task"
    try:
        value = float(subject.loss_of(run, map_leaves(_nothing, outputs), batch))
    except TypeError:  # outputs of a form of their own: a distribution, an object
        return None, ""
    except (RuntimeError, ValueError, ArithmeticError):  # a loss that is not defined there (a variance of 0)
        return None, ""
    return (value, _named(run, value)) if math.isfinite(value) else (None, "")


def _nothing(out: Tensor) -> Tensor:
    """Outputs that tell no class from another: zeros, or equal log-probabilities where outputs are such."""
    for axis in (-1, 1) if out.is_floating_point() and out.dim() > 1 else ():
        classes = out.shape[axis]
        if classes > 1 and float(out.detach().float().logsumexp(axis).abs().max()) < LOGS:
            return torch.full_like(out, -math.log(classes))
    return torch.zeros_like(out)


def _named(run: Run, value: float) -> str:
    """What the loss of all-zero outputs is called: of a loss over the whole batch the ln of how many there are to choose from."""
    count = round(math.exp(value)) if run.task.couples_rows and value < 20 else 0
    return f"outputs of zero, ln {count}" if count > 1 and abs(math.log(count) - value) < 1e-4 else "outputs of zero"


def _nats(subject: Subject, run: Run, logits: Tensor, batch: Batch, expected: float) -> bool:
    """Whether the loss is a cross-entropy: its task says ln C, or zero logits of C classes cost ln C."""
    if run.task.expected_initial_loss(run.data.spec) is not None:
        return True
    classes = class_count(logits, batch.get("y"))
    return classes > 1 and abs(expected - math.log(classes)) < 0.02 * math.log(classes)


def spread(logits: Tensor, batch: Batch) -> float:
    """Standard deviation of logits across classes, root mean square over rows; a single logit counts as the difference of two."""
    values, target = logits.detach().float(), batch.get("y")
    classes = class_count(logits, target)
    mixed = _are_probabilities(target, logits)
    if classes < 2 and not mixed:
        return float(values.square().mean().sqrt() / math.sqrt(2))
    axis = -1 if mixed or (isinstance(target, Tensor) and logits.shape[:-1] == target.shape) else 1
    return float(values.std(axis, correction=1).square().mean().sqrt())


def _are_probabilities(target: Any, logits: Tensor) -> bool:
    """Whether targets are probabilities of classes, one a logit (mixed labels)."""
    if not isinstance(target, Tensor) or not target.is_floating_point() or target.dim() < 2 or target.shape != logits.shape:
        return False
    return bool((target >= 0).all()) and float((target.sum(-1) - 1).abs().max()) < 1e-4


def _shuffled(subject: Subject, run: Run, outputs: Any, batch: Batch, loss: float) -> float:
    """Mean loss of the same outputs on targets that belong to other rows; the loss itself where there are none."""
    y, rows = batch.get("y"), len(batch)
    if not isinstance(y, Tensor) or rows < 4:
        return loss
    shifts = [max(1, rows * part // 9) for part in (1, 2, 4, 7)]
    losses = [float(subject.loss_of(run, outputs, batch.replace(y=y.roll(shift, 0)))) for shift in shifts]
    return sum(losses) / len(losses)


def last_gain(subject: Subject, run: Run, batch: Batch) -> float | None:
    """Root mean square of the logits about each one's mean, with unit noise into the last layer with weights; None without one."""
    called: list[nn.Module] = []
    leafs = [part for name in run.nets for part in run.modules[name].modules() if any(True for _ in part.parameters(recurse=False))]

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        called.append(module)

    def noise(module: nn.Module, inputs: Any) -> Any:
        first, *rest = inputs
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return None
        drawn = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
        return (drawn.to(first.device, first.dtype), *rest)

    handles = [part.register_forward_hook(note) for part in leafs]
    subject.outputs(run, batch, training=False)
    for handle in handles:
        handle.remove()
    if not called:
        return None
    handle = called[-1].register_forward_pre_hook(noise)
    out = main_output(run, subject.outputs(run, batch, training=False))
    handle.remove()
    return None if out is None or len(out) < 2 else float(out.float().var(0, correction=1).mean().sqrt())
