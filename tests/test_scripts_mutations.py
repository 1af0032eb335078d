"""scripts/mutations: a claim is judged without its effect, on the arms it reads alone; its page speaks of the claims as they stand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from mutations_page import PAGE, experiments, judge, mutations, overrides, reduced  # noqa: E402
from results_page import code, plain  # noqa: E402

CHAIN: dict[str, Any] = {
    "defaults": ["_self_"],
    "arms": {"root": {}, "trunk": {"start": {"from": "root"}}, "branch": {"start": {"from": "trunk"}}, "other": {}, "idle": {}},
    "measures": {
        "line": {"probe": "interpolation", "runs": ["branch", "other"]},
        "unread": {"probe": "interpolation", "runs": ["idle", "other"]},
    },
    "claims": [
        {"claim": "line.loss_barrier >= 1", "mutation": {"train.steps": 0}},
        {"claim": "idle.steps > 3", "mutation": {"train.steps": 1}},
        {"claim": "other.steps > 3", "mutation": {"train.steps": 0}},
        "other.steps > 4",
    ],
    "baseline": {"ours": "idle.steps", "is": 3},
}


def test_claims_of_one_mutation_are_judged_together_with_the_arms_they_need() -> None:
    (steps, claims), (one, alone) = mutations(CHAIN)
    assert (steps, one) == ({"train.steps": 0}, {"train.steps": 1}) and len(claims) == 2 and len(alone) == 1
    kept = reduced(CHAIN, claims)
    assert list(kept["arms"]) == ["root", "trunk", "branch", "other"] and list(kept["measures"]) == ["line"]
    assert "baseline" not in kept and kept["claims"] == claims
    kept = reduced(CHAIN, alone)
    assert list(kept["arms"]) == ["idle"] and "measures" not in kept


def test_every_claim_of_every_experiment_has_a_mutation() -> None:
    bare = {
        name: [claim for claim in one["claims"] if not isinstance(claim, dict) or not claim.get("mutation")]
        for name, one in experiments().items()
    }
    assert not {name: claims for name, claims in bare.items() if claims}


def test_the_page_speaks_of_claims_as_they_stand() -> None:
    """A claim that was changed is judged again without its effect: scripts/mutations NAME."""
    known = {
        f"| {plain(name)} | {code(claim['claim'])} | {code(' '.join(overrides(mutation)))} |"
        for name, config in experiments().items()
        for mutation, claims in mutations(config)
        for claim in claims
    }
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert {row for row in rows if not any(row.startswith(head) for head in known)} == set()
    assert {head for head in known if not any(row.startswith(head) for row in rows)} == set()


@pytest.mark.slow
def test_a_claim_is_judged_not_met_without_its_effect(tmp_path: Path) -> None:
    rows = list(judge("double_descent", experiments()["double_descent"], tmp_path, 2))
    assert [row["judged"]["verdict"] for row in rows] == ["not_met"] * 5 and all(row["mutation"] == {"task.ridge": 1000} for row in rows)
