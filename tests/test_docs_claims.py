"""docs/claims.md is true: its tables are those of the language, its claims are claims, its numbers those of the judge."""

from __future__ import annotations

import math
import re
from typing import Any

import claims_docs
import pytest
import yaml
from architecture_rules import ROOT
from scipy import stats

from dlrun import registry
from dlrun.claims import tree
from dlrun.claims.forms import check_claims
from dlrun.claims.judge import below_half

PAGE = claims_docs.PAGE.read_text("utf-8")
SPOKEN: dict[str, Any] = {
    "arms": {"decay": {}, "no_decay": {}, "plain": {}, "a": {}},
    "events": {"memorised": "train/accuracy >= 0.99", "generalised": "test/accuracy >= 0.99", "done": "val/loss < 1"},
    "seeds": 5,
}


def test_the_tables_are_those_of_the_language() -> None:
    assert claims_docs.rewritten(PAGE) == PAGE, "PYTHONPATH=. python tests/claims_docs.py writes it anew"


def test_every_claim_on_the_page_is_one() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(blocks) == 3
    axes = yaml.safe_load(re.search(r"`axes: (\{.*?\}\})`", PAGE)[1])  # type: ignore[index]
    for block in blocks:
        over = {"axes": axes} if "plain" in str(block) else {}
        assert check_claims({**SPOKEN, **over, **block}) == []
    baseline = yaml.safe_load(re.search(r"`baseline: (\{.*?\})`", PAGE)[1])  # type: ignore[index]
    guarded = re.search(r"`(not a\.done.*?)`", PAGE)[1]  # type: ignore[index]
    assert check_claims({**SPOKEN, "baseline": baseline, "claims": [guarded]}) == []


def test_its_numbers_are_those_of_the_judge() -> None:
    assert "none of 5, at most 1 of 8" in PAGE
    for percent, effect in ((97, 2.0), (58, 1.0)):
        power = 1 - stats.nct.cdf(stats.t.ppf(0.95, 4), 4, effect * math.sqrt(5))
        assert f"{percent} %" in PAGE and round(100 * power) == percent
    assert below_half(0, 5) and not below_half(0, 4) and not below_half(1, 7) and below_half(1, 8) and not below_half(2, 8)


@pytest.mark.parametrize("name", registry.builtin_names("metric"))
def test_the_words_of_metrics_say_in_which_direction_they_are_better(name: str) -> None:
    """Claims are judged without torch, so that `best_of` goes by the name; of dlrun's own metrics it has to be right."""
    best = re.search(r"best=\"(min|max)\"", (ROOT / "dlrun" / "metrics" / f"{name}.py").read_text("utf-8"))
    assert best is None or tree.better(f"test/{name}") == {"min": "down", "max": "up"}[best[1]]
    assert tree.better("val/loss") == tree.better("train/generator_loss") == tree.better("test/error") == "down"
