"""The language of claims: text to a closed tree, and what is wrong with it in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A claim as it was written down, and its tree."""

    text: str
    source: str | None
    mutation: Mapping[str, Any]  # overrides for all runs under which it must be judged not met; empty: none given
    control: bool
    tree: Any


@dataclass(frozen=True)
class Names:
    """What a claim may speak of."""

    arms: tuple[str, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] | None = None
    events: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


def parse(entry: str | Mapping[str, Any], names: Names) -> Claim:
    """The claim in an entry of `claims`; UsageError, in one line, where it is none."""
    raise NotImplementedError


def check_claims(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a config's claims and all they speak of, one line each."""
    raise NotImplementedError
