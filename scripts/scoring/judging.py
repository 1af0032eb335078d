"""What the checks say of a set-up, and what that counts: at most the first three findings above info are read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from corpus import Setup
from hurting import build

READ = 3
"""Findings above info that count, in the order in which `dlrun check` prints them."""


@dataclass
class Said:
    """One run of the checks on one set-up: findings above info as (check, stage, level, message), seconds in all and a check.

    `folded` are checks whose finding was folded under another one's, and so no longer stands above info.
    """

    name: str
    seed: int
    loud: list[tuple[str, str, str, str]] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    refused: str = ""
    seconds: float = 0.0
    each: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ask(setup: Setup, seed: int) -> Said:
    """Build `setup` and run what `dlrun check` runs. A set-up that dlrun refuses to build is said as such."""
    import torch

    from dlrun import registry
    from dlrun.checks import run_checks
    from dlrun.errors import DlrunError

    torch.set_num_threads(1)
    begun, said = time.perf_counter(), Said(setup.name, seed)
    try:
        run = build(setup, seed)
        for finding in run_checks(run, "check"):
            said.each[finding.check] = finding.seconds
            if finding.level in ("warning", "error"):
                stage = getattr(registry.get("check", finding.check), "stage", "learning")
                said.loud.append((finding.check, stage, finding.level, finding.message))
            elif finding.follows:
                said.folded.append(finding.check)
        run.data.close()
    except DlrunError as error:
        said.refused = error.lines[0]
    except Exception as error:  # raised by the user's parts while they are built, or by dlrun itself: a user would see a traceback
        said.refused = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    said.seconds = time.perf_counter() - begun
    return said


def fits(setup: Setup, finding: tuple[str, str, str, str]) -> bool:
    """Whether a finding is of the fault's family: its check is among those expected, or its stage."""
    return finding[0] in setup.checks or finding[1] in setup.family


def detected(said: Said) -> bool:
    """Anything above info, or a refusal to build."""
    return bool(said.loud or said.refused)


def diagnosed(setup: Setup, said: Said) -> bool:
    """A finding of the right family among the first three above info."""
    return any(fits(setup, finding) for finding in said.loud[:READ])


def named(setup: Setup, said: Said) -> bool:
    """One of the very checks that the fault expects is among the first three above info."""
    return any(finding[0] in setup.checks for finding in said.loud[:READ])


def first_right(setup: Setup, said: Said) -> bool:
    """The first finding above info is of the right family."""
    return bool(said.loud) and fits(setup, said.loud[0])


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, shrink = hits / of, 1 + z * z / of
    middle = (share + z * z / (2 * of)) / shrink
    half = z * (share * (1 - share) / of + z * z / (4 * of * of)) ** 0.5 / shrink
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Share:
    """How many of how many, with the interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of if self.of else float("nan")

    def as_json(self) -> dict[str, Any]:
        return {"hits": self.hits, "of": self.of, "share": self.value, "interval": list(wilson(self.hits, self.of))}

    def __str__(self) -> str:
        low, high = wilson(self.hits, self.of)
        return f"{self.hits}/{self.of} = {self.value:.3f} [{low:.3f}, {high:.3f}]" if self.of else "none"


def share(answers: Iterable[bool]) -> Share:
    """The share of true ones."""
    given = list(answers)
    return Share(sum(given), len(given))
