"""`scripts/score_checks [--half first|second] [--only NAME ...] [--seeds N] [--json]`: how good the checks are, on the corpus.

Trains what has no result on record (results.json), runs all checks of `dlrun check` on every set-up, and reports. Exit 0 if the aims of
the issue hold (diagnosed 0.8, first finding right 0.7, healthy warned 3 %), 1 if one is missed, 2 where the half may not be scored.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from typing import Any

import corpus
import freezing
import hurting
from corpus import Setup
from judging import Said, ask
from report import Score

AIMS = {"diagnosed": 0.8, "first finding right": 0.7, "healthy warned": 0.03}
WORKERS = 2


def chosen(setups: Mapping[str, Setup], only: list[str]) -> dict[str, Setup]:
    """The set-ups that were asked for: by name, by the start of a name, or all."""
    return {name: setup for name, setup in setups.items() if not only or any(name.startswith(word) for word in only)}


def train_missing(wanted: Mapping[str, Setup], setups: Mapping[str, Setup], pool: Executor, tell: Callable[[str], None]) -> dict[str, Any]:
    """Results of `wanted` and their twins; what is not on record, or was made from something else, is trained and put there."""
    results = hurting.read()
    names = {*wanted, *(setup.twin for setup in wanted.values() if setup.twin)}
    twins = {name: setups[setups[name].twin or name] for name in names}
    stale = sorted(name for name in names if name not in results or results[name].key != hurting.key(setups[name], twins[name]))
    waiting = {pool.submit(hurting.train, setups[name], twins[name]): name for name in stale}
    for done in as_completed(waiting):
        results[waiting[done]] = done.result()
        tell(f"trained {waiting[done]}")
        hurting.write({name: result for name, result in hurting.read().items() if name in setups} | {waiting[done]: done.result()})
    return {name: results[name] for name in names}


def verdicts(wanted: Mapping[str, Setup], results: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """Whether each set-up counts: a fault that hurts, a healthy one that learns."""
    found = {}
    for name, setup in wanted.items():
        result = results[name]
        if setup.twin:
            found[name] = hurting.hurts(setup, result, results[setup.twin])
        else:
            numbers = f"{setup.judge[0]} {result.start} before training, {result.honest} after; {[c for c in result.crashes if c]}"
            found[name] = hurting.learns(result, setup.judge[1]), numbers
    return found


def ask_all(wanted: Mapping[str, Setup], seeds: int, pool: Executor, tell: Callable[[str], None]) -> dict[str, list[Said]]:
    """What the checks say: of healthy set-ups over `seeds` seeds, of faults for the first."""
    waiting = [pool.submit(ask, setup, seed) for setup in wanted.values() for seed in range(1 if setup.twin else seeds)]
    said: dict[str, list[Said]] = {name: [] for name in wanted}
    for number, done in enumerate(as_completed(waiting), 1):
        answer = done.result()
        said[answer.name].append(answer)
        if number % 20 == 0:
            tell(f"asked {number} of {len(waiting)}")
    return {name: sorted(answers, key=lambda answer: answer.seed) for name, answers in said.items()}


def score(half: str, only: list[str], seeds: int, tell: Callable[[str], None]) -> Score:
    """Train, ask and put together."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch is loaded, which the workers do
        os.environ[name] = "1"
    sys.path.append(str(freezing.ROOT))  # for a checkout that is not installed
    setups = corpus.load(half)
    wanted = chosen(setups, only)
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        counts = verdicts(wanted, train_missing(wanted, setups, pool, tell))
        said = ask_all(wanted, seeds, pool, tell)
    return Score(wanted, said, counts, freezing.commit())


def missed(result: Score) -> list[str]:
    """Which aims are missed; those of nothing that was asked are not."""
    shares = result.shares()
    short = [name for name in ("diagnosed", "first finding right") if shares[name].of and shares[name].value < AIMS[name]]
    warned = shares["healthy warned"]
    return [*short, *(["healthy warned"] if warned.of and warned.value > AIMS["healthy warned"] else [])]


def main() -> int:
    """Score what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/score_checks", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--half", choices=corpus.HALVES, default="first", help="first: mended on; second: written after the freeze (first)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="set-ups by the start of their names")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each healthy set-up (5)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else there")
    options = parser.parse_args()
    reason = freezing.refusal() if options.half == "second" else None
    if reason:
        sys.stderr.write(f"error: {reason}\n")
        return 2
    result = score(options.half, options.only, options.seeds, lambda line: sys.stderr.write(f"{line}\n") and None)
    if not result.setups:
        parser.error(f"no set-up of the {options.half} half is called {', '.join(options.only)}")
    print(json.dumps(result.as_json(), indent=1) if options.json else "\n".join(result.lines()), flush=True)
    return int(bool(missed(result)))


if __name__ == "__main__":
    sys.exit(main())
