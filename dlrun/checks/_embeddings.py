"""Where a contrastive loss draws embeddings: the views of a row to each other, rows apart.

No network is needed but to see what it can give. Embeddings that are all equal should not be as good as any: nothing would keep a network
from giving the same for every input. (A loss that holds one side still, or a network that centres and scales what it gives, may draw rows
together all the same: Chen and He 2021, section 4.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._finding import Finding
from dlrun.checks._forms import last_called
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._probe import Probe, put

MOST_ROWS, STEPS = 256, 40
IDLE, LINE = 0.85, 1.2
ASTRAY, MANY = 0.5, 0.3
RULE = f"no row is drawn to another one by > {ASTRAY:g} of what draws it to its own other view, and equal embeddings are not best of all"


def cost(asked: Probe, views: list[Tensor], made: list[Tensor]) -> float:
    """The loss with `made` in the place of `views`."""
    outputs = asked.outputs
    for old, new in zip(views, made, strict=True):
        outputs = put(outputs, old, new)
    with torch.no_grad():
        return float(asked.of(outputs))


def slopes_at(asked: Probe, views: list[Tensor], made: list[Tensor]) -> list[Tensor] | None:
    """The loss's slopes at made-up embeddings; None where they are not finite."""
    outputs = asked.outputs
    with torch.enable_grad():
        live = [t.detach().clone().requires_grad_() for t in made]
        for old, new in zip(views, live, strict=True):
            outputs = put(outputs, old, new * 1.0)
        loss = asked.of(outputs)
        if not loss.requires_grad:
            return None
        found = torch.autograd.grad(loss, live, allow_unused=True)
    slopes = [torch.zeros_like(t) if slope is None else slope for t, slope in zip(made, found, strict=True)]
    return slopes if all(bool(torch.isfinite(slope).all()) for slope in slopes) else None


def descended(asked: Probe, outs: list[Tensor]) -> tuple[float, list[Tensor]] | None:
    """(loss, embeddings) at the end of a descent from random embeddings, each number by steps of its own size (Riedmiller, Braun 1993)."""
    drawn = [torch.randn(t.shape, generator=torch.Generator().manual_seed(11 + i)).to(t) for i, t in enumerate(outs)]
    made = [_as_given(t, old) for t, old in zip(drawn, outs, strict=True)]
    steps, before = [torch.full_like(t, 0.05) for t in made], [torch.zeros_like(t) for t in made]
    for _ in range(STEPS):
        slopes = slopes_at(asked, outs, made)
        if slopes is None:
            return None
        for i, slope in enumerate(slopes):
            turn = slope.sign() * before[i]
            steps[i] = torch.where(turn > 0, 1.2 * steps[i], torch.where(turn < 0, 0.5 * steps[i], steps[i])).clamp(max=1.0)
            made[i], before[i] = _as_given(made[i] - steps[i] * slope.sign(), outs[i]), slope.sign()
    loss = cost(asked, outs, made)
    return (loss, made) if math.isfinite(loss) else None


def _as_given(z: Tensor, out: Tensor) -> Tensor:
    """Embeddings of the length that the network's own have, where these all have one."""
    norms = out.norm(dim=1)
    same = float((norms - norms.mean()).abs().max()) < 1e-3 * float(norms.mean())
    return z / z.norm(dim=1, keepdim=True).clamp(min=1e-12) * norms.mean() if same and out.shape[1] > 1 else z


def idle(least: float, numbers: dict[str, Any], candidates: tuple[int, ...]) -> Finding | None:
    """The finding where the best embeddings cost hardly less than ln of the candidates, which is what equal ones cost."""
    equal = numbers["equal"]
    if not any(abs(equal - math.log(count)) < 1e-3 for count in candidates) or least < IDLE * equal:
        return None
    text = f"the best embeddings cost {least:.3f}, equal ones {equal:.3f}: similarities hardly count"
    cause = "the temperature is upside down: similarities between -1 and 1 are multiplied by it where they should be divided"
    return Finding("warning", text, cause, "divide the similarities by a temperature of 0.05 to 0.5", numbers, RULE)


def flat(made: list[Tensor], numbers: dict[str, Any]) -> Finding | None:
    """The finding where embeddings that descended the loss lie on one line: all their columns say the same."""
    both = torch.cat([t for t in made if t.shape[1] == made[0].shape[1]]).double()
    if both.shape[1] < 4 or len(both) < 16:
        return None
    shares = torch.linalg.svdvals(both - both.mean(0)).square()
    numbers["directions"] = float(shares.sum().square() / shares.square().sum().clamp(min=1e-30))
    if numbers["directions"] > LINE or float(shares.sum()) < 1e-6:
        return None
    text = f"embeddings that descend the loss end on one line: all {both.shape[1]} columns say the same"
    cause = "the term that keeps columns apart has its sign turned (it rewards what they have in common)"
    return Finding("error", text, cause, "look at that term where all columns are equal: it must be high", numbers, RULE)


def astray(asked: Probe, views: list[Tensor], way: int, numbers: dict[str, Any]) -> Finding | None:
    """The finding where rows are drawn to another row as much as to their own other view; `way`: 0 stacked, 1 alternating.

    Embeddings are made up that stand at right angles to each other: the slope at one of them then says of each other one how much it draws.
    """
    count = sum(len(t) for t in views)
    axes = torch.eye(count, max(count, views[0].shape[1])).to(views[0])
    made = list(axes.split([len(t) for t in views]))
    try:
        slopes = slopes_at(asked, views, made)
    except Exception:  # a loss that knows the width of its embeddings
        return None
    if slopes is None:
        return None
    half = torch.arange(count // 2)
    partner = torch.cat([half + count // 2, half]) if way == 0 else torch.arange(count) ^ 1
    partner = partner.to(axes.device)
    drawn = -torch.cat(slopes) @ axes.T
    drawn.fill_diagonal_(0.0)
    own = drawn.gather(1, partner[:, None])[:, 0]
    other = drawn.scatter(1, partner[:, None], 0.0)
    other = other.amax(1) - other.median(1).values.clamp(min=0)
    share = numbers["drawn_astray"] = float((other > ASTRAY * own.clamp(min=0)).float().mean())
    if share < MANY or float(drawn.abs().max()) == 0:
        return None
    text = f"{share:.0%} of {count} embeddings are drawn to one of another row as much as to their own other view"
    cause = "for some rows the loss takes another row for the positive (an index that is off by one where the diagonal was taken out)"
    return Finding("error", text, cause, "print for each row which column the loss takes for its positive", numbers, RULE)


def together(subject: Subject, asked: Probe, outs: list[Tensor], least: float, numbers: dict[str, Any]) -> Finding | None:
    """The finding where equal embeddings are best of all (`least`: what views that agree cost), nothing is held still, and the network can
    give them."""
    generator = torch.Generator().manual_seed(7)
    rows = [torch.randn(1, t.shape[1], generator=generator).to(t) for t in outs]
    same = {t.shape[1]: row for t, row in zip(outs, rows, strict=True)}
    equal = [same[t.shape[1]].expand_as(t).clone() for t in outs]
    spread = [torch.randn(t.shape, generator=generator).to(t) for t in outs]
    try:
        alike, apart = cost(asked, outs, equal), cost(asked, outs, spread)
        slopes = slopes_at(asked, outs, spread)
    except Exception:
        return None
    if slopes is None or any(bool((slope == 0).all()) for slope in slopes) or not math.isfinite(alike + apart):
        return None
    gone = abs(apart - alike)
    if gone < 1e-6 or alike > min(apart, least) + 1e-5 * gone or _held(subject, asked, outs):
        return None
    numbers |= {"all_equal": alike, "apart": apart}
    text = f"the loss is lowest where all rows have the same embedding ({alike:.3g}, random ones {apart:.3g}): nothing keeps rows apart"
    cause = "the term that spreads rows has its sign turned or is missing (negatives, a hinge on the spread, a stop of the gradient)"
    return Finding("error", text, cause, "look at each term where all embeddings are equal: one must be high", numbers, RULE)


def _held(subject: Subject, asked: Probe, outs: list[Tensor]) -> bool:
    """Whether some output has no gradient on its way back, or stays spread where the last layer gives nearly the same for each row."""
    run = asked.run
    with torch.enable_grad(), run.precision.autocast():
        live = tensors(run.task.outputs(run.nets, asked.batch.map(torch.clone)))  # type: ignore[attr-defined]
    places = [i for i, t in enumerate(tensors(asked.outputs)) if any(t is out for out in outs)]
    if any(not live[i].requires_grad for i in places):
        return True
    last = last_called(subject, run, asked.batch)
    if last is None:
        return True
    handle = last.register_forward_hook(lambda _, __, out: out.mean(0) + 0.01 * (out - out.mean(0)) if isinstance(out, Tensor) else out)
    try:
        near = tensors(subject.outputs(run, asked.batch, training=True))
    except Exception:
        return True
    finally:
        handle.remove()
    spreads = [(float(near[i].std(0).mean()), float(tensors(asked.outputs)[i].std(0).mean())) for i in places]
    return any(after > 0.2 * before for after, before in spreads)
