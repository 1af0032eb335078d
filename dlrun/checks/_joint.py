"""Two players in one network and one loss: the critic's half must not train the maker, nor the maker's half the critic.

Found by what is called: a part that gets rows of data, and other rows of their form, is the critic; those others are samples. For each call
there are three facts: which way the loss pulls the scores (as much as those of data), and whether the maker, and whether the critic's own
weights, stand in its graph. With one loss for both, samples are cut off in the critic's half, and the critic is held still in the maker's
(Goodfellow et al. 2014, algorithm 1, updates one after the other); or gradients are turned round between them (Ganin et al. 2016), so that
one call serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._frame import FEW, Finding, Subject, tensors
from dlrun.noise import seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

MOST, ALIKE = 0.9, 0.5
RULE = f"scores of samples are pulled one way for the critic's weights, the other way for the maker's, each in {MOST:.0%} of rows"


@dataclass
class Call:
    """A part was called: what with, what it gave, and what stands in the graph behind it."""

    path: str
    given: Tensor
    out: Tensor
    of_data: Tensor
    """Which rows are rows of the data, bool."""
    trains_critic: bool = False
    pulls: float = 0.0
    """-1, 0 or 1: which way the loss pulls the scores of samples, 0 where rows differ."""

    helped: bool = False
    """Whether what the samples came out of gets the gradient that they get here, not turned round on the way."""

    @property
    def trains_maker(self) -> bool:
        """Whether samples came with their graph."""
        return self.given.requires_grad


def joined(subject: Subject) -> Finding | None:
    """The finding where the halves of one loss train the wrong player, or agree with each other; None where they do not."""
    run = subject.copy()
    batch = subject.prepared(run, subject.raw[:FEW])
    real = batch.get("x")
    if not isinstance(real, Tensor) or not isinstance(run.task, LossTask) or not real.is_floating_point():
        return None
    calls, made, handles = list[Call](), list[Tensor](), []
    for path, part in _parts(run):
        handles.append(part.register_forward_hook(_note(calls, made, path, real)))
    for module in run.modules.values():
        module.train()
    try:
        with torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "joint")
            loss = subject.live_loss(run, run.task.outputs(run.nets, batch), batch)
    finally:
        for handle in handles:
            handle.remove()
    critic = _critic(calls)
    return _judged(run, loss, [call for call in calls if call.path == critic], made) if critic and loss.requires_grad else None


def _judged(run: Run, loss: Tensor, calls: list[Call], made: list[Tensor]) -> Finding | None:
    """The verdict on the calls of the critic."""
    weights = [p for p in dict(_parts(run))[calls[0].path].parameters() if p.requires_grad]
    slopes = torch.autograd.grad(loss.sum(), [call.out for call in calls], allow_unused=True, retain_graph=True)
    of_data = [_rows(slope)[call.of_data] for call, slope in zip(calls, slopes, strict=True) if slope is not None]
    up = _way(torch.cat(of_data)) if of_data else 0.0
    usual = ALIKE * float(torch.cat(of_data).abs().mean()) if of_data else 0.0
    played = []
    for call, slope in zip(calls, slopes, strict=True):
        if slope is None or bool(call.of_data.all()):
            continue
        call.pulls = _way(_rows(slope)[~call.of_data])
        reached = torch.autograd.grad(call.out.sum(), weights, allow_unused=True, retain_graph=True) if weights else ()
        call.trains_critic = any(one is not None for one in reached)
        weak = call.trains_critic and float(_rows(slope)[~call.of_data].abs().mean()) < usual
        call.pulls = 0.0 if weak else call.pulls  # near its label, a squared error pulls any way
        played.append(call)
        call.helped = call.trains_maker and _helped(loss, call, made)
    return _told(calls[0].path, up, played) if up else None


def _told(critic: str, up: float, played: list[Call]) -> Finding | None:
    """What is wrong with scores of samples that are pulled `up`, as those of data are, or down, and with whom that trains."""
    both = [call for call in played if call.trains_critic and call.trains_maker]
    own = [call for call in played if call.trains_critic and not call.trains_maker]
    maker = [call for call in played if call.trains_maker and not call.trains_critic]
    numbers: dict[str, Any] = {"data": up, "samples": [(call.pulls, call.trains_critic, call.trains_maker) for call in played]}
    if any(call.pulls == up for call in both) and len(own + both) > 1:
        text = f"the maker's half of the loss trains {critic} as well, against its own half: to score samples as data"
        step = "hold the critic still there: requires_grad_(False) around that call, or an optimizer and a loss for each"
        return Finding("error", text, "one loss and one optimizer update both players", step, numbers, RULE)
    if any(call.pulls == -up for call in both) and any(call.pulls == up for call in maker):
        text = "the critic's half of the loss trains the maker as well, against its own half: samples are not cut off there"
        return Finding("error", text, "samples enter the critic's half with their graph", "critic(fake.detach())", numbers, RULE)
    if both and not maker and all(call.pulls == -up and call.helped for call in both):
        text = f"the loss of {critic} trains the maker as well: its samples move away from where {critic} is to have data"
        cause = "samples are not cut off in the critic's half, and there is no half of the maker's own"
        return Finding("error", text, cause, "critic(fake.detach()) there, and a term of its own for the maker", numbers, RULE)
    if maker and all(call.pulls == -up for call in maker):
        text = f"the loss trains the maker to have its samples scored away from where {critic} is to have data"
        cause = "labels are exchanged between the players, or a sign is wrong"
        return Finding("error", text, cause, "the maker must want the label that data have", numbers, RULE)
    if own and all(call.pulls == up for call in own):
        text = f"the loss pulls scores of data and of samples by {critic} the same way"
        return Finding("error", text, "both have the same label", "label data 1 and samples 0, or the contrary", numbers, RULE)
    return None


def _helped(loss: Tensor, call: Call, made: list[Tensor]) -> bool:
    """Whether a part gave these samples, and its gradient points where theirs does."""
    samples = call.given.detach()[~call.of_data]
    source = next((t for t in reversed(made) if t.shape == samples.shape and torch.equal(t.detach(), samples)), None)
    if source is None:
        return False
    there, here = torch.autograd.grad(loss.sum(), [source, call.given], allow_unused=True, retain_graph=True)
    return there is not None and here is not None and float((there * here[~call.of_data]).sum()) > 0


def _parts(run: Run) -> list[tuple[str, nn.Module]]:
    """Parts of networks by path; not the networks themselves, which get data and nothing else."""
    named = [(f"{name}.{path}", part) for name in run.nets for path, part in run.modules[name].named_modules() if path]
    return [(path, part) for path, part in named if not isinstance(part, (nn.ModuleList, nn.ModuleDict))]


def _critic(calls: list[Call]) -> str:
    """The outermost part that gets rows of data and, in this call or another, rows that are none; "" where there is none."""
    found = {call.path: [one for one in calls if one.path == call.path] for call in calls if bool(call.of_data.any())}
    paths = [path for path, mine in found.items() if not all(bool(one.of_data.all()) for one in mine)]
    return min(paths, key=lambda path: path.count("."), default="")


def _rows(slope: Tensor) -> Tensor:
    return slope.detach().reshape(len(slope), -1).sum(1)


def _way(slopes: Tensor) -> float:
    """1 where a step down the loss raises nearly all scores, -1 where it lowers them, 0 where rows differ or nothing pulls."""
    some = slopes[slopes != 0]
    share = float((some < 0).double().mean()) if len(some) else 0.5
    return 1.0 if share >= MOST else -1.0 if share <= 1 - MOST else 0.0


def _note(calls: list[Call], made: list[Tensor], path: str, real: Tensor) -> Any:
    """A hook that keeps calls with rows of the form of the data, and such rows that a part made."""
    known = real.detach().flatten(1)

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        given, gave = tensors(inputs), tensors(out)
        made.extend(t for t in gave[:1] if t.requires_grad and t.shape[1:] == real.shape[1:])
        if given and gave and given[0].shape[1:] == real.shape[1:] and gave[0].dim() and len(gave[0]) == len(given[0]):
            rows = given[0].detach().flatten(1)
            calls.append(Call(path, given[0], gave[0], torch.stack([(row == known).all(1).any() for row in rows])))

    return hook
