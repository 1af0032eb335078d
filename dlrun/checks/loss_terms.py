"""The terms of a loss are of one scale: above all reconstruction and KL of a variational autoencoder, before a step is taken.

The catalogue looks at gradient norms and at dead units during training. For a VAE there is an exact statement beforehand. In a linear VAE a
direction of the data is encoded if and only if what it saves of the reconstruction error outweighs the KL term (Lucas, Tucker, Grosse,
Norouzi 2019, "Don't Blame the ELBO!", section 4): a nat of KL costs c, encoding the first principal direction gains r, and all units
collapse where r < c / 2. A reconstruction averaged over 784 pixels beside a KL summed over latents misses that by a factor near 100. What a
nat costs and what reconstructions gain is asked of the loss; so are the sign of the KL term, its minimum, and whether it is there at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._code_draw import misdrawn
from dlrun.checks._forms import STRETCH, called, stretched
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._kinds import is_variational
from dlrun.checks._kl import endless
from dlrun.checks._probe import Probe, probe, put
from dlrun.checks._shares import weighed
from dlrun.noise import seed_generators
from dlrun.task import LossTask

BEYOND = 3.0
"""How many times the KL term may outweigh the best direction before a collapse is foretold; networks that bend gain a little more."""
PATIENCE = 200
"""Calls of a loss after which a KL term that is warmed up by counting should have begun."""
RULE = f"KL outweighs the first principal direction by < {BEYOND:g}"


@dataclass(eq=False)
class Vae:
    """The loss of a VAE as a function of reconstruction, mu and the third output."""

    asked: Probe
    target: Tensor
    parts: tuple[Tensor, Tensor, Tensor]

    def at(self, back: Tensor | None = None, mu: Tensor | None = None, third: Tensor | None = None) -> float:
        """The loss; what is not given is as the network gave it, mu 0."""
        outputs = self.asked.outputs
        given = (back, torch.zeros_like(self.parts[1]) if mu is None else mu, third)
        for old, new in zip(self.parts, given, strict=True):
            outputs = outputs if new is None else put(outputs, old, new)
        with torch.no_grad():
            return float(self.asked.of(outputs))

    def flat(self, number: float) -> Tensor:
        """The third output, all of one number."""
        return torch.full_like(self.parts[2], number)


@check(stage="loss", recipe="Hacker's Guide: plot the terms of a loss each by itself", follows=("shape_contract", "loss_direction"))
def loss_terms(subject: Subject) -> Finding:
    """Of a VAE: what a nat of KL costs, beside what reconstructions can gain. Of others: which terms the loss names."""
    asked = probe(subject)
    if asked is None:
        return skipped("there is no single loss of tensors")
    if subject.kind != "vae":
        return weighed(subject, asked)
    x, target = asked.batch.get("x"), asked.targets.value
    if not is_variational(x, asked.outputs) or target is None:
        return skipped("outputs are not (reconstruction, mu, logvar, ...)")
    back, mu, third = asked.outputs[:3]
    cut = _cut_off(subject, asked)
    if cut is not None:
        return cut
    sided = _one_sided(subject, asked)
    if sided is not None:
        return sided
    vae = Vae(asked, target.reshape(back.shape).to(back.dtype), (back, mu, third))
    if fault := misdrawn(subject, lambda number: vae.at(third=vae.flat(number))):
        return Finding("warning", *fault, numbers={}, threshold="each number of a code has noise of its own, as wide as KL takes it to be")
    return _of_kl(vae, asked.noise("one").flatten()[: mu.numel()] if asked.out.numel() >= mu.numel() else torch.ones(mu.numel()), {})


def _cut_off(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where no parameter behind mu and logvar has a slope of the reconstruction: the encoder never learns what to encode."""
    run = subject.copy()
    assert isinstance(run.task, LossTask)
    with torch.enable_grad(), run.precision.autocast():
        seed_generators(run.seed, "check")
        outputs = run.task.outputs(run.nets, asked.batch.map(torch.clone))
        _, mu, third = outputs[:3]
        held = put(put(outputs, mu, mu.detach()), third, third.detach())
        loss = run.task.loss(held, asked.batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        named = list(subject.parameters(run).items())
        weights = [p for _, p in named]
        if not weights or not loss.requires_grad or not (mu.requires_grad and third.requires_grad):
            return None
        codes = torch.autograd.grad(mu.sum() + third.sum(), weights, allow_unused=True, retain_graph=True)
        rows = torch.autograd.grad(loss, weights, allow_unused=True)
    behind = [(name, row) for (name, _), code, row in zip(named, codes, rows, strict=True) if code is not None and bool((code != 0).any())]
    if not behind or any(row is not None for _, row in behind) or all(row is None for row in rows):
        return None
    text = f"the reconstruction has no slope at any of the {len(behind)} parameters behind mu and logvar ({behind[0][0]}, ...)"
    cause = "the draw of the code is cut off (detach, no_grad, sample instead of rsample): the encoder learns from KL alone, and collapses"
    step = "draw mu + exp(logvar / 2) * noise without detach, or rsample()"
    return Finding("error", text, cause, step, {"parameters": [name for name, _ in behind][:20]}, "some have one")


def _one_sided(subject: Subject, asked: Probe) -> Finding | None:
    """The finding where mu, or a log variance, never falls below 0, whatever any of the last layers gives: a ReLU or sigmoid is behind it.

    Stretched tenthousandfold, every layer that leads there gives both signs.
    """
    run, never = asked.run, {"mu": math.inf, "logvar": math.inf}
    moved = dict.fromkeys(never, False)
    for part in dict.fromkeys(called(subject, run, asked.batch)):
        for factor in (STRETCH, -STRETCH):
            outputs = stretched(subject, asked, part, factor)
            if outputs is None:
                return None
            for name, old, new in zip(never, asked.outputs[1:3], outputs[1:3], strict=True):
                never[name] = min(never[name], float(torch.nan_to_num(new).min()), float(old.min()))
                moved[name] |= not torch.equal(old, new)
    vae = Vae(asked, asked.outputs[0], asked.outputs[:3])
    logs = vae.at(third=vae.flat(0.0)) < min(vae.at(third=vae.flat(1.0)), vae.at(third=vae.flat(-1.0)))  # a KL is lowest at a variance of 1
    found = [name for name, least in never.items() if least >= 0 and moved[name] and (name == "mu" or logs)]
    if not found:
        return None
    text = f"{' and '.join(found)} never fall{'s' if len(found) == 1 else ''} below 0"
    text += ": no variance of a code is below 1" if "logvar" in found else ": codes lie on one side of the prior"
    cause = "a ReLU (or another function that gives no negative numbers) behind the layers that give mu and logvar"
    return Finding("error", text, cause, "let mu and logvar be the plain outputs of a linear layer", {"least": never}, "some lie below 0")


def _of_kl(vae: Vae, noise: Tensor, numbers: dict[str, Any]) -> Finding:
    mu = torch.ones_like(vae.parts[1]) + 0.1 * noise.reshape(vae.parts[1].shape).to(vae.parts[1])
    zero = 0.0
    moved = _kl_of_mu(vae, mu, zero)
    by_third = [vae.at(third=vae.flat(value)) for value in (-1.0, 0.0, 1.0)]
    third = max(by_third) - min(by_third) if all(map(math.isfinite, by_third)) else 1.0
    numbers |= {"mu_term": moved, "third_term": third}
    least = 1e-7 * max(abs(vae.at()), 1e-6)
    if abs(moved) < least and third < least and not _begins(vae, mu):
        text = "the loss does not hang on mu or logvar: there is no KL term"
        cause = "the KL term was left out, has a weight of 0, or is detached"
        return Finding("warning", text, cause, "add it: -0.5 * sum(1 + logvar - mu^2 - exp(logvar))", numbers, "a KL term above 0")
    if third == 0 and moved > least and not _begins(vae, mu, third=True):
        text = "the KL term does not hang on logvar: nothing keeps the noise from going to 0"
        cause = "logvar cancels out, its exponential was left out, or it is detached"
        return Finding("warning", text, cause, "add it: -0.5 * sum(1 + logvar - mu^2 - exp(logvar))", numbers, RULE)
    if not any(map(math.isnan, (moved, third))):
        found = endless(lambda z: _kl_of_mu(vae, z, zero), lambda value: vae.at(third=vae.flat(value)), mu, numbers)
        if found is not None and moved > -least:
            return found
    if moved < -least:
        text = "the loss falls as mu moves away from 0: the KL term drives codes away from the prior"
        return Finding(
            "error", text, "the sign of the KL term is wrong", "it is +KL: -0.5 * sum(1 + logvar - mu^2 - exp(logvar))", numbers, RULE
        )
    if all(map(math.isfinite, by_third)) and by_third[1] > max(by_third[0], by_third[2]) + least:
        text = "the loss is highest at a variance of 1 and falls to both sides"
        return Finding("error", text, "the sign of the variance's part of the KL term is wrong", "check it term by term", numbers, RULE)
    if abs(moved) < least:
        return Finding("info", "the loss does not hang on mu now", numbers=numbers, threshold=RULE)
    return _weighed(vae, mu, moved, numbers)


def _kl_of_mu(vae: Vae, mu: Tensor, third: float) -> float:
    """What mu costs, beside mu = 0."""
    return vae.at(mu=mu, third=vae.flat(third)) - vae.at(third=vae.flat(third))


def _begins(vae: Vae, mu: Tensor, third: bool = False) -> bool:
    """Whether the KL term (of the third output) begins after some calls: it is warmed up."""
    if third:
        return any(vae.at(third=vae.flat(1.0)) != vae.at(third=vae.flat(-1.0)) for _ in range(PATIENCE // 2))
    return any(abs(_kl_of_mu(vae, mu, 0.0)) > 1e-6 * max(abs(vae.at()), 1e-6) for _ in range(PATIENCE // 2))


def _weighed(vae: Vae, mu: Tensor, moved: float, numbers: dict[str, Any]) -> Finding:
    nats = float(0.5 * mu.square().sum() / len(mu))
    cost = moved / nats
    if abs(_kl_of_mu(vae, 2 * mu, 0.0) / moved - 4) > 0.05:
        return Finding("info", "the KL term is not that of a standard normal prior", numbers=numbers, threshold=RULE)
    gain = _gain(vae)
    if gain is None or gain <= 0:
        return Finding("info", "the loss does not say what reconstructions gain", numbers=numbers, threshold=RULE)
    beyond = 0.5 * cost / gain
    numbers |= {"a_nat_costs": cost, "first_direction_gains": gain, "kl_outweighs": beyond}
    text = f"a nat of KL costs {cost:.3g}, the first principal direction of the data gains {gain:.3g}"
    if beyond > BEYOND:
        pixels = vae.target[0].numel()
        text += f": KL outweighs it {beyond:.0f} times, all units will collapse to the prior"
        cause = f"reconstruction is averaged over {pixels} numbers while KL is summed over {mu.shape[1]} latents, or KL is weighed too high"
        return Finding("warning", text, cause, "sum both over a row, then take the mean over rows", numbers, RULE)
    if beyond > 1:
        return Finding("info", f"{text}: near collapse", numbers=numbers, threshold=RULE)
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _gain(vae: Vae) -> float | None:
    """What the loss gains where reconstructions go from the mean row to its projection on the first principal direction."""
    rows = vae.target.flatten(1).double()
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    if float(values[-1]) <= 0:
        return None
    one = vectors[:, -1:]
    flat, best = rows.mean(0).expand_as(rows), rows.mean(0) + one @ (one.T @ centred)
    costs = []
    ways: tuple[Callable[[Tensor], Tensor], ...] = (_plain, lambda z: z.clamp(0.01, 0.99), lambda z: z.clamp(0.01, 0.99).logit())
    for way in ways:
        try:
            mine = tuple(vae.at(back=way(z).to(vae.target.dtype).reshape(vae.parts[0].shape)) for z in (rows, flat, best))
        except Exception:
            continue
        if all(map(math.isfinite, mine)):
            costs.append(mine)
    return None if not costs else max(flat - best for _, flat, best in [min(costs, key=lambda triple: triple[0])])


def _plain(z: Tensor) -> Tensor:
    return z
