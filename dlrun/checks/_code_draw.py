"""The draw of a variational autoencoder's code: noise of its own for each row and number, of both signs, as wide as KL takes it to be.

What the decoder gets is mu and something (Kingma, Welling 2014, section 2.4): it is found by its slope, which is 1 at mu. The something
must not have one sign in all rows of a column (one draw for a batch), nor in a row (one number for all of a code), nor be the same at each
call. And where KL is least for a log variance, the draw must be exp(logvar / 2) wide: its own slope at logvar is half of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._frame import Subject, tensors
from dlrun.loop import prepare
from dlrun.noise import seed_generators
from dlrun.task import LossTask

ROWS, COLUMNS, DRAWS = 16, 3, 5
NEAR = 1e-3
Fault = tuple[str, str, str]


def misdrawn(subject: Subject, kl: Callable[[float], float]) -> Fault | None:
    """What is wrong with the draw; None of a sound one, and where it is not seen. `kl` is the loss by the third output, mu at 0."""
    found = [one for key in range(DRAWS) if (one := _noise(subject, key)) is not None]
    drawn = [noise for noise, _ in found]
    if len(found) < DRAWS or len({noise.shape for noise in drawn}) > 1 or len(drawn[0]) < ROWS or not bool((drawn[0] != 0).any()):
        return None
    first, slope = found[0]
    if all(torch.equal(first, noise) for noise in drawn):
        cause = "a generator with a fixed seed in forward"
        return "the code is drawn with the same noise at each call", cause, "draw by randn_like(mu), without a seed"
    if all(bool((noise >= 0).all()) for noise in drawn):
        cause = "the noise is uniform (rand), where the code is to be normal"
        return "what is added to mu is never negative", cause, "draw by randn_like(mu)"
    by_row = all(bool(_one_sign(noise.T)) for noise in drawn)
    if by_row or (first.shape[1] >= COLUMNS and all(bool(_one_sign(noise)) for noise in drawn)):
        what = "all rows of a batch" if by_row else "all numbers of a code"
        return f"{what} get one and the same noise", "the noise has the shape of one row or one column", "draw by randn_like(mu)"
    return _width(first, slope, kl)


def _width(noise: Tensor, slope: Tensor | None, kl: Callable[[float], float]) -> Fault | None:
    """The fault where the draw takes the third output for another thing than KL does: a variance for a deviation, say."""
    if slope is None:
        return None
    drawn = float((slope * noise).sum() / noise.square().sum())  # d log deviation / d third: 1/2 of a log variance, 1 of a log deviation
    if float((slope - drawn * noise).abs().max()) > NEAR * float(noise.abs().max()):
        return None
    at = kl(0.0)
    above, below = kl(1.0) - at, kl(-1.0) - at
    shape = above / below if below > 0 else math.nan
    taken = next((half for half in (0.5, 1.0) if abs(shape / _ratio(half) - 1) < 0.05), None)
    if taken is None or abs(drawn - taken) < 0.1 or min(abs(drawn - one) for one in (0.5, 1.0)) > 0.1:
        return None
    names = {0.5: "a log variance", 1.0: "a log deviation"}
    text = f"KL takes the third output for {names[taken]}, the draw for {names[1.5 - taken]}"
    return text, "a half is missing, or too much: the deviation is exp(logvar / 2)", "z = mu + exp(logvar / 2) * randn_like(mu)"


def _ratio(half: float) -> float:
    """KL at 1 over KL at -1, where the log variance is 2 * half times the third output."""
    two = 2 * half
    return (math.exp(two) - two - 1) / (math.exp(-two) + two - 1)


def _one_sign(rows: Tensor) -> Tensor:
    """Whether each row has one sign throughout, zeros aside."""
    return ((rows >= 0).all(1) | (rows <= 0).all(1)).all()


def _noise(subject: Subject, key: int) -> tuple[Tensor, Tensor | None] | None:
    """What is added to mu on the way to the decoder [N, D], and its slope at the third output, in step `key`; None where it is not seen."""
    run = subject.copy()
    assert isinstance(run.task, LossTask)
    heard = list[Tensor]()

    def note(module: nn.Module, inputs: Any, out: Any) -> None:
        heard.extend(t for t in tensors(inputs) if t.requires_grad)

    handles = [part.register_forward_hook(note) for name in run.nets for part in run.modules[name].modules()]
    for module in run.modules.values():
        module.train()
    try:
        with torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "code", key)
            _, mu, third = run.task.outputs(run.nets, prepare(run, key, 0, subject.few.map(torch.clone)))[:3]
    finally:
        for handle in handles:
            handle.remove()
    for t in heard:
        if t.shape != mu.shape or not mu.requires_grad or t is mu:
            continue
        of_mu, of_third = (
            torch.autograd.grad(t.sum(), [mu, third], retain_graph=True, allow_unused=True) if third.requires_grad else (None, None)
        )
        if of_mu is not None and bool((of_mu == 1).all()) and of_third is not None:
            return (t - mu).detach(), of_third.detach()
    return None
