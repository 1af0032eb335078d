"""Hostile claims: nothing is called or looked up, everything is read or refused at once, in one line."""

from __future__ import annotations

import json
import math
import random
import time

import pytest
from claiming import DIVERGED, GRID, NAMES, run, seed, verdict
from test_claims_language import GOOD, GOOD_GRID, wrong

from dlrun.claims.language import condition
from dlrun.errors import UsageError

HOSTILE = [
    "__import__('os').system('true') > 1", "().__class__.__bases__[0].__subclasses__() > 1", "a.__class__ > 1", "a.late.__init__ > 1",
    'a["test/x"].__class__ > 1', "(lambda: 1)() > 1", "[x for x in (1,)] > 1", "{1: 2} > 1", "f'{a}' > 1", "(x := 1) > 1", "await a > 1",
    "yield > 1", "a.steps if a.steps > 1 else 2", "open('/etc/passwd') > 1", "eval('1') > 1", "print(1) > 1", "a.steps @ 2 > 1", "... > 1",
    "None > 1", "b'x' > 1", "a.steps > 1 if 1 else 2", "breakpoint() > 1", "globals()['x'] > 1", "a.steps.real > 1", "(1).bit_length() > 1",
    "'x'.format(a) > 1", "~a.steps > 1", "a.steps >> 1 > 1", "1 > \x00", "a\u202e.steps > 1", "\ud800 > 1", "*a, > 1",
    "at(a.steps, __class__=1) > 1", "min(__builtins__, 1) > a.steps", "a.steps > -(-(-(", "é > 1", "１ > a.steps if 1 else 2",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_nothing_is_called_or_looked_up(text: str) -> None:
    wrong(text)
    wrong(text, GRID)


PIECES = [
    "a", "b", "zz", "barrier", "lr", "width", "late", '["test/x"]', '["', "[", "]", "(", ")", ".final", ".step", ".at(", ".mean(3)",
    ".", ",", " >= ", " < ", " and ", " or ", "not ", " + ", " - ", " * ", " / ", " ** ", "==", "=", ":=", "2", "99999999", "1e308",
    ".5", "log", "exp(", "min(", "argmin(", "slope(", "at(", "lr=1", "every(", "median(", "share(", "__class__", "lambda ", "*", "{",
    "}", "'", '"', "\\", "#", ";", "\n", "\x00", "\u202e", "é", "if", "else", "for", "in", "is", "None", "True", "_", "~", "%", "@",
    "**", "f'", "b'", "1j", "0x1", "1or",
]  # fmt: skip


def test_whatever_is_written_is_a_claim_or_one_line() -> None:
    draw = random.Random(0)
    began = time.process_time()
    taken = 0
    for _ in range(6000):
        text = "".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 25)))
        if draw.random() < 0.5:
            good = draw.choice(GOOD + GOOD_GRID)
            cut = draw.randrange(len(good))
            text = good[:cut] + draw.choice(PIECES) + good[cut + draw.randrange(3) :]
        try:
            condition(text, draw.choice([NAMES, GRID]))
            taken += 1
        except UsageError as error:
            assert len(error.lines) == 1 and error.lines[0].isprintable() and len(error.lines[0]) < 800, text
    assert taken > 10, "else nothing but refusals was tried"
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    "text", ["2**2**2**99 > a.steps", "9**9**9**9**9 < a.steps", "exp(exp(exp(9))) > a.steps", "a.steps**" * 18 + "9 > 1"]
)
def test_huge_powers_are_read_at_once(text: str) -> None:
    began = time.process_time()
    condition(text, NAMES)
    assert time.process_time() - began < 1


def test_whatever_the_runs_hold_every_claim_gets_a_verdict() -> None:
    """Odd numbers in every place: no exception, no number in the answer that JSON does not have."""
    odd = [0.0, -0.0, 1.0, -1e308, 1e308, 5e-324, math.nan, math.inf, -math.inf, 3.5]
    draw = random.Random(9)

    def any_run() -> object:
        if draw.random() < 0.1:
            return None
        of = {name: [draw.choice(odd) for _ in range(draw.randrange(4))] for name in ("test/accuracy", "val_ema/loss", "val/loss")}
        events = {name: draw.choice([0, 1, 50, 100, 2**53]) for name in ("early", "late") if draw.random() < 0.8}
        return run(of, events=events, seconds=draw.choice([0.0, 2.0]), **(DIVERGED if draw.random() < 0.2 else {}))

    seen = set()
    for _ in range(100):
        numbers = {name: draw.choice(odd) for name in ("barrier", "mid/point") if draw.random() < 0.9}
        seeds = [seed(n, numbers, a=any_run(), b=any_run()) for n in range(draw.randrange(1, 5))]  # type: ignore[arg-type]
        for text in GOOD:
            found = verdict(text, seeds)
            json.dumps(found.__dict__, allow_nan=False)
            seen.add(found.verdict)
    assert seen == {"met", "not_met", "undecided"}
