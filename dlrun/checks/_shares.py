"""How much of the gradient each of several targets has: one in a unit of its own (pascals beside classes) takes all of it.

Terms of unlike size are usual, and weights of terms are chosen. So what is said needs both: a target that has next to no share of the
gradient at the weights that it has in common with another one, and numbers of that other one which stand in a unit far from 1, so that the
unit made it so. Source: Kendall, Gal, Cipolla 2018, "Multi-Task Learning Using Uncertainty", section 3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._dependence import awaken
from dlrun.checks._frame import Finding, Subject, skipped, tensors
from dlrun.checks._probe import Probe, put
from dlrun.noise import seed_generators
from dlrun.task import LossTask

SMALL, UNIT, MOST = 1e-3, 30.0, 64
RULE = f"each target has > {SMALL:.1%} of the gradient of the largest, or that one's numbers spread by < {UNIT:g}"
CAUSE = "targets stand in units of different size: the loss of one is all there is to the optimizer"
STEP = "standardise each target (subtract its mean, divide by its deviation), then weigh the terms"


def weighed(subject: Subject, asked: Probe) -> Finding:
    """The verdict on outputs for several targets, or on several columns of one."""
    found = _of_tensors(subject, asked) or _of_columns(asked) or _of_answers(asked)
    return found or skipped("the loss is not known to have terms of unlike units")


def _of_tensors(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where an output with a target of its own moves the shared weights by next to nothing beside another one."""
    targets = _columns(asked)
    if len(targets) < 2 or len(tensors(asked.outputs)) < 2:
        return None
    pulls = _pulls(subject, asked)
    if len(pulls) < 2:
        return None
    (largest, top), (least, low) = (pick(pulls, key=lambda pair: pair[1]) for pick in (max, min))
    spread = _spread(replace(asked, out=largest), targets)
    if low <= 0 or low > SMALL * top or spread < UNIT:
        return None
    order = [id(t) for t in tensors(asked.outputs)]
    first, second = (order.index(id(t)) + 1 for t in (largest, least))
    numbers: dict[str, Any] = {"gradients": [top, low], "outputs": [first, second], "spread": spread}
    text = f"output {first} has {top / low:,.0f} times the gradient of output {second} at the weights that both share"
    return Finding("warning", f"{text}: its targets spread by {spread:.3g}", CAUSE, STEP, numbers, RULE)


def _pulls(subject: Subject, asked: Probe) -> list[tuple[Tensor, float]]:
    """(output as the probe has it, norm of the gradient that comes through it alone to weights shared with others), where there is one."""
    run = awaken(subject.copy())
    assert isinstance(run.task, LossTask)
    with subject.forward(run, True), torch.enable_grad(), run.precision.autocast():
        seed_generators(run.seed, "check")
        outputs = run.task.outputs(run.nets, asked.batch.map(torch.clone))
        live = [t for t in tensors(outputs) if t.is_floating_point() and t.requires_grad]
        weights = list(subject.parameters(run).values())
        cut = {id(t): t.detach().requires_grad_() for t in live}
        held = outputs
        for t in live:
            held = put(held, t, cut[id(t)])
        loss = subject.live_loss(run, held, asked.batch)
        if not loss.requires_grad or not weights:
            return []
        slopes = torch.autograd.grad(loss.sum(), list(cut.values()), allow_unused=True)
        pulled = [(t, slope) for t, slope in zip(live, slopes, strict=True) if slope is not None and bool((slope != 0).any())]
        came = [torch.autograd.grad(t, weights, slope, retain_graph=True, allow_unused=True) for t, slope in pulled]
    shared = [i for i in range(len(weights)) if sum(grads[i] is not None for grads in came) > 1]
    places = [next(i for i, other in enumerate(tensors(outputs)) if other is t) for t, _ in pulled]
    norms = [sum(float(g.square().sum()) for i in shared if (g := grads[i]) is not None) ** 0.5 for grads in came]
    return [(tensors(asked.outputs)[place], norm) for place, norm in zip(places, norms, strict=True)] if shared else []


def _columns(asked: Probe) -> list[tuple[Tensor, Tensor]]:
    """(leaf of the targets, mask of one column of it, or of all of it) for each target that a row has."""
    found = []
    for leaf in leaves(asked.batch.get("y", ())):
        if len(leaf) != len(asked.batch):
            continue
        several = leaf.dim() == 2 and leaf.is_floating_point() and 2 <= leaf.shape[1] <= MOST
        place = torch.arange(leaf.shape[-1], device=leaf.device)
        masks = [(place == column).expand(leaf.shape) for column in range(leaf.shape[1])] if several else [torch.ones_like(leaf).bool()]
        found += [(leaf, mask) for mask in masks]
    return found


def _spread(asked: Probe, targets: list[tuple[Tensor, Tensor]], column: int | slice = slice(None)) -> float:
    """The largest spread of a target of numbers that the slope at a column of the output hangs on: those of other rows change it."""
    here, found = asked.slope(asked.out)[..., column], [0.0]
    for leaf, mask in targets:
        if not leaf.is_floating_point():
            continue
        y = put(asked.batch["y"], leaf, torch.where(mask, leaf.roll(1, 0), leaf))
        there = replace(asked, batch=asked.batch.replace(y=y)).slope(asked.out)[..., column]
        if float((there - here).abs().max()) > 1e-4 * float(here.abs().max()):
            found.append(float(leaf[mask].std()))
    return max(found)


def _of_answers(asked: Probe) -> Finding | None:
    """The finding where one column of the output, with targets in a unit of their own, has all of the slope of a loss."""
    targets, out = _columns(asked), asked.out
    if len(targets) < 2 or out.dim() != 2 or not 2 <= out.shape[1] <= MOST or not asked.steady:
        return None
    slope = asked.slope(out).square().mean(0).sqrt()
    largest, least = int(slope.argmax()), int(slope.argmin())
    if not 0 < float(slope[least]) < SMALL * float(slope[largest]):
        return None
    spread = _spread(asked, targets, largest)
    if spread < UNIT or _spread(asked, targets, least) > spread / UNIT:
        return None
    numbers: dict[str, Any] = {"slopes": slope.tolist(), "spread": spread}
    text = f"column {largest} of the outputs has {float(slope[largest] / slope[least]):,.0f} times the loss's slope of column {least}"
    return Finding("warning", f"{text}: its targets spread by {spread:.3g}", CAUSE, STEP, numbers, RULE)


def _of_columns(asked: Probe) -> Finding | None:
    """The finding where one column of the targets has all of the slope, and its numbers spread far more than those of another."""
    if asked.targets.mode != "numbers" or asked.kind != "regression" or asked.out.dim() != 2 or not 2 <= asked.out.shape[1] <= MOST:
        return None
    y = asked.targets.like(asked.out)
    if not bool(torch.isfinite(y).all()) or bool((asked.slope(y).abs() > 1e-4).any()):  # no loss that is lowest at its targets
        return None
    spread, slope = y.std(0), asked.slope(y.mean(0).expand_as(y).clone()).square().mean(0).sqrt()
    largest, least = int(slope.argmax()), int(torch.where(spread > 0, slope, torch.inf).argmin())
    if float(spread[largest]) < UNIT or float(slope[least]) > SMALL * float(slope[largest]) or float(spread[least]) <= 0:
        return None
    numbers: dict[str, Any] = {"slopes": slope.tolist(), "spreads": spread.tolist()}
    text = f"column {largest} of the targets (spread {float(spread[largest]):.3g}) has all of the loss's slope"
    text += f", {float(slope[largest] / slope[least]):,.0f} times that of column {least} (spread {float(spread[least]):.3g})"
    return Finding("warning", text, CAUSE, STEP, numbers, RULE)
