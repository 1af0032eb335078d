"""Tokens that fill rows otherwise in one split than in the other: filler at the other end, one token in the place of most words.

A row begins or ends with the same token twice where it is filled up. Words that a vocabulary lacks become one token; where that is a third
of all words of one split and hardly any of the other's, the two were not put through one tokeniser (or not in one case).
"""

from __future__ import annotations

from torch import Tensor

from dlrun.checks._inputs import is_integer

OFTEN, NEVER, ROWS = 0.3, 0.01, 64
SHARE, SELDOM, WORDS, TOKENS = 0.35, 0.1, 50, 1000


def filled_otherwise(one: Tensor, two: Tensor) -> tuple[str, str] | None:
    """(what differs, its cause) between tokens of train [N, T] and of val [M, T]; None where nothing does, or they are no tokens."""
    if not is_integer(one) or not is_integer(two) or one.dim() != 2 or two.dim() != 2 or min(len(one), len(two)) < ROWS:
        return None
    if one.shape[1] < 6 or one.shape[1] != two.shape[1]:
        return None
    one, two = one.detach().cpu(), two.detach().cpu()
    ends = _ends(one), _ends(two)
    for token in {*ends[0], *ends[1]}:
        (first, last), (begin, end) = (found.get(token, (0.0, 0.0)) for found in ends)
        if (last > OFTEN and begin > OFTEN and max(first, end) < NEVER) or (first > OFTEN and end > OFTEN and max(last, begin) < NEVER):
            here, there = ("end", "beginning") if last > first else ("beginning", "end")
            text = f"rows of train are filled up with token {token} at the {here}, rows of val at the {there}"
            return text, "the splits are padded at different ends"
    return _unknown(one, two)


def _ends(tokens: Tensor) -> dict[int, tuple[float, float]]:
    """Of tokens that rows begin or end with twice, (share of rows that begin so, share that end so); rows of one token alone left out."""
    mixed = tokens[(tokens != tokens[:, :1]).any(1)]
    if not len(mixed):
        return {}
    begin, end = mixed[:, 0] == mixed[:, 1], mixed[:, -1] == mixed[:, -2]
    usual = {int(part.mode().values) for part in (mixed[begin][:, 0], mixed[end][:, -1]) if len(part)}
    return {t: (float((begin & (mixed[:, 0] == t)).float().mean()), float((end & (mixed[:, -1] == t)).float().mean())) for t in usual}


def _unknown(one: Tensor, two: Tensor) -> tuple[str, str] | None:
    """The same of a token that stands for a third of the words of one split and for hardly any of the other's."""
    words = [_inner(part) for part in (one, two)]
    if min(len(part) for part in words) < TOKENS or max(len(part.unique()) for part in words) < WORDS:
        return None
    for name, other, here, there in (("val", "train", words[1], words[0]), ("train", "val", words[0], words[1])):
        token = int(here.mode().values)
        share, usual = (float((part == token).float().mean()) for part in (here, there))
        if share > SHARE and usual < SELDOM * share:
            text = f"token {token} is {share:.0%} of the words of {name} and {usual:.1%} of those of {other}"
            return text, "most words are unknown there: another vocabulary, tokeniser or case than in the other split"
    return None


def _inner(tokens: Tensor) -> Tensor:
    """Tokens [N, T] one after the other, without what fills rows up at their ends."""
    fill = (tokens == tokens[:, -1:]).int().flip(1).cumprod(1).flip(1) + (tokens == tokens[:, :1]).int().cumprod(1)
    kept: Tensor = tokens[fill == 0]
    return kept
