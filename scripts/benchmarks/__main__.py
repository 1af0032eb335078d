"""`scripts/bench [P1 P5 ...] [--rounds N] [--json]`: measures the promised ratios and prints them beside what was promised.

Exit 0 if every floor holds, 1 if one is missed. A new promise is a function that yields results, entered in PROMISES.
"""

from __future__ import annotations

import argparse
import json
import sys

import growth
import memory
import startup
import studies
import training
import uploading
from measure import Result

PROMISES = {
    "P1": training.same_optimizer,
    "P2": training.defaults_of_each,
    "P3": training.lightning_defaults,
    "P4": training.long_steps,
    "P5": startup.light_commands,
    "P6": startup.mistyped_key,
    "P7": startup.one_step,
    "P8": studies.over_multirun,
    "P9": studies.over_processes,
    "P10": studies.over_one_worker,
    "P12": memory.whole_process,
    "P13": growth.all_of_it,
    "R7": uploading.step_time,
}


def row(result: Result) -> str:
    """One line of the table."""
    sign = ">=" if result.promise.at_least else "<="
    spread = f"{min(result.ratios):.3f}-{max(result.ratios):.3f}"
    sides = f"{result.ours:.4g} / {result.theirs:.4g} {result.unit}"
    limits = f"{sign} {result.promise.floor:g} ({result.promise.aim:g})"
    return f"{result.promise.name:4} {result.what:52} {result.ratio:7.3f}  {spread:13} {limits:14} {result.verdict:7} {sides}"


def as_json(result: Result) -> dict[str, object]:
    """What --json prints of one comparison."""
    promise = {"name": result.promise.name, "floor": result.promise.floor, "aim": result.promise.aim, "at_least": result.promise.at_least}
    numbers = {"ratio": result.ratio, "ratios": result.ratios, "ours": result.ours, "theirs": result.theirs, "unit": result.unit}
    return {"promise": promise, "what": result.what, **numbers, "judged": result.judged, "verdict": result.verdict}


def main() -> int:
    """Measure what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the promised speed ratios in pairs, A B A B.")
    parser.add_argument("promise", nargs="*", help=f"which ones ({' '.join(PROMISES)}); all unless named")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each comparison (7)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else there")
    options = parser.parse_args()
    if unknown := sorted(set(options.promise) - PROMISES.keys()):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PROMISES)}")
    if not options.json:
        print(f"{'':4} {'ours / theirs':52} {'median':>7}  {'min-max':13} {'floor (aim)':14} {'holds':7} medians", flush=True)
    results = []
    for name in options.promise or PROMISES:
        for result in PROMISES[name](options.rounds):
            results.append(result)
            if not options.json:
                print(row(result), flush=True)
    if options.json:
        print(json.dumps([as_json(result) for result in results]))
    return int(any(result.verdict == "missed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
