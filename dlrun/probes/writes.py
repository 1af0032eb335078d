"""What a language model writes: text drawn from it, and how many of its words are words of the text that it learned from.

Source: Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks", section "Evolution of samples while training".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from dlrun.functional.sampling import continuation
from dlrun.functional.tokens import spell
from dlrun.probes._features import chosen
from dlrun.ranges import Count, NonNegative
from dlrun.trained import Trained
from dlrun.types import Look

WORD = re.compile(r"[^\W\d_]{3,}")
SHOWN, WIDEST = 3, 96


@torch.no_grad()
def writes(
    run: Trained, *, split: Literal["train", "val", "test"], rows: Count, length: Count, temperature: NonNegative
) -> tuple[dict[str, float], dict[str, Look]]:
    """known: share of the words drawn that train has; words: how many were drawn (known is NaN for 0); own: the same share of the words
    of `split` itself. Words are runs of three letters or more, whole ones: those at the ends of a row may be cut and are not counted.

    `length` tokens are drawn after each of `rows` rows at `temperature`, 0 being the likeliest token. Raises ValueError for data whose
    tokens stand for no text.
    """
    tokens = run.spec.tokens
    if not tokens:
        raise ValueError("needs tokens that stand for a text; this data says none")
    _, module = chosen(run, None)
    known = {word for batch in run.prepared("train") for row in batch["x"].tolist() for word in _words(spell(tokens, row))}
    own = [word for batch in run.prepared(split) for row in batch["x"].tolist() for word in _words(spell(tokens, row))]
    prompts = torch.cat([batch["x"] for batch in run.prepared(split, rows)])
    texts = [spell(tokens, row) for row in continuation(module, prompts, length, temperature).tolist()]
    drawn = [word for text in texts for word in _words(text)]
    numbers = {"known": _share(drawn, known), "words": len(drawn), "own": _share(own, known)}
    return numbers, {"writes": Look("text", list(_lines(tokens, prompts, texts)), f"{length} tokens drawn at temperature {temperature:g}")}


def _words(text: str) -> Iterator[str]:
    """The words that begin and end within the text."""
    return (found.group() for found in WORD.finditer(text) if 0 < found.start() and found.end() < len(text))


def _share(words: list[str], known: set[str]) -> float:
    return sum(word in known for word in words) / len(words) if words else math.nan


def _lines(tokens: tuple[str, ...], prompts: Tensor, texts: list[str]) -> Iterator[str]:
    for prompt, text in list(zip(prompts.tolist(), texts))[:SHOWN]:
        yield f"after {spell(tokens, prompt)[-WIDEST + 10 :]!r}:"
        for line in text.split("\n"):
            yield from (f"  {line[at : at + WIDEST]}" for at in range(0, max(len(line), 1), WIDEST))
        yield ""
