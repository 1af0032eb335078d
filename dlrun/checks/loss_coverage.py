"""Every row and place that should count does, and padding does not: which outputs the loss pulls at, beside targets, masks and inputs.

A place counts where the loss has a slope there, at outputs where its target's class is far behind (no margin is met there) or at others,
and under any noise. Places that do not count need a reason: a target of -100 or of no class, a mask, a token that fills up rows, the
same places in every row (an answer behind a prompt), a class left out of pictures. A class or rows left out without one are a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._forms import Form, form
from dlrun.checks._frame import Finding, Subject, check, skipped, tensors
from dlrun.checks._given import upside_down
from dlrun.checks._ground import left_out
from dlrun.checks._paired import pairs_by_label
from dlrun.checks._probe import Probe, probe, put
from dlrun.checks._pull import hot, refusal
from dlrun.checks._runaway import alike
from dlrun.checks._wired import cut, miswired, others, summed, twice

PADDED = 0.2
"""Share of counted places that are padding above which it is said loudly."""
MANY = 60
RULE = "every target of a class counts; places that fill up rows do not"


@check(
    stage="loss",
    moment="fast",
    recipe="Hacker's Guide: one datapoint, then all",
    follows=("output_form", "shape_contract", "ce_gradient_signature"),
)
def loss_coverage(subject: Subject) -> Finding:
    """Slopes of the loss at several places: which rows and positions have one."""
    asked = probe(subject)
    if asked is None:
        return skipped("there is no single loss of tensors")
    numbers: dict[str, Any] = {"rows": len(asked.batch)}
    if not _pulled_at_all(subject, asked):
        text = "the loss has no slope at any output of the network: see graph_reach"
        cause = "outputs are detached inside the loss (detach, item, argmax, round), or it does not read them"
        return Finding("info", text, cause, "compute the loss with differentiable operations on the outputs", numbers, RULE)
    spec = subject.run.data.spec
    shape = form(subject, asked)
    copied = (
        pairs_by_label(subject, asked)
        or twice(asked)
        or upside_down(asked, shape)
        or alike(asked, shape)
        or summed(asked, shape)
        or cut(subject, asked)
    )
    for other in others(asked) if copied is None else ():
        copied = copied or miswired(other, Form("free"))
    if copied is not None:
        return copied
    if asked.targets.mode == "classes":
        reason = refusal(asked, spec.classes or spec.vocab)
        return skipped(reason) if reason else _of_classes(asked, shape, numbers)
    if asked.targets.mode in ("labels", "numbers", "shares") and len(asked.out) == len(asked.batch):
        return miswired(asked, shape) or _of_rows(asked, shape, numbers)
    return Finding("ok", "the loss pulls at the outputs", numbers=numbers, threshold=RULE)


def _pulled_at_all(subject: Subject, asked: Probe) -> bool:
    """Whether the loss has a slope at any output, at the network's own or at others: a head of zeros, a margin that is met have none."""
    if bool((asked.slope(asked.out) != 0).any()) or bool((asked.slope(asked.out + asked.noise("one")) != 0).any()):
        return True
    found = [t for t in tensors(asked.outputs) if t.is_floating_point() and t.numel()]
    with torch.enable_grad():
        live = [(t + 0.1).detach().requires_grad_() for t in found]
        replaced = asked.outputs
        for t, leaf in zip(found, live, strict=True):
            replaced = put(replaced, t, leaf)
        loss = subject.live_loss(asked.run, replaced, asked.batch)
        if not loss.requires_grad:
            return False
        slopes = torch.autograd.grad(loss.sum(), live, allow_unused=True)
    return any(slope is not None and bool((slope != 0).any()) for slope in slopes)


@dataclass(frozen=True, eq=False)
class Places:
    """The targets as [B, T] (T = 1 for one a row), which of them name a class, and at which the loss pulls."""

    index: Tensor
    named: Tensor
    pulled: Tensor

    @property
    def left(self) -> Tensor:
        """Places that name a class and do not count."""
        return self.named & ~self.pulled


def _draws(asked: Probe) -> int:
    """How often to ask: a loss that leaves out rows at random counts each in some of many draws."""
    return 3 if asked.steady else MANY


def _of_classes(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    targets, layout = asked.targets, asked.targets.layouts[0]
    y = targets.value
    assert y is not None
    single = y.dim() == 1 or y.numel() == len(y)
    made = None
    if single and targets.mask is None and bool((targets.index() >= 0).all()):  # every class is asked after, rare ones too
        made = (torch.arange(len(y), device=y.device) % layout.classes).to(y.dtype).reshape(y.shape)
    index = targets.index() if made is None else made.flatten().long()
    pulled = torch.zeros(len(index), dtype=torch.bool, device=index.device)
    behind = -2.0 * hot(targets, layout, index)
    for number in range(_draws(asked)):
        u = (behind if number else 0.0) + 0.01 * asked.noise(str(number))
        slope = asked.slope(u, made, through=shape.of, key=f"draw {number}")
        pulled |= (layout.flat(slope) != 0).any(-1)
    rows = y.shape[0]
    places = Places(index.reshape(rows, -1), targets.counted(layout).reshape(rows, -1), pulled.reshape(rows, -1))
    numbers |= {"places": int(places.named.sum()), "counted": int((places.named & places.pulled).sum())}
    if single:
        return _one_a_row(places, numbers)
    gone = [int(c) for c in places.index[places.left].unique().tolist() if not bool(places.pulled[places.index == c].any())]
    return _inverted(places, numbers) or left_out(asked, shape, gone, numbers) or _of_sequences(asked, places, numbers)


def _one_a_row(places: Places, numbers: dict[str, Any]) -> Finding:
    left, index = places.left.flatten(), places.index.flatten()
    if float(left.sum()) <= 0.01 * float(places.named.sum()):
        return Finding("ok", "every row counts", numbers=numbers, threshold=RULE)
    out = index[left].unique().tolist()
    whole = not bool(torch.isin(index[~left], index[left]).any())
    if whole:
        numbers["classes"] = out
        text = f"rows of class {', '.join(map(str, out[:5]))} do not count: the loss has no slope there"
        cause = "ignore_index, a mask or a weight of 0 hits a real class"
        return Finding("error", text, cause, "ignore a number that is no class (-100)", numbers, RULE)
    count = int(left.sum())
    text = f"{count} of {len(left)} rows do not count: the loss has no slope there"
    cause = "the loss reads a part of the batch only (an index, a slice, a detach)"
    return Finding("error", text, cause, "use all rows of outputs and targets", numbers, RULE)


def _inverted(places: Places, numbers: dict[str, Any]) -> Finding | None:
    """The finding where only places of one target count, and the varied ones do not."""
    counts = places.named & places.pulled
    one, others = places.index[counts].unique(), places.index[places.left].unique()
    if len(one) != 1 or len(others) < 3 or bool(torch.isin(one, others).any()):
        return None
    text = f"only places whose target is {int(one)} count, all {int(places.left.sum())} others do not"
    return Finding("error", text, "the mask is inverted: padding counts, content does not", "negate the mask", numbers, RULE)


def _of_sequences(asked: Probe, places: Places, numbers: dict[str, Any]) -> Finding:
    sound = Finding("ok", "the places that should count do", numbers=numbers, threshold=RULE)
    left, index = places.left, places.index
    if not bool(left.any()):
        return _padding(asked, places, numbers) or sound
    if left.shape[1] > 1 and bool((left == left[:1]).all()):
        numbers["positions"] = left[0].nonzero().flatten().tolist()[:20]
        return Finding("info", f"{int(left[0].sum())} of {left.shape[1]} positions never count", numbers=numbers, threshold=RULE)
    touched = left.any(1)
    if bool((left | ~places.named)[touched].all()) and not bool(touched.all()):
        text = f"{int(touched.sum())} of {len(left)} rows do not count: the loss has no slope there"
        cause = "the loss reads a part of the batch only (an index, a slice, a detach)"
        return Finding("error", text, cause, "use all rows of outputs and targets", numbers, RULE)
    out = index[left].unique().tolist()
    if bool(torch.isin(index[places.named & places.pulled], index[left]).any()):
        return Finding("info", f"{float(left.sum() / places.named.sum()):.0%} of the places do not count", numbers=numbers, threshold=RULE)
    inside = _inside(left, places)
    numbers |= {"classes": out, "inside": inside}
    if inside < 0.1 or asked.targets.value is None or asked.targets.value.dim() > 2:
        return Finding("info", f"targets of {', '.join(map(str, out[:5]))} do not count", numbers=numbers, threshold=RULE)
    text = f"places whose target is {', '.join(map(str, out[:5]))} do not count, {inside:.0%} of them inside a row: no filler"
    return Finding("warning", text, "ignore_index hits a real token", "ignore a number that is no token (-100)", numbers, RULE)


def _inside(left: Tensor, places: Places) -> float:
    """Share of the places left out that have counted ones both before and behind them in their row."""
    counts = (places.named & places.pulled).long()
    before, behind = counts.cumsum(1) > 0, counts.flip(1).cumsum(1).flip(1) > 0
    return float((left & before & behind).sum() / left.sum().clamp(min=1))


def _padding(asked: Probe, places: Places, numbers: dict[str, Any]) -> Finding | None:
    """The finding where tokens that fill up rows count; None where there are none, or few."""
    masked = _masked_out(asked, places)
    share, said = (float(masked.float().mean()), "a mask in x leaves them out") if masked is not None else (_filler(asked, places), "")
    if share < PADDED:
        return None
    numbers["padding"] = share
    if masked is None:
        text = f"{share:.0%} of the places that count fill up rows behind their end: see padding_share"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    text = f"{share:.0%} of the places that count fill up rows: {said}"
    cause = "padding is not ignored by the loss: it is easy, and hides what the network does elsewhere"
    return Finding("warning", text, cause, "set the targets of padding to -100, or give a mask", numbers, f"< {PADDED:.0%}")


def _masked_out(asked: Probe, places: Places) -> Tensor | None:
    """Places that a tensor of 0 and 1 in x leaves out, where all their targets are one number and the others vary."""
    x: Any = asked.batch.get("x", ())
    for leaf in leaves(x) if not isinstance(x, Tensor) else ():
        if leaf.shape != places.index.shape or not bool(((leaf == 0) | (leaf == 1)).all()):
            continue
        out = (leaf == 0) & places.named & places.pulled
        if bool(out.any()) and bool((~out).any()) and len(places.index[out].unique()) == 1 and len(places.index[leaf != 0].unique()) > 1:
            return out
    return None


def _filler(asked: Probe, places: Places) -> float:
    """Share of places behind the end of rows of different lengths: one token that stands there and nowhere else, in x as well."""
    index, x = places.index, asked.batch.get("x")
    rows, length = index.shape
    if asked.targets.value is None or asked.targets.value.dim() != 2 or length < 4 or rows < 4:
        return 0.0
    last = index[:, -1].mode().values
    if not bool(places.named[:, -1].any()) or int(last) < 0:
        return 0.0
    fills = (index == last) & places.named
    tail = fills.flip(1).long().cumprod(1).flip(1).bool()
    lengths = tail.sum(1)
    alone = float((fills & ~tail).sum()) <= 0.01 * float(fills.sum())
    varied = len(lengths.unique()) >= 3 and int((lengths >= 3).sum()) >= rows // 4
    if not alone or not varied:
        return 0.0
    if isinstance(x, Tensor) and x.shape == index.shape:
        behind = tail & tail.roll(1, 1)
        behind[:, 0] = False
        if len(x[behind].unique()) > 1:
            return 0.0
    return float(tail.float().mean())


def _far(asked: Probe, shape: Form, y: Tensor, rows: Tensor) -> list[Tensor]:
    """Outputs that are far off in these rows, either way: a loss of the hardest rows, or beyond a margin, counts them there."""
    where = rows.reshape(-1, *[1] * (y.dim() - 1))
    if shape.name != "free":
        return [torch.where(where, shape.of(torch.full_like(y, by)), asked.out) for by in (5.0, -5.0)]
    return [torch.where(where, y + by * (1 + y.abs()), y) for by in (5.0, -5.0)]


def _of_rows(asked: Probe, shape: Form, numbers: dict[str, Any]) -> Finding:
    """The verdict on labels and numbers: rows none of whose outputs is pulled at, wherever the outputs are."""
    y = asked.targets.like(asked.out)
    rows = len(y)
    pulled = torch.zeros(rows, dtype=torch.bool, device=y.device)
    finite = torch.nan_to_num(y)
    for number in range(_draws(asked)):
        noise = asked.noise(str(number))
        near = finite + (1 + finite.abs()) * noise if shape.name == "free" else shape.of(noise)
        for z in (asked.out + 0.1 * noise if shape.name == "free" else asked.out, near):
            slope = asked.slope(z, key=f"draw {number}")
            pulled |= (slope != 0).reshape(rows, -1).any(1)
    needed = torch.isfinite(y).reshape(rows, -1).any(1)
    if asked.targets.mask is not None:
        needed &= asked.targets.mask.reshape(rows, -1).any(1)
    left = needed & ~pulled
    before = rows + 1
    while 0 < int(left.sum()) < before:  # a few at a time, where the hardest rows alone count
        before = int(left.sum())
        for z in _far(asked, shape, finite, left):
            left &= ~(asked.slope(z) != 0).reshape(rows, -1).any(1)
    numbers["counted"] = int(pulled.sum())
    for leaf in leaves(asked.batch.get("y", ())):
        if leaf is not asked.targets.value and len(leaf) == rows and bool((leaf.reshape(rows, -1)[left] == 0).all()):
            left = left & False
    if float(left.sum()) <= 0.01 * rows:
        return Finding("ok", "every row counts", numbers=numbers, threshold=RULE)
    same = y.reshape(rows, -1)[left].unique()
    if asked.targets.mode == "numbers" and len(same) == 1 and not bool((y.reshape(rows, -1)[~left] == same).any()):
        return Finding("info", f"rows whose target is {float(same):g} do not count", numbers=numbers, threshold=RULE)
    text = f"{int(left.sum())} of {rows} rows do not count: the loss has no slope there"
    cause = "the loss reads a part of the batch only (an index, a slice, a detach, a mask)"
    return Finding("error", text, cause, "use all rows of outputs and targets", numbers, RULE)
