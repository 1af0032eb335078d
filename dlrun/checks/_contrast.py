"""A contrastive loss is lowest where the two views of a row agree and rows differ; asked with made-up embeddings, without a network."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.checks._by_label import by_label
from dlrun.checks._embeddings import MOST_ROWS, astray, descended, flat, idle, together
from dlrun.checks._frame import Finding, Subject, skipped, tensors
from dlrun.checks._probe import Probe, put

DRAWS = 4
HUGE = 1e4
RULE = "two views that agree cost less than any embeddings; among equal ones a row is not its own candidate"


def contrast(subject: Subject, asked: Probe) -> Finding:
    """The verdict on a loss over the embeddings of two views of each row, stacked or alternating."""
    found = [t for t in tensors(asked.outputs) if t.is_floating_point() and t.dim() == 2]
    rows = len(asked.batch)
    sizes = [len(t) for t in found]
    paired = sizes[:2] == [rows, rows] or (len(sizes) >= 1 and sizes[0] == 2 * rows)
    mixed = by_label(subject, asked, [t for t in found if _is_read(asked, t)]) if rows >= 8 else None
    if mixed is not None:
        return mixed
    if not paired or rows < 4 or found[0].shape[1] < 2:
        return skipped("outputs are not the embeddings of two views of each row")
    views = found[:2] if sizes[0] == rows else found[:1]
    try:
        costs = {way: _costs(asked, views, way) for way in ("random", "stacked", "alternating", "equal")}
    except Exception:
        return skipped("the loss takes no made-up embeddings")
    numbers: dict[str, Any] = {way: float(values.mean()) for way, values in costs.items()}
    if not all(math.isfinite(value) for value in numbers.values()):
        return Finding("info", "the loss is not finite for made-up embeddings", numbers=numbers, threshold=RULE)
    if numbers["random"] > HUGE:
        text = f"embeddings of length 1 cost {numbers['random']:.3g}: a candidate that is masked is taken for the positive"
        cause = "labels point at the row itself, whose similarity was set to -inf (or -1e9)"
        return Finding("error", text, cause, "print for each row which column the loss takes for its positive", numbers, RULE)
    reason = _other_reading(asked, views, found)
    if reason:
        read = [t for t in found if _is_read(asked, t)]
        gone = descended(asked, read) if len(read) > 1 and rows <= MOST_ROWS else None
        return (together(subject, asked, read, gone[0], numbers) if gone else None) or skipped(reason)
    noise = max(float(costs["random"].std()), 1e-4 * abs(numbers["random"]), 1e-9)
    return _of_views(subject, asked, views, noise, numbers)


def _of_views(subject: Subject, asked: Probe, views: list[Tensor], noise: float, numbers: dict[str, Any]) -> Finding:
    """The verdict on what two views of each row cost, where they agree and where they do not."""
    rows = len(asked.batch)
    gains = [(numbers["random"] - numbers[way]) / noise for way in ("stacked", "alternating")]
    numbers["gains"] = gains
    if max(gains) < 2 and rows >= 8 and _by_labels(asked):
        return skipped("the targets say which rows belong together")
    if max(gains) < 2 and rows >= 8:
        agree = numbers["stacked"] if abs(gains[0]) > abs(gains[1]) else numbers["alternating"]
        text = f"views that agree cost {agree:.3f}, random embeddings {numbers['random']:.3f}: nothing draws them together"
        cause = "positives are not the other views (labels of the pairs, the order of the views), or the sign is wrong"
        level = "error" if min(gains) < -3 else "warning"
        return Finding(level, text, cause, "print which pairs the loss takes for positives", numbers, RULE)
    order = _order(subject, asked, views) if len(views) == 1 else None
    if order is not None and gains[order] < 2:
        ways = ("stacked (row i and i + B)", "alternating (rows 2 i and 2 i + 1)")
        text = f"the network gives its views {ways[order]}, the loss takes them for {ways[1 - order]}"
        return Finding("error", text, "positives are rows of other examples", "pair the rows as the network gives them", numbers, RULE)
    if len(views) == 1 and abs(numbers["equal"] - math.log(2 * rows)) < 1e-4:
        text = f"of equal embeddings the loss is ln {2 * rows}: each row is a candidate for itself, as near as can be"
        return Finding("warning", text, "the diagonal of the similarities is not masked", "set it to -inf", numbers, f"ln {2 * rows - 1}")
    return (_wide(subject, asked, views, gains, numbers) if 8 <= rows <= (MOST_ROWS if subject.patience >= 1 else 64) else None) or Finding(
        "ok", "views that agree lower the loss", numbers=numbers, threshold=RULE
    )


def _wide(subject: Subject, asked: Probe, views: list[Tensor], gains: list[float], numbers: dict[str, Any]) -> Finding | None:
    """What is wrong with where the loss draws embeddings that may go anywhere."""
    gone = None if _by_labels(asked) else descended(asked, views)
    if gone is None:
        return None
    least, made = gone
    numbers["descended"] = least
    best = min(least, numbers["stacked"], numbers["alternating"])
    found = together(subject, asked, views, best, numbers) or astray(asked, views, int(gains[1] > gains[0]), numbers)
    rows = len(asked.batch)
    return found or idle(best, numbers, (rows, 2 * rows - 1, 2 * rows)) or flat(made, numbers)


def _other_reading(asked: Probe, views: list[Tensor], found: list[Tensor]) -> str:
    """Why embeddings of two views are not what the loss compares: it reads others beside them, as where one is to tell the other's
    target (Grill et al. 2020, section 3), or not these at all. "" where they are."""
    read = [t for t in tensors(asked.outputs) if t.is_floating_point() and _is_read(asked, t)]
    if not any(t is view for t in read for view in views):
        return "the loss does not read the first outputs"
    others = [t for t in read if t.dim() and not any(t is view for view in views) and len(t) in {len(view) for view in found}]
    return "the loss compares more than the two views" if others else ""


def _is_read(asked: Probe, t: Tensor) -> bool:
    """Whether other numbers in the place of `t` change the loss."""
    other = t + torch.randn(t.shape, generator=torch.Generator().manual_seed(5)).to(t)
    with torch.no_grad():
        return float(asked.of(put(asked.outputs, t, other))) != float(asked.of(asked.outputs))


def _by_labels(asked: Probe) -> bool:
    """Whether the loss of the same embeddings is another one with the targets of other rows."""
    y = asked.batch.get("y")
    if not isinstance(y, Tensor) or len(y) != len(asked.batch) or bool((y[:1] == y).all()):
        return False
    with torch.no_grad():
        losses = [float(asked.of(asked.outputs, asked.batch.replace(y=y.roll(shift, 0)))) for shift in (0, 1, 2, 3)]
    return max(losses) - min(losses) > 1e-6 * max(abs(losses[0]), 1e-6)


def _costs(asked: Probe, views: list[Tensor], way: str) -> Tensor:
    """Losses of a few draws of embeddings that are made in one `way`."""
    rows, width = len(asked.batch), views[0].shape[1]
    costs = []
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(draw)
        one, two = (F.normalize(torch.randn(rows, width, generator=generator), dim=1).to(views[0]) for _ in range(2))
        if way == "equal":
            one = two = one[:1].expand_as(one).clone()
        if way in ("stacked", "alternating"):
            two = one
        both = torch.stack((one, two), 1).flatten(0, 1) if way == "alternating" else torch.cat((one, two))
        made = (both,) if len(views) == 1 else (one, two)
        outputs = asked.outputs
        for old, new in zip(views, made, strict=True):
            outputs = put(outputs, old, new)
        with torch.no_grad():
            costs.append(float(asked.of(outputs)))
    return torch.tensor(costs)


def _order(subject: Subject, asked: Probe, views: list[Tensor]) -> int | None:
    """Where the network puts the two views of a row: 0 stacked, 1 alternating; None where it cannot be told.

    One row's input is replaced by another's in eval mode: the outputs that change are its views.
    """
    rows, row = len(asked.batch), 3
    place = next((i for i, t in enumerate(tensors(asked.outputs)) if t is views[0]), None)
    if place is None:
        return None
    indices = torch.arange(rows)
    indices[row] = rows // 2
    other = asked.batch.map(lambda t: t[indices.to(t.device)])
    one, two = (tensors(subject.outputs(asked.run, batch, training=False))[place] for batch in (asked.batch, other))
    if one.shape != two.shape or len(one) != 2 * rows:
        return None
    changed = (one != two).flatten(1).any(1).nonzero().flatten().tolist()
    return {(row, row + rows): 0, (2 * row, 2 * row + 1): 1}.get(tuple(changed))
