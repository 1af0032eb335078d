"""Players oppose each other: a maker is trained to have its samples scored as data are, by a critic that is trained to tell them apart.

Both are asked by slopes, which need no form of loss: which way the critic's loss pulls its score of data, and which way it pulls that of
samples; and whether a step of the maker moves its samples up or down in that score. For every loss of the adversarial family (Goodfellow
et al. 2014; least squares, hinge, Wasserstein, relativistic) the maker's way is that of the data. Other terms (a distance to a target
picture) make its way no pure one: only a push that is the critic's own slope, row by row, counts. A critic whose loss is the output of a
network that another objective trains (Bechtle et al. 2021) has no way before that has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._frame import FEW, Finding, Subject, skipped, tensors
from dlrun.checks._players import players
from dlrun.noise import seed_generators
from dlrun.types import Objective

PURE, MOST, ALIKE = 0.7, 0.9, 0.5
RULE = f"the maker moves its samples to where the critic is to have data, in {MOST:.0%} of rows; the critic is pulled apart by them"


@dataclass
class Game:
    """Which way scores are pulled, by rows: of data and of samples by the critic's loss, of samples by the maker's steps."""

    real: list[Tensor] = field(default_factory=list)
    fake: list[Tensor] = field(default_factory=list)
    pushed: list[Tensor] = field(default_factory=list)
    """Cosine between a step of the maker and the critic's slope at its samples."""
    maker: str = ""
    critic: str = ""
    joint: bool = False
    """Whether one objective updates both."""
    tellers: set[str] = field(default_factory=set)
    """Networks through which the critic's loss runs and which it does not update."""
    updated: set[str] = field(default_factory=set)
    """Networks that an objective updates."""


@dataclass
class Call:
    """One call of a network in a step."""

    name: str
    given: Tensor
    out: Tensor


def opposed(subject: Subject) -> Finding:
    """The verdict on the players of one step; not applicable where no network scores what another one makes."""
    makers = [player.name for player in players(subject) if player.makes]
    if subject.kind != "gan" or not makers:
        return skipped("no network makes rows of data that another one scores")
    game = _play(subject, makers)
    if not game.real or not game.pushed:
        return skipped("scores of data and of samples are not told apart from outside")
    real, pushed = torch.cat(game.real), torch.cat(game.pushed)
    fake = torch.cat(game.fake) if game.fake else torch.zeros(0)
    up = -real.mean().sign()
    right = float((real.sign() == -up).float().mean())
    against = float((pushed * up < -PURE).float().mean())
    numbers: dict[str, Any] = {"data_pulled": float(-real.mean()), "samples_pulled": float(-fake.mean()) if len(fake) else None}
    numbers |= {"rows_pushed_against": against, "data_agree": right}
    learned = sorted(game.tellers & game.updated)
    if learned:
        text = f"the loss of {game.critic} is what {', '.join(learned)} makes of its scores, which has yet to learn where to pull them"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    if float(up) == 0 or right < MOST:
        return Finding("info", "the critic's loss pulls its scores of data both ways", numbers=numbers, threshold=RULE)
    same = len(fake) and float((fake.sign() == real.mean().sign()).float().mean()) >= MOST
    if same and float(fake.abs().mean()) > ALIKE * float(real.abs().mean()):
        text = f"the loss of {game.critic} pulls its scores of data and of samples the same way ({float(-real.mean()):+.2g} both)"
        return Finding("error", text, "both have the same label", "label data 1 and samples 0, or the contrary", numbers, RULE)
    if against >= MOST:
        text = f"a step of {game.maker} makes its samples worse in {against:.0%} of rows: they move away from where {game.critic} has data"
        cause = "labels are exchanged between the players, or a sign is wrong"
        cause = f"the loss of {game.critic} updates {game.maker} as well: samples are not detached there" if game.joint else cause
        return Finding("error", text, cause, f"{game.maker} must want the label that data have", numbers, RULE)
    return Finding("ok", f"{game.maker} is trained to have its samples scored as data are", numbers=numbers, threshold=RULE)


def _play(subject: Subject, makers: list[str]) -> Game:
    """One step on a copy, without updates, gradients taken."""
    run, game, calls = subject.copy(), Game(), list[Call]()
    handles = [run.modules[name].register_forward_hook(_note(calls, name)) for name in run.nets]
    batch = subject.prepared(run, subject.raw[:FEW])
    made: list[Tensor] = []
    for module in run.modules.values():
        module.train()
    try:
        with torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "opposed")
            for objective in run.task.objectives(run.nets, batch):
                _look(game, objective, makers, calls, batch["x"], made)
                calls.clear()
    finally:
        for handle in handles:
            handle.remove()
    return game


def _look(game: Game, objective: Objective, makers: list[str], calls: list[Call], real: Tensor, made: list[Tensor]) -> None:
    """Note what one objective pulls at; `made` grows by what was made for it."""
    made += [call.out for call in calls if call.name in makers]
    game.updated |= set(objective.update)
    if not isinstance(objective.loss, Tensor) or not objective.loss.requires_grad:
        return
    critics = [call for call in calls if call.name not in makers and call.out.requires_grad]
    updated = [name for name in objective.update if name in makers]
    _scores(game, objective.loss, objective.update, critics, real, made)
    _pushes(game, objective, critics, [call.out for call in calls if call.name in updated], updated)


def _scores(game: Game, loss: Tensor, update: tuple[str, ...], critics: list[Call], real: Tensor, made: list[Tensor]) -> None:
    """Note how the loss that updates a critic pulls its scores."""
    for call in critics:
        if call.name not in update:
            continue
        slope = _slope(loss, call.out)
        if slope is None:
            continue
        rows = slope.detach().flatten(1).sum(1) if slope.dim() > 1 else slope.detach()
        of_data = _among(call.given, [real])
        of_samples = _among(call.given, made) & ~of_data
        game.real += [rows[of_data]] if bool(of_data.any()) else []
        game.fake += [rows[of_samples]] if bool(of_samples.any()) else []
        if bool(of_data.any()):
            game.critic = call.name
            game.tellers |= {other.name for other in critics if other.name not in update and _slope(loss, other.out) is not None}


def _pushes(game: Game, objective: Objective, critics: list[Call], made: list[Tensor], updated: list[str]) -> None:
    """Note which way a step of a maker moves its samples in the critic's score."""
    for sample in made:
        if not sample.requires_grad:
            continue
        slope = _slope(objective.loss, sample)
        for call in critics:
            score = _slope(call.out, sample)
            if slope is None or score is None:
                continue
            score = _plain(call, sample, score)
            game.pushed.append(nn.functional.cosine_similarity(-slope.flatten(1), score.flatten(1), dim=1).detach())
            game.maker, game.joint = updated[0], game.joint or call.name in objective.update


def _slope(value: Tensor, at: Tensor) -> Tensor | None:
    """The gradient of the sum of `value`; None where there is no path."""
    found: tuple[Tensor | None, ...] = torch.autograd.grad(value.sum(), at, retain_graph=True, allow_unused=True)
    return found[0]


def _plain(call: Call, sample: Tensor, score: Tensor) -> Tensor:
    """The slope of a score at the samples as the critic is given them: what lies between may turn gradients round."""
    slope = _slope(call.out, call.given) if call.given.requires_grad else None
    if slope is None or call.given.shape[1:] != sample.shape[1:]:
        return score
    one, two = sample.detach().flatten(1), call.given.detach().flatten(1)
    same = torch.stack([(row == two).all(1) for row in one])
    return slope[same.int().argmax(1)] if bool(same.any(1).all()) else score


def _among(given: Tensor, known: list[Tensor]) -> Tensor:
    """Which rows of `given` stand among those of `known`, bool."""
    found = torch.zeros(len(given), dtype=torch.bool)
    for other in known:
        if other.shape[1:] == given.shape[1:]:
            one, two = given.detach().flatten(1), other.detach().flatten(1)
            found |= torch.stack([(row == two).all(1).any() for row in one])
    return found


def _note(calls: list[Call], name: str) -> Any:
    """A hook that keeps the first tensor that a network is given, and the first it gives."""

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        given, made = tensors(inputs), tensors(out)
        if given and made and given[0].dim() and made[0].dim():
            calls.append(Call(name, given[0], made[0]))

    return hook
