"""Noised inputs beside the times that are told of them: how much noise a row has, and whether the time says so.

A row is a sum of its clean version and noise with two weights that hang on its time alone (Ho, Jain, Abbeel 2020, eq. 4; Lipman et al.
2023, section 4). Where rows differ in these weights, the time told must tell them. A sampler starts at noise alone, so that the noisiest
rows of training must be mostly noise. And rows, and steps, have noise of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.relation import Relation, within

LEAST, WIDE, WIDTH = 96, 256, 6
CERTAIN, UNTOLD = 4.0, 0.2
SPREAD, EXCESS, AGAINST = 0.1, 2.0, -0.3
NOISY, OFTEN, CLASSES = 0.5, 0.95, 20
EXACT, SHARED = 1e-6, 8
"""Share of a square that rounding may leave; least width of rows of which one draw for all can be told from others."""
Fault = tuple[str, str, str]


def exact_levels(noised: Tensor, clean: Tensor, target: Tensor) -> Tensor | None:
    """[N, 2]: weights of clean row and target in each noised row; None where these are one, or leave a rest."""
    if float((target - clean).norm()) <= 1e-3 * float(clean.norm()):
        return None
    basis = torch.stack((clean, target), 2)
    solved = torch.linalg.lstsq(basis, noised[..., None], driver="gelsd").solution
    rest = noised - (basis @ solved)[..., 0]
    exact = float(rest.square().sum()) <= EXACT * float(noised.square().sum())
    return solved[..., 0] if exact else None


def one_draw(noised: list[Tensor], clean: Tensor, targets: list[Tensor]) -> Fault | None:
    """The fault where all rows of a draw, or all draws of a row, have the same noise: in the rows, or in targets that are this noise."""
    rows, width = clean.shape
    if rows < 4:
        return None
    alike = again = False
    if targets and not torch.allclose(targets[0], clean):
        alike, again = torch.equal(targets[0], targets[0][:1].expand(rows, -1)), torch.equal(targets[0], targets[1])
    if width >= SHARED:
        others = torch.stack((clean[1:], clean[:1].expand(rows - 1, -1), noised[0][:1].expand(rows - 1, -1)), 2)
        alike = alike or _spanned(others, noised[0][1:])
        again = again or _spanned(torch.stack((clean, noised[0]), 2), noised[1])
    if alike:
        text = "all rows of a batch are mixed with one and the same noise"
        return text, "the noise is drawn in the shape of one row", "draw it in the shape of the batch: torch.randn_like(x)"
    if again:
        text = "every row has the same noise at each draw"
        return text, "the noise is drawn once, or under a fixed seed", "draw it anew in each forward, without a seed"
    return None


def _spanned(basis: Tensor, rows: Tensor) -> bool:
    solved = torch.linalg.lstsq(basis, rows[..., None], driver="gelsd").solution
    rest = rows - (basis @ solved)[..., 0]
    return float(rest.square().sum()) <= EXACT * float(rows.square().sum())


def never_noisy(share: Tensor, told: Tensor) -> Fault | None:
    """The fault where even the noisiest rows are mostly signal. `share` [N]: what of each row is noise; `told` [N, K]."""
    if len(share) < LEAST or not _varies(told):
        return None
    most = float(share.quantile(OFTEN))
    if most >= NOISY:
        return None
    text = f"no input is ever really noisy: the noisiest {1 - OFTEN:.0%} of {len(share)} rows begin at {most:.0%} noise"
    cause = "alphas of single steps stand where their product belongs, or times are drawn from the beginning of the schedule only"
    return text, cause, "mix by alpha_bar = cumprod(1 - beta), over all times: the last must be noise alone, where sampling begins"


def untold(levels: Tensor, told: Tensor) -> Fault | None:
    """The fault where the time told says nothing of how rows were mixed: `levels` [N, K] numbers that the true time fixes or moves."""
    found = told_by(levels, told)
    if not found or any(one.strength > UNTOLD or one.z > CERTAIN for one in found):
        return None
    strongest = max(one.strength for one in found)
    text = f"the time told has nothing to do with how much noise a row has (correlation {strongest:.2f} over {len(told)} rows)"
    return text, "the time was drawn once for the noise and again for the network", "draw t once a row; mix by it and tell it"


def told_by(levels: Tensor, told: Tensor) -> list[Relation]:
    """What times tell of each column of `levels`; [] of too few rows, and of what is no time."""
    if len(told) < LEAST or not _varies(told):
        return []
    return [within(told[:, :WIDE].float(), ranks(level)[:, None].float(), None) for level in levels.unbind(1)]


def seen_levels(x: Tensor, y: Tensor) -> tuple[Tensor, bool]:
    """[N, K]: what may show how noised rows of data are, by x and target y alone; and whether it does show that they differ in it."""
    x, y = x - x.mean(0), y - y.mean(0)
    weight = (x * y).sum(1) / y.square().sum(1).clamp(min=1e-12)
    level = (x * y).sum() / y.square().sum().clamp(min=1e-12)
    rest = x - level * y
    null = torch.stack([(rest.roll(by, 0) * y).sum(1) / y.square().sum(1).clamp(min=1e-12) for by in range(1, 9)])
    excess = _width(weight - level) / _width(null.flatten()).clamp(min=1e-12)
    found = [weight, x.square().sum(1), y.square().sum(1), (x * y).sum(1)]
    if x.shape[1] >= WIDTH:
        rough = [((rows[:, 1:] - rows[:, :-1]).square().sum(1) / rows.square().sum(1).clamp(min=1e-12)) for rows in (x, y)]
        found += rough
        against = float(torch.corrcoef(torch.stack([ranks(one) for one in rough]))[0, 1]) < AGAINST
    else:
        against = False
    return torch.stack(found, 1), float(excess) > EXCESS**0.5 or against


def noise_share(x: Tensor, y: Tensor) -> Tensor:
    """[N]: the share of noise in each noised row x of data where the target y is noise, white and normal, or else the clean row.

    Of another target, a sum of both, it is no share, but large: the whole row, or half of it.
    """
    cosine = ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp(min=1e-12)).square()
    plain = (y - y.mean(0)) / y.std().clamp(min=1e-12)
    kurtosis = float(plain.pow(4).mean())
    table = torch.corrcoef(y.T) if y.shape[1] > 1 else torch.ones(1, 1)
    off = float((table.square().sum() - len(table)) / max(table.numel() - len(table), 1))
    white = off < 3 / len(y) and abs(kurtosis - 3) < 0.3 and abs(float(y.std()) - 1) < 0.1
    share: Tensor = cosine if white else 1 - cosine
    return share


def ranks(values: Tensor) -> Tensor:
    """The order of numbers, 0 to 1."""
    return values.argsort().argsort().double() / max(len(values) - 1, 1)


def _width(values: Tensor) -> Tensor:
    """The distance between the 10% and the 90% quantile: far values of short rows do not count."""
    return values.quantile(0.9) - values.quantile(0.1)


def _varies(told: Tensor) -> bool:
    """Whether it tells times: more values than classes have."""
    return bool(told.shape[1]) and max(len(column.unique()) for column in told.unbind(1)) > CLASSES
