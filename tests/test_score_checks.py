"""scripts/score_checks: what counts as a fault, as found, as frozen; and a few set-ups of the corpus as the quick part of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from architecture_rules import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "scoring"))
import corpus
import freezing
import hurting
import judging
from corpus import Setup
from hurting import Trained
from judging import Said
from report import Score

FIRST = corpus.load("first")
RESULTS = hurting.read()
FAULT = Setup("f", "first", "k", ("model=net",), Path("x.py"), ("accuracy", "max"), twin="h", checks=("causality",), family=("outputs",))
TWIN = Trained("", [0.2, 0.2, 0.2], [0.9, 0.91, 0.92], [0.9, 0.91, 0.92], ["", "", ""])


def trained(honest: list[float], reported: list[float] | None = None, crashes: list[str] | None = None) -> Trained:
    return Trained("", [0.2, 0.2, 0.2], honest, reported or honest, crashes or ["", "", ""])


# -- what counts ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "faulty", "verdict"),
    [
        ("twin", trained([0.5, 0.6, 0.7]), True),
        ("twin", trained([0.9, 0.91, 0.92]), False),
        ("twin", trained([0.5, 0.6, 0.91]), False),  # one seed as good as the twin's worst
        ("twin", trained([0.895, 0.896, 0.897]), False),  # apart, by less than 3 % of the way
        ("twin", trained([0.97, 0.98, 0.99]), False),  # better
        ("gap", trained([0.9, 0.9, 0.9], [0.99, 0.99, 0.99]), True),
        ("gap", trained([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]), False),  # bad, and said to be bad
        ("own", trained([math.nan] * 3, crashes=["no"] * 3), True),
        ("own", trained([0.9, 0.9, math.nan], crashes=["", "", "no"]), False),
    ],
)
def test_a_fault_counts_if_every_seed_of_it_is_worse_by_more_than_the_twins_differ(shown: str, faulty: Trained, verdict: bool) -> None:
    assert hurting.hurts(replace(FAULT, shown=shown), faulty, TWIN)[0] is verdict


def test_less_is_better_where_the_set_up_says_so() -> None:
    falling = Trained("", [3.0, 3.0, 3.0], [1.0, 1.1, 1.2], [1.0, 1.1, 1.2], ["", "", ""])
    worse = trained([2.0, 2.1, 2.2])
    assert hurting.hurts(replace(FAULT, judge=("loss", "min")), worse, falling)[0]
    assert hurting.learns(falling, "min") and not hurting.learns(falling, "max")


def test_results_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {"b": trained([0.5, math.nan, 1 / 3]), "a": TWIN}
    hurting.write(kept, tmp_path / "r.json")
    back = hurting.read(tmp_path / "r.json")
    assert list(back) == ["a", "b"] and back["a"] == TWIN
    assert math.isnan(back["b"].honest[1]) and back["b"].honest[2] == pytest.approx(1 / 3, rel=1e-5)


# -- the corpus -----------------------------------------------------------------------------------------------------------------------


def test_the_first_half_is_large_and_of_every_kind() -> None:
    faults = [setup for setup in FIRST.values() if setup.twin]
    healthy = [setup for setup in FIRST.values() if not setup.twin]
    assert len(faults) >= 32 and sum(setup.silent for setup in faults) >= len(faults) / 3
    assert len(healthy) >= 32 and sum(setup.odd for setup in healthy) >= len(healthy) / 2
    assert all(setup.source and setup.what and setup.checks and setup.family for setup in faults)
    kinds = {setup.kind for setup in faults}
    assert kinds >= {
        "classification",
        "binary",
        "regression",
        "language_model",
        "sequence",
        "vae",
        "diffusion",
        "contrastive",
        "graph",
        "gan",
        "other",
    }


@pytest.mark.parametrize("name", FIRST)
def test_what_is_on_record_is_of_the_corpus_as_it_is(name: str) -> None:
    """Each fault hurts and each healthy set-up learns, by results made from these very words and parts."""
    setup = FIRST[name]
    twin = FIRST[setup.twin] if setup.twin else setup
    assert RESULTS[name].key == hurting.key(setup, twin), "run scripts/score_checks: it trains what has changed"
    verdict = hurting.hurts(setup, RESULTS[name], RESULTS[twin.name])[0] if setup.twin else hurting.learns(RESULTS[name], setup.judge[1])
    assert verdict


def test_a_change_takes_the_place_of_the_same_key_and_of_the_old_parts_options() -> None:
    words = ["model=net", "model.width=3", "model2.a=1", "train.steps=5"]
    assert corpus.merged(words, ["model=other"]) == ("model2.a=1", "train.steps=5", "model=other")
    assert corpus.merged(words, ["model.width=9"]) == ("model=net", "model2.a=1", "train.steps=5", "model.width=9")


def test_the_key_follows_all_that_a_part_uses_and_nothing_else(tmp_path: Path) -> None:
    def key(text: str) -> str:
        path = tmp_path / f"{abs(hash(text))}.py"
        path.write_text(text)
        return replace(FAULT, plugin=path).key

    base = "A = 1\ndef help():\n    return A\ndef net():\n    return help()\ndef other():\n    return 5\n"
    assert key(base) == key(base.replace("return 5", "return 6")) == key(base.replace("    return A", "    return  A  # said"))
    assert key(base) != key(base.replace("A = 1", "A = 2"))


# -- what is said ---------------------------------------------------------------------------------------------------------------------


def said(*checks: str) -> Said:
    return Said("f", 0, [(check, stage, "warning", "") for check, stage in (text.split("/") for text in checks)])


def test_three_findings_are_read() -> None:
    late = said("a/data", "b/data", "c/data", "causality/outputs")
    assert judging.detected(late) and not judging.diagnosed(FAULT, late)
    third = said("a/data", "b/data", "causality/outputs")
    assert judging.diagnosed(FAULT, third) and judging.named(FAULT, third) and not judging.first_right(FAULT, third)
    family = said("d/outputs")
    assert judging.first_right(FAULT, family) and not judging.named(FAULT, family)
    assert not judging.detected(said()) and not judging.first_right(FAULT, said())


def test_wilsons_interval() -> None:
    assert judging.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Brown, Cai, DasGupta 2001
    assert judging.wilson(0, 200)[0] == 0 and judging.wilson(0, 200)[1] == pytest.approx(0.0188, abs=1e-4)


def test_the_headline_takes_every_false_alarm_twice() -> None:
    healthy = replace(FAULT, name="h", twin="")
    setups = {"f": FAULT, "g": replace(FAULT, name="g"), "h": healthy, "x": replace(FAULT, name="x")}
    heard = {"f": [said("causality/outputs")], "g": [said()], "h": [said(), said("a/data"), said(), said()], "x": [said("a/data")]}
    counts = {"f": (True, ""), "g": (True, ""), "h": (True, ""), "x": (False, "as good as its twin")}
    result = Score(setups, heard, counts, None)
    assert result.headline() == pytest.approx(1 / 2 - 2 * 1 / 4)
    assert result.as_json()["left_out"] == {"x": "as good as its twin"}
    assert "as good as its twin" in "\n".join(result.lines())


# -- the freeze -----------------------------------------------------------------------------------------------------------------------


def test_the_second_half_is_refused_unless_the_checks_are_those_of_the_freeze(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        user = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *user, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    def refusal(commit: str | None) -> str | None:
        (tmp_path / "freeze.json").write_text(json.dumps({"commit": commit}))
        return freezing.refusal(tmp_path / "freeze.json", tmp_path)

    check = tmp_path / freezing.CHECKS / "one.py"
    check.parent.mkdir(parents=True)
    check.write_text("a = 1\n")
    git("init", "-q"), git("add", "."), git("commit", "-qm", "frozen")
    frozen = git("rev-parse", "HEAD")
    assert "names no commit" in str(refusal(None)) and "not in this repository" in str(refusal("0" * 40))
    assert refusal(frozen) is None
    check.write_text("a = 2\n")
    assert "one.py" in str(refusal(frozen))
    check.write_text("a = 1\n")
    (check.parent / "two.py").write_text("")
    assert "two.py" in str(refusal(frozen))
    (check.parent / "two.py").unlink()
    second = tmp_path / freezing.SECOND / "late.py"
    second.parent.mkdir(parents=True)
    second.write_text("")
    assert refusal(frozen) is None
    git("add", "."), git("commit", "-qm", "later")
    assert "written after it" in str(refusal(git("rev-parse", "HEAD")))


# -- a few set-ups --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cls_plain", "seq_plain", "con_plain", "oth_plain"])
def test_nothing_is_said_of_a_healthy_set_up(name: str) -> None:
    heard = judging.ask(FIRST[name], 0)
    assert (heard.loud, heard.refused) == ([], "") and heard.each


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("lm_sees_the_future", "reg_every_pair")]


@pytest.mark.parametrize("name", ["cls_only_the_head_is_owned", "cls_softmax_twice", *SLOW])
def test_a_fault_is_found_first_and_by_name(name: str) -> None:
    heard = judging.ask(FIRST[name], 0)
    assert judging.first_right(FIRST[name], heard) and judging.named(FIRST[name], heard)


def test_a_set_up_trains_to_what_is_on_record() -> None:
    again = hurting.train(FIRST["con_plain"], FIRST["con_plain"])
    assert again.honest == pytest.approx(RESULTS["con_plain"].honest, abs=0.05)
