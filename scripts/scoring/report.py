"""The figures of a scoring, as numbers and as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus import Setup
from judging import READ, Said, Share, detected, diagnosed, first_right, named, share


@dataclass
class Score:
    """What came out: the set-ups, what was said of each (a list over seeds), which faults count and the numbers that say so."""

    setups: Mapping[str, Setup]
    said: Mapping[str, Sequence[Said]]
    counts: Mapping[str, tuple[bool, str]]
    freeze: str | None

    def faults(self) -> list[tuple[Setup, Said]]:
        """Every asked fault that counts, with what was said of it, a pair a seed."""
        return [
            (setup, said) for name, setup in self.setups.items() if setup.twin and self.counts[name][0] for said in self.said.get(name, ())
        ]

    def healthy(self) -> list[tuple[Setup, Said]]:
        """Every asked healthy set-up that learns, a pair a seed."""
        return [
            (setup, said)
            for name, setup in self.setups.items()
            if not setup.twin and self.counts[name][0]
            for said in self.said.get(name, ())
        ]

    def shares(self) -> dict[str, Share]:
        """The shares that the report is about."""
        faults, healthy = self.faults(), self.healthy()
        return {
            "detected": share(detected(said) for _, said in faults),
            "diagnosed": share(diagnosed(setup, said) for setup, said in faults),
            "first finding right": share(first_right(setup, said) for setup, said in faults),
            "named by the very check": share(named(setup, said) for setup, said in faults),
            "silent faults diagnosed": share(diagnosed(setup, said) for setup, said in faults if setup.silent),
            "healthy warned": share(detected(said) for _, said in healthy),
            "odd healthy warned": share(detected(said) for setup, said in healthy if setup.odd),
        }

    def headline(self) -> float:
        """Diagnosed minus twice the share of healthy runs of the checks with a warning or an error."""
        shares = self.shares()
        warned = shares["healthy warned"]
        return shares["diagnosed"].value - 2 * (warned.value if warned.of else 0.0)

    def seconds(self) -> dict[str, float]:
        """Median and longest run of all checks, then the mean of each check, slowest first."""
        all_said = [said for sayings in self.said.values() for said in sayings]
        each: dict[str, list[float]] = {}
        for said in all_said:
            for check, seconds in said.each.items():
                each.setdefault(check, []).append(seconds)
        means = sorted(((statistics.mean(times), check) for check, times in each.items()), reverse=True)
        total = [said.seconds for said in all_said] or [0.0]
        return {"median": statistics.median(total), "longest": max(total), **{check: mean for mean, check in means}}

    def alone(self) -> dict[str, list[str]]:
        """For every check the faults, counted ones, that no other check finds."""
        found: dict[str, set[str]] = {check: set() for check in self.seconds() if check not in ("median", "longest")}
        for setup, said in self.faults():
            checks = {finding[0] for finding in said.loud} | set(said.folded)
            if len(checks) == 1:
                found.setdefault(checks.pop(), set()).add(setup.name)
        return {check: sorted(names) for check, names in sorted(found.items())}

    def as_json(self) -> dict[str, Any]:
        """All of it as one document."""
        return {
            "freeze": self.freeze,
            "headline": self.headline(),
            **{name: value.as_json() for name, value in self.shares().items()},
            "misses": [said.as_json() | {"expected": list(setup.checks)} for setup, said in self.faults() if not diagnosed(setup, said)],
            "false_alarms": [said.as_json() for _, said in self.healthy() if detected(said)],
            "left_out": {name: words for name, (good, words) in self.counts.items() if not good},
            "alone": self.alone(),
            "seconds": self.seconds(),
            "said": [said.as_json() for sayings in self.said.values() for said in sayings],
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        setups = [setup for setup in self.setups.values() if setup.name in self.said]
        faults, odd = [s for s in setups if s.twin], [s for s in setups if s.odd]
        healthy = [s for s in setups if not s.twin]
        yield f"checks frozen at: {self.freeze or 'not yet'}"
        yield f"{len(faults)} faults ({sum(s.silent for s in faults)} silent), {len(healthy)} healthy set-ups ({len(odd)} odd)"
        for name, value in self.shares().items():
            yield f"{name:26} {value}"
        yield f"{'headline':26} {self.headline():.3f}"
        yield from self._left_out()
        yield from self._missed()
        yield from self._alarms()
        yield from self._rows()

    def _left_out(self) -> Iterator[str]:
        left = {name: words for name, (good, words) in self.counts.items() if not good}
        if left:
            yield "\nnot counted: faults that do not hurt, healthy set-ups that do not learn"
            yield from (f"  {name}: {words}" for name, words in left.items())

    def _missed(self) -> Iterator[str]:
        missed = [(setup, said) for setup, said in self.faults() if not diagnosed(setup, said) or not first_right(setup, said)]
        yield f"\nmisses and wrong first findings: {len(missed)}"
        for setup, said in missed:
            kind = "not diagnosed" if not diagnosed(setup, said) else "first finding wrong"
            yield f"  {setup.name} (seed {said.seed}, {kind}): {setup.what}; expected {', '.join(setup.checks)} [{', '.join(setup.family)}]"
            yield from sayings(said)

    def _alarms(self) -> Iterator[str]:
        alarms = [(setup, said) for setup, said in self.healthy() if detected(said)]
        yield f"\nfalse alarms: {len(alarms)}"
        for setup, said in alarms:
            yield f"  {setup.name} (seed {said.seed}){': ' + setup.what if setup.what else ''}"
            yield from sayings(said)

    def _rows(self) -> Iterator[str]:
        seconds = self.seconds()
        yield f"\nseconds of all checks on a set-up: median {seconds['median']:.2f}, longest {seconds['longest']:.2f}"
        yield f"{'check':24} {'seconds':>8}  faults that it alone finds"
        for check, names in self.alone().items():
            yield f"{check:24} {seconds.get(check, 0.0):8.3f}  {', '.join(names) or 'none yet'}"


def sayings(said: Said) -> Iterator[str]:
    """What was said above info, as far as it counts."""
    if said.refused:
        yield f"      refused: {said.refused[:200]}"
    if not detected(said):
        yield "      nothing was said"
    for check, stage, level, message in said.loud[:READ]:
        yield f"      {level} {check} [{stage}]: {message[:220]}"
    rest = [finding[0] for finding in said.loud[READ:]] + [f"{check} (folded)" for check in said.folded]
    if rest:
        yield f"      and {', '.join(rest)}"
