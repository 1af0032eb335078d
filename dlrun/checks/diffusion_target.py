"""What a denoiser is to predict belongs to the noise that is in its input.

For the noise, the clean row, v or a flow's velocity alike, the target is a sum of the noised input and the clean row, with two weights that
hang on the time alone. Where the network adds noise by itself and gives (prediction, target), this is tested row by row with the clean rows
at hand: two weights leave nothing over. Where the data holds noised inputs and targets, whose clean rows are not at hand, the two must at
least vary together: their cosine, row by row, against that with the inputs of other rows.

A denoiser that is told the time is told another one from row to row, that at which the row was mixed, and at the last of them a row is
noise alone. See `_clock.py` and `_noised.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import leaves
from dlrun.checks._clock import disagreed, stopped
from dlrun.checks._frame import Finding, Subject, check, skipped, tensors
from dlrun.checks._noised import Fault, never_noisy, noise_share, seen_levels, told_by, untold

LEAST_WIDTH, LEAST_ROWS, ROWS = 6, 256, 512
LEFT = 0.1
"""Share of a target's square that may be left over."""
SIGMAS = 4.5
RULE = f"times differ; input and clean row explain > {1 - LEFT:.0%} of each target; or they vary together by > {SIGMAS:g} sigma"


@check(stage="data", recipe="Hacker's Guide: look at the data right before model(data)")
def diffusion_target(subject: Subject) -> Finding:
    """Targets against noised inputs: seen on their way through the network, or in the data."""
    if subject.kind != "diffusion" or subject.loss_task is None:
        return skipped("nothing is denoised here")
    batch = subject.prepared(subject.copy(), subject.few)
    x, y = batch.get("x"), batch.get("y")
    outputs = subject.outputs(subject.copy(), batch, training=True)
    pair = tensors(outputs)[:2]
    if len(pair) == 2 and pair[0].shape == pair[1].shape and isinstance(x, Tensor) and pair[0].numel() == x.numel():
        return _inside(subject, x, pair, stopped(subject))
    if isinstance(y, Tensor) and y.is_floating_point():
        return _in_data(subject, y)
    return skipped("neither outputs (prediction, target) nor targets of numbers are at hand")


def _inside(subject: Subject, x: Tensor, pair: list[Tensor], still: str) -> Finding:
    """The verdict where the network makes its own noised inputs: they are looked for among what its layers get."""
    if still:
        cause = "times are divided as integers, cast, or drawn once: the network is told one time for all rows"
        return Finding("warning", still, cause, "print what the network is told of the time, for a few rows", {}, RULE)
    if fault := disagreed(subject):
        return Finding("warning", *fault, numbers={}, threshold=RULE)
    width = x[0].numel()
    if width < LEAST_WIDTH:
        return skipped(f"rows of {width} numbers are too narrow: two weights explain nearly any target")
    run, heard = subject.copy(), list[Tensor]()

    def note(module: nn.Module, inputs: Any, output: Any = None) -> None:
        heard.extend(t.detach() for t in tensors(inputs) if t.is_floating_point() and len(t) == len(x) and t[0].numel() >= width)

    handles = [m.register_forward_hook(note) for name in run.nets for m in run.modules[name].modules()]
    batch = subject.prepared(run, subject.few)
    again = tensors(subject.outputs(run, batch, training=True))[:2]
    for handle in handles:
        handle.remove()
    target = again[1] if not torch.equal(again[1], pair[0]) else again[0]
    inputs = [t.flatten(1)[:, :width].double() for t in heard]
    clean = x.flatten(1).double()
    noised = [t for t in inputs if not torch.allclose(t, clean)]
    if not noised:
        return skipped("no layer gets an input as large as a row")
    left = min(float(_left(target.flatten(1).double(), t, clean).median()) for t in noised)
    numbers: dict[str, Any] = {"left_over": left, "width": width}
    if left > LEFT:
        text = f"noised input and clean row leave {left:.0%} of the target unexplained"
        cause = "the target is other noise than the one that was added: it was drawn twice, or shuffled"
        return Finding("error", text, cause, "draw the noise once; add it and predict the same tensor", numbers, RULE)
    return Finding("ok", "targets belong to the noise in the inputs", numbers=numbers, threshold=RULE)


def _left(target: Tensor, noised: Tensor, clean: Tensor) -> Tensor:
    """Share of each target's square that no sum of noised and clean row gives, [B]."""
    basis = torch.stack((noised, clean), 2)
    solved = torch.linalg.lstsq(basis, target[..., None], driver="gelsd").solution
    rest = target - (basis @ solved)[..., 0]
    left: Tensor = rest.square().sum(1) / target.square().sum(1).clamp(min=1e-12)
    return left


def _in_data(subject: Subject, y: Tensor) -> Finding:
    """The verdict where the data holds noised inputs and targets."""
    rows = subject.rows("train", ROWS)
    target = rows.y
    fault, told = _mixed(rows.x, target) if isinstance(target, Tensor) and target.dim() > 1 else (None, False)
    if fault:
        return Finding("warning", *fault, numbers={"rows": len(target)}, threshold=RULE)
    same = [leaf for leaf in leaves(rows.x) if isinstance(target, Tensor) and leaf.shape == target.shape and leaf.is_floating_point()]
    if not same or len(target) < 64 or target[0].numel() < LEAST_WIDTH:
        return skipped("inputs and targets are not of one shape, too few or too narrow")
    y, x = target.flatten(1).double(), same[0].flatten(1).double()
    own, other = _cosines(x, y), _cosines(x.roll(1, 0), y)
    shift = float((own.mean() - other.mean()) / (own.var() / len(own) + other.var() / len(own)).sqrt().clamp(min=1e-12))
    a, b = own.square(), other.square()
    size = float((a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt().clamp(min=1e-12))
    numbers: dict[str, Any] = {"cosine": float(own.mean()), "of_other_rows": float(other.mean()), "sigmas": [shift, size], "rows": len(y)}
    if abs(shift) > SIGMAS or size > SIGMAS:
        return Finding("ok", "inputs and targets vary together", numbers=numbers, threshold=RULE)
    if abs(shift) < 3 and size < 3 and len(y) >= LEAST_ROWS and not told:
        text = f"targets have no more to do with their inputs (cosine {float(own.mean()):+.3f}) than with those of other rows"
        cause = "the target is other noise than the one in the input: it was drawn twice, or shuffled"
        return Finding("warning", text, cause, "draw the noise once; add it and give the same tensor as target", numbers, RULE)
    return Finding("info", "inputs and targets hardly vary together", numbers=numbers, threshold=RULE)


def _mixed(x: Any, target: Tensor) -> tuple[Fault | None, bool]:
    """What is wrong with the noise in the rows of the data, beside the times that stand there (None where nothing is to be seen); and
    whether these times tell how rows and targets were mixed."""
    y, found = target.detach().cpu().flatten(1).double(), [leaf.detach().cpu() for leaf in leaves(x)]
    same = [leaf for leaf in found if leaf.shape == target.shape and leaf.is_floating_point()]
    beside = [leaf.reshape(len(leaf), -1).double() for leaf in found if not any(leaf is one for one in same)]
    if len(same) != 1 or not beside or len(y) < LEAST_ROWS or y.shape[1] < 2 or not target.is_floating_point():
        return None, False
    noised, told = same[0].flatten(1).double(), torch.cat(beside, 1)
    levels, differ = seen_levels(noised, y)
    fault = never_noisy(noise_share(noised, y), told) or (untold(levels, told) if differ else None)
    return fault, any(one.clear() for one in told_by(levels, told))


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(0), y - y.mean(0)
    cosines: Tensor = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp(min=1e-12)
    return cosines
