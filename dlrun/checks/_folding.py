"""One cause, one finding: causal order, and consequences folded under the finding that explains them.

A warning or an error is lowered to info, and says what it follows from, in three cases only:

1. its check names the root (`@check(follows=("optimizer_owns",))`), and that root, found before it, is a warning or an error;
2. it is of the stage `learning`, whose checks see that something is wrong but not what, and an *error* was found between outputs and
   update.
3. it is a symptom by itself (`Finding.symptom`: a trial step that ends in NaN) and an error stands before it.

Nothing else is folded: a certain fact keeps its level whatever stands before it, so that a second, independent fault is not hidden. What is
wrong with data is no reason for rule 2: a contaminated split does not keep a network from learning its batch. Where five things are loud
already, later warnings become info: who has five things to mend looks again afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlrun.checks._finding import LOUD, STAGES, Finding

MOST = 5


def in_order(parts: Mapping[str, Any]) -> list[str]:
    """Names of checks in causal order: by stage; there what blocks others first, then roots before what follows from them."""

    def depth(name: str, seen: tuple[str, ...] = ()) -> int:
        before = [root for root in getattr(parts[name], "follows", ()) if root in parts and root not in (*seen, name)]
        return 1 + max((depth(root, (*seen, name)) for root in before if _stage(parts[root]) == _stage(parts[name])), default=-1)

    return sorted(parts, key=lambda name: (_stage(parts[name]), not getattr(parts[name], "first", False), depth(name), name))


def fold(findings: Sequence[Finding], parts: Mapping[str, Any]) -> None:
    """Lower what follows from another finding; `findings` stand in causal order, `parts` are the checks by name."""
    kept: list[Finding] = []
    under: dict[str, str] = {}
    for finding in findings:
        if finding.level not in LOUD:
            continue
        root = _root(finding, parts, kept, under)
        if root is None and finding.level == "warning" and len(kept) >= MOST:
            finding.level, finding.message = "info", f"{finding.message} (mend the {len(kept)} findings above first)"
        elif root is None:
            kept.append(finding)
        else:
            under[finding.check] = finding.follows = root
            finding.level, finding.message = "info", f"follows from {root}: {finding.message}"


def _root(finding: Finding, parts: Mapping[str, Any], kept: Sequence[Finding], under: Mapping[str, str]) -> str | None:
    """The finding that explains this one, or None."""
    part = parts[finding.check]
    follows: Sequence[str] = getattr(part, "follows", ())
    named = [root for root in follows if root in under or any(root == other.check for other in kept)]
    if named:
        return under.get(named[0], named[0])
    if finding.symptom:
        return next((other.check for other in kept if other.level == "error"), None)
    if _stage(part) < STAGES.index("learning"):
        return None
    errors = (other.check for other in kept if other.level == "error" and 0 < _stage(parts[other.check]) < STAGES.index("learning"))
    return next(errors, None)


def _stage(part: Any) -> int:
    return STAGES.index(getattr(part, "stage", "learning"))
