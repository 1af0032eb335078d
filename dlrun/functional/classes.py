"""From logits and targets to predicted and true classes and to probabilities, the same for every metric that reads classes.

Three forms of targets: a class a row (out [..., C], y [...] whole numbers), labels of 0 or 1 with a logit each (out and y of one shape,
also several labels a row), and shares of classes (out and y [B, C], y floating). The last two look alike: `kind` "binary" says that they
are labels. Targets below 0 (-100) are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import torch
from torch import Tensor

_looked_at: tuple[Callable[[], Tensor | None], int, bool] = (lambda: None, 0, False)
"""The targets last looked at, which version of them, and the answer: loss, count and metrics of a step ask for the same ones."""


def all_count(y: Tensor) -> bool:
    """Whether it is known, at the price of a look (2 us), that no target is masked; on an accelerator a look would make the step wait."""
    global _looked_at
    if y.device.type != "cpu":
        return False
    seen, version, answer = _looked_at
    now = -1 if y.is_inference() else y._version
    if seen() is y and version == now >= 0:
        return answer
    answer = y.numel() > 0 and float(y.min()) >= 0
    _looked_at = (ref(y), now, answer)
    return answer


def form(out: Tensor, y: Tensor, kind: str | None = None) -> str:
    """`classes`, `labels` or `shares`; ValueError where the shapes fit none of these."""
    if out.dim() and out.shape[:-1] == y.shape and (out.shape[-1] > 1 or kind == "classification"):
        return "classes"
    if out.shape == y.shape:
        several = out.dim() > 1 and out.shape[-1] > 1 and y.is_floating_point()
        return "shares" if several and kind != "binary" else "labels"
    if out.dim() and out.shape[:-1] == y.shape:
        return "labels"  # [B, 1] against [B]: the largest of one output would always be class 0
    raise ValueError(f"logits [..., C] go with classes [...], logits [B] with 0/1 targets [B]; found {list(out.shape)} and {list(y.shape)}")


def decide(out: Tensor, y: Tensor, kind: str | None = None) -> tuple[Tensor, Tensor]:
    """(predicted, true) classes of equal shape; true classes below 0 are not to be counted.

    Classes: the largest logit. Labels: a logit above 0 is class 1, and so is a target above one half. Shares: both by their largest entry.
    Raises ValueError where the shapes fit none of these.
    """
    found = form(out, y, kind)
    if found == "classes":
        return out.argmax(-1), y
    if found == "shares":
        return out.argmax(-1), y.argmax(-1)
    out = out.reshape(y.shape)
    return (out > 0).to(y.dtype), torch.where(y < 0, y, (y > 0.5).to(y.dtype)) if y.is_floating_point() else y


def as_rows(out: Tensor, y: Tensor, kind: str | None = None) -> tuple[Tensor, Tensor]:
    """(logits float64 [N, C], targets) of the counted rows; targets are classes [N] or shares float64 [N, C].

    A label's logit z becomes the two logits 0 and z, so that one logit and two give equal numbers. Raises ValueError as `form`.
    """
    found = form(out, y, kind)
    if found == "labels":
        z, y = out.detach().double().flatten(), y.flatten()
        out = torch.stack((torch.zeros_like(z), z), 1)
        if y.is_floating_point():
            counted = y >= 0
            return out[counted], torch.stack((1 - y, y), 1)[counted].double()
    logits, y = (
        out.detach().double().reshape(-1, out.shape[-1]),
        y.reshape(-1, out.shape[-1]).double() if found == "shares" else y.flatten(),
    )
    if found == "shares":
        return logits, y
    counted = y >= 0
    return logits[counted], y[counted].long()


def hard(y: Tensor) -> Tensor:
    """Classes [N] of targets as `as_rows` gives them: shares by their largest entry, the first of equal ones."""
    return y.argmax(1) if y.dim() == 2 else y


def tally(out: Tensor, y: Tensor, kind: str | None = None) -> Tensor:
    """float64 [3, C]: how often each class was rightly predicted, was predicted, and occurred.

    Of one label a row the classes are 0 and 1; of several labels a row each label is a class, counted where it is 1.
    """
    found = form(out, y, kind)
    predicted, true = decide(out, y, kind)
    counted = true >= 0
    if found == "labels" and y.dim() > 1 and y.shape[-1] > 1:
        said, is_so = ((side > 0) & counted for side in (predicted, true))
        return torch.stack([part.reshape(-1, y.shape[-1]).double().sum(0) for part in (said & is_so, said, is_so)])
    classes = 2 if found == "labels" else out.shape[-1]
    # Uncounted targets go to a bin of their own, which is cut off: no boolean index, hence no wait for the device.
    predicted, true = (torch.where(counted, side, classes).flatten().long() for side in (predicted, true))
    right = torch.where(predicted == true, true, classes)
    zeros = torch.zeros(classes + 1, dtype=torch.float64, device=out.device)
    return torch.stack([zeros.index_add(0, bins, torch.ones_like(bins, dtype=torch.float64))[:-1] for bins in (right, predicted, true)])
