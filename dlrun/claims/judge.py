"""Whether claims hold, over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dlrun.claims.evidence import SeedEvidence
from dlrun.claims.language import Claim

Verdict = Literal["met", "not_met", "undecided"]


@dataclass(frozen=True)
class Judged:
    """A claim and what its seeds say of it.

    `per_seed`: {"seed", "margin" (None where there is none), "met": True, False or None, "left", "right" (of a plain comparison)}.
    """

    claim: str
    verdict: Verdict
    per_seed: list[dict[str, Any]]
    interval: list[float] | None  # of the mean margin, one-sided 95 % on either side
    reason: str
    more_seeds: int | None  # further seeds that would probably decide it
    source: str | None


def judge(claims: Sequence[Claim], seeds: Sequence[SeedEvidence]) -> list[Judged]:
    """Each claim's verdict on the runs of `seeds`, in the order of `claims`."""
    raise NotImplementedError
